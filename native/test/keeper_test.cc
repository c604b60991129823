// The daemon's keeper, as the real process that it is: it ends whoever stands still,
// and ends with whoever it keeps.
#include "hold/keeper_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <sstream>
#include <string>

#include "os/clock.h"
#include "os/error.h"
#include "os/unique_fd.h"
#include "tap.h"
#include "temporary_directory.h"

using namespace janus;
using namespace std::chrono_literals;
namespace fs = std::filesystem;

namespace {

constexpr int kPatienceMs = 20'000;

std::string text_of(const fs::path& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

// A pidfd's process; 0: it has ended, and was waited for.
pid_t process_of(int pidfd) {
  std::ifstream info("/proc/self/fdinfo/" + std::to_string(pidfd));
  for (std::string line; std::getline(info, line);)
    if (line.starts_with("Pid:")) return std::max(0, std::atoi(line.c_str() + 4));
  return 0;
}

bool ends(int pidfd) {
  pollfd end{pidfd, POLLIN, 0};
  return poll(&end, 1, kPatienceMs) == 1;
}

// A daemon with a keeper, as a child. `live` runs once that is there. It tells what its keeper is.
struct Daemon {
  Daemon(KeeperProcess::Options options, const std::function<void(KeeperProcess&)>& live) {
    std::array<int, 2> started{};
    if (pipe2(started.data(), O_CLOEXEC) != 0) return;
    pid = fork();
    if (pid == 0) {
      KeeperProcess keeper(std::move(options));
      keeper.start({});
      const pid_t itself = process_of(keeper.fd());
      if (write(started[1], &itself, sizeof(itself)) != sizeof(itself)) _exit(1);
      live(keeper);
      _exit(0);
    }
    close(started[1]);
    pid_t itself = 0;
    if (read(started[0], &itself, sizeof(itself)) == sizeof(itself))
      keeper.reset(static_cast<int>(syscall(SYS_pidfd_open, itself, 0)));
    close(started[0]);
  }
  ~Daemon() {
    if (pid > 0) kill(pid, SIGKILL);
    ended();
  }
  Daemon(const Daemon&) = delete;
  Daemon& operator=(const Daemon&) = delete;

  // As waitpid(2) tells it.
  int ended() {
    if (pid > 0) waitpid(pid, &status, 0);
    pid = 0;
    return status;
  }

  pid_t pid = 0;
  int status = 0;
  UniqueFd keeper;
};

void stand_still(KeeperProcess&) {
  for (;;) pause();
}

void without_anything_to_keep_there_is_none() {
  KeeperProcess keeper({});
  keeper.start({});
  CHECK(keeper.fd() == -1);
}

void it_lives_as_long_as_the_object() {
  UniqueFd process;
  {
    KeeperProcess keeper({.stall_limit = 10s, .stall_file = "", .cgroup = ""});
    keeper.start({});
    CHECK(process_of(keeper.fd()) > 0);
    process.reset(static_cast<int>(syscall(SYS_pidfd_open, process_of(keeper.fd()), 0)));
    CHECK(keeper.keep_running({}));
  }
  CHECK(process_of(process.get()) == 0);
}

// Signals that end a service leave it; SIGKILL does not, and then there is another.
void it_is_started_again() {
  KeeperProcess keeper({.stall_limit = 10s, .stall_file = "", .cgroup = ""});
  keeper.start({});
  const pid_t first = process_of(keeper.fd());
  for (const int each : {SIGTERM, SIGINT, SIGHUP, SIGPIPE}) kill(first, each);
  kill(first, SIGSTOP);
  kill(first, SIGCONT);
  CHECK(keeper.keep_running({}) && process_of(keeper.fd()) == first);
  kill(first, SIGKILL);
  CHECK(ends(keeper.fd()));
  CHECK(keeper.keep_running({}) && process_of(keeper.fd()) > 0 && process_of(keeper.fd()) != first);
}

void one_that_cannot_start_says_so() {
  KeeperProcess keeper({.stall_limit = 10s, .stall_file = "", .cgroup = "/sys/fs/cgroup/no such"});
  bool refused = false;
  try {
    keeper.start({});
  } catch (const Error& error) {
    refused = error.code == ErrorCode::system;
  }
  CHECK(refused && keeper.fd() == -1);
  CHECK(!keeper.keep_running({}));
}

void who_stands_still_is_killed_and_the_next_is_told() {
  const TemporaryDirectory directory("keeper");
  const fs::path file = directory.path / "stall.json";
  Daemon daemon({.stall_limit = 1s, .stall_file = file, .cgroup = ""}, [](KeeperProcess& keeper) {
    keeper.beat().beat(monotonic_ns());
    stand_still(keeper);
  });
  const int status = daemon.ended();
  CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
  CHECK(ends(daemon.keeper.get()));
  long long stood_ms = 0, ended_ms = 0;
  CHECK(sscanf(text_of(file).c_str(), "{\"stoodMs\":%lld,\"endedMs\":%lld}\n", &stood_ms, &ended_ms) == 2);
  CHECK(stood_ms >= 1000 && ended_ms > 1'700'000'000'000);
}

// It beats, or says that it rests: neither is standing still.
void who_beats_or_rests_is_left_alone() {
  const TemporaryDirectory directory("keeper");
  const fs::path file = directory.path / "stall.json";
  const auto beat = [](KeeperProcess& keeper) {
    for (const std::uint64_t end = monotonic_ns() + 3'000'000'000; monotonic_ns() < end; usleep(20'000))
      keeper.beat().beat(monotonic_ns());
  };
  const auto rest = [](KeeperProcess& keeper) {
    keeper.beat().beat(monotonic_ns());
    keeper.beat().rest();
    usleep(3'000'000);
  };
  Daemon one({.stall_limit = 2s, .stall_file = file, .cgroup = ""}, beat);
  Daemon other({.stall_limit = 2s, .stall_file = file, .cgroup = ""}, rest);
  for (Daemon* each : {&one, &other}) {
    const int status = each->ended();
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  }
  CHECK(!fs::exists(file));
}

void it_ends_with_a_daemon_that_is_killed() {
  Daemon daemon({.stall_limit = 10s, .stall_file = "", .cgroup = ""}, stand_still);
  CHECK(daemon.keeper);
  kill(daemon.pid, SIGKILL);
  daemon.ended();
  CHECK(ends(daemon.keeper.get()));
}

}  // namespace

int main() {
  without_anything_to_keep_there_is_none();
  it_lives_as_long_as_the_object();
  it_is_started_again();
  one_that_cannot_start_says_so();
  who_stands_still_is_killed_and_the_next_is_told();
  who_beats_or_rests_is_left_alone();
  it_ends_with_a_daemon_that_is_killed();
  return tap::done();
}
