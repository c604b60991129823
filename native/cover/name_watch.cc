#include "cover/name_watch.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/inotify.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>

#include "os/dirent_event.h"
#include "os/file_handle.h"

namespace janus {
namespace {

constexpr std::uint64_t kMask = FAN_CREATE | FAN_DELETE | FAN_MOVED_FROM | FAN_MOVED_TO | FAN_ONDIR;
constexpr std::uint32_t kInotifyMask = IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_ONLYDIR;

template <typename Value>
void append(std::string& to, const Value& value) {
  to.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

// A key begins with its file system, or with inotify's number of the directory.
constexpr std::size_t kFileSystemBytes = sizeof(__kernel_fsid_t);

std::string key_of(const int (&file_system)[2], const file_handle* handle) {
  std::string key;
  append(key, file_system[0]);
  append(key, file_system[1]);
  if (handle == nullptr) return key;
  append(key, handle->handle_type);
  key.append(reinterpret_cast<const char*>(handle->f_handle), handle->handle_bytes);
  return key;
}

// `changes`: the directory may get another handle. Empty if the file system has no number.
std::string key_of_directory(int directory, bool& changes) {
  struct statfs status {};
  if (fstatfs(directory, &status) != 0) return {};
  changes = status.f_type == OVERLAYFS_SUPER_MAGIC;
  if (const auto handle = FileHandle::of(directory)) return key_of(status.f_fsid.__val, &handle->get());
  changes = true;  // it is not known by it
  return key_of(status.f_fsid.__val, nullptr);
}

std::string key_of_watch(int watch) {
  std::string key(kFileSystemBytes, '\0');
  append(key, watch);
  return key;
}

template <typename Map>
void leave(Map& map, const std::string& outer, const std::string& name, const NameOwner& owner) {
  const auto names = map.find(outer);
  if (names == map.end()) return;
  const auto watchers = names->second.find(name);
  if (watchers == names->second.end()) return;
  watchers->second.owners.remove(owner);
  if (watchers->second.owners.empty()) names->second.erase(watchers);
  if (names->second.empty()) map.erase(names);
}

template <typename Guards>
auto place_in(Guards& guards, std::uint32_t guard) {
  return std::ranges::lower_bound(guards, guard, {}, [](const auto& item) { return item.first; });
}

}  // namespace

NameWatch::NameWatch(const Groups& groups, Changed changed, std::size_t limit)
    : groups_(groups), changed_(std::move(changed)), limit_(limit), inotify_(inotify_init1(IN_NONBLOCK | IN_CLOEXEC)) {}

std::uint32_t NameWatch::Owners::add(const NameOwner& owner) {
  Guards& guards = guards_[owner.container];
  auto at = place_in(guards, owner.guard);
  if (at == guards.end() || at->first != owner.guard) at = guards.insert(at, {owner.guard, 0});
  return ++at->second;
}

void NameWatch::Owners::remove(const NameOwner& owner) {
  const auto guards = guards_.find(owner.container);
  if (guards == guards_.end()) return;
  const auto at = place_in(guards->second, owner.guard);
  if (at == guards->second.end() || at->first != owner.guard || --at->second > 0) return;
  guards->second.erase(at);
  if (guards->second.empty()) guards_.erase(guards);
}

void NameWatch::Owners::tell(std::set<NameOwner>& owners) const {
  for (const auto& [container, guards] : guards_)
    for (const auto& [guard, count] : guards) owners.insert({container, guard});
}

bool NameWatch::has_room(std::uint64_t container, std::size_t more) const {
  const std::lock_guard lock(mutex_);
  const auto theirs = by_container_.find(container);
  return (theirs == by_container_.end() ? 0 : theirs->second) + more <= limit_;
}

// Known before it is marked: nobody drains an event that means nothing yet.
bool NameWatch::watch_name(int directory, const std::string& name, const NameOwner& owner, std::vector<Watched>& watched,
                           bool& is_new) {
  const auto add = [&](std::string key, bool changes) {
    Watchers& watchers = directories_[key][name];
    is_new = watchers.owners.add(owner) == 1 || is_new;
    if (changes) file_systems_[key.substr(0, kFileSystemBytes)][name].owners.add(owner);
    if (watchers.what == nullptr) watchers.what = std::make_shared<const Name>(Name{std::move(key), name, changes});
    ++by_container_[owner.container];
    watched.push_back({.what = watchers.what});
  };
  bool changes = false;
  if (std::string key = key_of_directory(directory, changes); !key.empty()) {
    {
      const std::lock_guard lock(mutex_);
      add(std::move(key), changes);
    }
    if (groups_.names.try_mark(FAN_MARK_ADD, kMask, directory) == 0) return true;
    const std::lock_guard lock(mutex_);
    forget(watched.back(), owner);
    watched.pop_back();
  }
  char link[32];
  snprintf(link, sizeof(link), "/proc/self/fd/%d", directory);
  const std::lock_guard lock(mutex_);
  const int watch = inotify_add_watch(inotify_.get(), link, kInotifyMask);
  if (watch < 0) return false;
  watches_.insert(watch);
  add(key_of_watch(watch), false);
  return true;
}

NameWatch::Outcome NameWatch::watch(const Resolved& resolved, const NameOwner& owner, std::vector<Watched>& watched) {
  Outcome outcome;
  for (std::size_t i = 0; i < resolved.names.size(); ++i) {
    if (watch_name(resolved.directories[i]->get(), resolved.names[i], owner, watched, outcome.is_new))
      marks_.fetch_add(1, std::memory_order_relaxed);
    else ++outcome.failed;
  }
  return outcome;
}

void NameWatch::forget(const Watched& watched, const NameOwner& owner) {
  const Name& what = *watched.what;
  if (const auto theirs = by_container_.find(owner.container); theirs != by_container_.end() && --theirs->second == 0)
    by_container_.erase(theirs);
  leave(directories_, what.directory, what.name, owner);
  if (what.changes) leave(file_systems_, what.directory.substr(0, kFileSystemBytes), what.name, owner);
}

void NameWatch::unwatch(const std::vector<Watched>& watched, const NameOwner& owner) {
  const std::lock_guard lock(mutex_);
  for (const Watched& each : watched) forget(each, owner);
  if (!directories_.empty() || marks_.load(std::memory_order_relaxed) == 0) return;
  groups_.names.flush_inode_marks();
  for (const int watch : watches_) inotify_rm_watch(inotify_.get(), watch);
  watches_.clear();
  marks_.store(0, std::memory_order_relaxed);
}

void NameWatch::happened(std::string_view directory, std::string_view name, std::set<NameOwner>& owners) const {
  const auto known = directories_.find(std::string(directory));
  const bool is_known = known != directories_.end();
  const auto names = is_known ? known : file_systems_.find(std::string(directory.substr(0, kFileSystemBytes)));
  if (!is_known && names == file_systems_.end()) return;
  const auto found = names->second.find(std::string(name));
  if (found == names->second.end()) return;
  found->second.owners.tell(owners);
}

void NameWatch::everything(std::set<NameOwner>& owners) const {
  for (const auto& [directory, names] : directories_)
    for (const auto& [name, watchers] : names) watchers.owners.tell(owners);
}

// The kernel pads events to 4 bytes, and what fanotify(7) reads them by wants 8.
__attribute__((no_sanitize("alignment"))) void NameWatch::drain() {
  alignas(fanotify_event_metadata) std::array<char, 16384> buffer;
  std::set<NameOwner> owners;
  bool unreadable = false;
  while (const std::size_t got = groups_.names.read(buffer, unreadable)) {
    const std::lock_guard lock(mutex_);
    const auto* event = reinterpret_cast<const fanotify_event_metadata*>(buffer.data());
    for (std::size_t left = got; FAN_EVENT_OK(event, left); event = FAN_EVENT_NEXT(event, left)) {
      const DirentEvent what = dirent_of(*event);
      if (event->mask & FAN_Q_OVERFLOW) everything(owners);
      else if (what.directory != nullptr) happened(key_of(what.file_system.val, what.directory), what.name, owners);
    }
  }
  for (ssize_t got = 0; (got = ::read(inotify_.get(), buffer.data(), buffer.size())) > 0;) {
    const std::lock_guard lock(mutex_);
    const char* const end = buffer.data() + got;
    for (const char* at = buffer.data(); at < end;) {
      const auto* event = reinterpret_cast<const inotify_event*>(at);
      if (event->mask & IN_Q_OVERFLOW) everything(owners);
      else if (event->len > 0) happened(key_of_watch(event->wd), event->name, owners);
      at += sizeof(inotify_event) + event->len;
    }
  }
  if (!owners.empty()) changed_(owners);
}

}  // namespace janus
