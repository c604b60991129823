// What a test compares before and after: the marks of a fanotify group, and a
// process that runs out of descriptors.
//
// Owns: nothing that outlives a call, but for Limit's limit.
#pragma once

#include <fcntl.h>
#include <sys/resource.h>

#include <fstream>
#include <set>
#include <string>

#include "os/fanotify_group.h"
#include "os/unique_fd.h"

namespace janus {

// As the kernel tells it, one line a mark.
using Marks = std::multiset<std::string>;

inline Marks marks_of(const FanotifyGroup& group) {
  std::ifstream info("/proc/self/fdinfo/" + std::to_string(group.fd()));
  Marks marks;
  for (std::string line; std::getline(info, line);)
    if (line.starts_with("fanotify ") && !line.starts_with("fanotify flags:")) marks.insert(line);
  return marks;
}

// The lowest number that is free: of those above only the permission groups' are taken.
inline rlim_t first_free() { return static_cast<rlim_t>(UniqueFd(open("/dev/null", O_RDONLY | O_CLOEXEC)).get()); }

// So many descriptors may be had, while it lives.
struct Limit {
  explicit Limit(rlim_t descriptors) {
    getrlimit(RLIMIT_NOFILE, &before);
    const rlimit now{.rlim_cur = descriptors, .rlim_max = before.rlim_max};
    setrlimit(RLIMIT_NOFILE, &now);
  }
  ~Limit() { setrlimit(RLIMIT_NOFILE, &before); }
  Limit(const Limit&) = delete;
  Limit& operator=(const Limit&) = delete;
  rlimit before{};
};

}  // namespace janus
