#include "identity/tree_watch.h"

#include <fcntl.h>
#include <sys/vfs.h>

#include <array>
#include <cstring>

#include "os/dirent_event.h"

namespace janus {
namespace {

constexpr std::uint64_t kMask = FAN_CREATE | FAN_MOVED_TO | FAN_ONDIR;

}  // namespace

void TreeWatch::watch(int directory, Device device) {
  struct statfs status {};
  const bool marked = fstatfs(directory, &status) == 0 && groups_.trees.try_mark(FAN_MARK_ADD, kMask, directory) == 0;
  const std::lock_guard lock(mutex_);
  if (marked) devices_[{status.f_fsid.__val[0], status.f_fsid.__val[1]}] = device;
  else if (blind_.insert(device).second) counters_.exposed_rescan.add();
}

void TreeWatch::unwatch(int directory) { groups_.trees.try_mark(FAN_MARK_REMOVE, kMask, directory); }

std::vector<TreeWatch::Entry> TreeWatch::drain(bool& lost) {
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
    const auto device = devices_.find({what.file_system.val[0], what.file_system.val[1]});
    if (device == devices_.end()) continue;
    const std::size_t bytes = sizeof(file_handle) + what.directory->handle_bytes;
    Entry& entry = entries.emplace_back();
    entry.device = device->second;
    entry.name = what.name;
    entry.directory.resize((bytes + sizeof(unsigned) - 1) / sizeof(unsigned));
    std::memcpy(entry.directory.data(), what.directory, bytes);
  }
  return entries;
}

UniqueFd TreeWatch::open_directory(int mount, Entry& entry) {
  return UniqueFd(open_by_handle_at(mount, reinterpret_cast<file_handle*>(entry.directory.data()),
                                    O_PATH | O_DIRECTORY | O_CLOEXEC));
}

}  // namespace janus
