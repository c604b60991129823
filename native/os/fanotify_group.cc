#include "os/fanotify_group.h"

#include <fcntl.h>
#include <sys/inotify.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "os/close_apart.h"
#include "os/error.h"

namespace janus {
namespace {

constexpr unsigned kBounded = FAN_CLOEXEC | FAN_NONBLOCK | FAN_UNLIMITED_MARKS;
// A question that found no room would be allowed; a lost notification could not be counted.
constexpr unsigned kUnbounded = kBounded | FAN_UNLIMITED_QUEUE;
// O_NONBLOCK: the kernel opens the object for us, and a FIFO would wait for a writer.
constexpr unsigned kEventFlags = O_RDONLY | O_CLOEXEC | O_LARGEFILE | O_NONBLOCK | O_NOATIME;

// Where permission groups have their descriptors: far from those that come and
// go. Not higher than needed: the kernel's table of descriptors grows to the
// highest.
constexpr rlim_t kPermissionDescriptors = 4096;

UniqueFd permission_descriptor(UniqueFd group, int above) {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  const auto lowest = std::max(static_cast<int>(std::min(kPermissionDescriptors, limit.rlim_cur / 2)), above + 1);
  UniqueFd moved(fcntl(group.get(), F_DUPFD_CLOEXEC, lowest));
  if (!moved) throw Error::system(errno, "fcntl", "F_DUPFD_CLOEXEC");
  return moved;
}

}  // namespace

FanotifyGroup::FanotifyGroup(const char* name, unsigned flags, unsigned event_flags, int above)
    : name_(name), fd_(fanotify_init(flags, event_flags)) {
  if (!fd_) throw Error::system(errno, "fanotify_init", name);
  if ((flags & (FAN_CLASS_CONTENT | FAN_CLASS_PRE_CONTENT)) != 0) fd_ = permission_descriptor(std::move(fd_), above);
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

void FanotifyGroup::forget_all() const {
  for (const unsigned kind : {FAN_MARK_INODE, FAN_MARK_MOUNT, FAN_MARK_FILESYSTEM})
    fanotify_mark(fd_.get(), FAN_MARK_FLUSH | kind, 0, AT_FDCWD, nullptr);
}

void FanotifyGroup::release() const {
  forget_all();
  const int fd = fd_.get();
  close_apart({&fd, 1});
}

// `identity` is of the class that the kernel asks first. Within a class it asks
// in the order of the groups' addresses (fsnotify_compare_groups()), and after
// one has denied, it asks no other: the account, which `identity` keeps of what
// both are asked about, would depend on chance.
Groups::Groups(bool audit)
    : observer("observer", kBounded | FAN_CLASS_NOTIF | FAN_REPORT_PIDFD, kEventFlags),
      moves("moves", kBounded | FAN_CLASS_NOTIF | FAN_REPORT_FID, 0),
      names("names", kBounded | FAN_CLASS_NOTIF | FAN_REPORT_DFID_NAME, 0),
      names_inotify(inotify_init1(IN_NONBLOCK | IN_CLOEXEC)),
      trees("trees", kBounded | FAN_CLASS_NOTIF | FAN_REPORT_DFID_NAME, 0),
      dirents("dirents", kUnbounded | FAN_CLASS_NOTIF | FAN_REPORT_DFID_NAME_TARGET, 0),
      gate("gate", kUnbounded | FAN_CLASS_CONTENT | (audit ? FAN_ENABLE_AUDIT : 0), kEventFlags,
           highest_notification()),
      identity("identity", kUnbounded | FAN_CLASS_PRE_CONTENT | (audit ? FAN_ENABLE_AUDIT : 0), kEventFlags,
               highest_notification()) {}

int Groups::highest_notification() const {
  return std::max({observer.fd(), moves.fd(), names.fd(), names_inotify.get(), trees.fd(), dirents.fd()});
}

// First nobody is asked any more, whatever the releases wait for.
void Groups::release_permission() const {
  identity.forget_all();
  gate.forget_all();
  identity.release();
  gate.release();
}

Groups::~Groups() {
  release_permission();
  std::array fds = {observer.fd(), moves.fd(), names.fd(), names_inotify.get(), trees.fd(), dirents.fd()};
  for (const FanotifyGroup* group : {&observer, &moves, &names, &trees, &dirents}) group->forget_all();
  std::ranges::sort(fds);
  close_apart(fds);
}

}  // namespace janus
