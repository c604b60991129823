// The superblock and mount marks that are placed, and the transaction that
// changes them.
//
// Owns: the marks of the gate and observer groups on superblocks and mounts.
// Used by the planner under its lock.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <set>

#include "cover/mark_plan.h"
#include "ebpf/locator.h"
#include "os/fanotify_group.h"
#include "os/unique_fd.h"
#include "record/stats.h"

namespace janus {

class MarkSet {
 public:
  MarkSet(const BpfPrograms& programs, const Groups& groups, Locator& locator, EngineCounters& counters)
      : programs_(programs), groups_(groups), locator_(locator), counters_(counters) {}

  // Adds what is planned to what is there. `renew`: mounts have changed, so that
  // what we think is marked may be another mount by now: all are set again.
  // `all`: or nothing, and throws; the marks are then what they were before.
  // Else what can be marked is, and failures count. Returns whether anything had no
  // mark before: also a mount that was given the number of one that is gone.
  bool add(const MarkPlan& plan, bool renew, bool all);
  // Removes what isn't planned on these devices any more.
  void trim(const MarkPlan& plan, const std::set<Device>& devices);

  // The superblock's mark asks about nothing any more, until it is added again.
  void silence(Device device);

  // Marks a mount of the device, by a descriptor on it, as its other mounts are
  // marked. The kernel forgets such a mark with the mount.
  enum class Loose { marked, needless, failed };
  Loose mark_loose(Device device, int at) const;

  struct Counts {
    std::size_t superblock = 0, mount = 0;
  };
  // As of the last change. Any thread.
  Counts counts() const { return {superblocks_.load(std::memory_order_relaxed), mounts_.load(std::memory_order_relaxed)}; }
  std::size_t size() const { return marks_.size(); }
  // What the mark on a superblock (`mount` 0) or a mount asks and tells; nothing: there is none.
  PlannedMark at(const MarkKey& key) const {
    const auto mark = marks_.find(key);
    return mark == marks_.end() ? PlannedMark{} : mark->second;
  }

 private:
  // What a call has added to one mark.
  struct Added {
    MarkKey key;
    PlannedMark before;
    std::uint64_t gate = 0, observer = 0;
    UniqueFd at;  // on what was marked; empty: nothing had to be
    bool is_new = false;  // it had no mark
  };
  static unsigned kind_of(const MarkKey& key);
  struct Found {
    UniqueFd at;        // empty: what was planned is not there any more
    bool bare = false;  // it is a mount without a mark
  };
  Found find(const MarkKey& key, const PlannedMark& mark);
  std::optional<Added> add_one(const MarkKey& key, const PlannedMark& want, const PlannedMark& have, bool renew);
  void undo(const Added& added) const;
  void count();

  const BpfPrograms& programs_;
  const Groups& groups_;
  Locator& locator_;
  EngineCounters& counters_;
  std::map<MarkKey, PlannedMark> marks_;
  std::atomic<std::size_t> superblocks_{0}, mounts_{0};
};

}  // namespace janus
