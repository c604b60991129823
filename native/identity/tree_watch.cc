#include "identity/tree_watch.h"

#include <fcntl.h>
#include <sys/vfs.h>

#include <array>
#include <cstring>

#include "os/dirent_event.h"
#include "os/file_handle.h"

namespace janus {
namespace {

constexpr std::uint64_t kMask = FAN_CREATE | FAN_MOVED_TO | FAN_ONDIR;

}  // namespace

bool TreeWatch::mark(int directory, Device device, FileSystem& where) {
  struct statfs status {};
  const bool marked = fstatfs(directory, &status) == 0 && groups_.trees.try_mark(FAN_MARK_ADD, kMask, directory) == 0;
  where = {status.f_fsid.__val[0], status.f_fsid.__val[1]};
  if (!marked && blind_.insert(device).second) counters_.exposed_rescan.add();
  return marked;
}

void TreeWatch::watch(int directory, Device device) {
  const std::lock_guard lock(mutex_);
  FileSystem where;
  if (mark(directory, device, where)) devices_[where] = device;
}

void TreeWatch::watch_overlay(int directory, Device device, std::string_view path) {
  const auto handle = FileHandle::of(directory);
  const std::lock_guard lock(mutex_);
  FileSystem where;
  if (!mark(directory, device, where)) return;
  Overlays& overlays = overlays_[where];
  overlays.devices.insert(device);
  if (handle) overlays.paths[handle_of(handle->get())][device] = path;
}

void TreeWatch::forget(Device device) {
  const std::lock_guard lock(mutex_);
  blind_.erase(device);
  std::erase_if(devices_, [&](const auto& item) { return item.second == device; });
  for (auto& [where, overlays] : overlays_) {
    if (overlays.devices.erase(device) == 0) continue;
    for (auto& [handle, paths] : overlays.paths) paths.erase(device);
    std::erase_if(overlays.paths, [](const auto& item) { return item.second.empty(); });
  }
  std::erase_if(overlays_, [](const auto& item) { return item.second.devices.empty(); });
}

TreeWatch::Handle TreeWatch::handle_of(const file_handle& handle) {
  const std::size_t bytes = sizeof(file_handle) + handle.handle_bytes;
  Handle copy((bytes + sizeof(unsigned) - 1) / sizeof(unsigned));
  std::memcpy(copy.data(), &handle, bytes);
  return copy;
}

void TreeWatch::unwatch(int directory) { groups_.trees.try_mark(FAN_MARK_REMOVE, kMask, directory); }

// The kernel pads events to 4 bytes, and what fanotify(7) reads them by wants 8.
__attribute__((no_sanitize("alignment"))) std::vector<TreeWatch::Entry> TreeWatch::drain(bool& lost) {
  alignas(fanotify_event_metadata) std::array<char, 8192> buffer;
  std::vector<Entry> entries;
  bool unreadable = false;
  std::size_t left = groups_.trees.read(buffer, unreadable);
  const auto* event = reinterpret_cast<const fanotify_event_metadata*>(buffer.data());
  const std::lock_guard lock(mutex_);
  for (; FAN_EVENT_OK(event, left); event = FAN_EVENT_NEXT(event, left)) {
    if (event->mask & FAN_Q_OVERFLOW) lost = true;
    const DirentEvent what = dirent_of(*event);
    if (what.directory == nullptr) continue;
    const FileSystem where{what.file_system.val[0], what.file_system.val[1]};
    Handle handle = handle_of(*what.directory);
    if (const auto overlays = overlays_.find(where); overlays != overlays_.end()) {
      const auto paths = overlays->second.paths.find(handle);
      if (paths == overlays->second.paths.end()) {
        for (const Device device : overlays->second.devices)
          entries.push_back({.device = device, .directory = {}, .name = {}, .how = Entry::unknown, .path = {}});
      } else {
        for (const auto& [device, path] : paths->second)
          entries.push_back({.device = device, .directory = {}, .name = std::string(what.name), .how = Entry::by_path, .path = path});
      }
      continue;
    }
    const auto device = devices_.find(where);
    if (device == devices_.end()) continue;
    entries.push_back({.device = device->second,
                       .directory = std::move(handle),
                       .name = std::string(what.name),
                       .how = Entry::by_handle,
                       .path = {}});
  }
  return entries;
}

UniqueFd TreeWatch::open_directory(int mount, Entry& entry) {
  return UniqueFd(open_by_handle_at(mount, reinterpret_cast<file_handle*>(entry.directory.data()),
                                    O_PATH | O_DIRECTORY | O_CLOEXEC));
}

}  // namespace janus
