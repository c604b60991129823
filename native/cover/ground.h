// What all guards together say about one superblock, and the marks that this takes.
//
// Owns: the superblock's rules, and how many of them want what. Followed as guards come
// and go: a change costs what it changes. Asks neither the kernel nor a file system.
// Used by the planner under its lock.
//
// Which mark covers a path:
//   superblock  the container's own overlay: every file of it, by any name, in
//               any mount namespace; reaches nobody else
//   mount       a volume, or a root that isn't an overlay of its own: the
//               container's mount only, since the node shares the superblock
//   inode       what stood at a denied path: by IdentityTable, see there
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "cover/mark_plan.h"
#include "policy/policy.h"

namespace janus {

class Ground {
 public:
  // Takes places away, and adds others.
  void change(std::span<const Placed* const> gone, std::span<const Placed* const> come);

  bool empty() const { return parts_.empty(); }

  // Adds the superblock, without bases, and its marks. `seen`: all containers() of it.
  void plan(Device device, const SeenBy& seen, MarkPlan& plan) const;
  // Those that have guards here, in order.
  std::vector<std::uint64_t> containers() const;

 private:
  // What is wanted of the kernel, and by how many.
  using Wanted = std::map<std::pair<std::uint64_t, std::uint64_t>, std::size_t>;  // {gate, observer} masks
  struct Part {
    Wanted wanted;
    std::vector<std::shared_ptr<const Entry>> entries;  // by path
    bool shows(std::string_view root) const;
  };

  // An `allow` that is answered only where a `deny` overlaps it.
  static bool depends(const Entry& entry);
  void put(const Placed& placed, RuleTable::Edit& edit);
  void take(const Placed& placed, RuleTable::Edit& edit);
  static void want(Part& part, const Entry& entry, bool answered, int by);

  RuleTable table_;
  std::map<std::uint64_t, Part> parts_;           // by container
  std::map<std::uint64_t, std::size_t> denied_;   // permission masks of what denies
  std::map<std::uint32_t, std::size_t> dirents_;  // masks of watched events on directories and attributes
  std::uint64_t dirents_version_ = 0;
  std::uint64_t rules_version_ = 0;  // another one: they may say something else
  std::size_t owned_ = 0;                         // places of superblocks that are a container's alone
  std::size_t shifting_ = 0;                      // places to which a path may lead no more
  // Whether it is answered, of each entry that depends on others.
  std::map<std::shared_ptr<const Entry>, std::pair<std::uint64_t, bool>> dependent_;  // -> container, answered
};

}  // namespace janus
