// The gate on a real fanotify group and real eBPF: it answers, and when it is
// stuck the watchdog answers for it.
#include "decide/gate.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <mutex>
#include <thread>

#include "os/path_resolver.h"
#include "tap.h"

using namespace janus;
namespace fs = std::filesystem;

namespace {

// In a process of its own: our own pid is always allowed. Returns errno of the
// open, 0 if it was allowed.
int open_elsewhere(const fs::path& path) {
  const pid_t child = fork();
  if (child == 0) {
    const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    _exit(fd >= 0 ? 0 : errno);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WEXITSTATUS(status);
}

}  // namespace

int main() {
  char name[] = "/tmp/janusd-gate.XXXXXX";
  const fs::path base = mkdtemp(name);
  fs::create_directories(base / "guarded");
  fs::create_directories(base / "watched");
  std::ofstream(base / "guarded/secret") << "secret";
  std::ofstream(base / "guarded/open") << "open";

  EngineCounters counters;
  Refusals refusals;
  PolicyBox policy;
  const Groups groups(false);
  BpfPrograms programs;
  programs.set_identity_group(groups.identity.fd());
  Tracker tracker(programs, {});
  TreeWatch trees(groups, counters);
  IdentityTable identities(groups, programs, trees, refusals, 100);
  IgnoreLearner learner(groups, policy, counters, 100, 0);
  std::mutex mutex;
  std::condition_variable change;
  bool stuck = false;    // the gate, before it decides
  bool planning = false; // what has to be planned again
  std::atomic<int> planned{0};
  Replanner replans([&](std::uint64_t, const Replanner::Change&) {
    std::unique_lock lock(mutex);
    change.wait(lock, [&] { return !planning; });
    ++planned;
  });
  NameWatch names(groups, [&](const std::set<NameOwner>& owners) {
    {
      std::unique_lock lock(mutex);
      change.wait(lock, [&] { return !stuck; });
    }
    replans.names_changed(owners);
  });
  EventRing ring(65536);
  Recorder recorder(ring, tracker, [] {});
  SharedBeat answering;
  Gate gate({groups, programs, policy, identities, learner, names, replans, tracker, recorder, counters, answering}, std::chrono::milliseconds(500));

  Locator locator(programs, LocatorSlot::planner);
  const UniqueFd directory(open((base / "guarded").c_str(), O_PATH | O_CLOEXEC));
  const UniqueFd secret(open((base / "guarded/secret").c_str(), O_PATH | O_CLOEXEC));
  const Location location = locator.locate(secret.get());
  CHECK(location.found() && location.has_path());
  CHECK(location.path.ends_with("/guarded/secret"));

  auto subject = std::make_shared<Subject>();
  subject->id = 1;
  subject->events = mask_of(FileEventKind::open);
  subject->stats = std::make_shared<SubjectStats>();
  auto superblock = std::make_shared<Superblock>();
  superblock->table = std::make_shared<SuperblockPolicy>(
      std::vector<Rule>{{std::make_shared<Entry>(Entry{.action = Action::deny, .depth = 0,
                                                       .path = std::string(location.path), .relative = "",
                                                       .subject = subject}),
                         true}},
      std::vector<View>{});
  superblock->deny_mask = FAN_OPEN_PERM;
  auto next = std::make_shared<Policy>();
  next->generation = 1;
  next->superblocks[location.raw->dev] = superblock;
  policy.publish(next);
  // The directory's own entries, nothing else of this file system.
  groups.gate.mark(FAN_MARK_ADD, FAN_OPEN_PERM | FAN_EVENT_ON_CHILD, directory.get(), "guarded");
  const UniqueFd watched_root(open((base / "watched").c_str(), O_PATH | O_CLOEXEC));
  constexpr std::uint64_t kContainer = 7;
  std::vector<NameWatch::Watched> watched;
  CHECK(names.watch(resolve_in(watched_root.get(), "/trigger"), {.container = kContainer, .guard = 1}, watched).failed == 0);

  std::atomic<bool> stop{false};
  const UniqueFd stop_event(eventfd(0, EFD_CLOEXEC));
  std::thread planner([&] { replans.run(stop); });
  std::thread watchdog([&] { gate.rescue(stop, stop_event.get()); });
  std::thread thread([&] { gate.run(stop, stop_event.get()); });

  CHECK(open_elsewhere(base / "guarded/secret") == EPERM);
  CHECK(open_elsewhere(base / "guarded/open") == 0);
  fs::create_hard_link(base / "guarded/secret", base / "guarded/link");
  CHECK(open_elsewhere(base / "guarded/link") == EPERM);       // the same inode by another name
  fs::rename(base / "guarded/secret", base / "guarded/renamed");
  CHECK(open_elsewhere(base / "guarded/renamed") == EPERM);    // what was there stays guarded
  std::ofstream(base / "guarded/secret") << "new";
  CHECK(open_elsewhere(base / "guarded/secret") == EPERM);     // and so does the path
  CHECK(subject->stats->counted()->decisions[0][1][1].get() == 4);
  CHECK(counters.exposed_deadline.get() == 0);

  // A name has changed and is not planned for: who doesn't depend on it is answered.
  {
    const std::lock_guard lock(mutex);
    planning = true;
  }
  std::ofstream(base / "watched/trigger") << "x";
  CHECK(open_elsewhere(base / "guarded/open") == 0);
  CHECK(open_elsewhere(base / "guarded/secret") == EPERM);
  CHECK(counters.asked_unplanned.get() == 0);
  // Who does waits. It isn't planned in time: denied, since somebody is denied there.
  const auto depending = std::make_shared<Superblock>(*superblock);
  depending->containers = {kContainer};
  next = std::make_shared<Policy>(*policy.get());
  next->superblocks[location.raw->dev] = depending;
  policy.publish(next);
  CHECK(open_elsewhere(base / "guarded/open") == EPERM);
  CHECK(counters.asked_unplanned.get() == 1);
  // It is planned in time: judged as it then is.
  std::thread release([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(30));
    {
      const std::lock_guard lock(mutex);
      planning = false;
    }
    change.notify_all();
  });
  CHECK(open_elsewhere(base / "guarded/open") == 0);
  release.join();
  CHECK(counters.asked_unplanned.get() == 1 && planned.load() == 1);
  CHECK(counters.exposed_deadline.get() == 0);
  const std::uint64_t denials = subject->stats->counted()->decisions[0][1][1].get();

  // Stuck before it reads a question: past the deadline the watchdog judges.
  {
    const std::lock_guard lock(mutex);
    stuck = true;
  }
  fs::remove(base / "watched/trigger");
  CHECK(open_elsewhere(base / "guarded/secret") == EPERM);
  CHECK(open_elsewhere(base / "guarded/open") == 0);
  CHECK(open_elsewhere(base / "guarded/secret") == EPERM);
  CHECK(subject->stats->counted()->decisions[0][1][1].get() == denials + 2);
  CHECK(counters.exposed_deadline.get() == 0);
  {
    const std::lock_guard lock(mutex);
    stuck = false;
  }
  change.notify_all();
  // And then it denies again.
  int denied = 0;
  for (int i = 0; i < 500 && denied != EPERM; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    denied = open_elsewhere(base / "guarded/secret");
  }
  CHECK(denied == EPERM);

  stop.store(true);
  eventfd_write(stop_event.get(), 1);
  replans.wake();
  thread.join();
  watchdog.join();
  planner.join();
  fs::remove_all(base);
  return tap::done();
}
