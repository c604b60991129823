// Keeps the daemon out of file systems that somebody's server answers for.
//
// Owns: nothing; says no. To read a question, the kernel opens the file for us,
// and on FUSE, NFS and the like an open waits for a server, which a container may
// own and which may never answer. So nothing is marked there, and nothing is
// looked up there: a guarded path that leads onto one is refused. (open_exact()
// doesn't cross mounts and begins at one that was let in here.)
#pragma once

#include <optional>
#include <string>

#include "cover/mounts.h"
#include "ebpf/bpf_programs.h"
#include "os/path_resolver.h"
#include "os/process_dir.h"

namespace janus {

// The type of a file system that an open descriptor's files are on, or come from
// (an overlay's layers), and that isn't local. Nothing: all are. Asks none of them.
std::optional<std::string> served_by(const BpfPrograms& programs, int fd);

class LocalBorder : public Border {
 public:
  // `points`: where not to go near, since autofs, NFS and 9p may ask their server
  // as soon as their mount is entered. What is entered is looked at in any case.
  LocalBorder(const BpfPrograms& programs, const MountPoints& points) : programs_(programs), points_(points) {}

  void approach(const std::string& seen) override;
  void enter(int fd, const std::string& seen) override;

 private:
  const BpfPrograms& programs_;
  const MountPoints& points_;
};

// resolve_in(), of a process's root and within that border. Throws
// Error(unsupported) at the border, Error(not_found) if the process is gone.
Resolved resolve_local(const BpfPrograms& programs, const ProcessDir& process, const MountPoints& points,
                       const std::string& path, LastSymlink last = LastSymlink::followed);

}  // namespace janus
