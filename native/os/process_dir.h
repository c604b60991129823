// A process's directory in /proc, held.
//
// Owns: an O_PATH descriptor of /proc/PID. Numbers are used again; the descriptor
// stays that process's, and leads nowhere once it is gone. It keeps neither the
// process nor its mounts.
#pragma once

#include <cstdint>

#include "os/unique_fd.h"

namespace janus {

class ProcessDir {
 public:
  // Of a process or a thread. Throws Error(not_found) if there is none.
  explicit ProcessDir(std::uint32_t pid);

  std::uint32_t pid() const { return pid_; }
  int fd() const { return fd_.get(); }
  // False once it was reaped: until then nobody else has its number.
  bool alive() const;
  // The thread group that it belongs to; 0 if it is gone. Throws Error(system) as open() does.
  std::uint32_t tgid() const;

  // Opens a file of the directory ("root", "ns/mnt"). Throws Error(not_found) when the
  // process is gone, Error(system) for what is no fault of it (no descriptor left).
  UniqueFd open(const char* file, int flags) const;
  UniqueFd root() const;
  // A descriptor by which setns(2) enters its mount namespace. Throws as open() does.
  UniqueFd namespaces() const;
  bool same_mount_namespace(const ProcessDir& other) const;

 private:
  std::uint32_t pid_;
  UniqueFd fd_;
};

}  // namespace janus
