#include "cover/container_view.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>

#include "os/descriptors.h"
#include "os/error.h"

namespace janus {
namespace {

// Of one container. In all: what takes some 64 MiB of memory, and so many descriptors
// that as many again are left for all else.
constexpr std::size_t kAllMounts = 262'144, kLeastMounts = 1024;
constexpr std::size_t kNamespaces = 1024, kClones = 1024, kLeastHeld = 32, kPartOfDescriptors = 8;

// The superblock of the node's own root: a node may itself live on an overlay.
bool is_node_root(Device device) {
  struct stat status {};
  for (const char* root : {"/", "/proc/1/root"}) {
    if (stat(root, &status) == 0 && (major(status.st_dev) << 20 | minor(status.st_dev)) == device) return true;
  }
  return false;
}

// An empty one; the node's own, or a runtime's copy of it.
bool is_nobodys(const ContainerView::Namespace& other) {
  if (other.mounts.empty()) return other.whole;
  return std::ranges::any_of(other.mounts, [](const Mount& mount) {
    return mount.point.empty() && mount.root.empty() && is_node_root(mount.device);
  });
}

}  // namespace

ViewShares::ViewShares()
    : mounts(kAllMounts, ContainerView::kMounts, kLeastMounts),
      namespaces(descriptor_limit() / kPartOfDescriptors, kNamespaces, kLeastHeld),
      clones(descriptor_limit() / kPartOfDescriptors, kClones, kLeastHeld) {}

ContainerView::~ContainerView() {
  for (Shares* share : {&shares_.mounts, &shares_.namespaces, &shares_.clones}) share->set(info_.cgroup, 0);
}

ContainerView::Found ContainerView::read(Listed& listed, const ProcessDir& process, Read which, std::size_t& left) const {
  // What changes while it is read is met the next time.
  const MountState state = programs_.find_mounts(process.pid());
  const bool fits = listed.whole && listed.mounts.size() <= left;
  if (which == Read::changed && fits && state.mnt_ns != 0 && state == listed.state) {
    left -= listed.mounts.size();
    return Found::same;
  }
  try {
    MountList list = mounts_of(process, left);
    listed = {std::move(list.mounts), {}, list.whole, state};
  } catch (const Error& error) {
    if (error.code != ErrorCode::not_found) throw;
    return Found::gone;
  }
  listed.served = served_points(listed.mounts);
  left -= listed.mounts.size();
  return Found::read;
}

void ContainerView::refresh(Read which) {
  std::size_t left = shares_.mounts.most(info_.cgroup);
  const std::size_t most = left;
  if (read(own_, *first_, which, left) == Found::gone || own_.mounts.empty())
    throw Error(ErrorCode::not_found, "container " + info_.id + " has ended");
  // Of those that are gone the last known process has ended; marks go with the mounts.
  std::vector<bool> gone;
  for (Namespace& other : namespaces_) {
    const Found found = read(other, *other.process, which, left);
    const bool nobodys = found == Found::read && is_nobodys(other);
    if (nobodys) left += other.mounts.size();
    gone.push_back(found == Found::gone || nobodys);
  }
  std::vector<Namespace> there;
  for (std::size_t i = 0; i < gone.size(); ++i)
    if (!gone[i]) there.push_back(std::move(namespaces_[i]));
  namespaces_ = std::move(there);
  shares_.mounts.set(info_.cgroup, most - left);
  shares_.namespaces.set(info_.cgroup, namespaces_.size());
  ids_.clear();
  for (const Mount& mount : own_.mounts) ids_.insert(mount.id);
  for (const Namespace& other : namespaces_)
    for (const Mount& mount : other.mounts) ids_.insert(mount.id);
  std::erase_if(clones_, [&](const auto& item) { return !ids_.contains(item.first); });
  shares_.clones.set(info_.cgroup, clones_.size());
}

void ContainerView::add_namespace(std::uint64_t id, HeldProcess process) {
  // Known by a process that has ended since: look at it through this one.
  std::erase_if(namespaces_, [&](const Namespace& other) { return other.id == id; });
  shares_.namespaces.set(info_.cgroup, namespaces_.size());
  if (process->same_mount_namespace(*first_)) {  // own_ has it
    first_id_ = id;
    return;
  }
  if (!shares_.namespaces.take(info_.cgroup)) {
    lacks_namespaces_ = true;
    return;
  }
  namespaces_.emplace_back(id, std::move(process));
}

const char* ContainerView::left_out() const {
  if (lacks_namespaces_) return "namespaces";
  const bool whole = own_.whole && std::ranges::all_of(namespaces_, &Namespace::whole);
  return whole ? nullptr : "mounts";
}

bool ContainerView::covers(std::uint64_t id) const {
  const auto other = std::ranges::find(namespaces_, id, &Namespace::id);
  if (other != namespaces_.end()) return other->whole;
  return id == first_id_ ? own_.whole : !lacks_namespaces_;
}

bool ContainerView::makes_room() {
  if (!lacks_namespaces_ || namespaces_.size() >= shares_.namespaces.most(info_.cgroup)) return false;
  lacks_namespaces_ = false;
  return true;
}

bool ContainerView::owns(const Mount& mount) const {
  return mount.type == "overlay" && mount.root.empty() && !is_node_root(mount.device);
}

std::shared_ptr<const UniqueFd> ContainerView::clone_of(const Mount& mount, MountCloner& cloner, bool& refused) {
  if (const auto known = clones_.find(mount.id); known != clones_.end()) return known->second;
  refused = clones_.size() >= shares_.clones.most(info_.cgroup);
  if (refused) return nullptr;
  UniqueFd fd = cloner.clone(programs_, *first_, own_.served, mount.point);
  if (!fd) return nullptr;
  shares_.clones.add(info_.cgroup);
  return clones_.emplace(mount.id, std::make_shared<const UniqueFd>(std::move(fd))).first->second;
}

}  // namespace janus
