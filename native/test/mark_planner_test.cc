// Guards on a real container: what a request that fails leaves, and what one that
// succeeds does. Marks are read in /proc/self/fdinfo, processes in the eBPF map.
#include "cover/mark_planner.h"

#include <bpf/bpf.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "container.h"
#include "kernel_state.h"
#include "tap.h"
#include "temporary_directory.h"

using namespace janus;
namespace fs = std::filesystem;

namespace {

struct Bench {
  explicit Bench(std::size_t names_of_one = NameWatch::kNamesOfOne)
      : names{groups, [](const std::set<NameOwner>&) {}, names_of_one} {
    programs.set_identity_group(groups.identity.fd());
    planner.set_name_watch(&names);
    for (TestContainer* each : {&one, &two}) {
      fs::create_directories(each->volume() / "s/deep");
      std::ofstream(each->volume() / "s/token") << "x";
      std::ofstream(each->image() / "etc/secret") << "x";
      std::ofstream(each->image() / "etc/open") << "x";
      mkfifo((each->image() / "tmp/fifo").c_str(), 0600);
      fs::create_symlink("loop", each->image() / "tmp/loop");
      CHECK(each->start());
    }
  }
  // Nobody answers here: what is pinned would hold whoever removes it.
  ~Bench() { groups.release_permission(); }

  SubjectSpec subject(const TestContainer& on, std::vector<std::string> deny) {
    SubjectPolicy policy;
    policy.deny = std::move(deny);
    policy.events = mask_of(FileEventKind::open);
    policy.recursive = true;
    return {next_subject++, on.id(), std::make_shared<const SubjectPolicy>(std::move(policy))};
  }
  GuardSpec guard(std::uint32_t key, std::vector<SubjectSpec> subjects) { return {.key = key, .subjects = std::move(subjects)}; }
  // The error's code; nothing: it was applied.
  std::optional<ErrorCode> apply(const GuardSpec& spec) {
    try {
      auto applied = planner.apply({&spec, 1});
      jobs = std::move(applied.jobs);
      sweep(applied.before);
      return std::nullopt;
    } catch (const Error& error) {
      std::printf("#   %s\n", error.what());
      where = {error.subject_index, error.path};
      return error.code;
    }
  }
  void remove(std::uint32_t key) {
    bool existed = false;
    sweep(planner.remove(key, existed));
    CHECK(existed);
  }
  void sweep(const MarkPlanner::Before& before) {
    for (const auto& [device, superblock] : before)
      identities.sweep(device, policy, [](const std::string&) { return UniqueFd(); }, sweeping);
  }

  struct State {
    Marks gate, observer, identity;
    std::shared_ptr<const Policy> policy;  // the very same object
    std::size_t processes, containers, pins, places, superblocks, mounts;
    std::map<std::uint64_t, std::uint32_t> watched;
    bool operator==(const State&) const = default;
  };
  State state() {
    tracker.drain();
    std::size_t processes = 0;
    std::uint32_t last = 0, tgid = 0;
    for (const std::uint32_t* at = nullptr; bpf_map_get_next_key(programs.tasks_fd(), at, &tgid) == 0; at = &last) {
      last = tgid;
      ++processes;
    }
    const auto counts = planner.mark_counts();
    return {marks_of(groups.gate), marks_of(groups.observer), marks_of(groups.identity), policy.get(),
            processes,            tracker.containers(),       identities.size(),
            planner.places().size(), counts.superblock,       counts.mount,              planner.watched()};
  }
  // By where something is; each of the container's file systems is one device.
  bool learns(const fs::path& at) {
    const UniqueFd fd(open(at.c_str(), O_PATH | O_CLOEXEC));
    const auto now = policy.get();
    const Superblock* superblock = now->find(sweeping.locate(fd.get()).raw->dev);
    return superblock != nullptr && superblock->learn;
  }

  const TemporaryDirectory base{"planner"};
  TestContainer one{base.path, 'a'}, two{base.path, 'b'};
  EngineCounters counters;
  Refusals refusals;
  PolicyBox policy;
  const Groups groups{false};
  BpfPrograms programs;
  Tracker tracker{programs, {}};
  TreeWatch trees{groups, counters};
  IdentityTable identities{groups, programs, trees, refusals, 1000};
  IgnoreLearner learner{groups, policy, counters, 100, 0};
  Decider decider{programs, Decider::Mode::rules};
  MarkPlanner planner{{programs, tracker, groups, decider, policy, identities, learner, counters, refusals, false}};
  NameWatch names;
  Locator sweeping{programs, LocatorSlot::scanner};
  std::uint32_t next_subject = 1;
  MarkPlanner::ScanJobs jobs;
  std::pair<int, std::string> where;
};

struct Refused {
  const char* what;
  ErrorCode code;
  std::vector<SubjectSpec> subjects;
};

// Requests of which the last part cannot be had.
std::vector<Refused> refused(Bench& bench) {
  const auto good = [&] { return bench.subject(bench.one, {"/etc/secret", "/data/s"}); };
  std::vector<Refused> all;
  all.push_back({"a container that is not there", ErrorCode::not_found, {good(), bench.subject(bench.two, {"/etc/secret"}), good()}});
  all.back().subjects.back().container_id = std::string(64, 'f');
  all.push_back({"/proc", ErrorCode::invalid, {good(), bench.subject(bench.two, {"/data/s", "/proc/meminfo"})}});
  all.push_back({"a FIFO", ErrorCode::invalid, {bench.subject(bench.one, {"/etc/secret", "/data/s", "/tmp/fifo"})}});
  all.push_back({"a link to itself", ErrorCode::invalid, {bench.subject(bench.one, {"/etc/secret", "/tmp/loop"})}});
  return all;
}

void refused_changes_nothing() {
  Bench bench;
  auto before = bench.state();
  CHECK(before.containers == 0 && before.processes == 0 && before.gate.empty());
  for (const auto& [what, code, subjects] : refused(bench)) {
    std::printf("# %s\n", what);
    CHECK(bench.apply(bench.guard(7, subjects)) == code);
    CHECK(bench.where.first == static_cast<int>(subjects.size()) - 1);
    CHECK(bench.state() == before);
  }
  bool existed = true;
  bench.planner.remove(7, existed);
  CHECK(!existed);

  // With other guards, and one that would have been replaced.
  CHECK(!bench.apply(bench.guard(1, {bench.subject(bench.one, {"/etc/secret"})})));
  CHECK(!bench.apply(bench.guard(7, {bench.subject(bench.one, {"/data/s"})})));
  before = bench.state();
  CHECK(before.containers == 1 && before.superblocks == 1 && before.mounts == 1 && before.pins == 2);
  for (const std::uint32_t key : {7u, 8u}) {
    for (const auto& [what, code, subjects] : refused(bench)) {
      std::printf("# %s, guard %u\n", what, key);
      CHECK(bench.apply(bench.guard(key, subjects)) == code);
      CHECK(bench.state() == before);
    }
  }
  // A container that nobody follows any more can be followed again.
  CHECK(!bench.apply(bench.guard(9, {bench.subject(bench.two, {"/etc/secret"})})));
  CHECK(bench.state().containers == 2);
}

// Whichever descriptor it is that cannot be had.
void without_descriptors() {
  Bench bench;
  CHECK(!bench.apply(bench.guard(1, {bench.subject(bench.one, {"/etc/secret"})})));
  const auto before = bench.state();
  const GuardSpec spec = bench.guard(2, {bench.subject(bench.one, {"/data/s", "/etc/open"}), bench.subject(bench.two, {"/data/s"})});
  const rlim_t free = first_free();
  int failed = 0;
  bool done = false;
  for (rlim_t more = 0; more < 300 && !done; ++more) {
    std::optional<ErrorCode> code;
    {
      const Limit limit(free + more);
      code = bench.apply(spec);
    }
    done = !code;
    if (done) break;
    ++failed;
    if (code != ErrorCode::exhausted) CHECK(!"it says that there are no resources");
    if (bench.state() != before) {
      std::printf("# with %d\n", static_cast<int>(more));
      CHECK(!"all is as before");
    }
  }
  CHECK(done && failed > 5);
  const auto after = bench.state();
  CHECK(after.containers == 2 && after.superblocks == 1 && after.mounts == 2 && after.pins == 4);
}

void comes_and_goes() {
  Bench bench;
  const auto before = bench.state();
  CHECK(!bench.apply(bench.guard(1, {bench.subject(bench.one, {"/etc/secret", "/data/s"}), bench.subject(bench.two, {"/etc/nothing"})})));
  auto now = bench.state();
  CHECK(now.superblocks == 2 && now.mounts == 1 && now.places == 2 && now.pins == 2);
  CHECK(now.pins == 2 && bench.jobs.size() == 1 && bench.jobs[0].path.ends_with("/s"));
  CHECK(now.watched.size() == 2);
  const auto notes = bench.planner.notes(1);
  CHECK(notes.size() == 1 && notes[0].missing && notes[0].path == "/etc/nothing");
  // The same again takes nothing away, and adds nothing but a policy.
  CHECK(!bench.apply(bench.guard(1, {bench.subject(bench.one, {"/data/s"})})));
  now = bench.state();
  CHECK(now.superblocks == 0 && now.mounts == 1 && now.pins == 1);
  bench.remove(1);
  now = bench.state();
  CHECK(now.gate == before.gate && now.observer == before.observer && now.policy->superblocks.empty());
  CHECK(now.pins == 0 && now.watched.empty() && bench.names.marks() == 0);

  // Its end takes it out of a guard that goes on.
  CHECK(!bench.apply(bench.guard(2, {bench.subject(bench.one, {"/etc/secret"}), bench.subject(bench.two, {"/etc/secret"})})));
  const std::uint64_t ends = bench.tracker.find(bench.two.id()).cgroup;
  bench.two.stop();
  CHECK(bench.planner.container_ended(ends).size() == 1);
  now = bench.state();
  CHECK(now.places == 1 && now.watched.size() == 1 && now.policy->superblocks.size() == 1);
  // One that has ended is refused, and takes nothing from the other.
  const auto held = bench.state();
  CHECK(bench.apply(bench.guard(2, {bench.subject(bench.one, {"/etc/open"}), bench.subject(bench.two, {"/etc/secret"})})) ==
        ErrorCode::not_found);
  CHECK(bench.state() == held);
}

// A superblock learns when all that guards deny there is pinned.
void scans() {
  Bench bench;
  const auto data = bench.one.volume();
  const GuardSpec spec = bench.guard(1, {bench.subject(bench.one, {"/data/s"})});
  CHECK(!bench.apply(spec));
  const ScanJob first = bench.jobs.at(0);
  CHECK(!bench.learns(data));
  // Made again while it is scanned: the first scan says nothing about the second.
  bench.remove(1);
  CHECK(!bench.apply(spec));
  const ScanJob second = bench.jobs.at(0);
  CHECK(second.token != first.token && second.device == first.device);
  bench.planner.scanned(first.device, first.token, true);
  CHECK(!bench.learns(data));
  bench.planner.scanned(second.device, second.token, true);
  CHECK(bench.learns(data));
  bench.planner.scanned(second.device, second.token, false);  // told twice: nobody waits for it
  CHECK(bench.learns(data));
  // With another guard there, the device's scans go on.
  CHECK(!bench.apply(bench.guard(2, {bench.subject(bench.one, {"/data/s/deep"})})));
  const ScanJob other = bench.jobs.at(0);
  CHECK(!bench.learns(data));
  bench.remove(1);
  bench.planner.scanned(other.device, other.token, true);
  CHECK(bench.learns(data));
  const auto again = bench.planner.scan_again(other.device);
  CHECK(again.size() == 1 && !bench.learns(data));
  CHECK(bench.planner.scan_again(other.device + 1).empty());
  bench.planner.scanned(other.device, again[0].token, false);
  CHECK(!bench.learns(data));  // not all is pinned
  bench.remove(2);
  CHECK(!bench.apply(spec));
  bench.planner.scanned(bench.jobs.at(0).device, bench.jobs.at(0).token, true);
  CHECK(bench.learns(data));  // for guards that are gone it doesn't matter
}

// A mount that comes is marked; what cannot be resolved any more keeps its marks.
void replans() {
  Bench bench;
  CHECK(!bench.apply(bench.guard(1, {bench.subject(bench.one, {"/data/s", "/etc/secret"})})));
  const std::uint64_t container = bench.tracker.find(bench.one.id()).cgroup;
  const auto before = bench.state();
  CHECK(!bench.planner.replan_container(container).changed);
  CHECK(bench.state().gate == before.gate);
  {
    const Limit limit(first_free());
    CHECK(!bench.planner.replan_container(container).changed);
    CHECK(bench.planner.replan_names(container, {1}).empty());
  }
  CHECK(bench.state().gate == before.gate && bench.counters.exposed_rescan.get() > 0);
  CHECK(!bench.planner.replan_container(container + 1).changed);
  // It appears elsewhere.
  fs::rename(bench.one.volume() / "s", bench.one.volume() / "t");
  bench.planner.replan_names(container, {1, 99});
  CHECK(bench.counters.exposed_path.get() == 0);  // it leads to the same place, where nothing is now
  fs::create_directories(bench.one.volume() / "s");
  CHECK(bench.planner.replan_names(container, {1}).size() <= 1);
  CHECK(bench.state().pins == 3);
}

// A container has its share of names that are watched. Who needs more is refused, and named.
void without_names() {
  Bench bench(6);
  CHECK(!bench.apply(bench.guard(1, {bench.subject(bench.one, {"/data/s/token"})})));
  const auto before = bench.state();
  CHECK(bench.apply(bench.guard(2, {bench.subject(bench.one, {"/etc/open", "/data/s/deep"})})) == ErrorCode::exhausted);
  CHECK(bench.state() == before && bench.where.second == "/data/s/deep");
  const auto refused = bench.refusals.all();
  CHECK(refused.size() == 1 && refused[0].resource == "names" && refused[0].container == bench.one.id());
  // Another container has its own, and what is given back can be had again.
  CHECK(!bench.apply(bench.guard(3, {bench.subject(bench.two, {"/data/s/token"})})));
  bench.remove(1);
  CHECK(!bench.apply(bench.guard(2, {bench.subject(bench.one, {"/etc/open", "/data/s/deep"})})));
}

// As where the kernel takes fmod_ret programs: what it would deny by itself is said to it.
struct KernelBench : Bench {
  KernelBench() {
    identities.set_kernel_rules(&rules);
    planner.set_published([this](const std::set<Device>& devices) {
      for (const Device device : devices) rules.changed(device);
    });
  }
  ~KernelBench() {
    planner.set_published({});
    identities.set_kernel_rules(nullptr);
  }
  // A guard that the kernel can decide about alone.
  GuardSpec plain(std::uint32_t key, bool exempts_owners = false, const std::string& path = "/etc") {
    SubjectPolicy policy;
    policy.deny = {path};
    policy.events = mask_of(FileEventKind::open) | mask_of(FileEventKind::exec);
    policy.recursive = policy.only_container = true;
    policy.auto_allow_owner = exempts_owners;
    return guard(key, {{next_subject++, one.id(), std::make_shared<const SubjectPolicy>(std::move(policy))}});
  }
  void scanned(bool complete) {
    for (const ScanJob& job : std::exchange(jobs, {})) planner.scanned(job.device, job.token, complete);
  }
  // By a superblock's mark. What is pinned has others.
  bool asks() const {
    return std::ranges::any_of(marks_of(groups.gate), [](const std::string& mark) { return mark.starts_with("fanotify sdev:"); });
  }

  KernelRules rules{decider, policy};
};

// Where the kernel denies all that is denied, no mark of a superblock asks the gate.
void left_to_the_kernel() {
  KernelBench bench;
  CHECK(!bench.apply(bench.plain(1)));
  const Device device = bench.jobs.at(0).device;
  CHECK(bench.asks());  // not all is pinned yet
  bench.scanned(true);
  CHECK(!bench.asks() && bench.planner.mark_counts().superblock == 0);
  // Mounts are looked at again, and it stays so.
  bench.planner.replan_container(bench.tracker.find(bench.one.id()).cgroup);
  CHECK(!bench.asks());
  // Something else is denied there, and no more.
  CHECK(!bench.apply(bench.guard(2, {bench.subject(bench.one, {"/etc/open"})})));
  CHECK(bench.asks());
  bench.scanned(true);
  CHECK(bench.asks());
  bench.remove(2);
  CHECK(!bench.asks());
  // A guard that can't be had changes nothing.
  CHECK(bench.apply(bench.guard(2, {bench.subject(bench.one, {"/etc/open", "/proc/meminfo"})})) == ErrorCode::invalid);
  CHECK(!bench.asks());
  // What has appeared was lost: until all is pinned again.
  bench.jobs = bench.planner.scan_again(device);
  CHECK(bench.asks());
  bench.scanned(true);
  CHECK(!bench.asks());
  bench.jobs = bench.planner.scan_again(device);
  bench.scanned(false);
  CHECK(bench.asks());
  bench.remove(1);
  // Owners are asked about: what they may is told.
  CHECK(!bench.apply(bench.plain(1, true)));
  bench.scanned(true);
  CHECK(bench.learns(bench.one.root() / "etc") && bench.asks());
}

// Where a path leads may change at once, and only a plan tells.
void paths_that_may_lead_elsewhere() {
  KernelBench bench;
  fs::create_symlink("etc", bench.one.root() / "alias");
  CHECK(!bench.apply(bench.plain(1)));
  bench.scanned(true);
  CHECK(!bench.asks());
  for (const char* path : {"/alias", "/alias/secret", "/not-there", "/etc/not-there"}) {
    CHECK(!bench.apply(bench.plain(2, false, path)));
    bench.scanned(true);
    CHECK(bench.asks());
    bench.remove(2);
    CHECK(!bench.asks());
  }
}

// Rules that find no room leave the rest to the gate.
void no_room_in_the_kernel() {
  KernelBench bench;
  CHECK(!bench.apply(bench.plain(1)));
  bench.scanned(true);
  bench.planner.look_for_room();
  CHECK(!bench.asks());
  auto& guarded = bench.decider.rules().guarded;
  for (std::uint64_t container = 1; guarded.full() == 0; ++container) guarded.set({.container = container, .device = 1, .pad = 0}, 1);
  bench.planner.look_for_room();
  CHECK(bench.asks());
}

}  // namespace

int main() {
  refused_changes_nothing();
  without_descriptors();
  comes_and_goes();
  scans();
  replans();
  without_names();
  left_to_the_kernel();
  paths_that_may_lead_elsewhere();
  no_room_in_the_kernel();
  return tap::done();
}
