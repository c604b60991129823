#include "identity/identity_table.h"

#include <algorithm>
#include <mutex>
#include <utility>
#include <vector>

namespace janus {
namespace {

constexpr std::size_t kCollectAfter = 1024;

}  // namespace

IdentityTable::Pinned IdentityTable::pin(int fd, const Location& location, std::string_view path,
                                         const Superblock& superblock) {
  std::uint64_t mask = superblock.deny_mask;
  const std::uint64_t inode = location.raw->inode;
  const Device device = location.raw->dev;
  const std::unique_lock lock(mutex_);
  const auto known = by_inode_.find(inode);
  if (known != by_inode_.end()) {
    const auto held = held_.find(known->second);
    // `location` may be older than another thread's pin: the mark is what counts.
    if ((location.pinned() || programs_.has_identity_mark(inode)) && held->second.identity.device == device) {
      // What it was first is what it stays guarded as.
      if ((mask & ~held->second.mask) == 0) return Pinned::already;
      mask |= held->second.mask;
      const std::uint64_t events = mask | FAN_ONDIR | (location.directory() ? FAN_EVENT_ON_CHILD : 0);
      if (groups_.identity.try_mark(FAN_MARK_ADD, events, fd) != 0) return Pinned::limit;
      held->second.mask = mask;
      return Pinned::already;
    }
    erase(held);  // of an inode that is gone; its memory was used again
  }
  ++since_collected_;
  if (sizes_[device] >= limit_) return Pinned::limit;
  const std::uint64_t events = mask | FAN_ONDIR | (location.directory() ? FAN_EVENT_ON_CHILD : 0);
  if (groups_.identity.try_mark(FAN_MARK_ADD, events, fd) != 0) return Pinned::limit;
  while (next_ == 0 || held_.contains(next_)) ++next_;  // it may have wrapped; 0 is nobody's
  const std::uint32_t id = next_++;
  const LowerInode lower{location.raw->lower_ino, location.raw->lower_dev};
  const janus_lower_key lower_key{.ino = lower.first, .dev = lower.second};
  if (!programs_.add_identity(inode, id) || (lower.first != 0 && !programs_.add_lower_identity(lower_key, id))) {
    programs_.remove_identity(inode);
    groups_.identity.try_mark(FAN_MARK_REMOVE, events, fd);
    return Pinned::limit;
  }
  held_[id] = {.identity = {device, std::string(path), mask},
               .inode = inode,
               .mask = mask,
               .directory = location.directory(),
               .lower = lower};
  by_inode_[inode] = id;
  ++sizes_[device];
  if (lower.first != 0) {
    Links& links = links_[lower];
    links.device = device;
    links.all = location.raw->nlink;
    ++links.known;
  }
  if (location.directory() && superblock.shared) trees_.watch(fd, device);
  else if (location.directory()) trees_.watch_overlay(fd, device, path);
  return Pinned::now;
}

bool IdentityTable::begin_listing(std::uint64_t inode) {
  const std::unique_lock lock(mutex_);
  const auto known = by_inode_.find(inode);
  return known != by_inode_.end() && !std::exchange(held_.at(known->second).listed, true);
}

bool IdentityTable::crowded() const {
  const std::shared_lock lock(mutex_);
  return since_collected_ >= std::max(kCollectAfter, held_.size() / 4);
}

void IdentityTable::collect() {
  // The gate is not to wait for thousands of looks at the kernel.
  std::vector<std::uint64_t> gone;
  {
    const std::unique_lock lock(mutex_);
    since_collected_ = 0;
    gone.reserve(by_inode_.size());
    for (const auto& [inode, id] : by_inode_) gone.push_back(inode);
  }
  std::erase_if(gone, [&](std::uint64_t inode) { return programs_.has_identity_mark(inode); });
  const std::unique_lock lock(mutex_);
  for (const std::uint64_t inode : gone) {
    // Its memory may be another guarded inode by now.
    const auto known = by_inode_.find(inode);
    if (known != by_inode_.end() && !programs_.has_identity_mark(inode)) erase(held_.find(known->second));
  }
}

bool IdentityTable::has_unknown_names(Device device) const {
  const std::shared_lock lock(mutex_);
  return std::any_of(links_.begin(), links_.end(),
                     [&](const auto& item) { return item.second.device == device && item.second.known < item.second.all; });
}

void IdentityTable::erase(std::unordered_map<std::uint32_t, Held>::iterator held) {
  const Held& gone = held->second;
  programs_.remove_identity(gone.inode);
  if (const auto links = links_.find(gone.lower); links != links_.end() && --links->second.known == 0) {
    programs_.remove_lower_identity({.ino = gone.lower.first, .dev = gone.lower.second});
    links_.erase(links);
  }
  by_inode_.erase(gone.inode);
  if (--sizes_[gone.identity.device] == 0) sizes_.erase(gone.identity.device);
  held_.erase(held);
}

std::optional<Identity> IdentityTable::find(std::uint32_t id) const {
  const std::shared_lock lock(mutex_);
  const auto it = held_.find(id);
  if (it == held_.end()) return std::nullopt;
  Identity identity = it->second.identity;
  identity.mask = it->second.mask;
  return identity;
}

void IdentityTable::sweep(Device device, const std::function<bool(const std::string&, bool)>& keep,
                          const std::function<UniqueFd(const std::string&)>& open, Locator& locator) {
  std::vector<std::uint32_t> ids;
  {
    const std::shared_lock lock(mutex_);
    for (const auto& [id, held] : held_)
      if (held.identity.device == device) ids.push_back(id);
  }
  // One lock for each: the gate is not to wait for thousands.
  for (const std::uint32_t id : ids) {
    const std::unique_lock lock(mutex_);
    const auto it = held_.find(id);
    if (it == held_.end()) continue;
    const Held& held = it->second;
    if (keep(held.identity.path, held.directory)) continue;
    const UniqueFd fd = open(held.identity.path);
    if (fd && locator.locate(fd.get()).raw->inode == held.inode) {
      groups_.identity.try_mark(FAN_MARK_REMOVE, held.mask | FAN_ONDIR | FAN_EVENT_ON_CHILD, fd.get());
      if (held.directory) trees_.unwatch(fd.get());
    }
    erase(it);
  }
}

std::size_t IdentityTable::size() const {
  const std::shared_lock lock(mutex_);
  return held_.size();
}

}  // namespace janus
