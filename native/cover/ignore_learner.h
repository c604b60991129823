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
// about those at once; and where the kernel denies by itself whatever is moved
// (Superblock::by_kernel), about all. Elsewhere any other directory is learned when it has been asked
// about `patience` times; it and all above it get a MOVE_SELF mark, and a rename
// makes us forget everything. That is told after the fact: for some 50 us an
// open in a busy directory that was moved in goes unasked (counted as exposure).
// Marks are evictable: memory is the kernel's to take back.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "os/fanotify_group.h"
#include "ebpf/locator.h"
#include "policy/policy.h"
#include "record/stats.h"

namespace janus {

class IgnoreLearner {
 public:
  // `patience`: questions about entries of a directory that can be renamed,
  // before it is learned; 0 = never.
  IgnoreLearner(const Groups& groups, const PolicyBox& policy, EngineCounters& counters, std::size_t limit,
                std::size_t patience)
      : groups_(groups), policy_(policy), counters_(counters), limit_(limit), patience_(patience) {}

  // The object at `path` was nobody's concern: ignore what else lies directly
  // in its directory, if that holds for all of it. Call after answering.
  // `location` is consumed: the locator is used again.
  void learn(bool observed, Locator& locator, Location location, const Policy& decided_by);

  // An inode of which the identity group asks about the permission events in
  // `mask`: the gate need not ask about those, too.
  void leave_to_identity(int fd, Device device, bool directory, std::uint64_t mask);

  // Drops all learned marks, if any is on one of these superblocks. Call after
  // publishing a policy that guards more of them.
  void forget(const std::vector<Device>& devices);

  // Takes renames that have happened. The gate's thread only, when the moves
  // group is readable, before it decides.
  void drain_moves();

  // Ignore marks made since all were last forgotten.
  std::size_t marks() const {
    return learned_.load(std::memory_order_relaxed) + left_.load(std::memory_order_relaxed);
  }

 private:
  void forget_all();
  bool is_patient(std::uint64_t directory);

  const Groups& groups_;
  const PolicyBox& policy_;
  EngineCounters& counters_;
  const std::size_t limit_;
  const std::size_t patience_;
  std::mutex mutex_;
  std::unordered_set<Device> devices_;  // where something was learned
  // Questions by the directory's kernel address: a guess, and no more is needed.
  std::unordered_map<std::uint64_t, std::size_t> asked_;
  std::atomic<std::size_t> learned_{0};
  std::atomic<std::size_t> left_{0};  // to the identity group; as many as that pins
  std::atomic<bool> unsupported_{false};  // this kernel has no directory ignore marks
};

}  // namespace janus
