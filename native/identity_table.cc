#include "identity_table.h"

#include <mutex>
#include <vector>

namespace janus {

IdentityTable::Pinned IdentityTable::pin(int fd, const Location& location, std::uint64_t mask) {
  const std::uint64_t inode = location.raw->inode;
  const Device device = location.raw->dev;
  const std::unique_lock lock(mutex_);
  const auto known = by_inode_.find(inode);
  if (known != by_inode_.end()) {
    Held& held = held_.at(known->second);
    if (held.identity.device == device && held.identity.path == location.path && (mask & ~held.mask) == 0)
      return Pinned::already;
  } else if (sizes_[device] >= limit_) {
    return Pinned::limit;
  }
  const std::uint64_t events = mask | FAN_ONDIR | (location.directory() ? FAN_EVENT_ON_CHILD : 0);
  if (groups_.identity.try_mark(FAN_MARK_ADD, events, fd) != 0) return Pinned::limit;
  std::uint32_t id = 0;
  if (known != by_inode_.end()) {
    id = known->second;
    --sizes_[held_.at(id).identity.device];
  } else {
    id = next_++;
    by_inode_[inode] = id;
  }
  held_[id] = {{device, std::string(location.path)}, inode, mask, location.directory()};
  ++sizes_[device];
  programs_.add_identity(inode, id);
  return Pinned::now;
}

std::optional<Identity> IdentityTable::find(std::uint32_t id) const {
  const std::shared_lock lock(mutex_);
  const auto it = held_.find(id);
  if (it == held_.end()) return std::nullopt;
  return it->second.identity;
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
    programs_.remove_identity(held.inode);
    if (const UniqueFd fd = open(held.identity.path); fd) {
      if (locator.locate(fd.get()).raw->inode == held.inode)
        groups_.identity.try_mark(FAN_MARK_REMOVE, held.mask | FAN_ONDIR | FAN_EVENT_ON_CHILD, fd.get());
    }
    by_inode_.erase(held.inode);
    if (--sizes_[device] == 0) sizes_.erase(device);
    it = held_.erase(it);
  }
}

std::size_t IdentityTable::size() const {
  const std::shared_lock lock(mutex_);
  return held_.size();
}

std::size_t IdentityTable::size_of(Device device) const {
  const std::shared_lock lock(mutex_);
  const auto it = sizes_.find(device);
  return it == sizes_.end() ? 0 : it->second;
}

}  // namespace janus
