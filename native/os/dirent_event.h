// What an event of a group that reports directories and names says (fanotify(7)).
//
// Owns: nothing; what it returns points into the event.
#pragma once

#include <fcntl.h>
#include <sys/fanotify.h>

#include <algorithm>
#include <cstddef>
#include <string_view>

namespace janus {

struct DirentEvent {
  __kernel_fsid_t file_system{};
  const file_handle* directory = nullptr;  // null: the event names none
  std::string_view name;                   // of the entry; "." is the directory itself
  // Of a rename: where the entry is now. Null: nobody watches that directory.
  const file_handle* new_directory = nullptr;
  std::string_view new_name;
  const file_handle* object = nullptr;  // what the entry is; only with FAN_REPORT_TARGET_FID
};

// Reads nothing beyond the event, whatever its lengths say. The kernel pads events to 4 bytes only.
__attribute__((no_sanitize("alignment"))) inline DirentEvent dirent_of(const fanotify_event_metadata& event) {
  DirentEvent dirent;
  std::string_view rest(reinterpret_cast<const char*>(&event), event.event_len);
  rest.remove_prefix(std::min<std::size_t>(event.metadata_len, rest.size()));
  while (rest.size() >= sizeof(fanotify_event_info_header)) {
    const auto* header = reinterpret_cast<const fanotify_event_info_header*>(rest.data());
    // The kernel pads each to four bytes.
    if (header->len < sizeof(*header) || header->len > rest.size() || header->len % alignof(fanotify_event_info_fid) != 0) break;
    constexpr std::size_t fixed = offsetof(fanotify_event_info_fid, handle) + offsetof(file_handle, f_handle);
    const std::uint8_t type = header->info_type;
    const bool named = type == FAN_EVENT_INFO_TYPE_DFID_NAME || type == FAN_EVENT_INFO_TYPE_OLD_DFID_NAME ||
                       type == FAN_EVENT_INFO_TYPE_NEW_DFID_NAME;
    if (named || type == FAN_EVENT_INFO_TYPE_FID) {
      const auto* info = reinterpret_cast<const fanotify_event_info_fid*>(header);
      const auto* handle = reinterpret_cast<const file_handle*>(info->handle);
      if (header->len < fixed || handle->handle_bytes > header->len - fixed) break;
      dirent.file_system = info->fsid;
      // The name follows the handle, NUL terminated.
      std::string_view name = rest.substr(fixed + handle->handle_bytes, header->len - fixed - handle->handle_bytes);
      name = name.substr(0, name.find('\0'));
      if (!named) {
        dirent.object = handle;
      } else if (type == FAN_EVENT_INFO_TYPE_NEW_DFID_NAME) {
        dirent.new_directory = handle;
        dirent.new_name = name;
      } else {
        dirent.directory = handle;
        dirent.name = name;
      }
    }
    rest.remove_prefix(header->len);
  }
  return dirent;
}

}  // namespace janus
