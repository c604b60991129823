#include "os/last_resort.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdint>

#include "os/clock.h"
#include "os/say.h"
#include "os/unique_fd.h"

namespace janus {
namespace {

constexpr std::uint64_t kNever = UINT64_MAX;

// What letting go may take: it would need a reader that a file system holds.
// Then SIGALRM ends the process without a word.
constexpr unsigned kLetGoSeconds = 1;

constexpr std::array kEndSignals = {SIGTERM, SIGINT};

// Signal handlers have no argument of ours.
std::atomic<std::uint64_t> signal_due_ns{kNever};  // since a signal
std::atomic<std::uint64_t> call_due_ns{kNever};    // since within()
std::atomic<std::uint64_t> signal_limit_ns{0};
std::array<struct sigaction, kEndSignals.size()> before{};

// Never closed: a handler may be about to write to it.
int changed() {
  static const int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  return fd;
}

void ask_within(std::atomic<std::uint64_t>& due, std::uint64_t limit_ns) {
  const std::uint64_t wanted = monotonic_ns() + limit_ns;
  std::uint64_t has = due.load();
  while (wanted < has && !due.compare_exchange_weak(has, wanted)) {
  }
  eventfd_write(changed(), 1);
}

// Only what is safe in a signal handler (signal-safety(7)).
void on_end_signal(int signal, siginfo_t* info, void* context) {
  const int number = errno;
  ask_within(signal_due_ns, signal_limit_ns.load());
  const struct sigaction& next = before[signal == kEndSignals[0] ? 0 : 1];
  if ((next.sa_flags & SA_SIGINFO) != 0) next.sa_sigaction(signal, info, context);
  else next.sa_handler(signal);
  errno = number;
}

// Once: Node replaces it after the first signal, when it has served its purpose.
void listen() {
  sigset_t blocked;
  sigemptyset(&blocked);
  for (std::size_t i = 0; i < kEndSignals.size(); ++i) {
    sigaction(kEndSignals[i], nullptr, &before[i]);
    const bool simple = (before[i].sa_flags & SA_SIGINFO) == 0;
    if (simple && (before[i].sa_handler == SIG_DFL || before[i].sa_handler == SIG_IGN)) continue;
    struct sigaction ours = before[i];
    ours.sa_flags |= SA_SIGINFO;
    ours.sa_sigaction = on_end_signal;
    sigaction(kEndSignals[i], &ours, nullptr);
    sigaddset(&blocked, kEndSignals[i]);
  }
  pthread_sigmask(SIG_BLOCK, &blocked, nullptr);
}

}  // namespace

LastResort::LastResort(std::chrono::milliseconds limit) {
  signal_limit_ns.store(static_cast<std::uint64_t>(std::chrono::nanoseconds(limit).count()));
  thread_ = std::thread([this] { watch(); });
  static const bool listening = (listen(), true);
  static_cast<void>(listening);
}

LastResort::~LastResort() {
  over_.store(true);
  eventfd_write(changed(), 1);
  thread_.join();
}

void LastResort::on_end(std::function<void()> let_go) {
  const std::lock_guard lock(mutex_);
  let_go_ = std::move(let_go);
}

void LastResort::within(std::chrono::milliseconds limit) {
  ask_within(call_due_ns, static_cast<std::uint64_t>(std::chrono::nanoseconds(limit).count()));
}

void LastResort::done() { call_due_ns.store(kNever); }

void LastResort::watch() {
  pthread_setname_np(pthread_self(), "last resort");
  sigset_t taken;
  sigemptyset(&taken);
  for (const int signal : kEndSignals) sigaddset(&taken, signal);
  pthread_sigmask(SIG_UNBLOCK, &taken, nullptr);
  while (!over_.load()) {
    const std::uint64_t due = std::min(signal_due_ns.load(), call_due_ns.load()), now = monotonic_ns();
    if (due > now) {
      pollfd fd{changed(), POLLIN, 0};
      heartbeat_.beat();
      poll(&fd, 1, static_cast<int>(std::min<std::uint64_t>((due - now) / 1'000'000 + 1, kBeatMs)));
      eventfd_t ignored = 0;
      eventfd_read(changed(), &ignored);
      continue;
    }
    say("janusd: it did not end in time: ending at once\n");
    alarm(kLetGoSeconds);
    {
      const std::lock_guard lock(mutex_);
      if (let_go_) let_go_();
    }
    _exit(1);
  }
}

}  // namespace janus
