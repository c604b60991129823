#include "os/file_handle.h"

#include <cerrno>
#include <cstring>

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

std::optional<FileHandle> FileHandle::from(std::string_view bytes) {
  FileHandle handle;
  file_handle& raw = handle.get();
  if (bytes.size() < sizeof(raw.handle_type) || bytes.size() - sizeof(raw.handle_type) > MAX_HANDLE_SZ) return std::nullopt;
  std::memcpy(&raw.handle_type, bytes.data(), sizeof(raw.handle_type));
  bytes.remove_prefix(sizeof(raw.handle_type));
  raw.handle_bytes = static_cast<unsigned>(bytes.size());
  std::memcpy(raw.f_handle, bytes.data(), bytes.size());
  return handle;
}

UniqueFd FileHandle::open(int mount, int flags) const {
  FileHandle handle = *this;  // the system call's is not const
  return UniqueFd(open_by_handle_at(mount, &handle.get(), flags | O_CLOEXEC));
}

__attribute__((no_sanitize("alignment"))) std::string bytes_of(const file_handle& handle) {
  std::string bytes(reinterpret_cast<const char*>(&handle.handle_type), sizeof(handle.handle_type));
  return bytes.append(reinterpret_cast<const char*>(handle.f_handle), handle.handle_bytes);
}

}  // namespace janus
