#include "hold/keeper_process.h"

#include <dlfcn.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <vector>

#include "os/error.h"

namespace janus {
namespace {

constexpr int kEndMs = 1000;

// The keeper is installed beside the addon.
std::string keeper_path() {
  Dl_info addon{};
  dladdr(reinterpret_cast<const void*>(&keeper_path), &addon);
  std::string path(addon.dli_fname);
  return path.substr(0, path.rfind('/') + 1) + "janusd-keeper";
}

}  // namespace

KeeperProcess::~KeeperProcess() {
  life_.reset();
  if (!process_) return;
  pollfd end{process_.get(), POLLIN, 0};
  // One that is stopped would be waited for. At its end the kernel lets all go.
  if (poll(&end, 1, kEndMs) == 0) syscall(SYS_pidfd_send_signal, process_.get(), SIGKILL, nullptr, 0);
  waitid(P_PIDFD, static_cast<id_t>(process_.get()), nullptr, WEXITED);
}

void KeeperProcess::start(const KeptHolding& holding) {
  process_.reset();
  if (holding.become < 0 && options_.stall_limit.count() == 0) return;
  std::array<int, 2> ends{};
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0) throw Error::system(errno, "socketpair", "of the keeper");
  UniqueFd ours(ends[0]), theirs(ends[1]);
  const UniqueFd daemon(static_cast<int>(syscall(SYS_pidfd_open, getpid(), 0)));
  if (!daemon) throw Error::system(errno, "pidfd_open", "of the keeper");
  const std::string path = keeper_path();
  std::array<int, kKeeperDescriptors> descriptors{};
  descriptors[kKeeperLife] = theirs.get();
  descriptors[kKeeperDaemon] = daemon.get();
  descriptors[kKeeperBeat] = beat_.fd();
  descriptors[kKeeperBecome] = holding.become;
  descriptors[kKeeperHeld] = holding.held;
  descriptors[kKeeperRing] = holding.ring;
  descriptors[kKeeperCounters] = holding.counters;
  descriptors[kKeeperExpired] = holding.expired;

  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  std::vector<std::string> arguments = {path};
  posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, STDERR_FILENO);  // Node lets nobody inherit it
  for (int which = kKeeperLife; which < kKeeperDescriptors; ++which) {
    const int fd = descriptors[static_cast<std::size_t>(which)];
    arguments.push_back(std::to_string(fd));
    // To itself: this clears close-on-exec, in the child only.
    if (fd >= 0) posix_spawn_file_actions_adddup2(&actions, fd, fd);
  }
  arguments.push_back(std::to_string(options_.stall_limit.count()));
  arguments.push_back(options_.stall_file);
  arguments.push_back(options_.cgroup);
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);

  // In a session of its own: a terminal's ^C is for the daemon.
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t none;
  sigemptyset(&none);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK);
  std::array<char*, 1> no_environment{};
  pid_t pid = 0;
  const int failed = posix_spawn(&pid, path.c_str(), &actions, &attributes, argv.data(), no_environment.data());
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  if (failed != 0) throw Error::system(failed, "posix_spawn", path);

  process_.reset(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  life_ = std::move(ours);
  theirs.reset();
  char ready = 0;
  if (read(life_.get(), &ready, 1) != 1) {  // it has ended
    waitid(P_PIDFD, static_cast<id_t>(process_.get()), nullptr, WEXITED);
    process_.reset();
    throw Error(ErrorCode::system, path + " does not start");
  }
}

bool KeeperProcess::keep_running(const KeptHolding& holding) {
  siginfo_t ended{};
  if (process_) waitid(P_PIDFD, static_cast<id_t>(process_.get()), &ended, WEXITED | WNOHANG);
  if (process_ && ended.si_pid == 0) return true;
  try {
    start(holding);
    return true;
  } catch (const Error&) {
    return false;  // no process or memory to be had
  }
}

}  // namespace janus
