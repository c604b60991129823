#include "identity_table.h"

#include <algorithm>
#include <mutex>
#include <vector>

namespace janus {

IdentityTable::Pinned IdentityTable::pin(int fd, const Location& location, std::string_view path, std::uint64_t mask) {
  const std::uint64_t inode = location.raw->inode;
  const Device device = location.raw->dev;
  const std::unique_lock lock(mutex_);
  const auto known = by_inode_.find(inode);
  if (known != by_inode_.end()) {
    const auto held = held_.find(known->second);
    if (location.pinned() && held->second.identity.device == device) {
      // What it was first is what it stays guarded as.
      if ((mask & ~held->second.mask) == 0) return Pinned::already;
      mask |= held->second.mask;
      const std::uint64_t events = mask | FAN_ONDIR | (location.directory() ? FAN_EVENT_ON_CHILD : 0);
      if (groups_.identity.try_mark(FAN_MARK_ADD, events, fd) == 0) held->second.mask = mask;
      return Pinned::already;
    }
    erase(held);  // of an inode that is gone; its memory was used again
  }
  if (sizes_[device] >= limit_) return Pinned::limit;
  const std::uint64_t events = mask | FAN_ONDIR | (location.directory() ? FAN_EVENT_ON_CHILD : 0);
  if (groups_.identity.try_mark(FAN_MARK_ADD, events, fd) != 0) return Pinned::limit;
  const std::uint32_t id = next_++;
  const LowerInode lower{location.raw->lower_ino, location.raw->lower_dev};
  const janus_lower_key lower_key{.ino = lower.first, .dev = lower.second};
  if (!programs_.add_identity(inode, id) || (lower.first != 0 && !programs_.add_lower_identity(lower_key, id))) {
    programs_.remove_identity(inode);
    groups_.identity.try_mark(FAN_MARK_REMOVE, events, fd);
    return Pinned::limit;
  }
  held_[id] = {{device, std::string(path), mask}, inode, mask, location.directory(), lower};
  by_inode_[inode] = id;
  ++sizes_[device];
  if (lower.first != 0) {
    Links& links = links_[lower];
    links.device = device;
    links.all = location.raw->nlink;
    ++links.known;
  }
  return Pinned::now;
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
  const std::unique_lock lock(mutex_);
  if (!sizes_.contains(device)) return;
  for (auto it = held_.begin(); it != held_.end();) {
    const Held& held = it->second;
    if (held.identity.device != device || keep(held.identity.path, held.directory)) {
      ++it;
      continue;
    }
    if (const UniqueFd fd = open(held.identity.path); fd) {
      if (locator.locate(fd.get()).raw->inode == held.inode)
        groups_.identity.try_mark(FAN_MARK_REMOVE, held.mask | FAN_ONDIR | FAN_EVENT_ON_CHILD, fd.get());
    }
    erase(it++);
  }
}

std::size_t IdentityTable::size() const {
  const std::shared_lock lock(mutex_);
  return held_.size();
}

}  // namespace janus
