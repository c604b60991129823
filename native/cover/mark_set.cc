#include "cover/mark_set.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "cover/border.h"
#include "os/error.h"

namespace janus {

namespace {

// The kernel takes FAN_ONDIR away with any bit that it comes with, and it belongs
// to all that are left: so it goes with the last.
void remove(const FanotifyGroup& group, unsigned kind, std::uint64_t bits, std::uint64_t left, int at) {
  // It fails where the mount is gone, and the mark with it.
  if (bits != 0) group.try_mark(FAN_MARK_REMOVE | kind, bits | (left == 0 ? FAN_ONDIR : 0), at);
}

void add_bits(const FanotifyGroup& group, unsigned kind, std::uint64_t bits, int at, const std::string& point) {
  if (bits != 0) group.mark(FAN_MARK_ADD | kind, bits | FAN_ONDIR, at, point);
}

}  // namespace

unsigned MarkSet::kind_of(const MarkKey& key) { return key.mount == 0 ? FAN_MARK_FILESYSTEM : FAN_MARK_MOUNT; }

// Never anything but what was planned.
MarkSet::Found MarkSet::find(const MarkKey& key, const PlannedMark& mark) {
  Resolved at = resolve_local(programs_, *mark.process, {}, mark.point);
  const Location location = locator_.locate(at.object.get());
  if (!location.found() || location.raw->dev != key.device || (key.mount != 0 && location.raw->mount_id != key.mount)) return {};
  return {std::move(at.object), key.mount != 0 && !(location.raw->flags & JANUS_LOCATE_MARKED)};
}

// Only what wasn't marked before: the rest is others' as well.
void MarkSet::undo(const Added& added) const {
  const unsigned kind = kind_of(added.key);
  remove(groups_.gate, kind, added.gate, added.before.gate, added.at.get());
  remove(groups_.observer, kind, added.observer, added.before.observer, added.at.get());
}

// Nothing, if what was planned is not there any more.
std::optional<MarkSet::Added> MarkSet::add_one(const MarkKey& key, const PlannedMark& want, const PlannedMark& have, bool renew) {
  Added added{.key = key, .before = have, .gate = 0, .observer = 0, .at = {}, .is_new = false};
  const std::uint64_t gate = want.gate & ~have.gate, observer = want.observer & ~have.observer;
  if (!renew && gate == 0 && observer == 0) return added;
  Found found = find(key, want);
  if (!found.at) return std::nullopt;
  added.at = std::move(found.at);
  added.is_new = found.bare || (have.gate | have.observer) == 0;
  const unsigned kind = kind_of(key);
  try {
    add_bits(groups_.gate, kind, renew ? want.gate : gate, added.at.get(), want.point);
    added.gate = gate;
    add_bits(groups_.observer, kind, renew ? want.observer : observer, added.at.get(), want.point);
    added.observer = observer;
  } catch (const Error&) {
    undo(added);
    throw;
  }
  return added;
}

bool MarkSet::add(const MarkPlan& plan, bool renew, bool all) {
  bool any_new = false;
  // Each holds what it has marked: to find it again may take descriptors that
  // there are none of, or fail as the last one did.
  std::vector<Added> added;
  for (const auto& [key, want] : plan.marks) {
    const auto held = marks_.find(key);
    const PlannedMark have = held == marks_.end() ? PlannedMark{} : held->second;
    try {
      std::optional<Added> one = add_one(key, want, have, renew);
      if (!one) continue;
      any_new = any_new || one->is_new;
      if (all) added.push_back(std::move(*one));
    } catch (const Error&) {
      if (want.fleeting) continue;
      if (!all) {
        counters_.exposed_rescan.add();
        continue;
      }
      for (const Added& each : added) {
        undo(each);
        if (each.before.gate == 0 && each.before.observer == 0) marks_.erase(each.key);
        else marks_[each.key] = each.before;
      }
      throw;
    }
    marks_[key] = {have.gate | want.gate, have.observer | want.observer, want.process, want.point, want.fleeting};
  }
  count();
  return any_new;
}

void MarkSet::trim(const MarkPlan& plan, const std::set<Device>& devices) {
  for (const Device device : devices) {
    for (auto it = marks_.lower_bound({device, 0}); it != marks_.end() && it->first.device == device;) {
      auto& [key, have] = *it;
      const auto want = plan.marks.find(key);
      const std::uint64_t gate = have.gate & (want == plan.marks.end() ? 0 : want->second.gate);
      const std::uint64_t observer = have.observer & (want == plan.marks.end() ? 0 : want->second.observer);
      if (gate != have.gate || observer != have.observer) {
        try {
          if (const UniqueFd at = find(key, have).at) {
            remove(groups_.gate, kind_of(key), have.gate & ~gate, gate, at.get());
            remove(groups_.observer, kind_of(key), have.observer & ~observer, observer, at.get());
          }
        } catch (const Error& error) {
          // Else the mount or the container is gone, and the mark with it.
          if (error.code == ErrorCode::exhausted) {
            ++it;  // the next trim of the device tries again
            continue;
          }
        }
      }
      have.gate = gate;
      have.observer = observer;
      it = (gate == 0 && observer == 0) ? marks_.erase(it) : std::next(it);
    }
  }
  count();
}

void MarkSet::silence(Device device) {
  const auto mark = marks_.find({device, 0});
  if (mark == marks_.end()) return;
  auto& [key, have] = *mark;
  MarkPlan rest;
  rest.marks[key] = {.gate = 0, .observer = have.observer, .process = have.process, .point = have.point, .fleeting = have.fleeting};
  trim(rest, {device});
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

void MarkSet::count() {
  const auto superblocks = std::ranges::count_if(marks_, [](const auto& mark) { return mark.first.mount == 0; });
  superblocks_.store(static_cast<std::size_t>(superblocks), std::memory_order_relaxed);
  mounts_.store(marks_.size() - static_cast<std::size_t>(superblocks), std::memory_order_relaxed);
}

}  // namespace janus
