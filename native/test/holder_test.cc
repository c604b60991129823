// Holding: real programs, a real keeper, and real processes of a container that is
// in the map of processes and nowhere else.
//
// Here processes are stopped (the tier `scheduler`), since that is what differs from
// process to process; opens that wait are held where the kernel has that
// (test/kernel/hold.test.ts, `make kernels`).
#include "hold/holder.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <fstream>
#include <optional>
#include <string>
#include <vector>

#include "ebpf/probe.h"
#include "os/error.h"
#include "tap.h"

using namespace janus;
using namespace std::chrono_literals;

namespace {

constexpr std::uint64_t kContainer = 77;
constexpr int kPatienceMs = 20'000;
// Nobody is to be held for so long while this machine is busy.
constexpr auto kLong = 15s;

char state_of(pid_t pid) {
  std::ifstream status("/proc/" + std::to_string(pid) + "/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with("State:")) return line[7];
  return 'X';
}

bool becomes(pid_t pid, char state) {
  for (int ms = 0; ms < kPatienceMs; ++ms, usleep(1000))
    if (state_of(pid) == state) return true;
  return false;
}

// A process of the container. Asked to, it forks one into a mount namespace of its own, which does nothing.
class Member {
 public:
  explicit Member(BpfPrograms& programs) : programs_(programs) {
    if (pipe2(orders_.data(), O_CLOEXEC) != 0 || pipe2(answers_.data(), O_CLOEXEC) != 0) return;
    pid_ = fork();
    if (pid_ == 0) live();
    janus_task task{};
    task.container = kContainer;
    programs.each_task([&](const janus_iter_record& record, const auto&...) {
      if (record.tgid == static_cast<std::uint32_t>(pid_)) task.start_ns = record.start_ns;
    });
    CHECK(task.start_ns != 0 && programs.add_task(static_cast<std::uint32_t>(pid_), task));
  }
  ~Member() {
    for (const pid_t child : children_) kill(child, SIGKILL);
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
    programs_.remove_tasks_of(kContainer);
    for (const int fd : {orders_[0], orders_[1], answers_[0], answers_[1]}) close(fd);
  }
  Member(const Member&) = delete;
  Member& operator=(const Member&) = delete;

  pid_t forks() {
    pid_t child = 0;
    if (write(orders_[1], "f", 1) != 1 || read(answers_[0], &child, sizeof(child)) != sizeof(child)) return -1;
    children_.push_back(child);
    return child;
  }

 private:
  [[noreturn]] void live() const {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (char order = 0; read(orders_[0], &order, 1) == 1;) {
      const auto child = static_cast<pid_t>(syscall(SYS_clone, CLONE_NEWNS | SIGCHLD, nullptr, nullptr, nullptr, nullptr));
      if (child == 0)
        for (;;) pause();
      if (write(answers_[1], &child, sizeof(child)) != sizeof(child)) _exit(1);
    }
    _exit(0);
  }

  BpfPrograms& programs_;
  std::array<int, 2> orders_{}, answers_{};
  pid_t pid_ = 0;
  std::vector<pid_t> children_;
};

// A holder as the daemon has it, with its keeper, which answers.
struct Bench {
  explicit Bench(std::chrono::milliseconds limit) {
    holder.emplace(programs, HoldMode::scheduler, limit);
    keeper.start(holder->kept());
    holder->watch({{kContainer, JANUS_WATCH_NAMESPACES}});
    holder->answering();
  }
  // Of those that were told of until now, whose container is ours.
  std::vector<janus_hold> serve() {
    pollfd told{holder->fd(), POLLIN, 0};
    poll(&told, 1, kPatienceMs);
    std::vector<janus_hold> holds;
    holder->serve([&](const Holder::Held& held) {
      if (held.container == kContainer) holds.insert(holds.end(), held.holds.begin(), held.holds.end());
    });
    return holds;
  }

  BpfPrograms programs;
  std::optional<Holder> holder;
  KeeperProcess keeper{{}};
};

bool waits(const std::vector<janus_hold>& holds, pid_t pid) {
  return holds.size() == 1 && holds[0].tgid == static_cast<std::uint32_t>(pid) && holds[0].held.cause == JANUS_HOLD_NAMESPACE &&
         holds[0].held.since_ns != 0;
}

void off_is_nothing() {
  BpfPrograms programs;
  Holder none(programs, HoldMode::off, 1s);
  CHECK(none.tier() == std::string("off") && none.fd() == -1 && none.maps().empty() && none.attached().empty());
  none.watch({{kContainer, JANUS_WATCH_NAMESPACES}});
  none.know(1);
  none.answering();
  CHECK(!none.holds(1) && none.counter(JANUS_HOLD_COUNT_HELD) == 0 && none.kept().become == -1);
}

void in_a_new_namespace_it_stands_still_until_it_was_looked_at() {
  Bench bench(kLong);
  CHECK(bench.holder->tier() == std::string("scheduler") && !bench.holder->holds_opens());
  Member member(bench.programs);
  const pid_t child = member.forks();
  CHECK(becomes(child, 'T') && bench.holder->holds(static_cast<std::uint32_t>(child)));
  const auto holds = bench.serve();
  CHECK(waits(holds, child));
  CHECK(becomes(child, 'S') && !bench.holder->holds(static_cast<std::uint32_t>(child)));
  CHECK(bench.holder->counter(JANUS_HOLD_COUNT_HELD) == 1 && bench.holder->counter(JANUS_HOLD_COUNT_EXPIRED) == 0);
}

void whoever_is_not_watched_goes_on() {
  Bench bench(kLong);
  Member member(bench.programs);
  bench.holder->watch({});
  const pid_t free = member.forks();
  bench.holder->watch({{kContainer, JANUS_WATCH_NAMESPACES}});
  const pid_t held = member.forks();
  CHECK(becomes(held, 'T'));
  CHECK(becomes(free, 'S'));
  CHECK(waits(bench.serve(), held));
  CHECK(becomes(held, 'S'));
}

// Nobody serves: the keeper lets it go, and nobody else is held until the daemon answers again.
void nobody_is_held_for_longer_than_the_limit() {
  Bench bench(200ms);
  Member member(bench.programs);
  bench.holder->answering();
  const pid_t late = member.forks();
  CHECK(becomes(late, 'S'));
  for (int ms = 0; ms < kPatienceMs && bench.holder->counter(JANUS_HOLD_COUNT_EXPIRED) == 0; ++ms) usleep(1000);
  CHECK(bench.holder->counter(JANUS_HOLD_COUNT_EXPIRED) == 1);
  const pid_t next = member.forks();
  CHECK(bench.holder->counter(JANUS_HOLD_COUNT_SKIPPED) == 1 && bench.holder->counter(JANUS_HOLD_COUNT_HELD) == 1);
  CHECK(becomes(next, 'S'));
  bench.serve();
  bench.holder->answering();
  member.forks();
  CHECK(bench.holder->counter(JANUS_HOLD_COUNT_HELD) == 2);
}

// At its end: the daemon's, and the keeper's, after which nobody is stopped at all.
void its_end_lets_everybody_go() {
  Bench bench(kLong);
  Member member(bench.programs);
  const pid_t child = member.forks();
  CHECK(becomes(child, 'T'));
  bench.holder.reset();
  CHECK(becomes(child, 'S'));
}

void the_keepers_end_lets_everybody_go() {
  Bench bench(kLong);
  Member member(bench.programs);
  const pid_t child = member.forks();
  CHECK(becomes(child, 'T'));
  syscall(SYS_pidfd_send_signal, bench.keeper.fd(), SIGKILL, nullptr, 0);
  CHECK(becomes(child, 'S'));
  const std::uint64_t held = bench.holder->counter(JANUS_HOLD_COUNT_HELD);
  const pid_t next = member.forks();
  CHECK(becomes(next, 'S') && bench.holder->counter(JANUS_HOLD_COUNT_HELD) == held);
}

// What one container has waiting is bounded, and the daemon hears that there was more.
void a_container_has_its_share() {
  Bench bench(kLong);
  Member member(bench.programs);
  std::vector<pid_t> all;
  for (int i = 0; i < JANUS_HOLD_SHARE + 3; ++i) all.push_back(member.forks());
  CHECK(becomes(all.front(), 'T'));
  std::uint64_t left_out = 0;
  std::size_t told = 0;
  bench.holder->serve([&](const Holder::Held& held) {
    told += held.holds.size();
    left_out += held.left_out;
  });
  CHECK(told == JANUS_HOLD_SHARE && left_out == 3);
  bool go_on = true;
  for (const pid_t each : all) go_on = becomes(each, 'S') && go_on;
  CHECK(go_on);
  const pid_t next = member.forks();
  CHECK(waits(bench.serve(), next));
}

}  // namespace

int main() {
  off_is_nothing();
  if (!probe_kernel().send_signal_task.works()) {
    std::printf("# the rest: skipped, needs Linux 6.13 (bpf_send_signal_task)\n");
    return tap::done();
  }
  in_a_new_namespace_it_stands_still_until_it_was_looked_at();
  whoever_is_not_watched_goes_on();
  nobody_is_held_for_longer_than_the_limit();
  its_end_lets_everybody_go();
  the_keepers_end_lets_everybody_go();
  a_container_has_its_share();
  return tap::done();
}
