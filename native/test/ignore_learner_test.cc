// What is ignored, and when it is forgotten: real directories, real marks.
#include "cover/ignore_learner.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "kernel_state.h"
#include "tap.h"

using namespace janus;
namespace fs = std::filesystem;

namespace {

constexpr std::size_t kPatience = 3;

// A directory of this name is guarded; all others are outside.
struct Bench {
  explicit Bench(std::size_t limit = 100, std::size_t patience = kPatience) : learner(groups, policy, counters, limit, patience) {
    char name[] = "/tmp/janusd-learner.XXXXXX";
    base = mkdtemp(name);
    for (const char* each : {"guarded", "out/a", "out/b", "out/c/deep"}) {
      fs::create_directories(base / each);
      std::ofstream(base / each / "f") << "x";
    }
    root = std::string(at("").path);
    device = at("").raw->dev;
    publish(1);
  }
  ~Bench() { fs::remove_all(base); }

  UniqueFd open(const std::string& path) const { return UniqueFd(::open((base / path).c_str(), O_PATH | O_CLOEXEC)); }
  Location at(const std::string& path) { return locator.locate(open(path).get()); }
  void publish(std::uint64_t generation, bool learn = true) {
    auto subject = std::make_shared<Subject>();
    subject->id = 1;
    subject->events = mask_of(FileEventKind::open);
    subject->recursive = true;
    auto superblock = std::make_shared<Superblock>();
    superblock->table = std::make_shared<SuperblockPolicy>(
        std::vector<Rule>{{std::make_shared<Entry>(Entry{
                               .action = Action::deny, .depth = 0, .path = root + "/guarded", .relative = "", .subject = subject}),
                           true}},
        std::vector<View>{});
    superblock->bases.push_back({root, std::make_shared<const UniqueFd>(::open(base.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC))});
    superblock->learn = learn;
    auto next = std::make_shared<Policy>();
    next->generation = generation;
    next->superblocks[device] = std::move(superblock);
    policy.publish(next);
  }
  // Asked about, so many times; decided by the policy of now, unless another is given.
  void ask(const std::string& path, std::size_t times = 1, bool observed = false, std::shared_ptr<const Policy> by = nullptr) {
    if (!by) by = policy.get();
    for (std::size_t i = 0; i < times; ++i) learner.learn(observed, locator, at(path), *by);
  }
  std::size_t ignored(bool observed = false) const { return marks_of(observed ? groups.observer : groups.gate).size(); }
  std::size_t followed() const { return marks_of(groups.moves).size(); }

  EngineCounters counters;
  const Groups groups{false};
  BpfPrograms programs;
  PolicyBox policy;
  Locator locator{programs, LocatorSlot::gate};
  IgnoreLearner learner;
  fs::path base;
  std::string root;
  Device device = 0;
};

void patience() {
  Bench bench;
  bench.ask("out/a/f", kPatience - 1);
  CHECK(bench.ignored() == 0 && bench.learner.marks() == 0);
  bench.ask("out/a/f");
  CHECK(bench.ignored() == 1 && bench.learner.marks() == 1);
  // The directory and those above it, up to the base, tell of their renames.
  CHECK(bench.followed() == 2);
  for (const std::string& mark : marks_of(bench.groups.gate)) CHECK(mark.find("mask:0 ") != std::string::npos);
  // Of any entry of a directory, not of each.
  std::ofstream(bench.base / "out/b/g") << "x";
  bench.ask("out/b/f", kPatience - 1);
  bench.ask("out/b/g");
  CHECK(bench.ignored() == 2);
  // What is only observed denies nobody less: at once.
  bench.ask("out/c/deep/f", 1, true);
  CHECK(bench.ignored(true) == 1 && bench.ignored() == 2);

  Bench never(100, 0);
  never.ask("out/a/f", 50);
  CHECK(never.ignored() == 0 && never.learner.marks() == 0);
}

void what_is_not_learned() {
  Bench bench;
  bench.ask("guarded/f", 10);
  CHECK(bench.ignored() == 0);
  bench.ask("guarded", 10);  // its directory holds a guarded name
  CHECK(bench.ignored() == 0);
  bench.publish(2, false);  // not all is pinned
  bench.ask("out/a/f", 10);
  CHECK(bench.ignored() == 0);
  const auto old = bench.policy.get();
  bench.publish(3);
  bench.ask("out/a/f", 10, false, old);
  CHECK(bench.ignored() == 0);
  // A newer policy is out, and forget() may be through already.
  const auto before = bench.policy.get();
  bench.publish(4);
  bench.ask("out/b/f", 10, false, before);
  CHECK(bench.ignored() == 0);
  // Nobody guards anything there.
  bench.ask("out/b/f", 10, false, std::make_shared<const Policy>());
  CHECK(bench.ignored() == 0);
  // It has gone, or is another one by now.
  Location location = bench.at("out/a/f");
  for (std::size_t i = 0; i < kPatience; ++i) {
    location = bench.at("out/a/f");
    fs::rename(bench.base / "out/a", bench.base / "out/was-a");
    fs::create_directories(bench.base / "out/a");
    bench.learner.learn(false, bench.locator, location, *bench.policy.get());
    fs::remove(bench.base / "out/a");
    fs::rename(bench.base / "out/was-a", bench.base / "out/a");
  }
  CHECK(bench.ignored() == 0);
  CHECK(bench.learner.marks() == 0);
}

void forgotten() {
  Bench bench;
  const auto learn = [&] {
    bench.ask("out/a/f", kPatience);
    bench.ask("out/c/deep/f", 1, true);
  };
  learn();
  bench.learner.forget({bench.device + 1});
  CHECK(bench.ignored() == 1 && bench.ignored(true) == 1 && bench.counters.forgotten.get() == 0);
  bench.learner.forget({bench.device + 1, bench.device});
  CHECK(bench.ignored() == 0 && bench.ignored(true) == 0 && bench.followed() == 0 && bench.learner.marks() == 0);
  CHECK(bench.counters.forgotten.get() == 1);
  bench.learner.forget({bench.device});  // nothing is left to forget
  CHECK(bench.counters.forgotten.get() == 1);
  // Patience begins anew.
  bench.ask("out/a/f", kPatience - 1);
  CHECK(bench.ignored() == 0);
  bench.ask("out/a/f");
  CHECK(bench.ignored() == 1);

  // Whatever is renamed above it makes us forget it.
  bench.learner.drain_moves();
  CHECK(bench.ignored() == 1 && bench.counters.exposed_move.get() == 0);
  fs::rename(bench.base / "out/b", bench.base / "out/d");  // no business of ours
  bench.learner.drain_moves();
  CHECK(bench.ignored() == 1);
  fs::rename(bench.base / "out", bench.base / "guarded/out");
  bench.learner.drain_moves();
  CHECK(bench.ignored() == 0 && bench.counters.exposed_move.get() == 1);
}

// All are forgotten when there are as many as may be.
void bounded() {
  constexpr std::size_t kLimit = 2;
  Bench bench(kLimit, 1);
  bench.ask("out/a/f");
  bench.ask("out/b/f");
  CHECK(bench.ignored() == 2 && bench.counters.forgotten.get() == 0);
  bench.ask("out/c/deep/f");
  CHECK(bench.ignored() == 1 && bench.learner.marks() == 1 && bench.counters.forgotten.get() == 1);
}

void left_to_identity() {
  Bench bench;
  const UniqueFd directory = bench.open("guarded"), file = bench.open("guarded/f");
  bench.learner.leave_to_identity(file.get(), bench.device, false, FAN_OPEN);  // nothing that it asks about
  CHECK(bench.ignored() == 0 && bench.learner.marks() == 0);
  bench.learner.leave_to_identity(file.get(), bench.device, false, FAN_OPEN_PERM);
  bench.learner.leave_to_identity(directory.get(), bench.device, true, FAN_OPEN_PERM | FAN_ACCESS_PERM);
  CHECK(bench.ignored() == 2 && bench.learner.marks() == 2);
  // Those events, and no others.
  std::size_t files = 0, directories = 0;
  for (const std::string& mark : marks_of(bench.groups.gate)) {
    files += mark.find("ignored_mask:10000 ") != std::string::npos ? 1 : 0;
    directories += mark.find("ignored_mask:48030000 ") != std::string::npos ? 1 : 0;
  }
  CHECK(files == 1 && directories == 1);
  bench.learner.leave_to_identity(-1, bench.device, false, FAN_OPEN_PERM);
  CHECK(bench.learner.marks() == 2);
  bench.learner.forget({bench.device});
  CHECK(bench.ignored() == 0 && bench.learner.marks() == 0);
}

}  // namespace

int main() {
  patience();
  what_is_not_learned();
  forgotten();
  bounded();
  left_to_identity();
  return tap::done();
}
