#include "os/process_dir.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>

#include "os/descriptors.h"
#include "os/error.h"

namespace janus {
namespace {

constexpr unsigned kPidfdThread = 0x80;  // PIDFD_THREAD, Linux 6.9: O_EXCL

// EINVAL: mountinfo of a zombie. EACCES: a zombie's files belong to root, and we may not.
bool means_gone(int number) {
  return number == ENOENT || number == ESRCH || number == EINVAL || number == EACCES;
}

Error failed(int number, std::uint32_t pid, const char* file) {
  if (means_gone(number)) return Error(ErrorCode::not_found, "process " + std::to_string(pid) + " has ended");
  return Error::system(number, "open", "/proc/" + std::to_string(pid) + "/" + file);
}

}  // namespace

ProcessDir::ProcessDir(std::uint32_t pid)
    : pid_(pid), fd_(::open(("/proc/" + std::to_string(pid)).c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)) {
  if (!fd_) throw failed(errno, pid, "");
  fd_ = outside_reserve(std::move(fd_), "/proc/" + std::to_string(pid));
}

bool ProcessDir::alive() const {
  struct stat status {};
  return fstatat(fd_.get(), "stat", &status, 0) == 0;
}

std::uint32_t ProcessDir::tgid() const {
  const UniqueFd status(openat(fd_.get(), "status", O_RDONLY | O_CLOEXEC));
  if (!status && !means_gone(errno)) throw failed(errno, pid_, "status");
  std::array<char, 1024> text{};
  if (!status || ::read(status.get(), text.data(), text.size() - 1) <= 0) return 0;
  // Its name comes first, in which a newline is escaped.
  const char* const line = std::strstr(text.data(), "\nTgid:");
  return line == nullptr ? 0 : static_cast<std::uint32_t>(std::strtoul(line + std::strlen("\nTgid:"), nullptr, 10));
}

UniqueFd ProcessDir::open(const char* file, int flags) const {
  UniqueFd fd(openat(fd_.get(), file, flags | O_CLOEXEC));
  if (!fd) throw failed(errno, pid_, file);
  return outside_reserve(std::move(fd), file);
}

UniqueFd ProcessDir::root() const { return open("root", O_PATH | O_DIRECTORY); }

// A pidfd: no permission group is asked about it. ns/mnt is a file that a container with
// CAP_SYS_ADMIN may mark. (Linux 6.18 takes the mark, and asks nobody.)
UniqueFd ProcessDir::namespaces() const {
  for (const unsigned flags : {0u, kPidfdThread}) {
    UniqueFd pidfd(static_cast<int>(syscall(SYS_pidfd_open, pid_, flags)));
    // It is ours if nobody else had the number by then.
    if (pidfd && alive()) return outside_reserve(std::move(pidfd), "pidfd");
  }
  return open("ns/mnt", O_RDONLY);  // a thread, and the kernel is older than 6.9; or it is gone
}

bool ProcessDir::same_mount_namespace(const ProcessDir& other) const {
  struct stat a {}, b {};
  return fstatat(fd_.get(), "ns/mnt", &a, 0) == 0 && fstatat(other.fd_.get(), "ns/mnt", &b, 0) == 0 &&
         a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

}  // namespace janus
