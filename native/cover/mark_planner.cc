#include "cover/mark_planner.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <set>
#include <unordered_set>

#include "cover/border.h"

namespace janus {
namespace {

using std::chrono::steady_clock;

// How long the counters of a removed subject are still reported, so that the
// last of them reach a metrics scrape.
constexpr std::chrono::minutes kRetired{10};

constexpr std::uint32_t kDirentKinds =
    mask_of(FileEventKind::attrib) | mask_of(FileEventKind::create) | mask_of(FileEventKind::remove) |
    mask_of(FileEventKind::deleteself) | mask_of(FileEventKind::movedfrom) | mask_of(FileEventKind::movedto) |
    mask_of(FileEventKind::moveself);

std::uint64_t permission_mask(std::uint32_t events) {
  return ((events & mask_of(FileEventKind::open)) ? FAN_OPEN_PERM : 0) |
         ((events & mask_of(FileEventKind::access)) ? FAN_ACCESS_PERM : 0) |
         ((events & mask_of(FileEventKind::exec)) ? FAN_OPEN_EXEC_PERM : 0);
}

std::uint64_t notification_mask(std::uint32_t events) {
  return ((events & mask_of(FileEventKind::open)) ? FAN_OPEN : 0) |
         ((events & mask_of(FileEventKind::access)) ? FAN_ACCESS : 0) |
         ((events & mask_of(FileEventKind::exec)) ? FAN_OPEN_EXEC : 0) |
         ((events & mask_of(FileEventKind::modify)) ? FAN_MODIFY : 0) |
         ((events & mask_of(FileEventKind::closewrite)) ? FAN_CLOSE_WRITE : 0) |
         ((events & mask_of(FileEventKind::closenowrite)) ? FAN_CLOSE_NOWRITE : 0);
}

// Everything that a process can name a mount by.
std::vector<std::string> magic_links_of(std::uint32_t pid) {
  const std::string process = "/proc/" + std::to_string(pid);
  std::vector<std::string> links = {process + "/cwd", process + "/root"};
  std::error_code gone;
  for (const auto& entry : std::filesystem::directory_iterator(process + "/fd", gone)) links.push_back(entry.path());
  return links;
}

std::uint32_t levels_in(std::string_view tail) {
  return static_cast<std::uint32_t>(std::count(tail.begin(), tail.end(), '/'));
}

}  // namespace

MarkPlanner::MarkPlanner(Parts parts) : parts_(parts), locator_(parts.programs, LocatorSlot::planner) {}

// ---- compiling: from what the caller said to places in superblocks ---------

MarkPlanner::Guard MarkPlanner::compile(const GuardSpec& spec, std::vector<Pin>& pins) {
  Guard guard;
  guard.spec = spec;
  for (std::size_t i = 0; i < spec.subjects.size(); ++i) {
    const SubjectSpec& want = spec.subjects[i];
    const int index = static_cast<int>(i);
    const auto view = std::find_if(views_.begin(), views_.end(), [&](const auto& item) {
      return item.second->info().id == want.container_id;
    });
    if (view == views_.end())
      throw Error(ErrorCode::not_found, "no running container " + want.container_id).on_path(index, {});
    if (want.audit && !parts_.audit)
      throw Error(ErrorCode::unsupported, "this kernel takes no audit records from fanotify (CONFIG_AUDIT, Linux 4.15)")
          .on_path(index, {});
    if (want.events & kDirentKinds)
      throw Error(ErrorCode::unsupported,
                  "attrib, create, delete and move events cannot be observed on a container's file system yet")
          .on_path(index, {});
    auto subject = std::make_shared<Subject>();
    subject->id = want.id;
    subject->container = view->first;
    subject->events = want.events;
    subject->max_depth = want.max_depth;
    subject->only_dir = want.only_dir;
    subject->auto_allow_owner = want.auto_allow_owner;
    subject->audit = want.audit;
    subject->recursive = want.recursive;
    subject->only_container = want.only_container;
    subject->exact = want.exact;
    subject->exclude = want.exclude;
    const auto stats = stats_.find(want.id);
    subject->stats = stats == stats_.end() ? std::make_shared<SubjectStats>() : stats->second;
    guard.subjects.push_back(subject);
    const auto place_all = [&](const std::vector<std::string>& paths, Action action) {
      for (const std::string& path : paths) {
        try {
          ContainerView& of = *view->second;
          place({of, *of.first(), of.mounts(), of.served(), true}, want, subject, path, action, guard, pins);
          for (const auto& other : of.namespaces()) {
            try {
              place({of, *other.process, other.mounts, other.served, false}, want, subject, path, action, guard, pins);
            } catch (const Error& error) {
              // Its process has ended, or sees no such path: nothing to guard there.
              // Without resources nobody knows whether there is something.
              if (error.code == ErrorCode::exhausted) throw;
            }
          }
        } catch (Error& error) {
          if (names_ != nullptr) names_->unwatch(guard.names);
          throw std::move(error).on_path(index, path);
        }
      }
    };
    place_all(want.allow, Action::allow);
    place_all(want.deny, Action::deny);
    place_all(want.watch, Action::watch);
  }
  sort_by_device(guard.placed);
  return guard;
}

void MarkPlanner::sort_by_device(std::vector<Placed>& placed) { std::ranges::stable_sort(placed, {}, &Placed::device); }

void MarkPlanner::place(const Where& where, const SubjectSpec& spec, const std::shared_ptr<const Subject>& subject,
                        const std::string& path, Action action, Guard& guard, std::vector<Pin>& pins) {
  const ContainerView& view = where.view;
  const auto resolve = [&](const std::string& at) {
    return resolve_local(parts_.programs, where.process, where.served, at);
  };
  Resolved resolved = resolve(path);
  if (!S_ISREG(resolved.mode) && !S_ISDIR(resolved.mode) && resolved.missing.empty())
    throw Error(ErrorCode::invalid, "is neither a file nor a directory: the kernel asks no permission for it");
  // Watched before it is looked at: what changes after is told.
  if (names_ != nullptr && where.first) {
    const std::size_t blind = names_->watch(resolved);
    if (blind > 0) parts_.counters.exposed_rescan.add(blind);
    guard.names.insert(guard.names.end(), resolved.names.begin(), resolved.names.end());
  }
  const auto add = [&](const Location& at, const std::string& tail, std::uint32_t depth, std::string relative) {
    const auto mount = std::find_if(where.mounts.begin(), where.mounts.end(),
                                    [&](const Mount& m) { return m.id == at.raw->mount_id; });
    if (mount == where.mounts.end()) throw Error(ErrorCode::system, "its mount has just gone");
    if (is_kernel_file_system(mount->type))
      throw Error(ErrorCode::invalid, "is on " + mount->type + ", where the kernel asks no permission");
    std::string full = std::string(at.path) + tail;
    // Another namespace mostly sees the same things.
    if (!where.first && std::any_of(guard.placed.begin(), guard.placed.end(), [&](const Placed& placed) {
          return placed.device == at.raw->dev && placed.entry->subject == subject && placed.entry->path == full;
        }))
      return;
    guard.placed.push_back({.container = view.info().cgroup,
                            .device = at.raw->dev,
                            .owned = view.owns(*mount),
                            .entry = std::make_shared<Entry>(Entry{.action = action,
                                                                   .depth = depth,
                                                                   .path = std::move(full),
                                                                   .relative = std::move(relative),
                                                                   .subject = subject})});
  };
  const Location object = locator_.locate(resolved.object.get());
  if (!object.found() || !object.has_path()) throw Error(ErrorCode::system, "cannot be located");
  add(object, resolved.missing, 0, "");
  const bool directory = object.directory();
  if (action == Action::deny && resolved.missing.empty() && where.first) {
    pins.push_back({.object = std::move(resolved.object),
                    .directory = directory,
                    .device = guard.placed.back().device,
                    .path = guard.placed.back().entry->path});
  }
  // Where a symlink was followed, something else may stand one day.
  for (const auto& hop : resolved.hops) {
    const Location at = locator_.locate(resolved.directories[hop.index]->get());
    if (at.found() && at.has_path()) add(at, "/" + resolved.names[hop.index] + hop.rest, 0, "");
  }
  // What is mounted below is seen below.
  for (const Mount& mount : where.mounts) {
    if (mount.point.size() <= resolved.seen.size() || !is_below(mount.point, resolved.seen) ||
        !mount.visible || is_kernel_file_system(mount.type))
      continue;
    const std::string tail = mount.point.substr(resolved.seen.size());
    const std::uint32_t depth = levels_in(tail);
    if (depth > 1 && (!spec.recursive || (spec.max_depth != 0 && depth > spec.max_depth))) continue;
    if (mount.served) {
      pass_by(view, mount);
      continue;
    }
    if (!where.first && std::any_of(guard.placed.begin(), guard.placed.end(), [&](const Placed& placed) {
          return placed.device == mount.device && placed.entry->subject == subject && placed.entry->path == mount.root;
        }))
      continue;
    const bool to_pin = action == Action::deny && where.first;
    Resolved below;
    if (to_pin || mount.type == "overlay") {
      try {
        below = resolve(mount.point);
      } catch (const Error& error) {
        // A layer of it is served, or it has just gone. It costs only itself.
        if (error.code == ErrorCode::exhausted) throw;
        pass_by(view, mount);
        continue;
      }
    }
    guard.placed.push_back({.container = view.info().cgroup,
                            .device = mount.device,
                            .owned = view.owns(mount),
                            .entry = std::make_shared<Entry>(
                                Entry{.action = action, .depth = depth, .path = mount.root, .relative = tail, .subject = subject})});
    if (!to_pin) continue;
    const Location at = locator_.locate(below.object.get());
    if (!at.found() || at.raw->mount_id != mount.id) continue;  // it has just gone
    pins.push_back({.object = std::move(below.object),
                    .directory = at.directory(),
                    .device = mount.device,
                    .path = mount.root});
  }
}

// A mount that is not guarded, though a guarded path leads over it.
void MarkPlanner::pass_by(const ContainerView& view, const Mount& mount) {
  if (passed_by_[view.info().cgroup].insert(mount.id).second) parts_.counters.exposed_served.add();
}

// ---- planning: tables and marks of some superblocks -------------------------

MarkPlanner::Plan MarkPlanner::plan(const Devices& devices) {
  Plan plan;
  for (const Device device : devices) {
    std::vector<const Placed*> here;
    std::map<std::uint64_t, std::vector<const Placed*>> containers;
    bool owned = false;
    for (const auto& [key, guard] : guards_) {
      for (const Placed& placed : std::ranges::equal_range(guard.placed, device, {}, &Placed::device)) {
        here.push_back(&placed);
        containers[placed.container].push_back(&placed);
        owned = owned || placed.owned;
      }
    }
    if (here.empty()) continue;

    // An allow path that no deny path overlaps needs no question.
    std::set<std::string_view> denied;
    if (std::any_of(here.begin(), here.end(), [](const Placed* placed) { return placed->entry->action == Action::allow; })) {
      for (const Placed* placed : here)
        if (placed->entry->action == Action::deny) denied.insert(placed->entry->path);
    }
    const auto overlapped = [&](std::string_view path) {
      for (std::string_view at = path;; at = parent_of(at)) {
        if (denied.contains(at)) return true;
        if (at.empty()) break;
      }
      const std::string below = std::string(path) + "/";
      const auto it = denied.lower_bound(below);
      return it != denied.end() && it->starts_with(below);
    };
    std::vector<Rule> rules;
    rules.reserve(here.size());
    auto superblock = std::make_shared<Superblock>();
    plan.superblocks[device] = superblock;
    std::map<std::uint64_t, MarkPlan> masks;  // by container
    for (const Placed* placed : here) {
      const Entry& entry = *placed->entry;
      const Subject& subject = *entry.subject;
      const bool answered = entry.action == Action::deny || (entry.action == Action::allow &&
                                                             (subject.audit || subject.exact || overlapped(entry.path)));
      if (entry.action == Action::deny) superblock->deny_mask |= permission_mask(subject.events);
      if (answered) masks[placed->container].gate |= permission_mask(subject.events);
      else masks[placed->container].observer |= notification_mask(subject.events);
      rules.push_back({placed->entry, answered});
    }

    std::vector<View> views;
    for (const auto& [container, theirs] : containers) {
      ContainerView& view = *views_.at(container);
      const MarkPlan& mask = masks[container];
      const auto want = [&](const MarkKey& key, const HeldProcess& process, const std::string& point, bool fleeting = false) {
        MarkPlan& mark = plan.marks[key];
        mark.gate |= mask.gate;
        mark.observer |= mask.observer;
        mark.process = process;
        mark.point = point;
        mark.fleeting = fleeting;
      };
      const auto guarded = [&](const Mount& mount) {
        return mount.device == device && std::any_of(theirs.begin(), theirs.end(), [&](const Placed* placed) {
                 return is_below(placed->entry->path, mount.root) || is_below(mount.root, placed->entry->path);
               });
      };
      for (const Mount& mount : view.mounts()) {
        if (mount.device != device || !mount.visible || mount.served) continue;
        views.push_back({container, mount.root, mount.point});
        if (!guarded(mount)) continue;
        want({device, owned ? 0 : mount.id}, view.first(), mount.point);
        if (auto clone = view.clone_of(mount, cloner_, parts_.programs)) superblock->bases.push_back({mount.root, std::move(clone)});
      }
      if (owned) continue;
      for (const auto& other : view.namespaces()) {
        for (const Mount& mount : other.mounts) {
          if (!guarded(mount) || mount.served) continue;
          want({device, mount.id}, other.process, mount.point, true);
          views.push_back({container, mount.root, mount.point});
        }
      }
    }
    auto& bases = superblock->bases;
    std::stable_sort(bases.begin(), bases.end(), [](const Base& a, const Base& b) { return a.root.size() > b.root.size(); });
    superblock->table = std::make_shared<SuperblockPolicy>(std::move(rules), std::move(views));
    superblock->learn = may_learn(device);
    superblock->shared = !owned;
  }
  return plan;
}

bool MarkPlanner::mark(const MarkKey& key, const MarkPlan& want, unsigned flag, std::uint64_t gate, std::uint64_t observer) {
  if (gate == 0 && observer == 0) return true;
  const Resolved at = resolve_local(parts_.programs, *want.process, {}, want.point);
  const Location location = locator_.locate(at.object.get());
  // Never on anything but what was planned.
  if (!location.found() || location.raw->dev != key.device || (key.mount != 0 && location.raw->mount_id != key.mount)) return false;
  const unsigned flags = flag | (key.mount == 0 ? FAN_MARK_FILESYSTEM : FAN_MARK_MOUNT);
  if (gate != 0) parts_.groups.gate.mark(flags, gate | FAN_ONDIR, at.object.get(), want.point);
  if (observer != 0) parts_.groups.observer.mark(flags, observer | FAN_ONDIR, at.object.get(), want.point);
  return true;
}

// `renew`: mounts have changed. The kernel uses their ids and devices again, so
// what we think is marked may be another mount by now.
void MarkPlanner::set_marks(const Plan& plan, bool renew, bool all) {
  // Only what wasn't marked before: the rest is others' as well.
  const auto undo = [&](const MarkKey& key, const MarkPlan& want, const MarkPlan& have) {
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
  };
  std::vector<std::pair<MarkKey, MarkPlan>> before;
  for (const auto& [key, want] : plan.marks) {
    const auto held = marks_.find(key);
    const MarkPlan have = held == marks_.end() ? MarkPlan{} : held->second;
    MarkPlan extra = want;
    if (!renew) {
      extra.gate &= ~have.gate;
      extra.observer &= ~have.observer;
    }
    try {
      if (!mark(key, want, FAN_MARK_ADD, extra.gate, extra.observer)) continue;
    } catch (const Error&) {
      undo(key, want, have);
      if (want.fleeting) continue;
      if (!all) {
        parts_.counters.exposed_rescan.add();
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

void MarkPlanner::trim_marks(const Plan& plan, const Devices& devices) {
  for (auto it = marks_.begin(); it != marks_.end();) {
    auto& [key, have] = *it;
    if (std::find(devices.begin(), devices.end(), key.device) == devices.end()) {
      ++it;
      continue;
    }
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

void MarkPlanner::publish(const Plan& plan, const Devices& devices) {
  auto next = std::make_shared<Policy>(*parts_.policy.get());
  ++next->generation;
  for (const Device device : devices) {
    const auto it = plan.superblocks.find(device);
    if (it == plan.superblocks.end()) next->superblocks.erase(device);
    else next->superblocks[device] = it->second;
  }
  parts_.policy.publish(std::move(next));
}

bool MarkPlanner::may_learn(Device device) const {
  const auto scans = scans_.find(device);
  const auto incomplete = incomplete_.find(device);
  return (scans == scans_.end() || scans->second.empty()) && (incomplete == incomplete_.end() || !incomplete->second) &&
         !parts_.identities.has_unknown_names(device);
}

// The same policy, but for what may be ignored.
void MarkPlanner::publish_learning(const Devices& devices) {
  auto next = std::make_shared<Policy>(*parts_.policy.get());
  ++next->generation;
  for (const Device device : devices) {
    const auto it = next->superblocks.find(device);
    if (it == next->superblocks.end()) continue;
    auto changed = std::make_shared<Superblock>(*it->second);
    changed->learn = may_learn(device);
    it->second = std::move(changed);
  }
  parts_.policy.publish(std::move(next));
}

// By the policy that has just been published.
MarkPlanner::ScanJobs MarkPlanner::pin(const std::vector<Pin>& pins, const Places& known) {
  ScanJobs jobs;
  Devices changed;
  const auto policy = parts_.policy.get();
  for (const Pin& pin : pins) {
    const Superblock* superblock = policy->find(pin.device);
    if (superblock == nullptr) continue;
    const Location location = locator_.locate(pin.object.get(), 0, true);
    const auto pinned = parts_.identities.pin(pin.object.get(), location, pin.path, *superblock);
    const bool is_new = pinned == IdentityTable::Pinned::now;
    if (is_new) parts_.learner.leave_to_identity(pin.object.get(), pin.device, pin.directory, superblock->deny_mask);
    const bool unpinned = pinned == IdentityTable::Pinned::limit;
    if (unpinned) {
      incomplete_[pin.device] = true;
      parts_.counters.exposed_identity.add();
    }
    const bool scan = pin.directory && (is_new || !known.contains({pin.device, pin.path}));
    if (scan) {
      jobs.push_back(begin_scan(pin.device, pin.path));
    }
    if (is_new || unpinned || scan) add_devices(changed, {pin.device});
  }
  // Whether the rest may be ignored is decided anew.
  if (!changed.empty()) publish_learning(changed);
  return jobs;
}

// ---- operations ---------------------------------------------------------------

MarkPlanner::Devices MarkPlanner::devices_of(const Guard& guard) {
  std::set<Device> devices;
  for (const Placed& placed : guard.placed) devices.insert(placed.device);
  return {devices.begin(), devices.end()};
}

void MarkPlanner::add_devices(Devices& to, const Devices& from) {
  for (const Device device : from)
    if (std::find(to.begin(), to.end(), device) == to.end()) to.push_back(device);
}

void MarkPlanner::drop(Guard& guard) {
  if (names_ != nullptr) names_->unwatch(guard.names);
  for (const auto& subject : guard.subjects) retire_counts(*subject);
}

// They are still reported for some time.
void MarkPlanner::retire_counts(const Subject& subject) {
  const auto it = stats_.find(subject.id);
  if (it == stats_.end()) return;
  retired_.push_back({it->first, it->second, steady_clock::now() + kRetired});
  stats_.erase(it);
}

MarkPlanner::Applied MarkPlanner::apply(const GuardSpec& spec) {
  // Before the lock: tracking may report namespaces, which takes it.
  std::map<std::string, ContainerInfo> infos;
  for (std::size_t i = 0; i < spec.subjects.size(); ++i) {
    const std::string& id = spec.subjects[i].container_id;
    try {
      if (!infos.contains(id)) infos.emplace(id, parts_.tracker.track(id));
    } catch (Error& error) {
      throw std::move(error).on_path(static_cast<int>(i), {});
    }
  }
  const std::lock_guard lock(mutex_);
  for (const auto& [id, info] : infos) {
    auto& view = views_[info.cgroup];
    if (view) {
      view->refresh();
    } else {
      try {
        HeldProcess first = hold(info.cgroup, info.init_pid);
        if (!first) throw Error(ErrorCode::not_found, "container " + id + " has ended");
        view = std::make_unique<ContainerView>(info, std::move(first));
        // Those that were told of before there was a view to take them.
        for (const auto& [mnt_ns, pid] : parts_.tracker.namespaces(info.cgroup))
          if (HeldProcess process = hold(info.cgroup, pid)) view->add_namespace(mnt_ns, std::move(process));
        view->refresh();
      } catch (const Error&) {
        views_.erase(info.cgroup);
        throw;
      }
    }
  }
  std::vector<Pin> pins;
  Guard guard = compile(spec, pins);
  guard.original = guard.placed;
  Devices devices = devices_of(guard);
  const auto old = guards_.find(spec.key);
  if (old != guards_.end()) add_devices(devices, devices_of(old->second));

  // Swap in, place marks; if that fails, swap back. Marks are a union of old
  // and new until the new policy is out: no moment is unguarded.
  std::optional<Guard> before;
  if (old != guards_.end()) before = std::move(old->second);
  guards_[spec.key] = std::move(guard);
  const Plan next = plan(devices);
  try {
    set_marks(next, false, true);
  } catch (...) {
    if (names_ != nullptr) names_->unwatch(guards_[spec.key].names);
    if (before) guards_[spec.key] = std::move(*before);
    else guards_.erase(spec.key);
    throw;
  }
  publish(next, devices);
  trim_marks(next, devices);
  parts_.learner.forget(devices);
  const Guard& now = guards_[spec.key];
  for (const auto& subject : now.subjects) stats_.emplace(subject->id, subject->stats);
  if (before) {
    std::erase_if(before->subjects, [&](const auto& subject) {
      return std::any_of(now.subjects.begin(), now.subjects.end(), [&](const auto& other) { return other->id == subject->id; });
    });
    drop(*before);
  }
  Applied applied{.jobs = pin(pins, {}), .containers = {}};
  for (const auto& [id, info] : infos) applied.containers.emplace(info.cgroup, id);
  return applied;
}

void MarkPlanner::commit(const Devices& devices, bool renew, bool forget) {
  Plan next;
  try {
    next = plan(devices);
  } catch (const Error&) {
    parts_.counters.exposed_rescan.add();
    return;  // no resources: what is published and marked holds
  }
  set_marks(next, renew, false);
  publish(next, devices);
  trim_marks(next, devices);
  if (forget) parts_.learner.forget(devices);
}

// Publishes and trims after something was taken away.
MarkPlanner::Before MarkPlanner::retire(const Devices& devices) {
  const auto policy = parts_.policy.get();
  Before before;
  for (const Device device : devices) {
    const auto it = policy->superblocks.find(device);
    if (it != policy->superblocks.end()) before.emplace_back(device, it->second);
  }
  const Plan next = plan(devices);
  publish(next, devices);
  trim_marks(next, devices);
  for (const Device device : devices) {
    if (next.superblocks.contains(device)) continue;
    scans_.erase(device);
    incomplete_.erase(device);
  }
  return before;
}

MarkPlanner::Before MarkPlanner::remove(std::uint32_t key, bool& existed) {
  const std::lock_guard lock(mutex_);
  const auto it = guards_.find(key);
  existed = it != guards_.end();
  if (!existed) return {};
  const Devices devices = devices_of(it->second);
  drop(it->second);
  guards_.erase(it);
  return retire(devices);
}

MarkPlanner::Before MarkPlanner::container_ended(std::uint64_t container) {
  const std::lock_guard lock(mutex_);
  std::set<Device> devices;
  for (auto& [key, guard] : guards_) {
    const auto gone = [&](const auto& subject) { return subject->container == container; };
    if (std::none_of(guard.subjects.begin(), guard.subjects.end(), gone)) continue;
    std::vector<SubjectSpec> specs;
    for (std::size_t i = 0; i < guard.subjects.size(); ++i) {
      if (gone(guard.subjects[i])) retire_counts(*guard.subjects[i]);
      else specs.push_back(std::move(guard.spec.subjects[i]));
    }
    guard.spec.subjects = std::move(specs);
    std::erase_if(guard.subjects, gone);
    for (auto* placed : {&guard.placed, &guard.original}) {
      std::erase_if(*placed, [&](const Placed& each) {
        if (each.container != container) return false;
        devices.insert(each.device);
        return true;
      });
    }
  }
  Before before = retire({devices.begin(), devices.end()});
  views_.erase(container);
  passed_by_.erase(container);
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

MarkPlanner::ScanJobs MarkPlanner::scan_again(std::optional<Device> device) {
  const std::lock_guard lock(mutex_);
  Places places;
  for (const auto& [key, guard] : guards_)
    for (const Placed& placed : guard.placed)
      if ((!device || placed.device == *device) && placed.entry->action == Action::deny) places.emplace(placed.device, placed.entry->path);
  ScanJobs jobs;
  Devices devices;
  for (const auto& [on, path] : places) {
    jobs.push_back(begin_scan(on, path));
    add_devices(devices, {on});
  }
  if (!devices.empty()) publish_learning(devices);
  return jobs;
}

ScanJob MarkPlanner::begin_scan(Device device, std::string path) {
  scans_[device].insert(next_scan_);
  return {.device = device, .path = std::move(path), .token = next_scan_++};
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

// Returns whether its paths lead to other places now.
bool MarkPlanner::recompile(Guard& guard, bool renew, ScanJobs& jobs) {
  std::vector<Pin> pins;
  std::vector<std::string> watched;
  Devices devices = devices_of(guard);
  const auto before = places_of(guard);
  try {
    Guard next = compile(guard.spec, pins);
    // What was there when the guard was made stays guarded.
    next.original = std::move(guard.original);
    next.placed.insert(next.placed.end(), next.original.begin(), next.original.end());
    sort_by_device(next.placed);
    add_devices(devices, devices_of(next));
    watched = std::move(guard.names);
    guard = std::move(next);
  } catch (const Error&) {
    // Between two states of a tree that is being changed; the change's end is
    // told as well. Or a container has made a path that cannot be followed. What
    // was resolved before holds until then, by mounts that came meanwhile, too.
    parts_.counters.exposed_rescan.add();
    commit(devices, renew, false);
    return false;
  }
  if (names_ != nullptr) names_->unwatch(watched);
  const bool elsewhere = places_of(guard) != before;
  commit(devices, renew, elsewhere);
  ScanJobs more = pin(pins, before);
  jobs.insert(jobs.end(), std::make_move_iterator(more.begin()), std::make_move_iterator(more.end()));
  return elsewhere;
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

MarkPlanner::Places MarkPlanner::places_of(const Guard& guard) {
  Places places;
  for (const Placed& placed : guard.placed) places.emplace(placed.device, placed.entry->path);
  return places;
}

MarkPlanner::Replan MarkPlanner::replan_container(std::uint64_t container) {
  const std::lock_guard lock(mutex_);
  const auto view = views_.find(container);
  if (view == views_.end()) return {};
  try {
    view->second->refresh();
  } catch (const Error& error) {
    // It has ended, and will be reported so; else what was read before holds.
    if (error.code != ErrorCode::not_found) parts_.counters.exposed_rescan.add();
    return {};
  }
  // Numbers are used again.
  if (const auto passed = passed_by_.find(container); passed != passed_by_.end())
    std::erase_if(passed->second, [&](std::uint32_t id) { return !view->second->has_mount(id); });
  ScanJobs jobs;
  const std::size_t marked = marks_.size();
  bool elsewhere = false;
  for (auto& [key, guard] : guards_) {
    if (std::any_of(guard.subjects.begin(), guard.subjects.end(),
                    [&](const auto& subject) { return subject->container == container; }))
      elsewhere = recompile(guard, true, jobs) || elsewhere;
  }
  return {std::move(jobs), elsewhere || marks_.size() > marked};
}

MarkPlanner::ScanJobs MarkPlanner::replan_name(const std::string& name) {
  const std::lock_guard lock(mutex_);
  ScanJobs jobs;
  for (auto& [key, guard] : guards_) {
    if (std::find(guard.names.begin(), guard.names.end(), name) != guard.names.end() && recompile(guard, false, jobs))
      parts_.counters.exposed_path.add();
  }
  return jobs;
}

MarkPlanner::Replan MarkPlanner::add_namespace(std::uint64_t container, std::uint32_t pid, std::uint64_t mnt_ns) {
  {
    const std::lock_guard lock(mutex_);
    const auto view = views_.find(container);
    if (view == views_.end()) return {};
    HeldProcess process = hold(container, pid);
    if (!process) return {};  // it has ended; the look tells of the namespace if another lives in it
    view->second->add_namespace(mnt_ns, std::move(process));
  }
  return replan_container(container);
}

MarkPlanner::Loose MarkPlanner::mark_loose(std::uint32_t pid, std::uint32_t mount_id) {
  const std::lock_guard lock(mutex_);
  for (const std::string& path : magic_links_of(pid)) {
    const UniqueFd at(open(path.c_str(), O_PATH | O_CLOEXEC));
    if (!at) continue;
    const Location location = locator_.locate(at.get());
    if (!location.found() || location.raw->mount_id != mount_id) continue;
    // What is asked about on other mounts of its device is asked about here,
    // too. The kernel forgets the marks with the mount.
    std::uint64_t gate = 0, observer = 0;
    for (const auto& [key, plan] : marks_) {
      if (key.device != location.raw->dev || key.mount == 0) continue;
      gate |= plan.gate;
      observer |= plan.observer;
    }
    const auto mark = [&](const FanotifyGroup& group, std::uint64_t mask) {
      return mask == 0 || group.try_mark(FAN_MARK_ADD | FAN_MARK_MOUNT, mask | FAN_ONDIR, at.get()) == 0;
    };
    if ((gate | observer) == 0) return {Loose::needless, location.raw->dev};
    if (!mark(parts_.groups.gate, gate) || !mark(parts_.groups.observer, observer)) break;
    return {Loose::marked, location.raw->dev};
  }
  return {};
}

std::map<std::uint64_t, std::uint32_t> MarkPlanner::watched() const {
  const std::lock_guard lock(mutex_);
  std::map<std::uint64_t, std::uint32_t> containers;
  for (const auto& [key, guard] : guards_)
    for (const Placed& placed : guard.placed)
      containers[placed.container] |= JANUS_WATCH_MOUNTS | (placed.owned ? 0 : JANUS_WATCH_NAMESPACES);
  return containers;
}

MarkPlanner::MarkCounts MarkPlanner::mark_counts() const {
  const std::lock_guard lock(mutex_);
  MarkCounts counts;
  for (const auto& [key, plan] : marks_) ++(key.mount == 0 ? counts.superblock : counts.mount);
  return counts;
}

void MarkPlanner::each_stats(const std::function<void(std::uint32_t, const SubjectStats&)>& visit) {
  std::vector<std::pair<std::uint32_t, std::shared_ptr<const SubjectStats>>> all;
  {
    const std::lock_guard lock(mutex_);
    std::erase_if(retired_, [](const Retired& retired) { return retired.until < steady_clock::now(); });
    all.assign(stats_.begin(), stats_.end());
    for (const Retired& retired : retired_) all.emplace_back(retired.id, retired.stats);
  }
  // Without the lock: the visitor makes JavaScript objects, and may collect garbage.
  for (const auto& [id, stats] : all) visit(id, *stats);
}

}  // namespace janus
