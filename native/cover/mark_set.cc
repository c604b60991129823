#include "cover/mark_set.h"

#include <utility>
#include <vector>

#include "cover/border.h"
#include "os/error.h"

namespace janus {

bool MarkSet::mark(const MarkKey& key, const PlannedMark& want, unsigned flag, std::uint64_t gate, std::uint64_t observer) {
  if (gate == 0 && observer == 0) return true;
  const Resolved at = resolve_local(programs_, *want.process, {}, want.point);
  const Location location = locator_.locate(at.object.get());
  // Never on anything but what was planned.
  if (!location.found() || location.raw->dev != key.device || (key.mount != 0 && location.raw->mount_id != key.mount)) return false;
  const unsigned flags = flag | (key.mount == 0 ? FAN_MARK_FILESYSTEM : FAN_MARK_MOUNT);
  if (gate != 0) groups_.gate.mark(flags, gate | FAN_ONDIR, at.object.get(), want.point);
  if (observer != 0) groups_.observer.mark(flags, observer | FAN_ONDIR, at.object.get(), want.point);
  return true;
}

// Only what wasn't marked before: the rest is others' as well.
void MarkSet::undo(const MarkKey& key, const PlannedMark& want, const PlannedMark& have) {
  try {
    mark(key, want, FAN_MARK_REMOVE, want.gate & ~have.gate, 0);
  } catch (const Error&) {
    // It was not added, or has gone with its mount.
  }
  try {
    mark(key, want, FAN_MARK_REMOVE, 0, want.observer & ~have.observer);
  } catch (const Error&) {
    // As above.
  }
}

void MarkSet::add(const MarkPlan& plan, bool renew, bool all) {
  std::vector<std::pair<MarkKey, PlannedMark>> before;
  for (const auto& [key, want] : plan.marks) {
    const auto held = marks_.find(key);
    const PlannedMark have = held == marks_.end() ? PlannedMark{} : held->second;
    std::uint64_t gate = want.gate, observer = want.observer;
    if (!renew) {
      gate &= ~have.gate;
      observer &= ~have.observer;
    }
    try {
      if (!mark(key, want, FAN_MARK_ADD, gate, observer)) continue;
    } catch (const Error&) {
      undo(key, want, have);
      if (want.fleeting) continue;
      if (!all) {
        counters_.exposed_rescan.add();
        continue;
      }
      for (const auto& [other, was] : before) {
        undo(other, plan.marks.at(other), was);
        if (was.gate == 0 && was.observer == 0) marks_.erase(other);
        else marks_[other] = was;
      }
      throw;
    }
    marks_[key] = {have.gate | want.gate, have.observer | want.observer, want.process, want.point, want.fleeting};
    before.emplace_back(key, have);
  }
}

void MarkSet::trim(const MarkPlan& plan, const std::set<Device>& devices) {
  for (const Device device : devices) {
    for (auto it = marks_.lower_bound({device, 0}); it != marks_.end() && it->first.device == device;) {
      auto& [key, have] = *it;
      const auto want = plan.marks.find(key);
      const std::uint64_t gate = have.gate & ~(want == plan.marks.end() ? 0 : want->second.gate);
      const std::uint64_t observer = have.observer & ~(want == plan.marks.end() ? 0 : want->second.observer);
      try {
        mark(key, have, FAN_MARK_REMOVE, gate, observer);
      } catch (const Error&) {
        // The mount or the container is gone, and the mark with it.
      }
      have.gate &= ~gate;
      have.observer &= ~observer;
      it = (have.gate == 0 && have.observer == 0) ? marks_.erase(it) : std::next(it);
    }
  }
}

MarkSet::Loose MarkSet::mark_loose(Device device, int at) const {
  std::uint64_t gate = 0, observer = 0;
  for (auto it = marks_.lower_bound({device, 1}); it != marks_.end() && it->first.device == device; ++it) {
    gate |= it->second.gate;
    observer |= it->second.observer;
  }
  if ((gate | observer) == 0) return Loose::needless;
  const auto mark = [&](const FanotifyGroup& group, std::uint64_t mask) {
    return mask == 0 || group.try_mark(FAN_MARK_ADD | FAN_MARK_MOUNT, mask | FAN_ONDIR, at) == 0;
  };
  return mark(groups_.gate, gate) && mark(groups_.observer, observer) ? Loose::marked : Loose::failed;
}

MarkSet::Counts MarkSet::counts() const {
  Counts counts;
  for (const auto& [key, plan] : marks_) ++(key.mount == 0 ? counts.superblock : counts.mount);
  return counts;
}

}  // namespace janus
