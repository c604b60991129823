// Whether what was attached is attached now, as the kernel sees it.
//
// Owns: which link or program of the kernel's each descriptor was at the start;
// not the descriptors. Thread-safe once added.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

struct bpf_object_skeleton;

namespace janus {

class Attachments {
 public:
  // Call when all of it is attached. A program that is not attached by itself
  // (SEC("syscall")) counts as long as it is loaded; those that were not loaded
  // are left out.
  void add(const bpf_object_skeleton& skeleton);

  // The names of the programs that are there now. One that was added and is not
  // named has lost its link: no tracepoint calls it any more.
  std::vector<std::string> present() const;

  // How often one was not run, since it was running on that processor already: where the kernel preempts programs
  // (bpf_prog_info.recursion_misses).
  std::uint64_t missed() const;

 private:
  struct One {
    std::string name;
    int program_fd;
    int fd;
    bool link;
    std::uint32_t id;
  };
  std::vector<One> all_;
};

}  // namespace janus
