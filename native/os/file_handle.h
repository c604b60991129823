// What names a file within its file system, as fanotify reports it.
//
// Owns: nothing; the one place that asks name_to_handle_at(2).
#pragma once

#include <fcntl.h>

#include <array>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "os/unique_fd.h"

namespace janus {

// A struct file_handle with room for the largest.
class FileHandle {
 public:
  // Of an open descriptor's file. Nothing if its file system gives none; errno says why.
  static std::optional<FileHandle> of(int fd);
  // Of bytes_of(). Nothing if they can't be a handle.
  static std::optional<FileHandle> from(std::string_view bytes);

  // Empty if there is no such file (any more); errno says why. `mount` says on which file system.
  UniqueFd open(int mount, int flags) const;

  const file_handle& get() const { return *reinterpret_cast<const file_handle*>(bytes_.data()); }

 private:
  file_handle& get() { return *reinterpret_cast<file_handle*>(bytes_.data()); }

  alignas(file_handle) std::array<std::byte, sizeof(file_handle) + MAX_HANDLE_SZ> bytes_{};
};

// The handle as bytes, to be compared: its type, then what the file system says.
std::string bytes_of(const file_handle& handle);

}  // namespace janus
