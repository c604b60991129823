#include "name_watch.h"

#include <array>
#include <set>

namespace janus {
namespace {

constexpr std::uint64_t kMask = FAN_CREATE | FAN_DELETE | FAN_MOVED_FROM | FAN_MOVED_TO | FAN_ONDIR;

// The entry's name in a FAN_REPORT_DFID_NAME event (fanotify(7)): after the
// file handle, NUL terminated.
std::string name_in(const fanotify_event_metadata& event) {
  const char* const end = reinterpret_cast<const char*>(&event) + event.event_len;
  const char* at = reinterpret_cast<const char*>(&event) + event.metadata_len;
  while (at + sizeof(fanotify_event_info_header) <= end) {
    const auto* header = reinterpret_cast<const fanotify_event_info_header*>(at);
    if (header->len == 0) break;
    if (header->info_type == FAN_EVENT_INFO_TYPE_DFID_NAME) {
      const auto* fid = reinterpret_cast<const fanotify_event_info_fid*>(at);
      const auto* handle = reinterpret_cast<const unsigned*>(fid->handle);  // struct file_handle: bytes, type, data
      return reinterpret_cast<const char*>(fid->handle) + 2 * sizeof(unsigned) + handle[0];
    }
    at += header->len;
  }
  return {};
}

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
      } else if (std::string name = name_in(*event); names_.contains(name)) {
        happened.insert(std::move(name));
      }
    }
  }
  for (const std::string& name : happened) changed_(name);
}

}  // namespace janus
