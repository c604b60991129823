#include "cover/guard_compiler.h"

#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <optional>
#include <string_view>
#include <utility>

#include "cover/border.h"
#include "cover/event_mask.h"
#include "identity/kernel_rules.h"
#include "os/error.h"
#include "os/file_handle.h"

namespace janus {
namespace {

// How often a path that changes all the while is resolved at once.
constexpr int kTries = 3;

std::uint32_t levels_in(std::string_view tail) {
  return static_cast<std::uint32_t>(std::count(tail.begin(), tail.end(), '/'));
}

// Whether both went the same way: through the same directories, to the same end.
bool same_way(const Resolved& one, const Resolved& other) {
  const auto same = [](int a, int b) {
    struct stat first {}, second {};
    return fstat(a, &first) == 0 && fstat(b, &second) == 0 && first.st_dev == second.st_dev && first.st_ino == second.st_ino;
  };
  if (one.names != other.names || one.missing != other.missing || !same(one.object.get(), other.object.get())) return false;
  for (std::size_t i = 0; i < one.directories.size(); ++i)
    if (!same(one.directories[i]->get(), other.directories[i]->get())) return false;
  return true;
}

// Why the kernel can't tell of entries and attributes on a file system; null: it can.
const char* dirents_untold(const FanotifyGroup& dirents, int fd) {
  struct statfs status {};
  if (fstatfs(fd, &status) != 0) return "its file system cannot be asked";
  if (!FileHandle::of(fd))
    return status.f_type == OVERLAYFS_SUPER_MAGIC
               ? "events on directories and attributes need file handles, which overlayfs gives from Linux 6.6 on"
               : "events on directories and attributes need file handles, which its file system doesn't give";
  if (status.f_fsid.__val[0] == 0 && status.f_fsid.__val[1] == 0)
    return "events on directories and attributes need a number of the file system, and it has none";
  // Of btrfs: tried with an event that nobody else marks for. The directories of a subvolume could be marked, but then
  // the group could have no marks on other file systems.
  const int failed = dirents.try_mark(FAN_MARK_ADD | FAN_MARK_FILESYSTEM, FAN_MOVE_SELF, fd);
  if (failed == 0) dirents.try_mark(FAN_MARK_REMOVE | FAN_MARK_FILESYSTEM, FAN_MOVE_SELF, fd);
  if (failed == EXDEV)
    return "events on directories and attributes can't be had of a mounted subvolume";
  return nullptr;
}

}  // namespace

bool is_of(const Placed& placed, std::uint32_t subject, std::uint32_t path) {
  return placed.entry->subject->id == subject && placed.path == path;
}

void GuardCompiler::unwatch(const CompiledGuard& guard) {
  if (names_ == nullptr) return;
  for (const auto& [container, watched] : guard.names) names_->unwatch(watched, {container, guard.spec.key});
}

void GuardCompiler::unwatch(CompiledGuard& guard, std::uint64_t container) {
  const auto watched = guard.names.extract(container);
  if (names_ != nullptr && !watched.empty()) names_->unwatch(watched.mapped(), {container, guard.spec.key});
}

CompiledGuard GuardCompiler::compile(const GuardSpec& spec, const ContainerViews& views, const StatsOf& stats,
                                     std::vector<Pin>& pins) {
  CompiledGuard guard;
  guard.spec = spec;
  try {
    add_subjects(guard, views, stats, pins);
  } catch (...) {
    unwatch(guard);
    throw;
  }
  return guard;
}

void GuardCompiler::add_subjects(CompiledGuard& guard, const ContainerViews& views, const StatsOf& stats,
                                 std::vector<Pin>& pins) {
  const GuardSpec& spec = guard.spec;
  std::optional<Error> first;  // of a partial guard
  for (std::size_t i = 0; i < spec.subjects.size(); ++i) {
    const SubjectSpec& on = spec.subjects[i];
    const SubjectPolicy& want = *on.policy;
    const int index = static_cast<int>(i);
    const auto view = std::find_if(views.begin(), views.end(), [&](const auto& item) {
      return item.second->info().id == on.container_id;
    });
    if (view == views.end())
      throw Error(ErrorCode::not_found, "no running container " + on.container_id).on_path(index, {});
    if (want.audit && !audit_)
      throw Error(ErrorCode::unsupported, "this kernel takes no audit records from fanotify (CONFIG_AUDIT, Linux 4.15)")
          .on_path(index, {});
    if (!want.deny.empty() && (want.events & kChanges) && !decider_.denies_changes())
      throw Error(ErrorCode::unsupported, "the kernel denies no changes of files here, and nothing else can: " + decider_.changes_refusal())
          .on_path(index, {});
    auto subject = std::make_shared<Subject>();
    subject->id = on.id;
    subject->guard = spec.key;
    subject->container = view->first;
    subject->events = want.events;
    subject->max_depth = want.max_depth;
    subject->only_dir = want.only_dir;
    subject->auto_allow_owner = want.auto_allow_owner;
    subject->audit = want.audit;
    subject->recursive = want.recursive;
    subject->only_container = want.only_container;
    subject->exact = want.exact;
    subject->enforced = want.enforced;
    subject->exclude = want.exclude;
    subject->stats = stats(on.id);
    if (subject->stats == nullptr) subject->stats = std::make_shared<SubjectStats>();
    guard.subjects.push_back(subject);
    std::uint32_t number = 0;
    std::set<std::pair<Device, std::string>> places;
    const auto place_all = [&](const std::vector<std::string>& paths, Action action) {
      for (const std::string& path : paths) {
        const What what{want, subject, number++, path, action, places};
        const std::size_t before = pins.size();
        try {
          place_everywhere(*view->second, what, guard, pins);
        } catch (Error& error) {
          if (!spec.partial || error.code == ErrorCode::exhausted || error.code == ErrorCode::not_found)
            throw std::move(error).on_path(index, path);
          // What is watched on its way stays watched: a change there may mend it.
          pins.erase(pins.begin() + static_cast<std::ptrdiff_t>(before), pins.end());
          std::erase_if(guard.placed, [&](const Placed& placed) { return is_of(placed, on.id, what.number); });
          places.clear();
          for (const Placed& placed : guard.placed)
            if (placed.entry->subject == subject) places.emplace(placed.device, placed.entry->path);
          guard.failed.push_back({on.id, what.number, path, error.what()});
          if (!first) first = std::move(error).on_path(index, path);
        }
        for (std::size_t at = before; at < pins.size(); ++at) {
          pins[at].container = view->first;
          pins[at].guard = spec.key;
          pins[at].subject = index;
          pins[at].asked = path;
        }
      }
    };
    place_all(want.allow, Action::allow);
    place_all(want.deny, Action::deny);
    place_all(want.watch, Action::watch);
  }
  if (first && guard.placed.empty()) throw *std::move(first);
}

void GuardCompiler::place_everywhere(ContainerView& view, const What& what, CompiledGuard& guard, std::vector<Pin>& pins) {
  place({view, *view.first(), view.mounts(), view.served(), true}, what, guard, pins);
  for (const auto& other : view.namespaces()) {
    try {
      place({view, *other.process, other.mounts, other.served, false}, what, guard, pins);
    } catch (const Error& error) {
      // Its process has ended, or sees no such path: nothing to guard there.
      // Without resources nobody knows whether there is something.
      if (error.code == ErrorCode::exhausted) throw;
    }
  }
}

// Watched before it is looked at: what changes after is told.
Resolved GuardCompiler::resolve_watched(const Where& where, const What& what, CompiledGuard& guard) {
  const auto resolve = [&] { return resolve_local(programs_, where.process, where.served, what.path); };
  Resolved resolved = resolve();
  if (names_ == nullptr || !where.first) return resolved;
  const std::uint64_t container = where.view.info().cgroup;
  const auto watch = [&] {
    if (!names_->has_room(container, resolved.names.size())) {
      refusals_.add(container, "names");
      throw Error(ErrorCode::exhausted, "cannot be watched: the guards of container " + where.view.info().id +
                                            " have used up its share of names on the way to guarded paths");
    }
    std::vector<NameWatch::Watched>& watched = guard.names[container];
    const std::size_t before = watched.size();
    const auto outcome = names_->watch(resolved, {container, guard.spec.key}, watched);
    for (std::size_t i = before; i < watched.size(); ++i) {
      watched[i].subject = what.subject->id;
      watched[i].path = what.number;
    }
    if (outcome.failed > 0) counters_.exposed_rescan.add(outcome.failed);
    return outcome.is_new;
  };
  for (int tries = 0; watch(); ++tries) {
    // It may have changed before it was watched.
    Resolved again = resolve();
    if (same_way(resolved, again)) return again;
    resolved = std::move(again);
    if (tries < kTries) continue;
    counters_.exposed_rescan.add();
    watch();
    break;
  }
  return resolved;
}

void GuardCompiler::place(const Where& where, const What& what, CompiledGuard& guard, std::vector<Pin>& pins) {
  const ContainerView& view = where.view;
  Resolved resolved = resolve_watched(where, what, guard);
  if (!S_ISREG(resolved.mode) && !S_ISDIR(resolved.mode) && resolved.missing.empty())
    throw Error(ErrorCode::invalid, "is neither a file nor a directory: the kernel asks no permission for it");
  if (where.first) {
    auto note = note_of(what.subject->id, what.path, resolved);
    if (note && (note->missing || what.action == Action::deny)) guard.notes.push_back(std::move(*note));
  }
  const bool changes = what.action == Action::deny && (what.policy.events & kChanges) != 0;
  const bool shifts = !resolved.hops.empty() || !resolved.missing.empty();
  const auto put = [&](Device device, bool owned, std::uint32_t depth, std::string full, std::string relative) {
    // Another namespace mostly sees the same things.
    if (!what.places.emplace(device, full).second && !where.first) return;
    if (changes && !KernelRules::follows(full))
      throw Error(ErrorCode::unsupported, "changes can't be denied there: its path " + full + " has more than " +
                                              std::to_string(JANUS_LEVELS) + " components, or one of more than " +
                                              std::to_string(JANUS_NAME - 2) + " bytes");
    guard.placed.push_back({.container = view.info().cgroup,
                            .device = device,
                            .owned = owned,
                            .shifts = shifts,
                            .path = what.number,
                            .entry = std::make_shared<Entry>(Entry{.action = what.action,
                                                                   .depth = depth,
                                                                   .path = std::move(full),
                                                                   .relative = std::move(relative),
                                                                   .subject = what.subject})});
  };
  const auto add = [&](const Location& at, const std::string& tail) {
    const auto mount = std::find_if(where.mounts.begin(), where.mounts.end(),
                                    [&](const Mount& m) { return m.id == at.raw->mount_id; });
    if (mount == where.mounts.end()) throw Error(ErrorCode::system, "its mount has just gone");
    if (is_kernel_file_system(mount->type))
      throw Error(ErrorCode::invalid, "is on " + mount->type + ", where the kernel asks no permission");
    put(at.raw->dev, view.owns(*mount), 0, std::string(at.path) + tail, "");
  };
  const bool dirents = what.action == Action::watch && (what.policy.events & kDirentKinds) != 0;
  if (const char* why = dirents ? dirents_untold(dirents_, resolved.object.get()) : nullptr) throw Error(ErrorCode::unsupported, why);
  if (changes && decider_.keys_of(resolved.object.get()).empty())
    throw Error(ErrorCode::unsupported, "changes can't be denied there: its file system doesn't tell its files apart for sure");
  const Location object = locator_.locate(resolved.object.get());
  if (!object.found() || !object.has_path()) throw Error(ErrorCode::system, "cannot be located");
  add(object, resolved.missing);
  if (what.action == Action::deny && resolved.missing.empty() && where.first) {
    pins.push_back({.object = std::move(resolved.object),
                    .mount = 0,
                    .point = {},
                    .device = guard.placed.back().device,
                    .path = guard.placed.back().entry->path,
                    .container = 0,
                    .guard = 0,
                    .subject = 0,
                    .asked = {}});
  }
  // Where a symlink was followed, something else may stand one day.
  for (const auto& hop : resolved.hops) {
    const Location at = locator_.locate(resolved.directories[hop.index]->get());
    if (at.found() && at.has_path()) add(at, "/" + resolved.names[hop.index] + hop.rest);
  }
  // What is mounted below is seen below.
  for (const Mount& mount : where.mounts) {
    if (mount.point.size() <= resolved.seen.size() || !is_below(mount.point, resolved.seen) ||
        !mount.visible || is_kernel_file_system(mount.type))
      continue;
    const std::string tail = mount.point.substr(resolved.seen.size());
    const std::uint32_t depth = levels_in(tail);
    if (depth > 1 && (!what.policy.recursive || (what.policy.max_depth != 0 && depth > what.policy.max_depth))) continue;
    if (mount.served) {
      pass_by(view, mount);
      continue;
    }
    if (!where.first && what.places.contains({mount.device, mount.root})) continue;
    if (mount.type == "overlay" || dirents || changes) {
      try {
        const Resolved root = resolve_local(programs_, where.process, where.served, mount.point);
        if ((dirents && dirents_untold(dirents_, root.object.get()) != nullptr) ||
            (changes && decider_.keys_of(root.object.get()).empty())) {
          pass_by(view, mount);
          continue;
        }
      } catch (const Error& error) {
        // A layer of it is served, or it has just gone. It costs only itself.
        if (error.code == ErrorCode::exhausted) throw;
        pass_by(view, mount);
        continue;
      }
    }
    put(mount.device, view.owns(mount), depth, mount.root, tail);
    if (what.action != Action::deny || !where.first) continue;
    pins.push_back({.object = {},
                    .mount = mount.id,
                    .point = mount.point,
                    .device = mount.device,
                    .path = mount.root,
                    .container = 0,
                    .guard = 0,
                    .subject = 0,
                    .asked = {}});
  }
}

void GuardCompiler::pass_by(const ContainerView& view, const Mount& mount) {
  if (passed_by_[view.info().cgroup].insert(mount.id).second) counters_.exposed_served.add();
}

void GuardCompiler::refreshed(const ContainerView& view) {
  const auto passed = passed_by_.find(view.info().cgroup);
  if (passed != passed_by_.end()) std::erase_if(passed->second, [&](std::uint32_t id) { return !view.has_mount(id); });
}

void GuardCompiler::forget(std::uint64_t container) { passed_by_.erase(container); }

}  // namespace janus
