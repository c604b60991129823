// What the guards together need: the table of each superblock, and its marks.
//
// Owns: nothing. A pure function of where the guards' paths lead to and of the
// containers' mounts: asks neither the kernel nor a file system.
//
// Which mark covers a path:
//   superblock  the container's own overlay: every file of it, by any name, in
//               any mount namespace; reaches nobody else
//   mount       a volume, or a root that isn't an overlay of its own: the
//               container's mount only, since the node shares the superblock
//   inode       what stood at a denied path: by IdentityTable, see there
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "cover/guard_compiler.h"
#include "policy/policy.h"

namespace janus {

struct MarkKey {
  Device device = 0;
  std::uint32_t mount = 0;  // 0: the superblock
  auto operator<=>(const MarkKey&) const = default;
};

struct PlannedMark {
  std::uint64_t gate = 0, observer = 0;
  HeldProcess process;       // through whose root it is reached
  std::string point;
  bool fleeting = false;     // in a mount namespace that may end any moment
};

struct MarkPlan {
  std::map<Device, std::shared_ptr<Superblock>> superblocks;  // without bases
  std::map<MarkKey, PlannedMark> marks;
  // A mount from which paths of its superblock are to be opened.
  struct BaseOf {
    Device device = 0;
    std::uint64_t container = 0;
    Mount mount;
  };
  std::vector<BaseOf> bases;
};

// One mount namespace of a container.
struct SeenMounts {
  HeldProcess process;
  const std::vector<Mount>* mounts = nullptr;
  bool first = false;  // the namespace of the first process
};
using SeenBy = std::map<std::uint64_t, std::vector<SeenMounts>>;  // container -> namespaces, the first one first

// Of the devices asked for, those where something is placed. `placed`: of all
// guards; each one's container is in `seen`.
MarkPlan plan_marks(const std::set<Device>& devices, const std::vector<const Placed*>& placed, const SeenBy& seen);

}  // namespace janus
