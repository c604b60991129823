#include "os/fanotify_group.h"

#include <fcntl.h>

#include <cerrno>

#include "os/error.h"

namespace janus {
namespace {

constexpr unsigned kCommon = FAN_CLOEXEC | FAN_NONBLOCK | FAN_UNLIMITED_QUEUE | FAN_UNLIMITED_MARKS;
// O_NONBLOCK: the kernel opens the object for us, and a FIFO would wait for a writer.
constexpr unsigned kEventFlags = O_RDONLY | O_CLOEXEC | O_LARGEFILE | O_NONBLOCK | O_NOATIME;

}  // namespace

FanotifyGroup::FanotifyGroup(const char* name, unsigned flags, unsigned event_flags)
    : name_(name), fd_(fanotify_init(flags, event_flags)) {
  if (!fd_) throw Error::system(errno, "fanotify_init", name);
}

int FanotifyGroup::try_mark(unsigned flags, std::uint64_t mask, int at) const {
  // An O_PATH descriptor is not accepted as the object itself, but through its
  // link in /proc it is (and nothing is looked up by name, so nothing races).
  char link[32];
  snprintf(link, sizeof(link), "/proc/self/fd/%d", at);
  return fanotify_mark(fd_.get(), flags, mask, AT_FDCWD, link) == 0 ? 0 : errno;
}

void FanotifyGroup::mark(unsigned flags, std::uint64_t mask, int at, const std::string& target) const {
  const int number = try_mark(flags, mask, at);
  if (number != 0) throw Error::system(number, std::string("fanotify_mark (") + name_ + ")", target);
}

void FanotifyGroup::flush_inode_marks() const { fanotify_mark(fd_.get(), FAN_MARK_FLUSH, 0, AT_FDCWD, nullptr); }

std::size_t FanotifyGroup::read(std::span<char> into, bool& unreadable) const {
  unreadable = false;
  for (;;) {
    const ssize_t got = ::read(fd_.get(), into.data(), into.size());
    if (got >= 0) return static_cast<std::size_t>(got);
    if (errno == EINTR) continue;
    unreadable = errno != EAGAIN;
    return 0;
  }
}

void FanotifyGroup::respond(int event_fd, bool allow, bool audit) const {
  const fanotify_response response{
      .fd = event_fd, .response = (allow ? FAN_ALLOW : FAN_DENY) | (audit ? static_cast<unsigned>(FAN_AUDIT) : 0u)};
  while (::write(fd_.get(), &response, sizeof(response)) < 0 && errno == EINTR) {
  }
}

// `identity` is of the class that the kernel asks first. Within a class it asks
// in the order of the groups' addresses (fsnotify_compare_groups()), and after
// one has denied, it asks no other: the account, which `identity` keeps of what
// both are asked about, would depend on chance.
Groups::Groups(bool audit)
    : gate("gate", kCommon | FAN_CLASS_CONTENT | (audit ? FAN_ENABLE_AUDIT : 0), kEventFlags),
      identity("identity", kCommon | FAN_CLASS_PRE_CONTENT | (audit ? FAN_ENABLE_AUDIT : 0), kEventFlags),
      observer("observer", kCommon | FAN_CLASS_NOTIF | FAN_REPORT_PIDFD, kEventFlags),
      moves("moves", kCommon | FAN_CLASS_NOTIF | FAN_REPORT_FID, 0),
      names("names", kCommon | FAN_CLASS_NOTIF | FAN_REPORT_DFID_NAME, 0),
      trees("trees", (kCommon & ~FAN_UNLIMITED_QUEUE) | FAN_CLASS_NOTIF | FAN_REPORT_DFID_NAME, 0) {}

}  // namespace janus
