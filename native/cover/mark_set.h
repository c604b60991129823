// The superblock and mount marks that are placed, and the transaction that
// changes them.
//
// Owns: the marks of the gate and observer groups on superblocks and mounts.
// Used by the planner under its lock.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <set>

#include "cover/mark_plan.h"
#include "ebpf/locator.h"
#include "os/fanotify_group.h"
#include "record/stats.h"

namespace janus {

class MarkSet {
 public:
  MarkSet(const BpfPrograms& programs, const Groups& groups, Locator& locator, EngineCounters& counters)
      : programs_(programs), groups_(groups), locator_(locator), counters_(counters) {}

  // Adds what is planned to what is there. `renew`: mounts have changed, so that
  // what we think is marked may be another mount by now: all are set again.
  // `all`: or nothing, and throws; the marks are then what they were before.
  // Else what can be marked is, and failures count.
  void add(const MarkPlan& plan, bool renew, bool all);
  // Removes what isn't planned on these devices any more.
  void trim(const MarkPlan& plan, const std::set<Device>& devices);

  // Marks a mount of the device, by a descriptor on it, as its other mounts are
  // marked. The kernel forgets such a mark with the mount.
  enum class Loose { marked, needless, failed };
  Loose mark_loose(Device device, int at) const;

  struct Counts {
    std::size_t superblock = 0, mount = 0;
  };
  Counts counts() const;
  std::size_t size() const { return marks_.size(); }

 private:
  bool mark(const MarkKey& key, const PlannedMark& want, unsigned flag, std::uint64_t gate, std::uint64_t observer);
  void undo(const MarkKey& key, const PlannedMark& want, const PlannedMark& have);

  const BpfPrograms& programs_;
  const Groups& groups_;
  Locator& locator_;
  EngineCounters& counters_;
  std::map<MarkKey, PlannedMark> marks_;
};

}  // namespace janus
