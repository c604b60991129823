// A process that is held stays what it was, also when its number is used again.
#include "os/process_dir.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <thread>

#include "os/error.h"
#include "tap.h"

using namespace janus;

namespace {

// A child that waits; of this number, if one is given.
pid_t child(pid_t number = 0) {
  clone_args args{};
  args.exit_signal = SIGCHLD;
  if (number != 0) {
    args.set_tid = reinterpret_cast<std::uint64_t>(&number);
    args.set_tid_size = 1;
  }
  const auto pid = static_cast<pid_t>(syscall(SYS_clone3, &args, sizeof(args)));
  if (pid != 0) return pid;
  for (;;) pause();
}

void end(pid_t pid) {
  kill(pid, SIGKILL);
  waitpid(pid, nullptr, 0);
}

template <typename Body>
bool not_found(Body body) {
  try {
    body();
  } catch (const Error& error) {
    return error.code == ErrorCode::not_found;
  }
  return false;
}

}  // namespace

int main() {
  const ProcessDir self(static_cast<std::uint32_t>(getpid()));
  CHECK(self.alive() && self.tgid() == static_cast<std::uint32_t>(getpid()) && self.same_mount_namespace(self));
  CHECK(not_found([] { ProcessDir(1u << 30); }));

  const pid_t pid = child();
  const ProcessDir held(static_cast<std::uint32_t>(pid));
  CHECK(held.alive() && held.root() && held.same_mount_namespace(self));
  kill(pid, SIGKILL);
  siginfo_t info;
  waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOWAIT);
  CHECK(held.alive());  // not reaped yet: the number is still its own
  CHECK(not_found([&] { held.root(); }));
  CHECK(not_found([&] { held.open("mountinfo", O_RDONLY); }));
  waitpid(pid, nullptr, 0);
  CHECK(!held.alive() && held.tgid() == 0);

  if (child(pid) == pid) {  // needs CAP_CHECKPOINT_RESTORE
    const ProcessDir other(static_cast<std::uint32_t>(pid));
    CHECK(other.alive() && other.root());
    CHECK(!held.alive() && held.tgid() == 0 && !held.same_mount_namespace(other));
    CHECK(not_found([&] { held.root(); }));
    end(pid);
  } else {
    tap::check(true, "the number is another's # SKIP needs CAP_CHECKPOINT_RESTORE", __FILE__, __LINE__);
  }

  std::thread([&] {
    const ProcessDir thread(static_cast<std::uint32_t>(gettid()));
    CHECK(thread.tgid() == static_cast<std::uint32_t>(getpid()));
  }).join();
  return tap::done();
}
