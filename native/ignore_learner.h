// Learned ignore marks: what no guard cares about never leaves the kernel again.
//
// Owns: the ignore marks of the gate and observer groups, and the marks of the
// moves group that go with them. Thread-safe but for
// drain_moves().
//
// An ignore mark silences a directory's own entries only (Linux 6.0). It would
// be wrong as soon as that directory, or one above it, were renamed into a
// guarded place: its entries would be silent there. A directory of the image
// cannot be renamed (see settled() in bpf/janusd.bpf.c), so by default we learn
// about those only. With `movable` we learn about all, give each a MOVE_SELF
// mark, and forget everything at a rename: that is told after the fact, so for
// some 50 us an open of what was moved in goes unasked (counted as exposure).
// Marks are evictable: memory is the kernel's to take back.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <string>
#include <unordered_set>
#include <vector>

#include "fanotify_group.h"
#include "locator.h"
#include "policy.h"
#include "stats.h"

namespace janus {

class IgnoreLearner {
 public:
  // `movable`: learn about directories that can be renamed, too.
  IgnoreLearner(const Groups& groups, const PolicyBox& policy, EngineCounters& counters, std::size_t limit, bool movable)
      : groups_(groups), policy_(policy), counters_(counters), limit_(limit), movable_(movable) {}

  // The object at `path` was nobody's concern: ignore what else lies directly
  // in its directory, if that holds for all of it. Call after answering.
  // `location` is consumed: the locator is used again.
  void learn(bool observed, Locator& locator, Location location, const Policy& decided_by);

  // An inode that the identity group asks about: the gate need not ask too.
  void leave_to_identity(int fd, Device device, bool directory);

  // Drops all learned marks, if any is on one of these superblocks. Call after
  // publishing a policy that guards more of them.
  void forget(const std::vector<Device>& devices);

  // Takes renames that have happened. The gate's thread only, when the moves
  // group is readable, before it decides.
  void drain_moves();

  std::size_t learned() const { return learned_.load(std::memory_order_relaxed); }

 private:
  void forget_all();

  const Groups& groups_;
  const PolicyBox& policy_;
  EngineCounters& counters_;
  const std::size_t limit_;
  const bool movable_;
  std::mutex mutex_;
  std::unordered_set<Device> devices_;  // where something was learned
  std::atomic<std::size_t> learned_{0};
  std::atomic<bool> unsupported_{false};  // this kernel has no directory ignore marks
};

}  // namespace janus
