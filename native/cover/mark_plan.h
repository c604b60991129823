// What marks and tables guards need on some superblocks, before they are placed and published.
//
// Owns: nothing.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
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

using MountsByDevice = std::unordered_map<Device, std::vector<const Mount*>>;

// One mount namespace of a container.
struct SeenMounts {
  SeenMounts(HeldProcess process, const std::vector<Mount>& all, bool first) : process(std::move(process)), first(first) {
    for (const Mount& mount : all) mounts[mount.device].push_back(&mount);
  }
  HeldProcess process;
  MountsByDevice mounts;
  bool first;  // the namespace of the first process
};
using SeenBy = std::map<std::uint64_t, std::vector<SeenMounts>>;  // container -> namespaces, the first one first

}  // namespace janus
