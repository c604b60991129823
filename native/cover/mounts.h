// The mounts of a process, as /proc/PID/mountinfo tells them (proc(5)).
//
// Owns: the parsed list, a snapshot. Reading it raises no file events: procfs
// takes no permission marks.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "os/process_dir.h"
#include "policy/policy.h"

namespace janus {

struct Mount {
  std::uint32_t id = 0;
  Device device = 0;
  std::string root;   // in the superblock; "" is its root
  std::string point;  // below the process's root; "" is the root itself
  std::string type;
  bool visible = true;  // false: another mount was made at the same point later
  bool served = false;  // it, or one that it is mounted in, is no local file system
};

std::vector<Mount> parse_mountinfo(std::string_view text);
struct MountList {
  std::vector<Mount> mounts;
  bool whole = true;  // false: there are more
};
// The first of them, `most` at most. Throws Error(not_found) when the process is gone,
// Error(system) if it cannot be read.
MountList mounts_of(const ProcessDir& process, std::size_t most);

// File systems of the kernel's own that raise no permission events
// (FS_DISALLOW_NOTIFY_PERM, Linux 5.1) or that hold no files of anybody's.
bool is_kernel_file_system(std::string_view type);

// File systems of which every open is answered by the kernel alone, and at most
// by a disk. Of an overlay that depends on its layers; see served_by(). All that
// isn't known is taken for one whose server may never answer: FUSE, NFS, ...
bool is_local_file_system(std::string_view type);

// Where mounts are that are neither local nor the kernel's own, and of which type.
using MountPoints = std::unordered_map<std::string, std::string>;
MountPoints served_points(const std::vector<Mount>& mounts);

}  // namespace janus
