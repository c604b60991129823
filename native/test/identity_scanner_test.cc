// Pinning what is below a guarded directory: a real container, real marks, and a
// thread that allows what the scanner itself asks.
#include "cover/identity_scanner.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "container.h"
#include "kernel_state.h"
#include "tap.h"
#include "temporary_directory.h"

using namespace janus;
namespace fs = std::filesystem;

namespace {

// The gate allows the daemon's own opens; here all are.
class AllowAll {
 public:
  explicit AllowAll(const Groups& groups) : groups_(groups), thread_([this] { run(); }) {}
  ~AllowAll() {
    stop_.store(true);
    thread_.join();
    groups_.release_permission();
  }

 private:
  void run() const {
    alignas(fanotify_event_metadata) std::array<char, 4096> buffer;
    while (!stop_.load()) {
      std::array<pollfd, 2> fds = {{{groups_.gate.fd(), POLLIN, 0}, {groups_.identity.fd(), POLLIN, 0}}};
      poll(fds.data(), fds.size(), 20);
      for (const FanotifyGroup* group : {&groups_.gate, &groups_.identity}) {
        bool unreadable = false;
        std::size_t left = group->read(buffer, unreadable);
        const auto* event = reinterpret_cast<const fanotify_event_metadata*>(buffer.data());
        for (; FAN_EVENT_OK(event, left); event = FAN_EVENT_NEXT(event, left)) {
          group->respond(event->fd, true, false);
          close(event->fd);
        }
      }
    }
  }

  const Groups& groups_;
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

struct Bench {
  explicit Bench(std::size_t limit = 10'000) : identities(groups, programs, trees, refusals, limit) {
    programs.set_identity_group(groups.identity.fd());
    CHECK(container.start());
  }
  ~Bench() {
    if (!thread.joinable()) return;
    stop.store(true);
    scanner.wake();
    thread.join();
  }

  void files(const std::string& directory, int count) const {
    fs::create_directories(container.volume() / directory);
    for (int i = 0; i < count; ++i) std::ofstream(container.volume() / directory / std::to_string(i)) << "x";
  }
  MarkPlanner::ScanJobs guard(const std::string& path, std::uint32_t key = 1, const std::string& id = {}) {
    SubjectPolicy policy;
    policy.deny = {path};
    policy.events = mask_of(FileEventKind::open);
    policy.recursive = true;
    const GuardSpec spec{.key = key, .subjects = {{key, id.empty() ? container.id() : id, std::make_shared<const SubjectPolicy>(policy)}}};
    return planner.apply({&spec, 1}).jobs;
  }
  void run() {
    thread = std::thread([this] { scanner.run(stop); });
  }
  static bool eventually(const std::function<bool()>& check) {
    for (int i = 0; i < 3000; ++i) {
      if (check()) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return false;
  }
  bool learns() const {
    const auto now = policy.get();
    for (const auto& [device, superblock] : now->superblocks)
      if (superblock->learn) return true;
    return false;
  }

  const TemporaryDirectory base{"scanner"};
  TestContainer container{base.path, 'c'};
  EngineCounters counters;
  Refusals refusals;
  PolicyBox policy;
  const Groups groups{false};
  BpfPrograms programs;
  Tracker tracker{programs, {}};
  TreeWatch trees{groups, counters};
  IdentityTable identities;
  IgnoreLearner learner{groups, policy, counters, 100, 0};
  Decider decider{programs, Decider::Mode::rules};
  MarkPlanner planner{{programs, tracker, groups, decider, policy, identities, learner, counters, refusals, false}};
  IdentityScanner scanner{{programs, policy, identities, learner, trees, planner, counters, refusals}};
  std::atomic<bool> stop{false};
  std::thread thread;
  const AllowAll answers{groups};  // ends first
};

// A scan waits some time only for its directories to be read (kCreatorPatienceNs), and leaves them to the thread then.
// On a busy machine that may be, which says nothing: `body` returns false, and is called again.
void patiently(const std::function<bool()>& body) {
  bool in_time = false;
  for (int i = 0; i < 20 && !in_time; ++i) in_time = body();
  CHECK(in_time);
}

// What is small is complete when the call returns, without the thread.
bool small() {
  Bench bench;
  bench.files("s", 20);
  bench.files("s/below", 5);
  const auto jobs = bench.guard("/data/s");
  CHECK(jobs.size() == 1 && bench.identities.size() == 1 && !bench.learns());
  bench.scanner.scan(jobs.at(0));
  if (bench.scanner.pending() != 0) return false;
  CHECK(bench.identities.size() == 1 + 20 + 1 + 5 && bench.learns());
  CHECK(bench.counters.exposed_identity.get() == 0 && bench.counters.exposed_scan.get() == 0);
  return true;
}

// What is large goes on in the thread, and is told meanwhile.
void large() {
  constexpr int kFiles = 1500;
  Bench bench;
  bench.files("s", kFiles);
  const auto jobs = bench.guard("/data/s");
  bench.scanner.scan(jobs.at(0));
  CHECK(bench.scanner.pending() == 1 && !bench.learns() && bench.counters.exposed_scan.get() == 1);
  CHECK(bench.identities.size() > 1 && bench.identities.size() < kFiles);
  bench.run();
  CHECK(Bench::eventually([&] { return bench.scanner.pending() == 0; }));
  CHECK(bench.identities.size() == 1 + kFiles && Bench::eventually([&] { return bench.learns(); }));

  // What appears is pinned, a tree as a whole.
  bench.files("new/below", 3);
  fs::rename(bench.container.volume() / "new", bench.container.volume() / "s/new");
  CHECK(Bench::eventually([&] { return bench.identities.size() == 1 + kFiles + 2 + 3; }));

  // And all goes with the guard.
  bool existed = false;
  bench.scanner.sweep(bench.planner.remove(1, existed));
  CHECK(Bench::eventually([&] { return bench.identities.size() == 0; }));
  CHECK(bench.policy.get()->superblocks.empty());
}

bool limited() {
  constexpr std::size_t kLimit = 10;
  Bench bench(kLimit);
  bench.files("s", 50);
  bench.scanner.scan(bench.guard("/data/s").at(0));
  if (bench.scanner.pending() != 0) return false;
  CHECK(bench.identities.size() == kLimit);
  CHECK(bench.counters.exposed_identity.get() == 1 && !bench.learns());
  return true;
}

// What could not be read is not taken for what isn't there.
bool without_descriptors() {
  Bench bench;
  bench.files("s", 20);
  bench.files("s/below", 20);
  for (rlim_t more = 0; more < 3; ++more) {
    const auto jobs = bench.guard("/data/s");
    {
      const Limit limit(first_free() + more);
      bench.scanner.scan(jobs.at(0));
    }
    if (bench.scanner.pending() != 0) return false;
    CHECK(bench.counters.exposed_identity.get() == more + 1 && !bench.learns());
  }
  return true;
}

// One container's flood of new files doesn't keep another's new file waiting for its end. Both
// volumes are of one superblock.
void in_turn() {
  constexpr int kFiles = 7000;
  Bench bench(100'000);
  TestContainer other(bench.base.path, 'd');
  CHECK(other.start());
  fs::create_directories(other.volume() / "s");
  bench.files("s", 0);
  bench.scanner.scan(bench.guard("/data/s").at(0));
  bench.scanner.scan(bench.guard("/data/s", 2, other.id()).at(0));
  bench.files("s", kFiles);
  const fs::path file = other.volume() / "s/file";
  std::ofstream(file) << "x";
  const UniqueFd at(open(file.c_str(), O_PATH | O_CLOEXEC));
  Locator locator(bench.programs, LocatorSlot::creator);
  const auto is_pinned = [&] { return locator.locate(at.get(), 0, true).pinned(); };
  CHECK(!is_pinned());
  bench.run();
  std::size_t before = 0;
  CHECK(Bench::eventually([&] { before = bench.identities.size(); return is_pinned(); }));
  CHECK(before < kFiles / 2);
  CHECK(Bench::eventually([&] { return bench.identities.size() == kFiles + 3; }));
}

// More than a container's share of what waits: its guarded places are scanned again.
void more_than_its_share() {
  constexpr int kFiles = 9000;
  Bench bench(100'000);
  bench.files("s", 0);
  bench.scanner.scan(bench.guard("/data/s").at(0));
  bench.files("s", kFiles);
  bench.run();
  CHECK(Bench::eventually([&] { return bench.identities.size() == 1 + kFiles && bench.scanner.pending() == 0; }));
  const auto refused = bench.refusals.all();
  CHECK(refused.size() == 1 && refused[0].resource == "trees" && refused[0].container == bench.container.id());
}

// Deeper than any path is looked up (PATH_LEVELS): what was there is pinned, and so is what appears.
void far_down() {
  constexpr std::size_t kLevels = 5000;
  Bench bench(100'000);
  bench.files("s", 1);
  UniqueFd at(open((bench.container.volume() / "s").c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  const auto below = [](const UniqueFd& directory) {
    mkdirat(directory.get(), "d", 0755);
    return UniqueFd(openat(directory.get(), "d", O_PATH | O_DIRECTORY | O_CLOEXEC));
  };
  for (std::size_t i = 0; i < kLevels; ++i) at = below(at);
  bench.scanner.queue(bench.guard("/data/s"));
  bench.run();
  CHECK(Bench::eventually([&] { return bench.scanner.pending() == 0; }));
  CHECK(bench.identities.size() == kLevels + 2 && bench.counters.exposed_identity.get() == 0);
  below(below(at));
  CHECK(Bench::eventually([&] { return bench.identities.size() == kLevels + 4; }));
}

// Created, destroyed, and created again while it is scanned.
void again_and_again() {
  Bench bench;
  bench.files("s", 600);
  std::vector<MarkPlanner::ScanJobs> jobs;
  for (int i = 0; i < 3; ++i) {
    jobs.push_back(bench.guard("/data/s"));
    bench.scanner.queue(jobs.back());
    if (i == 2) break;
    bool existed = false;
    bench.scanner.sweep(bench.planner.remove(1, existed));
  }
  CHECK(bench.scanner.pending() == 3 && !bench.learns());
  bench.run();
  CHECK(Bench::eventually([&] { return bench.learns(); }));
  CHECK(bench.scanner.pending() <= 1 && bench.identities.size() == 601);
}

}  // namespace

int main() {
  patiently(small);
  large();
  patiently(limited);
  patiently(without_descriptors);
  in_turn();
  more_than_its_share();
  far_down();
  again_and_again();
  return tap::done();
}
