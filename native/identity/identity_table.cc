#include "identity/identity_table.h"

#include <algorithm>
#include <mutex>
#include <utility>
#include <vector>

namespace janus {
namespace {

constexpr std::size_t kCollectAfter = 1024;

// A container can move a directory to as many paths as it likes.
constexpr std::size_t kReasons = 16;

// What a pin costs of a share is 1, or 1 for so many bytes of its reasons: the paths in a
// container may be as long as it likes, and a daemon has to remember them.
constexpr std::size_t kBytesOfUnit = 2048;

std::size_t units_of(std::span<const std::string> paths) {
  std::size_t bytes = 0;
  for (const std::string& path : paths) bytes += path.size();
  return std::max<std::size_t>(1, (bytes + kBytesOfUnit - 1) / kBytesOfUnit);
}

// The reasons for which nobody is denied any more.
void drop_ended(Identity& identity, const Superblock* superblock, bool directory) {
  std::erase_if(identity.paths, [&](const std::string& path) {
    return superblock == nullptr || superblock->table->deniable(path, directory) == nullptr;
  });
}

// The resource that a container is refused (record/refusals.h).
constexpr const char* kRefused = "pins";

}  // namespace

IdentityTable::IdentityTable(const Groups& groups, BpfPrograms& programs, TreeWatch& trees, Refusals& refusals,
                             std::size_t limit)
    : groups_(groups),
      programs_(programs),
      trees_(trees),
      refusals_(refusals),
      shares_(programs.sizes().identities, limit),
      lower_shares_(programs.sizes().lower_identities, limit) {}

IdentityTable::Reservation::~Reservation() {
  const std::unique_lock lock(table_.mutex_);
  for (const std::uint64_t container : containers_) table_.shares_.give_back(container);
}

bool IdentityTable::Reservation::add(std::uint64_t container) {
  const std::unique_lock lock(table_.mutex_);
  if (!table_.shares_.take(container)) return false;
  containers_.push_back(container);
  return true;
}

IdentityTable::Pinned IdentityTable::pin(int fd, const Location& location, std::span<const std::string> paths,
                                         const Superblock& superblock, std::uint64_t reserved_for, bool more) {
  const std::uint64_t inode = location.raw->inode;
  const std::unique_lock lock(mutex_);
  const auto known = by_inode_.find(inode);
  if (known == by_inode_.end()) return pin_new(fd, location, paths, superblock, reserved_for, more);
  const std::shared_ptr<const Identity> before = identities_.at(known->second.id);
  // `location` may be older than another thread's pin: the mark is what counts.
  if (before->device != location.raw->dev || !(location.pinned() || programs_.has_identity_mark(inode))) {
    erase(known);  // of an inode that is gone; its memory was used again
    return pin_new(fd, location, paths, superblock, reserved_for, more);
  }
  Identity now = *before;
  now.mask |= superblock.deny_mask;
  now.cut = now.cut || more;
  if (now.mask != before->mask && !mark(fd, now.mask, location.directory())) return Pinned::limit;
  add_reasons(now, paths, *superblock.table, location.directory());
  if (!charge_for(known->second, now.paths)) {
    now.paths = before->paths;
    now.cut = true;
  }
  // What was no reason of its own there may be one now.
  join_links(known->second.lower, now, *superblock.table);
  if (now.mask == before->mask && now.paths.size() == before->paths.size() && now.cut == before->cut) return Pinned::already;
  if (rules_of_kernel_ != nullptr) rules_of_kernel_->change(inode, now.paths);
  identities_[known->second.id] = std::make_shared<const Identity>(std::move(now));
  return Pinned::already;
}

IdentityTable::Pinned IdentityTable::pin_new(int fd, const Location& location, std::span<const std::string> paths,
                                             const Superblock& superblock, std::uint64_t reserved_for, bool more) {
  const std::uint64_t inode = location.raw->inode;
  const Device device = location.raw->dev;
  const bool directory = location.directory();
  ++since_collected_;
  Identity identity{.device = device, .paths = {}, .cut = more, .mask = superblock.deny_mask};
  add_reasons(identity, paths, *superblock.table, directory);
  const std::size_t units = units_of(identity.paths);
  std::optional<std::uint64_t> payer = reserved_for;
  if (reserved_for != 0) shares_.add(reserved_for, units);
  else payer = charge(identity.paths, units, directory, *superblock.table);
  if (!payer) return Pinned::limit;
  if (!mark(fd, superblock.deny_mask, directory)) {
    shares_.give_back(*payer, units);
    return Pinned::limit;
  }
  Held held{.id = new_id(),
            .directory = directory,
            .listed = false,
            .lower = {location.raw->lower_ino, location.raw->lower_dev},
            .payer = *payer,
            .units = units};
  const auto unmark = [&] {
    groups_.identity.try_mark(FAN_MARK_REMOVE, superblock.deny_mask | FAN_ONDIR | FAN_EVENT_ON_CHILD, fd);
    shares_.give_back(*payer, units);
    return Pinned::limit;
  };
  if (!programs_.add_identity(inode, held.id)) return unmark();
  identities_[held.id] = std::make_shared<const Identity>(std::move(identity));
  if (held.lower.first != 0) {
    auto links = links_.find(held.lower);
    if (links == links_.end()) {
      const std::uint32_t id = new_id();
      const bool has_room = lower_shares_.take(*payer);
      if (!has_room || !programs_.add_lower_identity({.ino = held.lower.first, .dev = held.lower.second}, id)) {
        if (has_room) lower_shares_.give_back(*payer);
        else refusals_.add(*payer, kRefused);
        programs_.remove_identity(inode);
        identities_.erase(held.id);
        return unmark();
      }
      links = links_.emplace(held.lower, Links{.id = id, .device = device, .known = {}, .all = 0, .payer = *payer}).first;
      identities_[id] = std::make_shared<const Identity>(Identity{.device = device, .paths = {}, .cut = false, .mask = 0});
    }
    links->second.all = location.raw->nlink;
    links->second.known.insert(inode);
  }
  by_inode_[inode] = held;
  const Identity& pinned = *identities_.at(held.id);
  if (rules_of_kernel_ != nullptr) rules_of_kernel_->hold(fd, inode, device, directory, pinned.paths);
  join_links(held.lower, pinned, *superblock.table);
  if (directory && superblock.shared) trees_.watch(fd, device);
  else if (directory) trees_.watch_overlay(fd, device, paths.front());
  return Pinned::now;
}

// Who pays for a new pin: one whose guard denies it, and whose share isn't used up.
std::optional<std::uint64_t> IdentityTable::charge(std::span<const std::string> paths, std::size_t units, bool directory,
                                                   const SuperblockPolicy& table) {
  std::vector<std::uint64_t> full;
  for (const std::string& path : paths) {
    for (const std::uint64_t container : table.deniers(path, directory)) {
      if (shares_.take(container, units)) return container;
      full.push_back(container);
    }
  }
  if (!full.empty()) refusals_.add(full.front(), kRefused);
  return std::nullopt;
}

// It has these reasons now. False: the share has no room for more.
bool IdentityTable::charge_for(Held& held, std::span<const std::string> paths) {
  const std::size_t units = units_of(paths);
  if (units > held.units && !shares_.take(held.payer, units - held.units)) {
    refusals_.add(held.payer, kRefused);
    return false;
  }
  if (units < held.units) shares_.give_back(held.payer, held.units - units);
  held.units = units;
  return true;
}

// The payer's guard denies it no more, but another's does.
void IdentityTable::charge_another(Held& held, std::span<const std::string> paths, const SuperblockPolicy& table) {
  std::optional<std::uint64_t> other;
  for (const std::string& path : paths) {
    for (const std::uint64_t container : table.deniers(path, held.directory)) {
      if (container == held.payer) return;
      other = other.value_or(container);
    }
  }
  if (!other) return;
  shares_.give_back(held.payer, held.units);
  shares_.add(*other, held.units);
  held.payer = *other;
}

std::uint32_t IdentityTable::new_id() {
  while (next_ == 0 || identities_.contains(next_)) ++next_;  // it may have wrapped; 0 is nobody's
  return next_++;
}

bool IdentityTable::mark(int fd, std::uint64_t mask, bool directory) const {
  return groups_.identity.try_mark(FAN_MARK_ADD, mask | FAN_ONDIR | (directory ? FAN_EVENT_ON_CHILD : 0), fd) == 0;
}

// Or one of which the policy says the same.
bool IdentityTable::has_reason(const Identity& identity, const std::string& path, const SuperblockPolicy& table, bool directory) {
  return std::ranges::any_of(identity.paths, [&](const std::string& held) { return table.alike(held, path, directory); });
}

void IdentityTable::add_reasons(Identity& identity, std::span<const std::string> paths, const SuperblockPolicy& table,
                                bool directory) {
  for (const std::string& path : paths) {
    if (has_reason(identity, path, table, directory)) continue;
    if (identity.paths.size() == kReasons) identity.cut = true;
    else identity.paths.push_back(path);
  }
}

// What the image's inode is guarded as: as all its names together. This is one of them.
void IdentityTable::join_links(const LowerInode& lower, const Identity& name, const SuperblockPolicy& table) {
  const auto it = links_.find(lower);
  if (it == links_.end()) return;
  std::shared_ptr<const Identity>& joined = identities_.at(it->second.id);
  // Each question about the name comes here: mostly there is nothing to say.
  if (joined->cut >= name.cut && (joined->mask | name.mask) == joined->mask &&
      std::ranges::all_of(name.paths, [&](const std::string& path) { return has_reason(*joined, path, table, false); }))
    return;
  Identity all = *joined;
  add_reasons(all, name.paths, table, false);
  all.cut = all.cut || name.cut;
  all.mask |= name.mask;
  joined = std::make_shared<const Identity>(std::move(all));
}

bool IdentityTable::begin_listing(std::uint64_t inode) {
  const std::unique_lock lock(mutex_);
  const auto known = by_inode_.find(inode);
  return known != by_inode_.end() && !std::exchange(known->second.listed, true);
}

bool IdentityTable::crowded() const {
  const std::shared_lock lock(mutex_);
  return since_collected_ >= std::max(kCollectAfter, by_inode_.size() / 4);
}

void IdentityTable::collect() {
  // The gate is not to wait for thousands of looks at the kernel.
  std::vector<std::uint64_t> gone;
  {
    const std::unique_lock lock(mutex_);
    since_collected_ = 0;
    gone.reserve(by_inode_.size());
    for (const auto& [inode, held] : by_inode_) gone.push_back(inode);
  }
  std::erase_if(gone, [&](std::uint64_t inode) { return programs_.has_identity_mark(inode); });
  for (const std::uint64_t inode : gone) {
    const std::unique_lock lock(mutex_);
    // Its memory may be another guarded inode by now.
    const auto known = by_inode_.find(inode);
    if (known != by_inode_.end() && !programs_.has_identity_mark(inode)) erase(known);
  }
}

bool IdentityTable::has_unknown_names(Device device) const {
  const std::shared_lock lock(mutex_);
  return std::any_of(links_.begin(), links_.end(), [&](const auto& item) {
    return item.second.device == device && item.second.known.size() < item.second.all;
  });
}

void IdentityTable::erase(ByInode::iterator held) {
  const auto [inode, gone] = *held;
  const auto identity = identities_.find(gone.id);
  programs_.remove_identity(inode);
  if (rules_of_kernel_ != nullptr) rules_of_kernel_->release(inode);
  shares_.give_back(gone.payer, gone.units);
  identities_.erase(identity);
  by_inode_.erase(held);
  const auto links = links_.find(gone.lower);
  if (links == links_.end()) return;
  links->second.known.erase(inode);
  if (!links->second.known.empty()) return;
  programs_.remove_lower_identity({.ino = gone.lower.first, .dev = gone.lower.second});
  identities_.erase(links->second.id);
  lower_shares_.give_back(links->second.payer);
  links_.erase(links);
}

std::shared_ptr<const Identity> IdentityTable::find(std::uint32_t id) const {
  const std::shared_lock lock(mutex_);
  const auto it = identities_.find(id);
  return it == identities_.end() ? nullptr : it->second;
}

void IdentityTable::sweep(Device device, const PolicyBox& policies, const std::function<UniqueFd(const std::string&)>& open,
                          Locator& locator) {
  std::vector<std::uint64_t> inodes;
  {
    const std::shared_lock lock(mutex_);
    for (const auto& [inode, held] : by_inode_)
      if (identities_.at(held.id)->device == device) inodes.push_back(inode);
  }
  // One lock for each: the gate is not to wait for thousands.
  for (const std::uint64_t inode : inodes) {
    const std::unique_lock lock(mutex_);
    const auto it = by_inode_.find(inode);
    if (it == by_inode_.end()) continue;
    Held& held = it->second;
    const std::shared_ptr<const Identity> before = identities_.at(held.id);
    if (before->device != device) continue;
    const auto policy = policies.get();
    const Superblock* superblock = policy->find(device);
    Identity now = *before;
    drop_ended(now, superblock, held.directory);
    const bool same = now.paths.size() == before->paths.size();
    // A reason that was not kept may still hold.
    if (!now.paths.empty() || (now.cut && superblock != nullptr)) {
      charge_another(held, now.paths, *superblock->table);
      if (same) continue;
      charge_for(held, now.paths);
      if (rules_of_kernel_ != nullptr) rules_of_kernel_->change(inode, now.paths);
      identities_[held.id] = std::make_shared<const Identity>(std::move(now));
      continue;
    }
    for (const std::string& path : before->paths) {
      const UniqueFd fd = open(path);
      if (!fd || locator.locate(fd.get()).raw->inode != inode) continue;
      groups_.identity.try_mark(FAN_MARK_REMOVE, before->mask | FAN_ONDIR | FAN_EVENT_ON_CHILD, fd.get());
      if (held.directory) trees_.unwatch(fd.get());
      break;
    }
    erase(it);
  }
  std::vector<LowerInode> linked;
  {
    const std::shared_lock lock(mutex_);
    for (const auto& [lower, links] : links_)
      if (links.device == device) linked.push_back(lower);
  }
  for (const LowerInode& lower : linked) {
    const std::unique_lock lock(mutex_);
    const auto links = links_.find(lower);
    if (links == links_.end()) continue;
    const auto policy = policies.get();
    const Superblock* superblock = policy->find(device);
    Identity now = *identities_.at(links->second.id);
    drop_ended(now, superblock, false);
    identities_.at(links->second.id) = std::make_shared<const Identity>(std::move(now));
  }
}

std::size_t IdentityTable::size() const {
  const std::shared_lock lock(mutex_);
  return by_inode_.size();
}

}  // namespace janus
