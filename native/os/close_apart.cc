#include "os/close_apart.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <vector>

#include "os/unique_fd.h"

namespace janus {
namespace {

// How long a release may take that nobody else holds up.
constexpr int kReleaseMs = 200;

// Of those below, syscall(2) itself: a sanitizer's own close() or read() takes locks that a
// thread of the parent may have had at the fork.
void close_between(unsigned low, unsigned high) {
  if (low <= high) syscall(SYS_close_range, low, high, 0);
}

// In the child: only system calls. It ends when the parent has no descriptor any more of
// those that it keeps, so that its own are the last. The kernel frees its memory before it
// releases them. `kept`: in ascending order, `parent` among them.
[[noreturn]] void outlive(std::span<const int> kept, int parent) {
  syscall(SYS_prctl, PR_SET_NAME, "janusd-end");
  unsigned next = 0;
  for (const int fd : kept) {
    const auto own = static_cast<unsigned>(fd);
    if (own > 0) close_between(next, own - 1);
    next = own + 1;
  }
  close_between(next, ~0u);
  char byte = 0;
  while (syscall(SYS_read, parent, &byte, 1) > 0) {
  }
  syscall(SYS_exit_group, 0);
  __builtin_unreachable();
}

}  // namespace

void close_apart(std::span<const int> fds) {
  std::array<int, 2> ends = {-1, -1};
  // Without a child they are closed here.
  const bool piped = pipe2(ends.data(), O_CLOEXEC) == 0;
  const UniqueFd reader(ends[0]);
  UniqueFd writer(ends[1]);
  pid_t child = -1;
  if (piped) {
    std::vector<int> kept(fds.begin(), fds.end());
    kept.insert(std::ranges::upper_bound(kept, reader.get()), reader.get());
    // A handler of ours is not to run in the child.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    child = _Fork();
    if (child == 0) outlive(kept, reader.get());
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }
  const UniqueFd nothing(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  for (const int fd : fds) dup3(nothing.get(), fd, O_CLOEXEC);
  writer.reset();
  if (child < 0) return;
  const UniqueFd process(static_cast<int>(syscall(SYS_pidfd_open, child, 0)));
  pollfd ended{process.get(), POLLIN, 0};
  poll(&ended, 1, kReleaseMs);
  waitpid(child, nullptr, WNOHANG);
}

}  // namespace janus
