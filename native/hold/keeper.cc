// janusd-keeper: sees to it that nobody waits for a daemon that stands still.
//
// Owns: a pidfd of the daemon, and of each process that was held lately. A process
// of its own, so that nothing that happens to the daemon can keep it from this. It
// has none of the daemon's other descriptors: a fanotify group would live on in it.
// - Where opens are answered by nobody for longer than the stall limit, it kills
//   the daemon, and the kernel lets all go. Not by this process's clock alone: see
//   hold/stall.h.
// - It lets stopped processes go that nobody else lets go. Nobody of that container is
//   held again until the daemon answers.
// It ends with the daemon, and continues everybody then. Signals that end a
// service are not for it: its daemon tells it.
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "hold/held.h"
#include "hold/keeper.h"
#include "hold/stall.h"
#include "os/clock.h"
#include "os/say.h"
#include "os/shared_beat.h"
#include "os/unique_fd.h"

namespace {

using janus::UniqueFd;

constexpr std::uint64_t kMs = 1'000'000;

// ---- stopped processes ---------------------------------------------------------

struct Kept {
  using All = std::multimap<std::uint64_t, Kept>;  // by when it goes on at the latest

  std::uint32_t tgid;
  janus_held held;
  UniqueFd process;
};

int on_hold(void* context, void* data, std::size_t) {
  const auto& hold = *static_cast<const janus_hold*>(data);
  if (hold.held.since_ns == 0) return 0;
  // It stands still, so that the number is still its own.
  UniqueFd process(static_cast<int>(syscall(SYS_pidfd_open, hold.tgid, 0)));
  if (process) static_cast<Kept::All*>(context)->emplace(hold.held.since_ns + hold.held.limit_ns, Kept{hold.tgid, hold.held, std::move(process)});
  return 0;
}

class Stopped {
 public:
  Stopped(int held_map, int ring_map, int counters_map, int expired_map)
      : held_map_(held_map),
        counters_map_(counters_map),
        expired_map_(expired_map),
        ring_(ring_buffer__new(ring_map, on_hold, &kept_, nullptr)) {}
  ~Stopped() {
    // Arrivals that are not on the list are another daemon's by now.
    for (const auto& [due_ns, each] : kept_)
      if (each.held.cause != JANUS_HOLD_ARRIVAL) janus::continue_process(each.process.get(), each.tgid);
    janus::continue_all(held_map_);
    ring_buffer__free(ring_);
  }
  Stopped(const Stopped&) = delete;
  Stopped& operator=(const Stopped&) = delete;

  bool works() const { return ring_ != nullptr; }
  int fd() const { return ring_buffer__epoll_fd(ring_); }
  void listen() { ring_buffer__consume(ring_); }

  // Nanoseconds until somebody is due; UINT64_MAX: nobody is held.
  std::uint64_t due_in(std::uint64_t now_ns) const {
    if (kept_.empty()) return UINT64_MAX;
    const std::uint64_t due = kept_.begin()->first;
    return due > now_ns ? due - now_ns : 0;
  }

  void let_late_go() {
    for (; due_in(janus::monotonic_ns()) == 0; kept_.erase(kept_.begin())) {
      const Kept& late = kept_.begin()->second;
      const auto struck = janus::strike(held_map_, late.tgid, late.held);
      if (!struck) continue;
      const bool arrival = late.held.cause == JANUS_HOLD_ARRIVAL;  // which is held once
      const std::uint64_t now = janus::monotonic_ns();
      if (!arrival) bpf_map_update_elem(expired_map_, &late.held.container, &now, BPF_ANY);
      janus::end_hold(held_map_, late.process.get(), late.tgid, *struck);
      const std::uint32_t which = arrival ? JANUS_HOLD_COUNT_UNKNOWN : JANUS_HOLD_COUNT_EXPIRED;
      std::uint64_t value = 0;
      bpf_map_lookup_elem(counters_map_, &which, &value);
      ++value;
      bpf_map_update_elem(counters_map_, &which, &value, BPF_ANY);
    }
  }

 private:
  const int held_map_, counters_map_, expired_map_;
  Kept::All kept_;
  ring_buffer* const ring_;
};

// ---- a daemon that stands still --------------------------------------------------

// For the next start (src/stall.ts). The daemon is gone: whatever this waits for,
// nobody waits for it.
void record(const char* file, std::uint64_t stood_ns) {
  if (*file == '\0') return;
  const UniqueFd fd(open(file, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!fd) return;
  dprintf(fd.get(), "{\"stoodMs\":%llu,\"endedMs\":%llu}\n", static_cast<unsigned long long>(stood_ns / kMs),
          static_cast<unsigned long long>(janus::clock_ns(CLOCK_REALTIME) / kMs));
}

// The kernel releases what the daemon held when the last of its threads is gone.
void end_daemon(int daemon, std::uint64_t stood_ns, const char* file) {
  syscall(SYS_pidfd_send_signal, daemon, SIGKILL, nullptr, 0);
  std::array<char, 128> line{};
  const int length = snprintf(line.data(), line.size(), "janusd-keeper: janusd has stood still for %.1f s: killed\n",
                              static_cast<double>(stood_ns) / 1e9);
  janus::say({line.data(), static_cast<std::size_t>(length)});
  record(file, stood_ns);
}

// Runs though the machine is short of memory and processors, if it may.
void be_ready() {
  mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT);
  const sched_param urgent{.sched_priority = 1};
  sched_setscheduler(0, SCHED_FIFO, &urgent);
}

bool move_to(const std::string& cgroup) {
  const UniqueFd processes(open((cgroup + "/cgroup.procs").c_str(), O_WRONLY | O_CLOEXEC));
  return processes && write(processes.get(), "0", 1) == 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != janus::kKeeperArguments) return 2;
  const auto argument = [&](janus::KeeperArgument which) { return std::atoi(argv[which]); };
  const auto nanoseconds = [&](janus::KeeperArgument which) { return static_cast<std::uint64_t>(argument(which)) * kMs; };
  for (const int each : {SIGTERM, SIGINT, SIGHUP, SIGPIPE}) signal(each, SIG_IGN);

  const std::string cgroup = argv[janus::kKeeperCgroup];
  if (!cgroup.empty() && !move_to(cgroup)) {
    perror(("janusd-keeper: --keeper-cgroup " + cgroup).c_str());
    return 1;
  }
  const int life = argument(janus::kKeeperLife), daemon = argument(janus::kKeeperDaemon);
  const janus::SharedBeat::Word* beat = janus::SharedBeat::map(argument(janus::kKeeperBeat));
  if (beat == nullptr) return 1;

  std::optional<Stopped> stopped;
  if (const int become = argument(janus::kKeeperBecome); become >= 0) {
    stopped.emplace(argument(janus::kKeeperHeld), argument(janus::kKeeperRing), argument(janus::kKeeperCounters),
                    argument(janus::kKeeperExpired));
    LIBBPF_OPTS(bpf_test_run_opts, run);
    if (!stopped->works() || bpf_prog_test_run_opts(become, &run) != 0 || run.retval != 0) return 1;
  }
  be_ready();
  if (write(life, "", 1) != 1) return 1;

  std::uint64_t limit_ns = nanoseconds(janus::kKeeperStallLimit);
  const std::uint64_t tick_ns = limit_ns / 20;
  janus::Stall stall(tick_ns);
  for (;;) {
    std::uint64_t wait_ns = limit_ns > 0 ? tick_ns : UINT64_MAX;
    if (stopped) wait_ns = std::min(wait_ns, stopped->due_in(janus::monotonic_ns()));
    std::array<pollfd, 2> fds = {{{life, POLLIN, 0}, {stopped ? stopped->fd() : -1, POLLIN, 0}}};
    poll(fds.data(), fds.size(), wait_ns == UINT64_MAX ? -1 : static_cast<int>(wait_ns / kMs + 1));
    if (stopped) stopped->listen();
    if (fds[0].revents != 0) return 0;
    if (stopped) stopped->let_late_go();
    const std::uint64_t at = beat->load(std::memory_order_relaxed);
    const std::uint64_t stood_ns = stall.look(at, janus::monotonic_ns(), at == janus::SharedBeat::kRests);
    if (limit_ns == 0 || stood_ns < limit_ns) continue;
    end_daemon(daemon, stood_ns, argv[janus::kKeeperStallFile]);
    limit_ns = 0;  // once is enough
  }
}
