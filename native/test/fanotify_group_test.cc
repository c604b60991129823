// A permission group's descriptor is above those of all other groups, also where
// few descriptors are left.
#include "os/fanotify_group.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <vector>

#include "os/unique_fd.h"
#include "tap.h"

using namespace janus;

int main() {
  const Groups groups(false);
  CHECK(groups.gate.fd() > groups.highest_notification());
  CHECK(groups.identity.fd() > groups.gate.fd());
  CHECK(groups.highest_notification() >= groups.names_inotify.get());

  // Few are to be had, and more than half of them are in use.
  constexpr rlim_t kLimit = 64;
  const rlimit few{.rlim_cur = kLimit, .rlim_max = kLimit};
  setrlimit(RLIMIT_NOFILE, &few);
  std::vector<UniqueFd> used;
  while (used.empty() || used.back().get() < static_cast<int>(kLimit) - 16)
    used.emplace_back(open("/dev/null", O_RDONLY | O_CLOEXEC));
  const FanotifyGroup seen("seen", FAN_CLASS_NOTIF | FAN_CLOEXEC, O_RDONLY);
  used[used.size() - 8].reset();  // one that is lower is free meanwhile
  const FanotifyGroup asked("asked", FAN_CLASS_CONTENT | FAN_CLOEXEC, O_RDONLY, seen.fd());
  CHECK(asked.fd() > seen.fd());
  return tap::done();
}
