// Letting go: real processes that are stopped, real eBPF maps.
#include "hold/held.h"

#include <bpf/bpf.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <fstream>
#include <string>

#include "os/clock.h"
#include "os/error.h"
#include "os/unique_fd.h"
#include "tap.h"

using namespace janus;

namespace {

// A child that is stopped. It ends with this object.
struct Stopped {
  Stopped() : pid(fork()) {
    if (pid == 0) {
      for (;;) pause();
    }
    process.reset(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
    stop();
  }
  ~Stopped() {
    kill(pid, SIGKILL);
    waitpid(pid, nullptr, 0);
  }
  Stopped(const Stopped&) = delete;
  Stopped& operator=(const Stopped&) = delete;

  void stop() const {
    kill(pid, SIGSTOP);
    int status = 0;
    while (waitpid(pid, &status, WUNTRACED) == pid && !WIFSTOPPED(status)) {
    }
  }
  bool stands() const {
    std::ifstream status("/proc/" + std::to_string(pid) + "/status");
    for (std::string line; std::getline(status, line);)
      if (line.starts_with("State:")) return line.find("(stopped)") != std::string::npos;
    return false;
  }
  std::uint32_t tgid() const { return static_cast<std::uint32_t>(pid); }

  pid_t pid;
  UniqueFd process;
};

UniqueFd held_map(std::uint32_t entries = 16) {
  return UniqueFd(bpf_map_create(BPF_MAP_TYPE_HASH, "held", sizeof(std::uint32_t), sizeof(janus_held), entries, nullptr));
}

void put(int map, std::uint32_t tgid, std::uint64_t since_ns) {
  janus_held held{};
  held.since_ns = since_ns;
  bpf_map_update_elem(map, &tgid, &held, BPF_ANY);
}

bool is_held(int map, std::uint32_t tgid) {
  janus_held held{};
  return bpf_map_lookup_elem(map, &tgid, &held) == 0;
}

void our_stop_is_ended() {
  const Stopped child;
  CHECK(child.stands());
  continue_process(child.process.get(), child.tgid());
  CHECK(!child.stands());
  continue_process(child.process.get(), child.tgid());  // one that runs goes on
  CHECK(!child.stands());
}

// Somebody stops it while it stands still: that stop is theirs to end.
void anothers_stop_is_kept() {
  const Stopped child;
  kill(child.pid, SIGSTOP);
  continue_process(child.process.get(), child.tgid());
  CHECK(child.stands());
  kill(child.pid, SIGCONT);
  CHECK(!child.stands());
}

void who_has_ended_is_nobody() {
  pid_t pid = 0;
  UniqueFd process;
  {
    Stopped child;
    pid = child.pid;
    process = std::move(child.process);
  }
  continue_process(process.get(), static_cast<std::uint32_t>(pid));
  CHECK(kill(pid, 0) != 0);
}

// A hold is struck once, and only that hold.
void each_hold_is_struck_once() {
  const UniqueFd map = held_map();
  CHECK(map);
  janus_held first{}, second{};
  first.since_ns = 1;
  second.since_ns = 2;
  CHECK(!strike(map.get(), 7, first));
  put(map.get(), 7, 2);
  CHECK(!strike(map.get(), 7, first));  // it was let go, and held again
  CHECK(is_held(map.get(), 7));
  CHECK(strike(map.get(), 7, second));
  CHECK(!is_held(map.get(), 7) && !strike(map.get(), 7, second));
}

// All, those that are gone included: nothing stays on the list.
void all_go_on() {
  const UniqueFd map = held_map();
  const Stopped one, two, not_on_the_list;
  put(map.get(), one.tgid(), 1);
  put(map.get(), two.tgid(), 2);
  put(map.get(), 4'194'304, 3);  // above pid_max: nobody's
  continue_all(map.get());
  CHECK(!one.stands() && !two.stands() && not_on_the_list.stands());
  for (const std::uint32_t tgid : {one.tgid(), two.tgid(), 4'194'304u}) CHECK(!is_held(map.get(), tgid));
  continue_all(map.get());  // of an empty list
}

void hold(int map, const Stopped& process, std::uint64_t start_ns, bool waits) {
  janus_held held{};
  held.since_ns = 1;
  held.start_ns = start_ns;
  held.waits = waits;
  held.cause = JANUS_HOLD_ARRIVAL;
  const std::uint32_t tgid = process.tgid();
  bpf_map_update_elem(map, &tgid, &held, BPF_ANY);
}

// Of two daemons that hold a process, the one that lets it go last continues it.
void the_last_of_two_continues() {
  const UniqueFd stopped = held_map(), joined = held_map();
  const Stopped one, two;
  for (const Stopped* each : {&one, &two}) {
    hold(stopped.get(), *each, 5, false);
    hold(joined.get(), *each, 5, true);
  }
  CHECK(continue_arrivals(stopped.get(), 0).listed == 2);
  CHECK(one.stands() && two.stands());
  const ContinuedArrivals continued = continue_arrivals(joined.get(), 0);
  CHECK(continued.listed == 2 && !continued.ran);
  CHECK(!one.stands() && !two.stands());

  const Stopped three;
  hold(stopped.get(), three, 5, false);
  hold(joined.get(), three, 5, true);
  continue_all(joined.get());
  CHECK(three.stands());
  continue_all(stopped.get());
  CHECK(!three.stands());
}

// What a stranger has stopped is the stranger's to continue; and is told of when that has happened.
void a_strangers_stop() {
  const UniqueFd map = held_map(), other = held_map();
  const Stopped stopped, runs, successor;
  hold(map.get(), stopped, 5, true);
  CHECK(!continue_arrivals(map.get(), 0).ran);
  CHECK(stopped.stands());
  hold(map.get(), runs, 5, true);
  kill(runs.pid, SIGCONT);
  CHECK(continue_arrivals(map.get(), 0).ran);
  // The other daemon's was another process of that number.
  hold(map.get(), successor, 6, false);
  hold(other.get(), successor, 5, true);
  continue_all(map.get());
  CHECK(!successor.stands());
}

// More than fit in the list at once are no reason to leave anybody.
void a_full_list() {
  constexpr std::uint32_t kMany = 4096;  // as large as the daemon's
  const UniqueFd map = held_map(kMany);
  const Stopped child;
  put(map.get(), child.tgid(), 1);
  for (std::uint32_t i = 1; i < kMany; ++i) put(map.get(), 4'194'304 + i, i);
  continue_all(map.get());
  std::uint32_t left = 0;
  CHECK(!child.stands() && bpf_map_get_next_key(map.get(), nullptr, &left) != 0);
}

void the_switch() {
  LIBBPF_OPTS(bpf_map_create_opts, mappable, .map_flags = BPF_F_MMAPABLE);
  const UniqueFd map(bpf_map_create(BPF_MAP_TYPE_ARRAY, "guardians", sizeof(std::uint32_t), sizeof(janus_guardians), 1, &mappable));
  const std::uint32_t zero = 0;
  const auto now = [&] {
    janus_guardians guardians{};
    bpf_map_lookup_elem(map.get(), &zero, &guardians);
    return guardians;
  };
  janus_guardians before{};
  before.keeper = 5;
  before.daemon = 6;
  bpf_map_update_elem(map.get(), &zero, &before, BPF_ANY);
  {
    const HoldSwitch daemons(map.get());
    CHECK(now().enabled == 0);
    daemons.answering();
    CHECK(now().enabled == 1 && now().keeper == 5 && now().daemon == 6);
    const std::uint64_t first = now().answered_ns;
    CHECK(first != 0 && first <= monotonic_ns());
    daemons.answering();
    CHECK(now().answered_ns >= first);
  }
  CHECK(now().enabled == 1);  // its end is told by the kernel's side
  bool refused = false;
  try {
    const HoldSwitch none(held_map().get());
  } catch (const Error& error) {
    refused = error.number != 0 && error.operation == "mmap";
  }
  CHECK(refused);
}

}  // namespace

int main() {
  our_stop_is_ended();
  anothers_stop_is_kept();
  who_has_ended_is_nobody();
  each_hold_is_struck_once();
  all_go_on();
  the_last_of_two_continues();
  a_strangers_stop();
  a_full_list();
  the_switch();
  return tap::done();
}
