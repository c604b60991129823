// The transaction of marks: real mounts, real fanotify groups, and failures of the
// kernel's own. What is marked is read in /proc/self/fdinfo.
#include "cover/mark_set.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "kernel_state.h"
#include "os/error.h"
#include "tap.h"

using namespace janus;
namespace fs = std::filesystem;

namespace {

constexpr std::uint64_t kNever = FAN_CREATE;  // no group of these two takes it: EINVAL
constexpr int kMounts = 4;

HeldProcess ended() {
  const pid_t child = fork();
  if (child == 0) {
    pause();
    _exit(0);
  }
  auto held = std::make_shared<const ProcessDir>(static_cast<std::uint32_t>(child));
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  return held;
}

struct Bench {
  // Some file systems, each mounted, in a mount namespace of this process's own.
  Bench() {
    char name[] = "/tmp/janusd-marks.XXXXXX";
    base = mkdtemp(name);
    for (int i = 0; i < kMounts; ++i) {
      const std::string point = base / std::to_string(i);
      fs::create_directories(point);
      mounted = mounted && mount("janusd-test", point.c_str(), "tmpfs", 0, nullptr) == 0;
    }
    CHECK(mounted);
  }
  ~Bench() {
    for (int i = 0; i < kMounts; ++i) umount2((base / std::to_string(i)).c_str(), MNT_DETACH);
    fs::remove_all(base);
  }

  MarkKey key_of(const std::string& point, bool whole) {
    const UniqueFd at(open(point.c_str(), O_PATH | O_CLOEXEC));
    const Location location = locator.locate(at.get());
    return {location.raw->dev, whole ? 0 : location.raw->mount_id};
  }
  PlannedMark wanted(const std::string& point, std::uint64_t gate, std::uint64_t observer) const {
    return {.gate = gate, .observer = observer, .process = self, .point = point, .fleeting = false};
  }
  MarkKey put(MarkPlan& plan, const std::string& point, bool whole, std::uint64_t gate, std::uint64_t observer) {
    const MarkKey key = key_of(point, whole);
    plan.marks[key] = wanted(point, gate, observer);
    return key;
  }
  // Every other one a whole superblock.
  MarkPlan plan(std::uint64_t gate, std::uint64_t observer) {
    MarkPlan plan;
    for (int i = 0; i < kMounts; ++i) put(plan, base / std::to_string(i), i % 2 == 0, gate, observer);
    return plan;
  }
  bool add(const MarkPlan& plan) {
    try {
      marks.add(plan, false, true);
      return true;
    } catch (const Error&) {
      return false;
    }
  }
  static std::set<Device> devices_of(const MarkPlan& plan) {
    std::set<Device> devices;
    for (const auto& [key, mark] : plan.marks) devices.insert(key.device);
    return devices;
  }
  // All that can be told of the marks.
  struct State {
    Marks gate, observer;
    std::size_t superblocks, mounts;
    bool operator==(const State&) const = default;
  };
  State state() const {
    const auto counts = marks.counts();
    return {marks_of(groups.gate), marks_of(groups.observer), counts.superblock, counts.mount};
  }

  fs::path base;
  bool mounted = true;
  EngineCounters counters;
  const Groups groups{false};
  BpfPrograms programs;
  Locator locator{programs, LocatorSlot::planner};
  const HeldProcess self = std::make_shared<const ProcessDir>(static_cast<std::uint32_t>(getpid()));
  MarkSet marks{programs, groups, locator, counters};
};

// Whichever call of fanotify_mark(2) is refused, all that was marked before is, and no more.
void all_or_nothing(bool others) {
  Bench bench;
  if (others) CHECK(bench.add(bench.plan(FAN_OPEN_PERM, FAN_ACCESS)));
  const auto before = bench.state();
  CHECK(before.gate.size() == (others ? kMounts : 0));
  const MarkPlan good = bench.plan(FAN_OPEN_PERM | FAN_ACCESS_PERM, FAN_OPEN | FAN_CLOSE_WRITE);
  for (const auto& [key, mark] : good.marks) {
    for (const bool gate : {true, false}) {
      MarkPlan bad = good;
      (gate ? bad.marks[key].gate : bad.marks[key].observer) |= kNever;
      CHECK(!bench.add(bad));
      CHECK(bench.state() == before);
    }
  }
  // A file system that takes no permission marks.
  MarkPlan bad = good;
  bench.put(bad, "/proc", false, FAN_OPEN_PERM, 0);
  CHECK(!bench.add(bad));
  CHECK(bench.state() == before);
  // A process that is gone.
  bad = good;
  bad.marks.rbegin()->second.process = ended();
  CHECK(!bench.add(bad));
  CHECK(bench.state() == before);
  // A mount that is gone is nothing to mark.
  bad = good;
  bad.marks.rbegin()->second.point = bench.base / "nowhere/at/all";
  CHECK(bench.add(bad));
  bench.marks.trim(others ? bench.plan(FAN_OPEN_PERM, FAN_ACCESS) : MarkPlan{}, Bench::devices_of(good));
  CHECK(bench.state() == before);

  CHECK(bench.counters.exposed_rescan.get() == 0);
  CHECK(bench.add(good));
  CHECK(bench.state() != before);
}

// No descriptor is left at whichever step: taking back needs none.
void without_descriptors() {
  Bench bench;
  CHECK(bench.add(bench.plan(FAN_OPEN_PERM, 0)));
  const auto before = bench.state();
  const MarkPlan good = bench.plan(FAN_OPEN_PERM | FAN_ACCESS_PERM, FAN_OPEN);
  const rlim_t free = first_free();
  int failed = 0;
  bool done = false;
  for (rlim_t more = 0; more < 100 && !done; ++more) {
    {
      const Limit limit(free + more);
      done = bench.add(good);
    }
    if (done) break;
    ++failed;
    if (bench.state() != before) CHECK(!"marks are as before");
  }
  CHECK(done && failed > kMounts);
  // What cannot be found for want of descriptors is removed the next time.
  const auto after = bench.state();
  {
    const Limit limit(free);
    bench.marks.trim({}, Bench::devices_of(good));
  }
  CHECK(bench.state() == after);
  bench.marks.trim({}, Bench::devices_of(good));
  CHECK(bench.marks.size() == 0 && marks_of(bench.groups.gate).empty() && marks_of(bench.groups.observer).empty());
}

// After a change of mounts what can be marked is; old marks stay.
void replan_that_fails() {
  Bench bench;
  const MarkPlan old = bench.plan(FAN_OPEN_PERM, FAN_OPEN);
  CHECK(bench.add(old));
  const auto before = bench.state();
  for (const auto& [key, mark] : old.marks) {
    MarkPlan bad = old;
    bad.marks[key].gate |= kNever;
    bench.marks.add(bad, true, false);
    CHECK(bench.state() == before);
  }
  CHECK(bench.counters.exposed_rescan.get() == kMounts);
  MarkPlan next = bench.plan(FAN_OPEN_PERM | FAN_ACCESS_PERM, FAN_OPEN);
  next.marks.begin()->second.observer |= kNever;
  bench.marks.add(next, true, false);
  CHECK(bench.counters.exposed_rescan.get() == kMounts + 1);
  // All but the first have the new bit, and the first has its old ones.
  int old_ones = 0, new_ones = 0;
  for (const std::string& mark : marks_of(bench.groups.gate)) {
    old_ones += before.gate.contains(mark) ? 1 : 0;
    new_ones += before.gate.contains(mark) ? 0 : 1;
  }
  CHECK(old_ones == 1 && new_ones == kMounts - 1);
  // In a namespace that ends it is nobody's loss.
  next.marks.begin()->second.fleeting = true;
  bench.marks.add(next, true, false);
  CHECK(bench.counters.exposed_rescan.get() == kMounts + 1);
}

// Another mount at the same place is never marked for it.
void what_was_not_planned() {
  Bench bench;
  const MarkPlan plan = bench.plan(FAN_OPEN_PERM, FAN_OPEN);
  const std::string point = bench.base / "1";
  CHECK(mount("janusd-test", point.c_str(), "tmpfs", 0, nullptr) == 0);
  CHECK(bench.add(plan));
  CHECK(marks_of(bench.groups.gate).size() == kMounts - 1 && bench.marks.size() == kMounts - 1);
  umount(point.c_str());
  bench.marks.add(plan, true, false);
  CHECK(marks_of(bench.groups.gate).size() == kMounts && bench.marks.size() == kMounts);
}

// A mount that comes mostly has the number of one that went; it had no mark all the same.
void what_is_new() {
  Bench bench;
  const std::string point = bench.base / "other";
  fs::create_directories(point);
  const auto bind = [&] { return mount((bench.base / "1").c_str(), point.c_str(), nullptr, MS_BIND, nullptr) == 0; };
  const auto planned = [&](MarkKey& key) {
    MarkPlan plan;
    key = bench.put(plan, point, false, FAN_OPEN_PERM, FAN_OPEN);
    return plan;
  };
  MarkKey before, now;
  CHECK(bind());
  const MarkPlan first = planned(before);
  CHECK(bench.marks.add(first, true, false) && !bench.marks.add(first, true, false));
  CHECK(umount(point.c_str()) == 0 && bind());
  const MarkPlan second = planned(now);
  CHECK(before == now);
  CHECK(bench.marks.add(second, true, false) && !bench.marks.add(second, true, false));
  CHECK(umount(point.c_str()) == 0);
}

// Directories are asked about as long as anything is.
void what_stays_keeps_directories() {
  Bench bench;
  const auto few = [&] { return bench.plan(FAN_OPEN_PERM, FAN_OPEN); };
  CHECK(bench.add(few()));
  const auto before = bench.state();
  for (const std::string& mark : before.gate) CHECK(mark.find("mask:40010000 ") != std::string::npos);
  CHECK(bench.add(bench.plan(FAN_OPEN_PERM | FAN_ACCESS_PERM, FAN_OPEN | FAN_CLOSE_WRITE)));
  CHECK(bench.state() != before);
  bench.marks.trim(few(), Bench::devices_of(few()));
  CHECK(bench.state() == before);
  bench.marks.trim({}, Bench::devices_of(few()));
  CHECK(marks_of(bench.groups.gate).empty() && marks_of(bench.groups.observer).empty() && bench.marks.size() == 0);
}

// A mount that only a descriptor leads to is marked as its device's others are.
void loose() {
  Bench bench;
  const std::string point = bench.base / "1", other = bench.base / "loose";
  fs::create_directories(other);
  CHECK(mount(point.c_str(), other.c_str(), nullptr, MS_BIND, nullptr) == 0);
  const UniqueFd at(open(other.c_str(), O_PATH | O_CLOEXEC));
  CHECK(umount2(other.c_str(), MNT_DETACH) == 0);
  const Device device = bench.key_of(point, true).device;
  CHECK(bench.marks.mark_loose(device, at.get()) == MarkSet::Loose::needless);
  MarkPlan plan;
  bench.put(plan, point, false, FAN_OPEN_PERM, FAN_OPEN);
  CHECK(bench.add(plan));
  CHECK(bench.marks.mark_loose(device, at.get()) == MarkSet::Loose::marked);
  CHECK(marks_of(bench.groups.gate).size() == 2 && marks_of(bench.groups.observer).size() == 2);
  CHECK(bench.marks.mark_loose(device, -1) == MarkSet::Loose::failed);
}

}  // namespace

int main() {
  CHECK(unshare(CLONE_NEWNS) == 0);
  CHECK(mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0);
  all_or_nothing(false);
  all_or_nothing(true);
  without_descriptors();
  replan_that_fails();
  what_was_not_planned();
  what_is_new();
  what_stays_keeps_directories();
  loose();
  return tap::done();
}
