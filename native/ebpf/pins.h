// What of this daemon stays in the kernel when it goes: links pinned below /sys/fs/bpf/janusd.
//
// Owns: a directory there, which it holds locked (flock(2)) while it lives: so whose daemon is
// gone can be told. Whoever removes the files of a directory ends what they hold.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "os/unique_fd.h"

namespace janus {

class Pins {
 public:
  static constexpr const char* kBase = "/sys/fs/bpf/janusd";

  // Links by their names. Throws Error; nothing is pinned then.
  explicit Pins(const std::vector<std::pair<std::string, int>>& links, std::string base = kBase);

  // Removes what daemons that are gone have left. Returns of how many.
  std::size_t take_over() const;

 private:
  void remove() const;

  const std::string base_;
  const std::string directory_;
  UniqueFd lock_;
};

}  // namespace janus
