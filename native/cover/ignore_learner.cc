#include "cover/ignore_learner.h"

#include <algorithm>
#include <array>
#include <cerrno>

#include "os/path_resolver.h"

namespace janus {
namespace {

constexpr unsigned kIgnore = FAN_MARK_ADD | FAN_MARK_IGNORE | FAN_MARK_IGNORED_SURV_MODIFY;
constexpr std::uint64_t kObservedMask =
    FAN_OPEN | FAN_ACCESS | FAN_OPEN_EXEC | FAN_MODIFY | FAN_CLOSE_WRITE | FAN_CLOSE_NOWRITE;

}  // namespace

void IgnoreLearner::learn(bool observed, Locator& locator, Location location, const Policy& decided_by) {
  if (unsupported_.load(std::memory_order_relaxed) || !location.has_path() || location.path.empty() ||
      location.raw->parent_inode == 0)
    return;
  const Superblock* superblock = decided_by.find(location.raw->dev);
  if (superblock == nullptr || !superblock->learn) return;
  const bool settled = (location.raw->flags & JANUS_LOCATE_SETTLED) || (superblock->by_kernel && !observed);
  // An observer that misses an event denies nobody less.
  if (!settled && !observed && !is_patient(location.raw->parent_inode)) return;
  const std::string directory(parent_of(location.path));
  const std::uint64_t inode = location.raw->parent_inode;
  const Device device = location.raw->dev;
  const Base* base = superblock->base_for(directory);
  if (base == nullptr || !superblock->table->ignorable(directory, observed)) return;

  const std::lock_guard lock(mutex_);
  // A newer policy has been published, and forget() may be through already.
  if (policy_.get()->generation != decided_by.generation) return;
  if (learned_.load(std::memory_order_relaxed) >= limit_) forget_all();
  const UniqueFd fd = open_exact(base->mount->get(), directory.substr(base->root.size()));
  if (!fd) return;
  // First the marks that tell of renames, from the directory up, then the look
  // at where it is: a rename before that look is seen by it, one after is told.
  for (std::string_view above = directory; !settled && above.size() > base->root.size(); above = parent_of(above)) {
    const UniqueFd at = open_exact(base->mount->get(), std::string(above.substr(base->root.size())));
    if (!at) return;
    const int failed = groups_.moves.try_mark(FAN_MARK_ADD | FAN_MARK_EVICTABLE, FAN_MOVE_SELF | FAN_ONDIR, at.get());
    if (failed != 0) return;  // no file handles here: renames could not be seen
  }
  const Location now = locator.locate(fd.get());
  if (!now.found() || now.raw->inode != inode || now.path != directory) return;
  const FanotifyGroup& group = observed ? groups_.observer : groups_.gate;
  const std::uint64_t mask = (observed ? kObservedMask : kPermissionMask) | FAN_EVENT_ON_CHILD | FAN_ONDIR;
  const int failed = group.try_mark(kIgnore | FAN_MARK_EVICTABLE, mask, fd.get());
  if (failed == 0) {
    learned_.fetch_add(1, std::memory_order_relaxed);
    devices_.insert(device);
  }
  if (failed == EINVAL) unsupported_.store(true, std::memory_order_relaxed);
}

// Whether the directory has been asked about often enough.
bool IgnoreLearner::is_patient(std::uint64_t directory) {
  if (patience_ == 0) return false;
  constexpr std::size_t kDirectories = 16384;
  const std::lock_guard lock(mutex_);
  if (asked_.size() >= kDirectories) asked_.clear();
  std::size_t& asked = asked_[directory];
  if (++asked < patience_) return false;
  asked_.erase(directory);
  return true;
}

void IgnoreLearner::leave_to_identity(int fd, Device device, bool directory, std::uint64_t mask) {
  mask &= kPermissionMask;
  if (mask == 0) return;
  const std::lock_guard lock(mutex_);
  devices_.insert(device);
  if (directory) mask |= FAN_EVENT_ON_CHILD | FAN_ONDIR;
  if (groups_.gate.try_mark(kIgnore | FAN_MARK_EVICTABLE, mask, fd) == 0) left_.fetch_add(1, std::memory_order_relaxed);
}

void IgnoreLearner::forget(const std::vector<Device>& devices) {
  const std::lock_guard lock(mutex_);
  if (std::any_of(devices.begin(), devices.end(), [&](Device device) { return devices_.contains(device); })) forget_all();
}

// One call for all: what was learned cannot be undone directory by directory,
// since they may be anywhere by now.
void IgnoreLearner::forget_all() {
  groups_.gate.flush_inode_marks();
  groups_.observer.flush_inode_marks();
  groups_.moves.flush_inode_marks();
  learned_.store(0, std::memory_order_relaxed);
  left_.store(0, std::memory_order_relaxed);
  devices_.clear();
  asked_.clear();
  counters_.forgotten.add();
}

void IgnoreLearner::drain_moves() {
  std::array<char, 4096> events;
  bool unreadable = false;
  bool moved = false;
  while (groups_.moves.read(events, unreadable) > 0) moved = true;
  if (!moved) return;
  counters_.exposed_move.add();
  const std::lock_guard lock(mutex_);
  forget_all();
}

}  // namespace janus
