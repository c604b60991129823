#include "name_watch.h"

#include <array>
#include <set>

#include "dirent_event.h"

namespace janus {
namespace {

constexpr std::uint64_t kMask = FAN_CREATE | FAN_DELETE | FAN_MOVED_FROM | FAN_MOVED_TO | FAN_ONDIR;

}  // namespace

std::size_t NameWatch::watch(const Resolved& resolved) {
  std::size_t failed = 0;
  {
    const std::lock_guard lock(names_mutex_);
    for (const std::string& name : resolved.names) ++names_[name];
  }
  for (const UniqueFd& directory : resolved.directories) {
    if (groups_.names.try_mark(FAN_MARK_ADD, kMask, directory.get()) == 0) marks_.fetch_add(1, std::memory_order_relaxed);
    else ++failed;
  }
  return failed;
}

void NameWatch::unwatch(const std::vector<std::string>& names) {
  const std::lock_guard lock(names_mutex_);
  for (const std::string& name : names) {
    const auto it = names_.find(name);
    if (it != names_.end() && --it->second == 0) names_.erase(it);
  }
  if (!names_.empty()) return;
  groups_.names.flush_inode_marks();
  marks_.store(0, std::memory_order_relaxed);
}

void NameWatch::drain() {
  alignas(fanotify_event_metadata) std::array<char, 8192> buffer;
  std::set<std::string> happened;
  bool unreadable = false;
  while (const std::size_t got = groups_.names.read(buffer, unreadable)) {
    const auto* event = reinterpret_cast<const fanotify_event_metadata*>(buffer.data());
    const std::lock_guard names_lock(names_mutex_);
    for (std::size_t left = got; FAN_EVENT_OK(event, left); event = FAN_EVENT_NEXT(event, left)) {
      if (event->mask & FAN_Q_OVERFLOW) {
        for (const auto& [name, count] : names_) happened.insert(name);
      } else if (std::string name(dirent_of(*event).name); names_.contains(name)) {
        happened.insert(std::move(name));
      }
    }
  }
  for (const std::string& name : happened) changed_(name);
}

}  // namespace janus
