#include "cover/ground.h"

#include <algorithm>
#include <atomic>
#include <string>
#include <tuple>
#include <vector>

#include "cover/event_mask.h"

namespace janus {
namespace {

template <typename Map, typename Key>
void adjust(Map& counts, const Key& key, int by) {
  const auto at = counts.try_emplace(key).first;
  at->second += static_cast<std::size_t>(by);
  if (at->second == 0) counts.erase(at);
}

std::string_view path_of(const std::shared_ptr<const Entry>& entry) { return entry->path; }

std::uint32_t watched_dirents(const Entry& entry) { return entry.action == Action::watch ? entry.subject->events & kDirentKinds : 0; }

// Unique, also between grounds: one may go and come again.
std::uint64_t next_version() {
  static std::atomic<std::uint64_t> last{0};
  return ++last;
}

// Whether both say the same of the same path, whenever they were resolved.
bool alike(const Entry& one, const Entry& other) {
  const auto of = [](const Subject& s) {
    return std::tie(s.id, s.guard, s.container, s.events, s.max_depth, s.only_dir, s.auto_allow_owner, s.audit, s.recursive,
                    s.only_container, s.exact, s.enforced, s.exclude);
  };
  return std::tie(one.action, one.depth, one.path, one.relative) == std::tie(other.action, other.depth, other.path, other.relative) &&
         of(*one.subject) == of(*other.subject);
}

bool all_alike(std::span<const Placed* const> some, std::span<const Placed* const> others) {
  const auto sorted = [](std::span<const Placed* const> placed) {
    std::vector<const Entry*> entries;
    for (const Placed* each : placed) entries.push_back(each->entry.get());
    std::ranges::sort(entries, {}, [](const Entry* entry) {
      return std::tuple(std::string_view(entry->path), entry->subject->id, entry->action, std::string_view(entry->relative));
    });
    return entries;
  };
  if (some.size() != others.size()) return false;
  return std::ranges::equal(sorted(some), sorted(others), [](const Entry* one, const Entry* other) { return alike(*one, *other); });
}

}  // namespace

bool Ground::depends(const Entry& entry) {
  return entry.action == Action::allow && !entry.subject->audit && !entry.subject->exact;
}

void Ground::want(Part& part, const Entry& entry, bool answered, int by) {
  const std::uint32_t events = entry.subject->events;
  const std::uint64_t gate = answered ? permission_mask(events) : 0;
  const std::uint64_t observer = answered ? 0 : notification_mask(events);
  adjust(part.wanted, std::pair{gate, observer}, by);
}

void Ground::put(const Placed& placed, RuleTable::Edit& edit) {
  const Entry& entry = *placed.entry;
  const bool answered = depends(entry) ? edit.denied_around(entry.path) : entry.action != Action::watch;
  Part& part = parts_[placed.container];
  part.entries.insert(std::ranges::upper_bound(part.entries, std::string_view(entry.path), {}, path_of), placed.entry);
  want(part, entry, answered, 1);
  if (entry.action == Action::deny) adjust(denied_, pin_mask(entry.subject->events), 1);
  if (const std::uint32_t dirents = watched_dirents(entry); dirents != 0) {
    adjust(dirents_, dirents, 1);
    dirents_version_ = next_version();
  }
  if (placed.owned) ++owned_;
  if (placed.shifts) ++shifting_;
  if (depends(entry)) dependent_[placed.entry] = {placed.container, answered};
  edit.add({placed.entry, answered});
}

void Ground::take(const Placed& placed, RuleTable::Edit& edit) {
  const Entry& entry = *placed.entry;
  const bool answered = edit.remove(entry);
  dependent_.erase(placed.entry);
  if (const std::uint32_t dirents = watched_dirents(entry); dirents != 0) {
    adjust(dirents_, dirents, -1);
    dirents_version_ = next_version();
  }
  if (placed.owned) --owned_;
  if (placed.shifts) --shifting_;
  if (entry.action == Action::deny) adjust(denied_, pin_mask(entry.subject->events), -1);
  const auto part = parts_.find(placed.container);
  want(part->second, entry, answered, -1);
  auto& entries = part->second.entries;
  const auto same = std::ranges::lower_bound(entries, std::string_view(entry.path), {}, path_of);
  entries.erase(std::find(same, entries.end(), placed.entry));
  if (entries.empty()) parts_.erase(part);
}

void Ground::change(std::span<const Placed* const> gone, std::span<const Placed* const> come) {
  if (!all_alike(gone, come)) rules_version_ = next_version();
  RuleTable::Edit edit(table_);
  const auto denies = [](const Placed* placed) { return placed->entry->action == Action::deny; };
  for (const Placed* placed : gone) take(*placed, edit);
  // What others depend on comes first.
  for (const Placed* placed : come)
    if (denies(placed)) put(*placed, edit);
  for (const Placed* placed : come)
    if (!denies(placed)) put(*placed, edit);
  if (!dependent_.empty() && (std::ranges::any_of(gone, denies) || std::ranges::any_of(come, denies))) {
    for (auto& [entry, how] : dependent_) {
      auto& [container, answered] = how;
      const bool now = edit.denied_around(entry->path);
      if (now == answered) continue;
      Part& part = parts_.at(container);
      want(part, *entry, answered, -1);
      want(part, *entry, now, 1);
      edit.remove(*entry);
      edit.add({entry, now});
      answered = now;
    }
  }
  table_ = std::move(edit).done();
}

// Whether a mount of this part of the superblock shows a guarded path, or lies below one.
bool Ground::Part::shows(std::string_view root) const {
  for (std::string_view at = root;; at = parent_of(at)) {
    if (std::ranges::binary_search(entries, at, {}, path_of)) return true;
    if (at.empty()) break;
  }
  const std::string below = std::string(root) + "/";
  const auto next = std::ranges::lower_bound(entries, std::string_view(below), {}, path_of);
  return next != entries.end() && (*next)->path.starts_with(below);
}

std::vector<std::uint64_t> Ground::containers() const {
  std::vector<std::uint64_t> all;
  for (const auto& [container, part] : parts_) all.push_back(container);
  return all;
}

void Ground::plan(Device device, const SeenBy& seen, MarkPlan& plan) const {
  auto superblock = std::make_shared<Superblock>();
  const bool owned = owned_ > 0;
  for (const auto& [mask, count] : denied_) superblock->deny_mask |= mask;
  std::vector<View> views;
  for (const auto& [container, part] : parts_) {
    superblock->containers.push_back(container);
    std::uint64_t gate = 0, observer = 0;
    for (const auto& [mask, count] : part.wanted) {
      gate |= mask.first;
      observer |= mask.second;
    }
    const auto mark = [&](const MarkKey& key, const HeldProcess& process, const std::string& point, bool fleeting) {
      PlannedMark& wanted = plan.marks[key];
      wanted.gate |= gate;
      wanted.observer |= observer;
      wanted.process = process;
      wanted.point = point;
      wanted.fleeting = fleeting;
    };
    bool seen_first = false;
    for (const SeenMounts& space : seen.at(container)) {
      if (!space.first && owned) continue;
      const auto mounts = space.mounts.find(device);
      if (mounts == space.mounts.end()) continue;
      for (const Mount* each : mounts->second) {
        const Mount& mount = *each;
        if (mount.served || (space.first && !mount.visible)) continue;
        const bool shows = part.shows(mount.root);
        // Events show the path as the first process sees it, if it does.
        if (space.first || (shows && !seen_first)) views.push_back({container, mount.root, mount.point});
        seen_first = seen_first || space.first;
        if (!shows) continue;
        if ((gate | observer) != 0) mark({device, owned ? 0 : mount.id}, space.process, mount.point, !space.first);
        if (space.first) plan.bases.push_back({device, container, mount});
      }
    }
  }
  superblock->table = std::make_shared<SuperblockPolicy>(table_, std::move(views));
  superblock->shared = !owned;
  superblock->shifts = shifting_ > 0;
  for (const auto& [mask, count] : dirents_) superblock->dirents |= mask;
  superblock->dirents_version = dirents_version_;
  superblock->rules_version = rules_version_;
  plan.superblocks[device] = std::move(superblock);
}

}  // namespace janus
