#include "cover/mark_planner.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <set>
#include <unordered_set>

#include "cover/border.h"
#include "os/clock.h"

namespace janus {
namespace {

// A container's changes are planned for so long before whoever else waits for the lock has it.
constexpr std::uint64_t kHeldNs = 5'000'000;

// What a thread holds of a mount, by O_PATH; empty if that is nothing.
UniqueFd held_of(const BpfPrograms& programs, std::uint32_t pid, std::uint32_t mount_id) {
  const std::int32_t fd = programs.find_descriptor(pid, mount_id);
  if (fd == JANUS_FD_NONE) return {};
  const std::string process = "/proc/" + std::to_string(pid);
  const std::string link = fd == JANUS_FD_CWD ? "/cwd" : fd == JANUS_FD_ROOT ? "/root" : "/fd/" + std::to_string(fd);
  return UniqueFd(open((process + link).c_str(), O_PATH | O_CLOEXEC));
}

Error lacking(const std::pair<const std::string, const char*>& of) {
  const bool mounts = of.second == std::string_view("mounts");
  return Error(ErrorCode::exhausted, "cannot be guarded: container " + of.first + " has used up its share of " +
                                         (mounts ? "mounts" : "mount namespaces"));
}

}  // namespace

MarkPlanner::MarkPlanner(Parts parts)
    : parts_(parts),
      locator_(parts.programs, LocatorSlot::planner),
      compiler_(parts.programs, parts.groups.dirents, parts.decider, locator_, parts.counters, parts.refusals, parts.audit),
      marks_(parts.programs, parts.groups, locator_, parts.counters) {}

MarkPlan MarkPlanner::plan(const Devices& devices) {
  SeenBy seen;
  MarkPlan plan;
  for (const Device device : devices) {
    const auto ground = grounds_.find(device);
    if (ground == grounds_.end()) continue;
    for (const std::uint64_t container : ground->second.containers()) {
      auto& spaces = seen[container];
      if (!spaces.empty()) continue;
      const ContainerView& view = *views_.at(container);
      spaces.emplace_back(view.first(), view.mounts(), true);
      for (const auto& other : view.namespaces()) spaces.emplace_back(other.process, other.mounts, false);
    }
    ground->second.plan(device, seen, plan);
  }
  std::map<std::uint64_t, std::uint64_t> refused;
  for (const auto& [device, container, mount] : plan.bases) {
    bool is_refused = false;
    if (auto clone = views_.at(container)->clone_of(mount, cloner_, is_refused))
      plan.superblocks[device]->bases.push_back({mount.root, std::move(clone)});
    if (!is_refused) continue;
    // What is below it cannot be looked for, and so not be pinned.
    incomplete_[device] = true;
    ++refused[container];
  }
  for (const auto& [container, count] : refused) {
    parts_.refusals.add(container, "clones", count);
    parts_.counters.exposed_identity.add(count);
  }
  for (auto& [device, superblock] : plan.superblocks) {
    std::stable_sort(superblock->bases.begin(), superblock->bases.end(),
                     [](const Base& a, const Base& b) { return a.root.size() > b.root.size(); });
    superblock->learn = may_learn(device);
  }
  return plan;
}

void MarkPlanner::settle(const PlacedList& gone, const PlacedList& come) {
  std::map<Device, std::array<std::vector<const Placed*>, 2>> by_device;
  for (const Placed& placed : gone) by_device[placed.device][0].push_back(&placed);
  for (const Placed& placed : come) by_device[placed.device][1].push_back(&placed);
  for (const auto& [device, change] : by_device) {
    const auto ground = grounds_.try_emplace(device).first;
    ground->second.change(change[0], change[1]);
    if (ground->second.empty()) grounds_.erase(ground);
  }
}

CompiledGuard MarkPlanner::compile(const GuardSpec& spec, std::vector<Pin>& pins) {
  const auto stats = [this](std::uint32_t subject) { return book_.find(subject); };
  return compiler_.compile(spec, views_, stats, pins);
}

void MarkPlanner::publish(const MarkPlan& plan, const Devices& devices) {
  auto next = std::make_shared<Policy>(*parts_.policy.get());
  ++next->generation;
  for (const Device device : devices) {
    const auto it = plan.superblocks.find(device);
    if (it == plan.superblocks.end()) next->superblocks.erase(device);
    else next->superblocks[device] = it->second;
  }
  parts_.policy.publish(std::move(next));
  if (published_) published_(devices);
}

bool MarkPlanner::may_learn(Device device) const {
  const auto scans = scans_.find(device);
  const auto incomplete = incomplete_.find(device);
  return (scans == scans_.end() || scans->second.empty()) && (incomplete == incomplete_.end() || !incomplete->second) &&
         !parts_.identities.has_unknown_names(device);
}

// The same policy, but for what may be ignored, and where nobody is asked.
void MarkPlanner::publish_learning(const Devices& devices) {
  auto next = std::make_shared<Policy>(*parts_.policy.get());
  ++next->generation;
  std::vector<Device> no_more;
  Devices silent, asking;
  for (const Device device : devices) {
    bool by_kernel = false, by_kernel_alone = false;
    if (const auto it = next->superblocks.find(device); it != next->superblocks.end()) {
      auto changed = std::make_shared<Superblock>(*it->second);
      changed->learn = may_learn(device);
      // Asked once: what is pinned meanwhile may end it.
      changed->by_kernel = by_kernel = !changed->shifts && parts_.identities.decided_by_kernel(device);
      // A mount that is in no namespace couldn't be found again to be marked.
      by_kernel_alone = by_kernel && changed->learn && !changed->shared && parts_.identities.left_to_kernel(device);
      it->second = std::move(changed);
    }
    if (by_kernel) by_kernel_.insert(device);
    else if (by_kernel_.erase(device) > 0) no_more.push_back(device);
    if (by_kernel_alone) silent.insert(device);
    else if (silent_.erase(device) > 0) asking.insert(device);
  }
  ask_again(asking);
  parts_.policy.publish(std::move(next));
  parts_.learner.forget(no_more);
  for (const Device device : silent)
    if (silent_.insert(device).second) marks_.silence(device);
}

void MarkPlanner::ask_again(const Devices& devices) {
  if (devices.empty()) return;
  try {
    marks_.add(plan(devices), false, false);
  } catch (const Error&) {
    parts_.counters.exposed_rescan.add();  // no resources: the next plan of the device adds them
  }
}

void MarkPlanner::look_for_room() {
  if (parts_.decider.has_room()) return;
  const std::lock_guard lock(mutex_);
  update_learning(Devices(by_kernel_));
}

void MarkPlanner::update_learning(const Devices& devices) {
  const auto policy = parts_.policy.get();
  Devices changed;
  for (const Device device : devices) {
    const Superblock* superblock = policy->find(device);
    const bool by_kernel = superblock != nullptr && !superblock->shifts && parts_.identities.decided_by_kernel(device);
    const bool published = superblock != nullptr && superblock->by_kernel;
    if (by_kernel != published || by_kernel != by_kernel_.contains(device)) changed.insert(device);
  }
  if (!changed.empty()) publish_learning(changed);
}

UniqueFd MarkPlanner::find(const Pin& pin) {
  const auto view = views_.find(pin.container);
  if (view == views_.end()) return {};
  try {
    UniqueFd object = resolve_local(parts_.programs, *view->second->first(), view->second->served(), pin.point).object;
    const Location at = locator_.locate(object.get());
    if (at.found() && at.raw->mount_id == pin.mount) return object;
  } catch (const Error& error) {
    if (error.code == ErrorCode::exhausted) incomplete_[pin.device] = true;
  }
  return {};
}

void MarkPlanner::reserve(const std::vector<Pin>& pins, IdentityTable::Reservation& reservation) {
  for (const Pin& pin : pins) {
    const UniqueFd below = pin.object ? UniqueFd() : find(pin);
    const int object = pin.object ? pin.object.get() : below.get();
    if (object < 0 || locator_.locate(object, 0, true).pinned() || reservation.add(pin.container)) continue;
    const std::string& id = views_.at(pin.container)->info().id;
    throw Error(ErrorCode::exhausted, "cannot be pinned: the guards of container " + id + " have used up its share of pinned inodes (--identity-limit)")
        .on_path(pin.subject, pin.asked)
        .of_guard(pin.guard);
  }
}

void MarkPlanner::check_room(std::span<const CompiledGuard> guards) const {
  KernelRules::Room wanted;
  for (const CompiledGuard& guard : guards) {
    bool changes = false;
    for (const Placed& placed : guard.placed) {
      const Entry& entry = *placed.entry;
      if (entry.action != Action::deny) continue;
      const auto components = static_cast<std::size_t>(std::ranges::count(entry.path, '/'));
      wanted.components += components;
      if ((entry.subject->events & kChanges) == 0) continue;
      wanted.of_changes += components;
      changes = true;
    }
    if (changes && !parts_.identities.kernel_has_room(wanted))
      throw Error(ErrorCode::exhausted, "changes cannot be denied: the kernel has no room for rules of so many paths").of_guard(guard.spec.key);
  }
}

// By the policy that has just been published.
MarkPlanner::ScanJobs MarkPlanner::pin(const std::vector<Pin>& pins, const Places& known, bool reserved) {
  ScanJobs jobs;
  Devices changed;
  const auto policy = parts_.policy.get();
  for (const Pin& pin : pins) {
    const Superblock* superblock = policy->find(pin.device);
    if (superblock == nullptr) continue;
    const UniqueFd below = pin.object ? UniqueFd() : find(pin);
    const int object = pin.object ? pin.object.get() : below.get();
    if (object < 0) continue;
    const Location location = locator_.locate(object, 0, true);
    const bool directory = location.directory();
    const auto pinned = parts_.identities.pin(object, location, {&pin.path, 1}, *superblock, reserved ? pin.container : 0);
    const bool is_new = pinned == IdentityTable::Pinned::now;
    if (is_new) parts_.learner.leave_to_identity(object, pin.device, directory, superblock->deny_mask);
    const bool unpinned = pinned == IdentityTable::Pinned::limit;
    if (unpinned) {
      incomplete_[pin.device] = true;
      parts_.counters.exposed_identity.add();
    }
    const bool scan = directory && (is_new || !known.contains({pin.device, pin.path}));
    if (scan) {
      jobs.push_back(begin_scan(pin.container, pin.device, pin.path));
    }
    if (is_new || unpinned || scan) changed.insert(pin.device);
  }
  // Whether the rest may be ignored is decided anew.
  if (!changed.empty()) publish_learning(changed);
  return jobs;
}

// ---- operations ---------------------------------------------------------------

MarkPlanner::Devices MarkPlanner::devices_of(const CompiledGuard& guard) {
  Devices devices;
  for (const Placed& placed : guard.placed) devices.insert(placed.device);
  return devices;
}

void MarkPlanner::drop(CompiledGuard& guard) {
  compiler_.unwatch(guard);
  for (const auto& subject : guard.subjects) book_.retire(subject->id);
}

std::vector<CompiledGuard> MarkPlanner::compile_all(std::span<const GuardSpec> specs, std::vector<Pin>& pins) {
  std::vector<CompiledGuard> guards;
  try {
    for (const GuardSpec& spec : specs) {
      try {
        guards.push_back(compile(spec, pins));
      } catch (Error& error) {
        throw std::move(error).of_guard(spec.key);
      }
      guards.back().original = guards.back().placed;
    }
  } catch (...) {
    for (const CompiledGuard& guard : guards) compiler_.unwatch(guard);
    throw;
  }
  return guards;
}

MarkPlanner::Applied MarkPlanner::apply(std::span<const GuardSpec> specs) {
  // Who was followed for these guards alone isn't any more if there are no guards.
  std::vector<std::uint64_t> fresh;
  try {
    // Before the lock: tracking may report namespaces, which takes it.
    std::map<std::string, ContainerInfo> infos;
    for (const GuardSpec& spec : specs) {
      for (std::size_t i = 0; i < spec.subjects.size(); ++i) {
        const std::string& id = spec.subjects[i].container_id;
        try {
          if (infos.contains(id)) continue;
          bool is_new = false;
          const auto& info = infos.emplace(id, parts_.tracker.track(id, &is_new)).first->second;
          if (is_new) fresh.push_back(info.cgroup);
        } catch (Error& error) {
          throw std::move(error).on_path(static_cast<int>(i), {}).of_guard(spec.key);
        }
      }
    }
    const FirstLock lock(mutex_);
    std::map<std::string, const char*> left_out;  // by container
    for (const auto& [id, info] : infos) {
      parts_.refusals.follow(info.cgroup, id);
      if (const char* resource = view(info).left_out()) left_out.emplace(id, resource);
    }
    for (const GuardSpec& spec : specs) {
      for (std::size_t i = 0; i < spec.subjects.size() && !spec.partial; ++i)
        if (const auto container = left_out.find(spec.subjects[i].container_id); container != left_out.end())
          throw lacking(*container).on_path(static_cast<int>(i), {}).of_guard(spec.key);
    }
    Applied applied = swap_in(specs);
    for (const auto& [id, info] : infos) applied.containers.emplace(info.cgroup, id);
    return applied;
  } catch (...) {
    for (const std::uint64_t container : fresh) {
      parts_.tracker.leave(container);
      const FirstLock lock(mutex_);
      views_.erase(container);
      compiler_.forget(container);
      parts_.refusals.ended(container);
    }
    throw;
  }
}

ContainerView& MarkPlanner::view(const ContainerInfo& info) {
  if (const auto known = views_.find(info.cgroup); known != views_.end()) {
    refresh(*known->second, ContainerView::Read::all);
    return *known->second;
  }
  HeldProcess first = hold(info.cgroup, info.init_pid);
  if (!first) throw Error(ErrorCode::not_found, "container " + info.id + " has ended");
  auto view = std::make_unique<ContainerView>(info, std::move(first), shares_, parts_.programs);
  // Those that were told of before there was a view to take them.
  add_known_namespaces(*view);
  refresh(*view, ContainerView::Read::all);
  return *views_.emplace(info.cgroup, std::move(view)).first->second;
}

void MarkPlanner::add_known_namespaces(ContainerView& view) {
  const std::uint64_t container = view.info().cgroup;
  for (const auto& [mnt_ns, pid] : parts_.tracker.namespaces(container))
    if (HeldProcess process = hold(container, pid)) view.add_namespace(mnt_ns, std::move(process));
}

void MarkPlanner::refresh(ContainerView& view, ContainerView::Read which) {
  view.refresh(which);
  if (view.makes_room()) {
    add_known_namespaces(view);
    view.refresh(ContainerView::Read::changed);
  }
  if (const char* resource = view.left_out()) {
    parts_.refusals.add(view.info().cgroup, resource);
    parts_.counters.exposed_mount_limit.add();
  }
}

MarkPlanner::Applied MarkPlanner::swap_in(std::span<const GuardSpec> specs) {
  std::vector<Pin> pins;
  std::vector<CompiledGuard> next = compile_all(specs, pins);
  IdentityTable::Reservation reservation(parts_.identities);
  try {
    reserve(pins, reservation);
    check_room(next);
  } catch (...) {
    for (const CompiledGuard& guard : next) compiler_.unwatch(guard);
    throw;
  }
  Devices devices;
  for (const CompiledGuard& guard : next) {
    devices.merge(devices_of(guard));
    const auto old = guards_.find(guard.spec.key);
    if (old != guards_.end()) devices.merge(devices_of(old->second));
  }

  // Swap in, place marks; if that fails, swap back. Marks are a union of old
  // and new until the new policy is out: no moment is unguarded.
  std::map<std::uint32_t, CompiledGuard> before;
  PlacedList gone, come;
  for (CompiledGuard& guard : next) {
    const std::uint32_t key = guard.spec.key;
    std::ranges::copy(guard.placed, std::back_inserter(come));
    if (auto old = guards_.extract(key)) {
      std::ranges::copy(old.mapped().placed, std::back_inserter(gone));
      before.insert(std::move(old));
    }
    guards_.emplace(key, std::move(guard));
  }
  settle(gone, come);
  MarkPlan planned;
  try {
    planned = plan(devices);
    marks_.add(planned, false, true);
    for (const Device device : devices) silent_.erase(device);
  } catch (...) {
    for (const GuardSpec& spec : specs) {
      compiler_.unwatch(guards_.at(spec.key));
      guards_.erase(spec.key);
    }
    guards_.merge(before);
    settle(come, gone);
    throw;
  }
  Devices replaced;
  for (const auto& [key, guard] : before) replaced.merge(devices_of(guard));
  Applied applied;
  applied.before = as_published(replaced);
  publish(planned, devices);
  marks_.trim(planned, devices);
  parts_.learner.forget({devices.begin(), devices.end()});
  for (const GuardSpec& spec : specs) {
    const CompiledGuard& now = guards_.at(spec.key);
    for (const auto& subject : now.subjects) book_.hold(subject->id, subject->stats);
    const auto was = before.find(spec.key);
    if (was == before.end()) continue;
    std::erase_if(was->second.subjects, [&](const auto& subject) {
      return std::ranges::any_of(now.subjects, [&](const auto& other) { return other->id == subject->id; });
    });
    drop(was->second);
  }
  applied.jobs = pin(pins, {}, true);
  update_learning(devices);
  applied.devices = std::move(devices);
  return applied;
}

bool MarkPlanner::commit(const Devices& devices, bool renew, bool forget) {
  MarkPlan next;
  try {
    next = plan(devices);
  } catch (const Error&) {
    parts_.counters.exposed_rescan.add();
    return false;  // no resources: what is published and marked holds
  }
  const bool marked = marks_.add(next, renew, false);
  for (const Device device : devices) silent_.erase(device);
  publish(next, devices);
  marks_.trim(next, devices);
  if (forget) parts_.learner.forget({devices.begin(), devices.end()});
  return marked;
}

MarkPlanner::Before MarkPlanner::as_published(const Devices& devices) const {
  const auto policy = parts_.policy.get();
  Before before;
  for (const Device device : devices) {
    const auto it = policy->superblocks.find(device);
    if (it != policy->superblocks.end()) before.emplace_back(device, it->second);
  }
  return before;
}

// Publishes and trims after something was taken away.
MarkPlanner::Before MarkPlanner::retire(const Devices& devices) {
  Before before = as_published(devices);
  const MarkPlan next = plan(devices);
  publish(next, devices);
  marks_.trim(next, devices);
  for (const Device device : devices) {
    if (next.superblocks.contains(device)) continue;
    scans_.erase(device);
    incomplete_.erase(device);
  }
  update_learning(devices);
  return before;
}

MarkPlanner::Before MarkPlanner::remove(std::uint32_t key, bool& existed) {
  const FirstLock lock(mutex_);
  const auto it = guards_.find(key);
  existed = it != guards_.end();
  if (!existed) return {};
  const Devices devices = devices_of(it->second);
  settle(it->second.placed, {});
  drop(it->second);
  guards_.erase(it);
  return retire(devices);
}

MarkPlanner::Before MarkPlanner::container_ended(std::uint64_t container) {
  const std::lock_guard lock(mutex_);
  Devices devices;
  PlacedList gone_places;
  for (auto& each : guards_) {
    CompiledGuard& guard = each.second;
    const auto gone = [&](const auto& subject) { return subject->container == container; };
    if (std::none_of(guard.subjects.begin(), guard.subjects.end(), gone)) continue;
    std::vector<SubjectSpec> specs;
    std::vector<std::uint32_t> ids;
    for (std::size_t i = 0; i < guard.subjects.size(); ++i) {
      if (gone(guard.subjects[i])) ids.push_back(guard.subjects[i]->id);
      else specs.push_back(std::move(guard.spec.subjects[i]));
    }
    guard.spec.subjects = std::move(specs);
    for (const std::uint32_t id : ids) book_.retire(id);
    const auto of_gone = [&](const auto& about) { return std::ranges::find(ids, about.subject) != ids.end(); };
    std::erase_if(guard.notes, of_gone);
    std::erase_if(guard.failed, of_gone);
    std::erase_if(guard.subjects, gone);
    compiler_.unwatch(guard, container);
    const auto theirs = [&](const Placed& placed) { return placed.container == container; };
    std::ranges::copy_if(guard.placed, std::back_inserter(gone_places), theirs);
    std::erase_if(guard.placed, theirs);
    std::erase_if(guard.original, theirs);
  }
  for (const Placed& placed : gone_places) devices.insert(placed.device);
  settle(gone_places, {});
  Before before = retire(devices);
  views_.erase(container);
  compiler_.forget(container);
  parts_.refusals.ended(container);
  return before;
}

std::vector<MarkPlanner::Place> MarkPlanner::places() const {
  const std::lock_guard lock(mutex_);
  std::vector<Place> all;
  for (const auto& [cgroup, view] : views_) {
    all.push_back({cgroup, view->first()});
    for (const auto& other : view->namespaces()) all.push_back({cgroup, other.process});
  }
  return all;
}

MarkPlanner::ScanJobs MarkPlanner::scan_again(std::optional<Device> device, std::uint64_t of) {
  const std::lock_guard lock(mutex_);
  std::map<std::pair<Device, std::string>, std::uint64_t> places;  // -> container
  for (const auto& [key, guard] : guards_)
    for (const Placed& placed : guard.placed)
      if ((!device || placed.device == *device) && (of == 0 || placed.container == of) && placed.entry->action == Action::deny)
        places.emplace(std::pair{placed.device, placed.entry->path}, placed.container);
  ScanJobs jobs;
  Devices devices;
  for (const auto& [place, container] : places) {
    jobs.push_back(begin_scan(container, place.first, place.second));
    devices.insert(place.first);
  }
  if (!devices.empty()) publish_learning(devices);
  return jobs;
}

ScanJob MarkPlanner::begin_scan(std::uint64_t container, Device device, std::string path) {
  scans_[device].insert(next_scan_);
  return {.container = container, .device = device, .path = std::move(path), .token = next_scan_++};
}

void MarkPlanner::scanned(Device device, std::uint64_t token, bool complete) {
  const std::lock_guard lock(mutex_);
  const auto it = scans_.find(device);
  // One for guards that are gone says nothing about those that came after.
  if (it == scans_.end() || it->second.erase(token) == 0) return;
  if (!complete) incomplete_[device] = true;
  if (!it->second.empty()) return;
  publish_learning({device});
}

// A path that cannot be followed now, between two states of a tree or because a container has made it so, costs
// itself only: it keeps what it led to and what is watched for it. What is left in `next.failed` is guarded nowhere.
void MarkPlanner::keep_failed(CompiledGuard& guard, std::uint64_t container, CompiledGuard& next) {
  for (const FailedPath& was : guard.failed) {
    // It is there at last: from now on it is what was there when the guard was made.
    std::ranges::copy_if(next.placed, std::back_inserter(guard.original),
                         [&](const Placed& placed) { return is_of(placed, was.subject, was.path); });
  }
  auto& watched = guard.names[container];
  auto& to_watch = next.names[container];
  std::erase_if(next.failed, [&](const FailedPath& failed) {
    const auto for_it = [&](const NameWatch::Watched& each) {
      return each.subject == failed.subject && each.path == failed.path;
    };
    if (std::ranges::none_of(to_watch, for_it)) {
      std::ranges::copy_if(watched, std::back_inserter(to_watch), for_it);
      std::erase_if(watched, for_it);
    }
    bool held = false;
    for (const Placed& placed : guard.placed) {
      if (placed.container != container || !is_of(placed, failed.subject, failed.path)) continue;
      held = true;
      const bool original = std::ranges::any_of(guard.original, [&](const Placed& other) { return other.entry == placed.entry; });
      if (!original) next.placed.push_back(placed);
    }
    if (held) parts_.counters.exposed_rescan.add();
    return held;
  });
}

// One container's part of a guard. Returns whether its paths lead to other places now.
bool MarkPlanner::recompile(CompiledGuard& guard, std::uint64_t container, Again& again) {
  GuardSpec part{.key = guard.spec.key, .subjects = {}, .partial = true};
  std::vector<std::size_t> at;
  for (std::size_t i = 0; i < guard.subjects.size(); ++i) {
    if (guard.subjects[i]->container != container) continue;
    part.subjects.push_back(guard.spec.subjects[i]);
    at.push_back(i);
  }
  const auto theirs = [&](const Placed& placed) { return placed.container == container; };
  const auto places = [&] {
    Places all;
    for (const Placed& placed : guard.placed)
      if (theirs(placed)) all.emplace(placed.device, placed.entry->path);
    return all;
  };
  const Places before = places();
  for (const auto& [device, path] : before) again.devices.insert(device);
  again.known.insert(before.begin(), before.end());
  CompiledGuard next;
  try {
    next = compile(part, again.pins);
  } catch (const Error& error) {
    again.short_of = again.short_of || error.code == ErrorCode::exhausted;
    // None of its paths can be followed, or resources are short. What was
    // resolved before holds, by mounts that came meanwhile, too.
    parts_.counters.exposed_rescan.add();
    return false;
  }
  keep_failed(guard, container, next);
  for (std::size_t i = 0; i < at.size(); ++i) guard.subjects[at[i]] = next.subjects[i];
  std::ranges::copy_if(guard.placed, std::back_inserter(again.gone), theirs);
  std::erase_if(guard.placed, theirs);
  std::ranges::move(next.placed, std::back_inserter(guard.placed));
  // What was there when the guard was made stays guarded.
  std::ranges::copy_if(guard.original, std::back_inserter(guard.placed), theirs);
  std::ranges::copy_if(guard.placed, std::back_inserter(again.come), theirs);
  compiler_.unwatch(guard, container);
  guard.names.merge(next.names);
  const auto part_has = [&](std::uint32_t subject) {
    return std::ranges::any_of(part.subjects, [&](const SubjectSpec& of) { return of.id == subject; });
  };
  std::erase_if(guard.notes, [&](const PathNote& note) { return part_has(note.subject); });
  std::ranges::move(next.notes, std::back_inserter(guard.notes));
  std::erase_if(guard.failed, [&](const FailedPath& failed) { return part_has(failed.subject); });
  std::ranges::move(next.failed, std::back_inserter(guard.failed));
  const Places after = places();
  for (const auto& [device, path] : after) again.devices.insert(device);
  return after != before;
}

// All that was compiled again, in one plan.
MarkPlanner::ScanJobs MarkPlanner::commit(Again& again, bool renew, bool elsewhere) {
  settle(again.gone, again.come);
  again.marked = commit(again.devices, renew, elsewhere);
  ScanJobs jobs = pin(again.pins, again.known);
  update_learning(again.devices);
  return jobs;
}

// Null if the number is not, or no longer, a process's or a thread's of the container.
HeldProcess MarkPlanner::hold(std::uint64_t container, std::uint32_t pid) {
  HeldProcess process;
  try {
    process = std::make_shared<const ProcessDir>(pid);
  } catch (const Error& error) {
    if (error.code != ErrorCode::not_found) throw;
    return nullptr;
  }
  const std::uint32_t tgid = process->tgid();
  const Location who = locator_.locate(process->fd(), static_cast<std::int32_t>(tgid));
  // It lives after it was asked about, so nobody else had its number then.
  const bool ours = tgid != 0 && (who.raw->flags & JANUS_LOCATE_TRACKED) != 0 && who.raw->container == container;
  return ours && process->alive() ? process : nullptr;
}

MarkPlanner::Replan MarkPlanner::replan_container(std::uint64_t container) {
  std::unique_lock lock(mutex_);
  const auto view = views_.find(container);
  if (view == views_.end()) return {};
  const bool was_whole = view->second->left_out() == nullptr;
  try {
    refresh(*view->second, ContainerView::Read::changed);
  } catch (const Error& error) {
    // It has ended, and will be reported so; else what was read before holds.
    if (error.code != ErrorCode::not_found) parts_.counters.exposed_rescan.add();
    return {};
  }
  compiler_.refreshed(*view->second);
  Replan all;
  all.rewatch = (view->second->left_out() == nullptr) != was_whole;
  for (auto from = replan_some(container, 0, all); from; from = replan_some(container, *from, all)) {
    lock.unlock();  // the view may be gone after
    lock.lock();
  }
  return all;
}

// Guards with keys from `from` on, in one plan, until others should have the lock. Returns the next key.
std::optional<std::uint32_t> MarkPlanner::replan_some(std::uint64_t container, std::uint32_t from, Replan& all) {
  const std::uint64_t until = monotonic_ns() + kHeldNs;
  Again again;
  bool elsewhere = false;
  auto next = guards_.lower_bound(from);
  for (; next != guards_.end() && monotonic_ns() < until; ++next) {
    CompiledGuard& guard = next->second;
    if (std::ranges::any_of(guard.subjects, [&](const auto& subject) { return subject->container == container; }))
      elsewhere = recompile(guard, container, again) || elsewhere;
  }
  std::ranges::move(commit(again, true, elsewhere), std::back_inserter(all.jobs));
  all.changed = all.changed || elsewhere || again.marked;
  all.again = all.again || again.short_of;
  return next == guards_.end() ? std::nullopt : std::optional(next->first);
}

MarkPlanner::ScanJobs MarkPlanner::replan_names(std::uint64_t container, const std::set<std::uint32_t>& guards) {
  const std::lock_guard lock(mutex_);
  Again again;
  bool elsewhere = false;
  for (const std::uint32_t key : guards) {
    const auto guard = guards_.find(key);
    if (guard == guards_.end() || !recompile(guard->second, container, again)) continue;
    parts_.counters.exposed_path.add();
    elsewhere = true;
  }
  return commit(again, false, elsewhere);
}

MarkPlanner::ScanJobs MarkPlanner::retry(std::uint32_t key) {
  const FirstLock lock(mutex_);
  const auto guard = guards_.find(key);
  if (guard == guards_.end()) return {};
  std::set<std::uint64_t> containers;
  for (const auto& subject : guard->second.subjects) containers.insert(subject->container);
  Again again;
  bool elsewhere = false;
  for (const std::uint64_t container : containers) elsewhere = recompile(guard->second, container, again) || elsewhere;
  return commit(again, false, elsewhere);
}

MarkPlanner::Replan MarkPlanner::add_namespaces(std::uint64_t container, const std::vector<std::pair<std::uint64_t, std::uint32_t>>& seen) {
  {
    const std::lock_guard lock(mutex_);
    const auto view = views_.find(container);
    if (view == views_.end()) return {};
    bool any = false;
    for (const auto& [mnt_ns, tid] : seen) {
      HeldProcess process = hold(container, tid);
      if (!process) continue;  // it has ended; the look tells of the namespace if another lives in it
      view->second->add_namespace(mnt_ns, std::move(process));
      any = true;
    }
    if (!any) return {};
  }
  return replan_container(container);
}

MarkPlanner::Loose MarkPlanner::mark_loose(std::uint32_t pid, std::uint32_t mount_id) {
  const std::lock_guard lock(mutex_);
  const UniqueFd at = held_of(parts_.programs, pid, mount_id);
  if (!at) return {};
  const Location location = locator_.locate(at.get());
  if (!location.found() || location.raw->mount_id != mount_id) return {};
  if (served_by(parts_.programs, at.get())) return {Loose::needless, location.raw->dev};
  const MarkSet::Loose loose = marks_.mark_loose(location.raw->dev, at.get());
  if (loose == MarkSet::Loose::needless) return {Loose::needless, location.raw->dev};
  if (loose == MarkSet::Loose::marked) return {Loose::marked, location.raw->dev};
  return {};
}

std::map<std::uint64_t, std::uint32_t> MarkPlanner::watched() const {
  const FirstLock lock(mutex_);
  std::set<std::uint64_t> lacking;
  for (const auto& [container, view] : views_)
    if (view->left_out() != nullptr) lacking.insert(container);
  std::map<std::uint64_t, std::uint32_t> containers;
  for (const auto& [key, guard] : guards_)
    for (const Placed& placed : guard.placed) {
      std::uint32_t& flags = containers[placed.container];
      flags |= JANUS_WATCH_MOUNTS;
      if (!placed.owned) flags |= JANUS_WATCH_NAMESPACES;
      if (placed.entry->action != Action::deny || !placed.entry->subject->enforced) continue;
      flags |= JANUS_WATCH_DENIED;
      if (lacking.contains(placed.container)) flags |= JANUS_WATCH_SHUT;
    }
  return containers;
}

bool MarkPlanner::covers(std::uint64_t container, std::uint64_t mnt_ns) const {
  const std::lock_guard lock(mutex_);
  const auto view = views_.find(container);
  return view == views_.end() || view->second->covers(mnt_ns);
}

std::vector<PathNote> MarkPlanner::notes(std::uint32_t key) const {
  const FirstLock lock(mutex_);
  const auto guard = guards_.find(key);
  if (guard == guards_.end()) return {};
  std::vector<PathNote> notes = guard->second.notes;
  for (const auto& [subject, number, said, reason] : guard->second.failed)
    notes.push_back({.subject = subject, .path = said, .missing = false, .program = "", .names = 0, .fault = reason});
  return notes;
}

}  // namespace janus
