// What a FAN_REPORT_DFID_NAME event says (fanotify(7)).
//
// Owns: nothing; what it returns points into the event.
#pragma once

#include <fcntl.h>
#include <sys/fanotify.h>

#include <string_view>

namespace janus {

struct DirentEvent {
  __kernel_fsid_t file_system{};
  const file_handle* directory = nullptr;  // null: the event names none
  std::string_view name;                   // of the entry
};

inline DirentEvent dirent_of(const fanotify_event_metadata& event) {
  const char* const end = reinterpret_cast<const char*>(&event) + event.event_len;
  const char* at = reinterpret_cast<const char*>(&event) + event.metadata_len;
  while (at + sizeof(fanotify_event_info_header) <= end) {
    const auto* header = reinterpret_cast<const fanotify_event_info_header*>(at);
    if (header->len == 0) break;
    if (header->info_type == FAN_EVENT_INFO_TYPE_DFID_NAME) {
      const auto* info = reinterpret_cast<const fanotify_event_info_fid*>(at);
      const auto* handle = reinterpret_cast<const file_handle*>(info->handle);
      // The name follows the handle, NUL terminated.
      return {info->fsid, handle, reinterpret_cast<const char*>(handle->f_handle) + handle->handle_bytes};
    }
    at += header->len;
  }
  return {};
}

}  // namespace janus
