#include "cover/container_view.h"

#include <fcntl.h>
#include <linux/mount.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <thread>

#include "os/error.h"
#include "os/path_resolver.h"

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

// open_tree(2) clones only mounts of the caller's own mount namespace, so a
// short-lived thread goes there. A thread can: setns(2) needs a file system
// context of its own, which unshare(CLONE_FS) gives it.
UniqueFd clone_mount(const ProcessDir& process, const std::string& point) {
  UniqueFd result;
  const auto clone = [&] {
    try {
      const UniqueFd mount_namespace = process.open("ns/mnt", O_RDONLY);
      const UniqueFd root = process.root();
      if (unshare(CLONE_FS) != 0 || setns(mount_namespace.get(), CLONE_NEWNS) != 0) return;
      const UniqueFd at = resolve_in(root.get(), point).object;
      result.reset(static_cast<int>(
          syscall(SYS_open_tree, at.get(), "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC)));
    } catch (const Error&) {
      // The mount has gone meanwhile: there is nothing to clone.
    }
  };
  try {
    std::thread(clone).join();
  } catch (const std::system_error& error) {
    throw Error::system(error.code().value() == EAGAIN ? ENOMEM : error.code().value(), "clone", "a thread for " + point);
  }
  return result;
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
      return other.mounts.empty();
    } catch (const Error& error) {
      if (error.code != ErrorCode::not_found) throw;
      return true;  // its last known process has ended; marks go with the mounts
    }
  });
  mounts_ = std::move(now);
  std::erase_if(clones_, [&](const auto& item) {
    return std::none_of(mounts_.begin(), mounts_.end(), [&](const Mount& mount) { return mount.id == item.first; });
  });
}

void ContainerView::add_namespace(std::uint64_t id, HeldProcess process) {
  // Known by a process that has ended since: look at it through this one.
  std::erase_if(namespaces_, [&](const Namespace& other) { return other.id == id; });
  if (process->same_mount_namespace(*first_)) return;  // mounts_ has it
  namespaces_.push_back({id, std::move(process), {}});
}

bool ContainerView::owns(const Mount& mount) const {
  return mount.type == "overlay" && mount.root.empty() && !is_node_root(mount.device);
}

std::shared_ptr<const UniqueFd> ContainerView::clone_of(const Mount& mount) {
  auto& clone = clones_[mount.id];
  if (!clone) {
    UniqueFd fd = clone_mount(*first_, mount.point);
    if (!fd) return nullptr;
    clone = std::make_shared<const UniqueFd>(std::move(fd));
  }
  return clone;
}

}  // namespace janus
