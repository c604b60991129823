#include "cover/container_view.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>

#include "os/error.h"

namespace janus {
namespace {

// The superblock of the node's own root: a node may itself live on an overlay.
bool is_node_root(Device device) {
  struct stat status {};
  for (const char* root : {"/", "/proc/1/root"}) {
    if (stat(root, &status) == 0 && (major(status.st_dev) << 20 | minor(status.st_dev)) == device) return true;
  }
  return false;
}

}  // namespace

void ContainerView::refresh() {
  std::vector<Mount> now;
  try {
    now = mounts_of(*first_);
  } catch (const Error& error) {
    if (error.code != ErrorCode::not_found) throw;
  }
  if (now.empty()) throw Error(ErrorCode::not_found, "container " + info_.id + " has ended");
  std::erase_if(namespaces_, [&](Namespace& other) {
    try {
      auto mounts = mounts_of(*other.process);
      // The node's own namespace, or a runtime's copy of it, is nobody's to mark.
      if (std::any_of(mounts.begin(), mounts.end(), [](const Mount& mount) {
            return mount.point.empty() && mount.root.empty() && is_node_root(mount.device);
          }))
        return true;
      other.mounts = std::move(mounts);
      other.served = served_points(other.mounts);
      return other.mounts.empty();
    } catch (const Error& error) {
      if (error.code != ErrorCode::not_found) throw;
      return true;  // its last known process has ended; marks go with the mounts
    }
  });
  mounts_ = std::move(now);
  served_ = served_points(mounts_);
  ids_.clear();
  for (const Mount& mount : mounts_) ids_.insert(mount.id);
  for (const Namespace& other : namespaces_)
    for (const Mount& mount : other.mounts) ids_.insert(mount.id);
  std::erase_if(clones_, [&](const auto& item) {
    return std::none_of(mounts_.begin(), mounts_.end(), [&](const Mount& mount) { return mount.id == item.first; });
  });
}

void ContainerView::add_namespace(std::uint64_t id, HeldProcess process) {
  // Known by a process that has ended since: look at it through this one.
  std::erase_if(namespaces_, [&](const Namespace& other) { return other.id == id; });
  if (process->same_mount_namespace(*first_)) return;  // mounts_ has it
  namespaces_.push_back({id, std::move(process), {}, {}});
}

bool ContainerView::owns(const Mount& mount) const {
  return mount.type == "overlay" && mount.root.empty() && !is_node_root(mount.device);
}

std::shared_ptr<const UniqueFd> ContainerView::clone_of(const Mount& mount, MountCloner& cloner, const BpfPrograms& programs) {
  auto& clone = clones_[mount.id];
  if (!clone) {
    UniqueFd fd = cloner.clone(programs, *first_, served_, mount.point);
    if (!fd) return nullptr;
    clone = std::make_shared<const UniqueFd>(std::move(fd));
  }
  return clone;
}

}  // namespace janus
