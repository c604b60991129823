#include "cover/name_watch.h"

#include <sys/inotify.h>
#include <unistd.h>

#include <array>
#include <cstdio>

#include "os/dirent_event.h"

namespace janus {
namespace {

constexpr std::uint64_t kMask = FAN_CREATE | FAN_DELETE | FAN_MOVED_FROM | FAN_MOVED_TO | FAN_ONDIR;
constexpr std::uint32_t kInotifyMask = IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_ONLYDIR;

}  // namespace

NameWatch::NameWatch(const Groups& groups, Changed changed)
    : groups_(groups), changed_(std::move(changed)) {}

bool NameWatch::watch_by_inotify(int directory) {
  char link[32];
  snprintf(link, sizeof(link), "/proc/self/fd/%d", directory);
  const int watch = inotify_add_watch(inotify_fd(), link, kInotifyMask);
  if (watch < 0) return false;
  const std::lock_guard lock(names_mutex_);
  watches_.insert(watch);
  return true;
}

std::size_t NameWatch::watch(const Resolved& resolved) {
  std::size_t failed = 0;
  {
    const std::lock_guard lock(names_mutex_);
    for (const std::string& name : resolved.names) ++names_[name];
  }
  for (const auto& directory : resolved.directories) {
    if (groups_.names.try_mark(FAN_MARK_ADD, kMask, directory->get()) == 0 || watch_by_inotify(directory->get()))
      marks_.fetch_add(1, std::memory_order_relaxed);
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
  for (const int watch : watches_) inotify_rm_watch(inotify_fd(), watch);
  watches_.clear();
  marks_.store(0, std::memory_order_relaxed);
}

void NameWatch::happened(std::string name, bool all, std::set<std::string>& names) {
  const std::lock_guard lock(names_mutex_);
  if (all) {
    for (const auto& [watched, count] : names_) names.insert(watched);
  } else if (names_.contains(name)) {
    names.insert(std::move(name));
  }
}

void NameWatch::drain() {
  alignas(fanotify_event_metadata) std::array<char, 8192> buffer;
  std::set<std::string> names;
  bool unreadable = false;
  while (const std::size_t got = groups_.names.read(buffer, unreadable)) {
    const auto* event = reinterpret_cast<const fanotify_event_metadata*>(buffer.data());
    for (std::size_t left = got; FAN_EVENT_OK(event, left); event = FAN_EVENT_NEXT(event, left))
      happened(std::string(dirent_of(*event).name), event->mask & FAN_Q_OVERFLOW, names);
  }
  for (ssize_t got = 0; (got = ::read(inotify_fd(), buffer.data(), buffer.size())) > 0;) {
    const char* const end = buffer.data() + got;
    for (const char* at = buffer.data(); at < end;) {
      const auto* event = reinterpret_cast<const inotify_event*>(at);
      happened(event->len > 0 ? event->name : "", event->mask & IN_Q_OVERFLOW, names);
      at += sizeof(inotify_event) + event->len;
    }
  }
  for (const std::string& name : names) changed_(name);
}

}  // namespace janus
