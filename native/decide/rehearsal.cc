#include "decide/rehearsal.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "cover/container_view.h"
#include "cover/guard_compiler.h"
#include "identity/judge.h"
#include "os/clock.h"
#include "policy/path.h"
#include "record/file_event.h"
#include "record/refusals.h"
#include "record/stats.h"

namespace janus {
namespace {

// Between the clocks of a record and of now, should the time have been set meanwhile.
constexpr std::uint64_t kClocksNs = 1'000'000'000;

// What an event was, of which path: a rename is of two. Empty: the record is no record.
struct Deed {
  FileEventKind kind;
  std::string_view seen;
};
std::vector<Deed> deeds_of(const FileEvent& event, std::span<const std::uint8_t> record) {
  const auto text = [&](std::size_t at, std::size_t length) {
    return std::string_view(reinterpret_cast<const char*>(record.data()) + sizeof(event) + at, length);
  };
  const std::size_t other_at = std::size_t{event.path_len} + event.exe_len + event.ancestry_len + event.asked_len + event.argv0_len;
  if (record.size() - sizeof(event) < other_at + event.other_len) return {};
  const std::string_view path = text(0, event.path_len), other = text(other_at, event.other_len);
  const auto rename = [](std::string_view from, std::string_view to) {
    std::vector<Deed> deeds;
    if (!from.empty()) deeds.push_back({FileEventKind::movedfrom, from});
    if (!to.empty()) deeds.push_back({FileEventKind::movedto, to});
    return deeds;
  };
  switch (event.kind) {
    case FileEventKind::movedfrom:
    case FileEventKind::move:
      return rename(path, other);
    case FileEventKind::movedto:
      return rename(other, path);
    case FileEventKind::write:  // was denied as that, and was an open
      return {{event.kind, path}, {FileEventKind::open, path}};
    default:
      return {{event.kind, path}};
  }
}

// Whether the process of an event is an owner; nothing: it has ended.
std::optional<bool> owned(const BpfPrograms& programs, const FileEvent& event) {
  const auto task = programs.task(static_cast<std::uint32_t>(event.pid));
  if (!task || event.start_ns == 0) return std::nullopt;
  const std::uint64_t start_ns = task->start_ns + boot_epoch_ns();
  if (std::max(start_ns, event.start_ns) - std::min(start_ns, event.start_ns) > kClocksNs) return std::nullopt;
  return actor_of(task->container, task->flags).owner;
}

}  // namespace

Rehearsal::Rehearsal(const BpfPrograms& programs, const Groups& groups, const Decider& decider, Tracker& tracker, GuardSpec guard) {
  // Of its own: what is counted, and whose share is used up, is nobody's.
  EngineCounters counters;
  Refusals refusals;
  ViewShares shares;
  ContainerViews views;
  for (const SubjectSpec& subject : guard.subjects) {
    if (containers_.contains(subject.container_id)) continue;
    const ContainerInfo info = tracker.find(subject.container_id);
    auto view = std::make_unique<ContainerView>(info, std::make_shared<const ProcessDir>(info.init_pid), shares, programs);
    view->refresh(ContainerView::Read::all);
    Container& container = containers_[subject.container_id];
    container.cgroup = info.cgroup;
    for (const Mount& mount : view->mounts())
      if (mount.visible) container.mounts.push_back(mount);
    views.emplace(info.cgroup, std::move(view));
  }
  Locator locator(programs, LocatorSlot::explainer);
  GuardCompiler compiler(programs, groups.dirents, decider, locator, counters, refusals, true);
  std::vector<Pin> pins;
  const CompiledGuard compiled = compiler.compile(guard, views, [](std::uint32_t) { return nullptr; }, pins);
  std::map<Device, RuleTable::Rules> rules;
  for (const Placed& placed : compiled.placed)
    rules[placed.device].push_back({.entry = placed.entry, .answered = placed.entry->action != Action::watch});
  for (const auto& [device, theirs] : rules) tables_.emplace(device, SuperblockPolicy(theirs, {}));
  for (const FailedPath& failed : compiled.failed) faults_.push_back({failed.said, failed.reason});
}

Decision Rehearsal::decide_about(const Container& container, std::string_view seen, bool directory, FileEventKind kind,
                                 const Actor& actor) const {
  if (seen == "/") seen = {};
  const Mount* on = nullptr;
  for (const Mount& mount : container.mounts)
    if (is_below(seen, mount.point) && (on == nullptr || mount.point.size() > on->point.size())) on = &mount;
  if (on == nullptr) return {};
  const auto found = tables_.find(on->device);
  if (found == tables_.end()) return {};
  const SuperblockPolicy& table = found->second;
  const std::string path = on->root + std::string(seen.substr(on->point.size()));
  const Decision answered = table.decide(path, directory, kind, actor, false);
  if (answered.deny) return answered;
  if (const Entry* below = table.denying_below(path, kind, actor)) return Decision::denial(*below);
  return answered.entry != nullptr ? answered : table.decide(path, directory, kind, actor, true);
}

std::optional<Rehearsal::Judged> Rehearsal::judge(const BpfPrograms& programs, std::span<const std::uint8_t> record,
                                                  std::string_view container) const {
  const auto held = containers_.find(container);
  FileEvent event;
  if (held == containers_.end() || record.size() < sizeof(event)) return std::nullopt;
  std::memcpy(&event, record.data(), sizeof(event));
  const std::vector<Deed> deeds = deeds_of(event, record);
  const auto decide = [&](bool owner) {
    Decision best;
    for (const Deed& deed : deeds) {
      const Decision one = decide_about(held->second, deed.seen, event.flags & kFlagDirectory, deed.kind,
                                        {.container = event.cgroup_id, .owner = owner});
      if (one.outranks(best)) best = one;
    }
    return best;
  };
  const auto owner = event.flags & kFlagOwner ? true : owned(programs, event);
  const Decision decision = decide(owner.value_or(false));
  if (decision.entry == nullptr) return std::nullopt;
  const bool assumed = !owner && event.cgroup_id == held->second.cgroup && decide(true).response() != decision.response();
  return Judged{.response = decision.response(), .assumed = assumed};
}

}  // namespace janus
