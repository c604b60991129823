// janusd-keeper: lets held processes go that nobody else lets go.
//
// Owns: a pidfd of each process that was held lately. A process of its own, so
// that nothing that happens to the daemon can keep it from this. It ends with
// the daemon, and continues everybody then. Signals that end a service are not
// for it: its daemon tells it. Holding is off after somebody was held too long,
// until the daemon answers again.
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <deque>

#include "os/clock.h"
#include "hold/held.h"
#include "hold/keeper.h"
#include "os/unique_fd.h"

namespace {

using janus::UniqueFd;

struct Kept {
  std::uint32_t tgid;
  janus_held held;
  UniqueFd process;
};

int on_hold(void* context, void* data, std::size_t) {
  const auto& hold = *static_cast<const janus_hold*>(data);
  if (hold.held.since_ns == 0) return 0;
  // It stands still, so that the number is still its own.
  UniqueFd process(static_cast<int>(syscall(SYS_pidfd_open, hold.tgid, 0)));
  if (process) static_cast<std::deque<Kept>*>(context)->push_back({hold.tgid, hold.held, std::move(process)});
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != janus::kKeeperArguments) return 2;
  const auto argument = [&](janus::KeeperArgument which) { return std::atoi(argv[which]); };
  signal(SIGTERM, SIG_IGN);
  signal(SIGINT, SIG_IGN);
  signal(SIGHUP, SIG_IGN);

  const int life = argument(janus::kKeeperLife);
  const int held_map = argument(janus::kKeeperHeld);
  const std::uint64_t limit_ns = static_cast<std::uint64_t>(argument(janus::kKeeperLimit)) * 1'000'000;
  std::deque<Kept> kept;  // the oldest first
  ring_buffer* ring = ring_buffer__new(argument(janus::kKeeperRing), on_hold, &kept, nullptr);
  LIBBPF_OPTS(bpf_test_run_opts, run);
  if (ring == nullptr || bpf_prog_test_run_opts(argument(janus::kKeeperBecome), &run) != 0 || run.retval != 0) return 1;
  const janus::HoldSwitch holding(argument(janus::kKeeperGuardians));
  if (write(life, "", 1) != 1) return 1;

  for (;;) {
    int wait_ms = -1;
    if (!kept.empty()) {
      const std::uint64_t due = kept.front().held.since_ns + limit_ns, now = janus::monotonic_ns();
      wait_ms = due > now ? static_cast<int>((due - now) / 1'000'000 + 1) : 0;
    }
    std::array<pollfd, 2> fds = {{{life, POLLIN, 0}, {ring_buffer__epoll_fd(ring), POLLIN, 0}}};
    poll(fds.data(), fds.size(), wait_ms);
    ring_buffer__consume(ring);
    if (fds[0].revents != 0) break;
    while (!kept.empty() && kept.front().held.since_ns + limit_ns <= janus::monotonic_ns()) {
      const Kept& late = kept.front();
      if (janus::strike(held_map, late.tgid, late.held)) {
        holding.set(false);  // an open is tried again, and would be held again
        janus::continue_process(late.process.get(), late.tgid);
        const std::uint32_t which = JANUS_HOLD_COUNT_EXPIRED;
        std::uint64_t value = 0;
        bpf_map_lookup_elem(argument(janus::kKeeperCounters), &which, &value);
        ++value;
        bpf_map_update_elem(argument(janus::kKeeperCounters), &which, &value, BPF_ANY);
      }
      kept.pop_front();
    }
  }
  for (const Kept& each : kept) janus::continue_process(each.process.get(), each.tgid);
  janus::continue_all(held_map);
  ring_buffer__free(ring);
  return 0;
}
