#include "cover/mark_plan.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "os/fanotify_group.h"

namespace janus {
namespace {

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

// The denied paths of one superblock.
class Denied {
 public:
  explicit Denied(const std::vector<const Placed*>& here) {
    for (const Placed* placed : here)
      if (placed->entry->action == Action::deny) paths_.insert(placed->entry->path);
  }
  // Whether one is above, at or below `path`.
  bool overlaps(std::string_view path) const {
    for (std::string_view at = path;; at = parent_of(at)) {
      if (paths_.contains(at)) return true;
      if (at.empty()) break;
    }
    const std::string below = std::string(path) + "/";
    const auto it = paths_.lower_bound(below);
    return it != paths_.end() && it->starts_with(below);
  }

 private:
  std::set<std::string_view> paths_;
};

void plan_superblock(Device device, const std::vector<const Placed*>& here, const SeenBy& seen, MarkPlan& plan) {
  const Denied denied(here);
  std::vector<Rule> rules;
  rules.reserve(here.size());
  auto superblock = std::make_shared<Superblock>();
  std::map<std::uint64_t, PlannedMark> masks;                        // by container
  std::map<std::uint64_t, std::set<std::string_view>> guarded_paths;  // by container
  bool owned = false;
  for (const Placed* placed : here) {
    const Entry& entry = *placed->entry;
    const Subject& subject = *entry.subject;
    owned = owned || placed->owned;
    // An allow path that no deny path overlaps needs no question.
    const bool answered = entry.action == Action::deny || (entry.action == Action::allow &&
                                                           (subject.audit || subject.exact || denied.overlaps(entry.path)));
    if (entry.action == Action::deny) superblock->deny_mask |= permission_mask(subject.events);
    PlannedMark& mask = masks[placed->container];
    if (answered) mask.gate |= permission_mask(subject.events);
    else mask.observer |= notification_mask(subject.events);
    guarded_paths[placed->container].insert(entry.path);
    rules.push_back({placed->entry, answered});
  }

  std::vector<View> views;
  for (const auto& each : masks) {
    const std::uint64_t container = each.first;
    const PlannedMark& mask = each.second;
    superblock->containers.push_back(container);
    const auto want = [&](const MarkKey& key, const HeldProcess& process, const std::string& point, bool fleeting) {
      PlannedMark& mark = plan.marks[key];
      mark.gate |= mask.gate;
      mark.observer |= mask.observer;
      mark.process = process;
      mark.point = point;
      mark.fleeting = fleeting;
    };
    // Whether the mount shows a guarded path, or lies below one.
    const auto guarded = [&](const Mount& mount) {
      const auto& paths = guarded_paths[container];
      return mount.device == device && std::any_of(paths.begin(), paths.end(), [&](std::string_view path) {
               return is_below(path, mount.root) || is_below(mount.root, path);
             });
    };
    bool seen_first = false;
    for (const SeenMounts& space : seen.at(container)) {
      if (!space.first && owned) continue;
      for (const Mount& mount : *space.mounts) {
        if (mount.device != device || mount.served || (space.first && !mount.visible)) continue;
        const bool shows = guarded(mount);
        // Events show the path as the first process sees it, if it does.
        if (space.first || (shows && !seen_first)) views.push_back({container, mount.root, mount.point});
        seen_first = seen_first || space.first;
        if (!shows) continue;
        want({device, owned ? 0 : mount.id}, space.process, mount.point, !space.first);
        if (space.first) plan.bases.push_back({device, container, mount});
      }
    }
  }
  superblock->table = std::make_shared<SuperblockPolicy>(std::move(rules), std::move(views));
  superblock->shared = !owned;
  plan.superblocks[device] = std::move(superblock);
}

}  // namespace

MarkPlan plan_marks(const std::set<Device>& devices, const std::vector<const Placed*>& placed, const SeenBy& seen) {
  std::map<Device, std::vector<const Placed*>> by_device;
  for (const Placed* each : placed)
    if (devices.contains(each->device)) by_device[each->device].push_back(each);
  MarkPlan plan;
  for (const auto& [device, here] : by_device) plan_superblock(device, here, seen, plan);
  return plan;
}

}  // namespace janus
