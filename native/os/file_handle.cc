#include "os/file_handle.h"

#include <cerrno>

namespace janus {
namespace {

constexpr int kHandleIsName = 0x200;  // AT_HANDLE_FID (Linux 6.5): needs not be decodable

}  // namespace

std::optional<FileHandle> FileHandle::of(int fd) {
  FileHandle handle;
  // An older kernel takes the flag for a mistake.
  for (const int how : {kHandleIsName, 0}) {
    handle.get().handle_bytes = MAX_HANDLE_SZ;
    int mount = 0;
    if (name_to_handle_at(fd, "", &handle.get(), &mount, AT_EMPTY_PATH | how) == 0) return handle;
    if (errno != EINVAL) break;
  }
  return std::nullopt;
}

__attribute__((no_sanitize("alignment"))) std::string bytes_of(const file_handle& handle) {
  std::string bytes(reinterpret_cast<const char*>(&handle.handle_type), sizeof(handle.handle_type));
  return bytes.append(reinterpret_cast<const char*>(handle.f_handle), handle.handle_bytes);
}

}  // namespace janus
