// What the kernel is told to deny by itself: real files, the real map. (The program that reads it
// is tried by test/kernels/decide.ts.)
#include "identity/kernel_rules.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "ebpf/locator.h"
#include "os/clock.h"
#include "tap.h"

using namespace janus;
namespace fs = std::filesystem;

namespace {

using Kind = FileEventKind;

std::shared_ptr<Subject> subject(std::uint32_t id, std::uint32_t events, std::uint64_t container = 7) {
  auto made = std::make_shared<Subject>();
  made->id = made->guard = id;
  made->container = container;
  made->events = events;
  made->recursive = true;
  return made;
}

constexpr std::uint32_t kOpen = mask_of(Kind::open), kExec = mask_of(Kind::exec);

Rule deny(const char* path, std::shared_ptr<const Subject> of) {
  return {std::make_shared<Entry>(Entry{.action = Action::deny, .depth = 0, .path = path, .relative = "", .subject = std::move(of)}), true};
}

// On a tmpfs of its own.
struct Bench {
  Bench() {
    char name[] = "/tmp/janusd-rules.XXXXXX";
    base = mkdtemp(name);
    if (mount("none", base.c_str(), "tmpfs", 0, nullptr) != 0) std::abort();
    device = locator.locate(open("").get()).raw->dev;
  }
  ~Bench() {
    umount(base.c_str());
    fs::remove(base);
  }

  UniqueFd open(const std::string& path) const { return UniqueFd(::open((base / path).c_str(), O_PATH | O_CLOEXEC)); }
  void file(const std::string& path) const {
    fs::create_directories((base / path).parent_path());
    std::ofstream(base / path) << "x";
  }
  void publish(std::vector<Rule> with, std::uint64_t version = 0) {
    auto next = std::make_shared<Policy>();
    if (!with.empty()) {
      auto superblock = std::make_shared<Superblock>();
      superblock->table = std::make_shared<SuperblockPolicy>(std::move(with), std::vector<View>{});
      superblock->rules_version = version;
      next->superblocks[device] = superblock;
    }
    policies.publish(next);
    rules.changed(device);
  }
  std::uint64_t hold(const std::string& path, std::vector<std::string> as) {
    const UniqueFd fd = open(path);
    const Location at = locator.locate(fd.get());
    rules.hold(fd.get(), at.raw->inode, device, at.directory(), as);
    return at.raw->inode;
  }
  // Who denies it to all; 0: it is asked about.
  std::uint32_t denier(const std::string& path, std::size_t kind = JANUS_DENIED_OPEN, std::uint32_t reach = JANUS_REACH_ITSELF,
                       std::uint64_t container = 7) {
    const auto keys = decider.keys_of(open(path).get());
    if (keys.size() != 1) std::abort();
    janus_rule_key key = keys.front();
    key.container = container;
    const auto rule = decider.rules().inodes.get(key);
    if (!rule) return 0;
    CHECK(has_sign(key.ino, container));
    const janus_ruling& ruling = rule->of[kind][JANUS_TO_ANYBODY];
    return ruling.reach & reach ? ruling.subject : 0;
  }
  // Whether the kernel looks at what has this sign.
  bool has_sign(std::uint64_t sign, std::uint64_t container = 7) const { return decider.rules().filters.has(container, device, sign); }

  // ... whatever is too deep on the superblock that `path` is on.
  std::uint32_t deep_denier(const std::string& path, std::size_t kind = JANUS_DENIED_OPEN, std::uint64_t container = 7) {
    const janus_rule_key at = decider.keys_of(open(path).get()).at(0);
    const auto rule = decider.rules().inodes.get({.container = container, .superblock = at.superblock, .ino = 0, .generation = 0, .dev = 0});
    if (!rule) return 0;
    const janus_ruling& ruling = rule->of[kind][JANUS_TO_ANYBODY];
    return ruling.reach == JANUS_REACH_DEEPER ? ruling.subject : 0;
  }

  // What is denied at a path, as the kernel goes there: by its components.
  std::optional<janus_name> named(std::vector<std::string> path, std::uint64_t container = 7) {
    std::optional<janus_name> at = janus_name{};
    for (const std::string& name : path) {
      janus_name_key key{.container = container, .device = device, .above = at->number, .name = {}};
      name.copy(key.name, sizeof(key.name) - 1);
      if (!(at = decider.rules().names.get(key))) break;
      if (name == path.front()) CHECK(has_sign(RuleFilters::sign_of(name), container));
    }
    return at;
  }
  std::uint32_t denier_at(std::vector<std::string> path, std::uint32_t reach) {
    const auto at = named(std::move(path));
    if (!at) return 0;
    const janus_ruling& ruling = at->rule.of[JANUS_DENIED_OPEN][JANUS_TO_ANYBODY];
    return ruling.reach & reach ? ruling.subject : 0;
  }

  BpfPrograms programs;
  PolicyBox policies;
  Decider decider{programs, Decider::Mode::rules};
  KernelRules rules{decider, policies};
  Locator locator{programs, LocatorSlot::planner};
  fs::path base;
  Device device = 0;
};

void a_rule_lasts_as_long_as_the_policy_is_certain() {
  Bench bench;
  bench.file("d/f");
  bench.publish({deny("/d", subject(1, kOpen))});
  const std::uint64_t directory = bench.hold("d", {"/d"}), file = bench.hold("d/f", {"/d/f"});
  CHECK(bench.denier("d") == 1 && bench.denier("d/f") == 1);
  CHECK(bench.denier("d", JANUS_DENIED_OPEN, JANUS_REACH_ENTRIES) == 1 && bench.denier("d", JANUS_DENIED_OPEN, JANUS_REACH_DEEPER) == 1);
  CHECK(bench.denier("d/f", JANUS_DENIED_OPEN, JANUS_REACH_ENTRIES) == 0);
  CHECK(bench.denier("d", JANUS_DENIED_EXEC) == 0);
  CHECK(bench.denier("d", JANUS_DENIED_OPEN, JANUS_REACH_ITSELF, 8) == 0);
  CHECK(bench.rules.subject(1) != nullptr);

  // Another guard instead.
  bench.publish({deny("/d", subject(2, kExec))});
  CHECK(bench.denier("d") == 0 && bench.denier("d", JANUS_DENIED_EXEC) == 2 && bench.denier("d/f", JANUS_DENIED_EXEC) == 2);
  // It only audits.
  const auto audits = subject(2, kExec);
  audits->enforced = false;
  bench.publish({deny("/d", audits)});
  CHECK(bench.denier("d", JANUS_DENIED_EXEC) == 0 && bench.denier("d/f", JANUS_DENIED_EXEC) == 0);
  bench.publish({deny("/d", subject(3, kOpen))});
  CHECK(bench.denier("d") == 3);
  bench.publish({});
  CHECK(bench.denier("d") == 0 && bench.denier("d/f") == 0);
  // What was denied meanwhile can still be recorded.
  CHECK(bench.rules.subject(3) != nullptr);
  bench.rules.forget_unused(0);
  CHECK(bench.rules.subject(1) != nullptr && bench.rules.subject(3) != nullptr);
  bench.rules.forget_unused(monotonic_ns());
  CHECK(bench.rules.subject(1) == nullptr && bench.rules.subject(3) == nullptr);

  bench.publish({deny("/d", subject(4, kOpen))});
  CHECK(bench.denier("d") == 4 && bench.denier("d/f") == 4);
  bench.rules.forget_unused(monotonic_ns());
  CHECK(bench.rules.subject(4) != nullptr);
  CHECK(bench.has_sign(directory) && !bench.has_sign(file));
  bench.rules.release(directory);
  CHECK(!bench.has_sign(directory));
  CHECK(bench.denier("d") == 0 && bench.denier("d/f") == 4);
  bench.rules.release(file);
  CHECK(bench.denier("d/f") == 0);
}

void a_version_says_whether_there_is_anything_to_judge() {
  Bench bench;
  bench.file("f");
  bench.publish({deny("/f", subject(1, kOpen))}, 5);
  bench.hold("f", {"/f"});
  CHECK(bench.denier("f") == 1);
  bench.publish({deny("/f", subject(2, kOpen))}, 6);
  CHECK(bench.denier("f") == 2);
  bench.publish({}, 0);
  CHECK(bench.denier("f") == 0);
}

void what_it_is_guarded_as_counts_and_each_of_two_that_share_an_inode() {
  Bench bench;
  bench.file("d/f");
  bench.file("out/x");
  bench.publish({deny("/d", subject(1, kOpen)), deny("/e", subject(2, kExec))});
  // It was in both, and is in neither.
  const std::uint64_t inode = bench.hold("out/x", {"/d/x", "/e/x"});
  CHECK(bench.denier("out/x") == 1 && bench.denier("out/x", JANUS_DENIED_EXEC) == 2);
  CHECK(bench.rules.paths_of(inode).size() == 2);
  const std::string one = "/e/x";
  bench.rules.change(inode, {&one, 1});
  CHECK(bench.denier("out/x") == 0 && bench.denier("out/x", JANUS_DENIED_EXEC) == 2);
  // As two names of a lower inode in an overlay are: one map entry, from two inodes.
  const UniqueFd fd = bench.open("out/x");
  const std::string other = "/d/x";
  bench.rules.hold(fd.get(), 4711, bench.device, false, {&other, 1});
  CHECK(bench.denier("out/x") == 1 && bench.denier("out/x", JANUS_DENIED_EXEC) == 2);
  bench.rules.release(inode);
  CHECK(bench.denier("out/x") == 1 && bench.denier("out/x", JANUS_DENIED_EXEC) == 0);
  bench.rules.release(4711);
  CHECK(bench.denier("out/x") == 0);
}

void what_is_too_deep_is_denied_as_long_as_anything_deep_is() {
  Bench bench;
  bench.file("d/f");
  bench.file("e/f");
  bench.file("flat/f");
  const auto flat = subject(3, kOpen);
  flat->recursive = false;
  bench.publish({deny("/d", subject(1, kOpen)), deny("/e", subject(2, kOpen | kExec)), deny("/flat", flat)});
  bench.hold("flat", {"/flat"});
  bench.hold("d/f", {"/d/f"});
  CHECK(bench.deep_denier("d") == 0);
  const std::uint64_t first = bench.hold("d", {"/d"}), second = bench.hold("e", {"/e"});
  CHECK(bench.deep_denier("d") == 1 && bench.deep_denier("d", JANUS_DENIED_EXEC) == 2);
  CHECK(bench.deep_denier("d", JANUS_DENIED_OPEN, 8) == 0);
  bench.rules.release(first);
  CHECK(bench.deep_denier("d") == 2);
  bench.publish({deny("/e", subject(4, kExec))});
  CHECK(bench.deep_denier("d") == 0 && bench.deep_denier("d", JANUS_DENIED_EXEC) == 4);
  bench.rules.release(second);
  CHECK(bench.deep_denier("d", JANUS_DENIED_EXEC) == 0);
}

void many_are_judged_again() {
  Bench bench;
  constexpr int kFiles = 500;
  bench.publish({deny("/d", subject(1, kOpen))});
  for (int i = 0; i < kFiles; ++i) {
    const std::string name = "d/" + std::to_string(i);
    bench.file(name);
    bench.hold(name, {"/" + name});
  }
  const auto denied = [&] {
    int count = 0;
    for (int i = 0; i < kFiles; ++i) count += bench.denier("d/" + std::to_string(i)) != 0;
    return count;
  };
  CHECK(denied() == kFiles);
  bench.publish({});
  CHECK(denied() == 0);
}

std::shared_ptr<Subject> of_container(std::uint32_t id) {
  auto made = subject(id, kOpen);
  made->only_container = true;
  return made;
}

void a_path_is_denied_whatever_stands_there() {
  Bench bench;
  const auto flat = of_container(2);
  flat->recursive = false;
  bench.publish({deny("/a/b", of_container(1)), deny("/a/b/c/d", flat), deny("/e", subject(3, kOpen, 8))});
  CHECK(bench.denier_at({"a"}, JANUS_REACH_ITSELF) == 0 && bench.named({"a"}));
  for (const std::uint32_t reach : {JANUS_REACH_ITSELF, JANUS_REACH_ENTRIES, JANUS_REACH_DEEPER}) CHECK(bench.denier_at({"a", "b"}, reach) == 1);
  CHECK(bench.named({"a", "b", "c", "d"}) && !bench.named({"a", "c"}) && !bench.named({"b"}));
  CHECK(!bench.named({"e"}) && bench.named({"e"}, 8) && !bench.named({"a"}, 8));
  // Directories keep their numbers: whoever is on the way goes on.
  const std::uint32_t number = bench.named({"a"})->number;
  bench.publish({deny("/a/x", of_container(4))});
  CHECK(bench.named({"a"})->number == number && !bench.named({"a", "b"}) && !bench.named({"e"}, 8));
  CHECK(bench.denier_at({"a", "x"}, JANUS_REACH_DEEPER) == 4);
  bench.publish({deny("", of_container(5))});
  CHECK(!bench.named({"a"}) && !bench.has_sign(RuleFilters::sign_of("a")));
  bench.publish({});
  CHECK(!bench.named({"a"}));
}

void changes_have_rules_of_their_own() {
  constexpr std::uint32_t kDelete = mask_of(Kind::remove), kMoves = mask_of(Kind::movedfrom) | mask_of(Kind::movedto);
  Bench bench;
  bench.file("a/b/f");
  const auto ruling = [](const std::optional<janus_change_rule>& rule, std::uint32_t kind, std::uint32_t reach) -> std::uint32_t {
    if (!rule) return 0;
    const janus_ruling& of = rule->of[kind - JANUS_OPENS][JANUS_TO_ANYBODY];
    return of.reach & reach ? of.subject : 0;
  };
  const auto at = [&](std::vector<std::string> path) {
    const auto name = bench.named(std::move(path));
    return name ? bench.decider.rules().changes_at.get(name->number) : std::nullopt;
  };
  const auto inode = [&](const std::string& path) {
    janus_rule_key key = bench.decider.keys_of(bench.open(path).get()).at(0);
    key.container = 7;
    return bench.decider.rules().changes.get(key);
  };
  const auto anywhere = [&] { return bench.decider.rules().changes_anywhere.get(janus_guarded_key{.container = 7, .device = bench.device, .pad = 0}); };
  bench.hold("a/b", {"/a/b"});
  bench.hold("a/b/f", {"/a/b/f"});
  bench.publish({deny("/a/b", subject(1, kOpen))});
  CHECK(!inode("a/b") && !at({"a", "b"}) && !anywhere());

  bench.publish({deny("/a/b", subject(2, kDelete | kMoves))});
  CHECK(bench.denier("a/b") == 0 && ruling(inode("a/b"), JANUS_DENIED_DELETE, JANUS_REACH_DEEPER) == 2);
  CHECK(ruling(inode("a/b/f"), JANUS_DENIED_DELETE, JANUS_REACH_ITSELF) == 2 && ruling(inode("a/b/f"), JANUS_DENIED_WRITE, JANUS_REACH_ITSELF) == 0);
  CHECK(ruling(at({"a", "b"}), JANUS_DENIED_DELETE, JANUS_REACH_DEEPER) == 2);
  // What leads there may not be moved; all else is free.
  CHECK(ruling(at({"a"}), JANUS_DENIED_MOVEDFROM, JANUS_REACH_ITSELF) == 2 && ruling(at({"a"}), JANUS_DENIED_MOVEDTO, JANUS_REACH_ITSELF) == 2);
  CHECK(ruling(at({"a"}), JANUS_DENIED_MOVEDFROM, JANUS_REACH_ENTRIES) == 0 && ruling(at({"a"}), JANUS_DENIED_DELETE, JANUS_REACH_ITSELF) == 0);
  CHECK(ruling(anywhere(), JANUS_DENIED_DELETE, JANUS_REACH_DEEPER) == 2);

  // Where nothing deep is denied a container is known all the same.
  const auto flat = subject(3, kDelete);
  flat->recursive = false;
  bench.publish({deny("/a/b", flat)});
  CHECK(anywhere() && ruling(anywhere(), JANUS_DENIED_DELETE, JANUS_REACH_DEEPER) == 0);
  CHECK(ruling(inode("a/b"), JANUS_DENIED_DELETE, JANUS_REACH_ENTRIES) == 3 && ruling(at({"a"}), JANUS_DENIED_MOVEDFROM, JANUS_REACH_ITSELF) == 0);
  // Denials add up, whatever another subject of the guard says nearer by.
  const auto owned = subject(4, kDelete);
  owned->guard = 3;
  owned->auto_allow_owner = true;
  bench.publish({deny("/a/b", flat), deny("/a/b/f", owned)});
  CHECK(ruling(inode("a/b/f"), JANUS_DENIED_DELETE, JANUS_REACH_ITSELF) == 3);
  bench.publish({});
  CHECK(!inode("a/b") && !inode("a/b/f") && !anywhere());
}

void the_kernel_decides_alone_where_all_is_certain() {
  Bench bench;
  bench.file("a/f");
  const auto alone = [&](std::vector<Rule> rules) {
    bench.publish(std::move(rules));
    return bench.rules.alone(bench.device);
  };
  CHECK(!bench.rules.alone(bench.device));
  CHECK(alone({deny("/a", of_container(1)), deny("/a/f", of_container(2))}));
  CHECK(!alone({deny("/a", of_container(1)), deny("/b", subject(2, kOpen))}));  // to everyone
  const auto allowed = std::make_shared<Entry>(Entry{.action = Action::allow, .depth = 0, .path = "/a/n", .relative = "", .subject = of_container(2)});
  CHECK(!alone({deny("/a", of_container(1)), {allowed, true}}));
  const auto reads = of_container(3);
  reads->events = mask_of(Kind::access);
  CHECK(!alone({deny("/a", reads)}));
  const auto audits = of_container(3);
  audits->enforced = false;
  CHECK(!alone({deny("/a", of_container(1)), deny("/a", audits)}));
  const std::string longest(JANUS_NAME - 2, 'n'), longer(JANUS_NAME - 1, 'n');
  CHECK(alone({deny(("/" + longest).c_str(), of_container(1))}));
  CHECK(bench.denier_at({longest}, JANUS_REACH_ITSELF) == 1);
  CHECK(!alone({deny(("/" + longer).c_str(), of_container(1))}));
  std::string deep;
  for (int level = 0; level < JANUS_LEVELS; ++level) deep += "/d";
  CHECK(alone({deny(deep.c_str(), of_container(1))}));
  CHECK(!alone({deny((deep + "/d").c_str(), of_container(1))}));
  // Owners are exempt: what they open is told.
  const auto owned = of_container(4);
  owned->auto_allow_owner = true;
  CHECK(alone({deny("/a", owned)}) && !bench.rules.complete(bench.device));
  CHECK(alone({deny("/a", of_container(1))}) && bench.rules.complete(bench.device));
  // An inode that can't be told from others.
  CHECK(alone({deny("/a", of_container(1))}));
  const UniqueFd proc(::open("/proc/self/status", O_PATH | O_CLOEXEC));
  const std::string path = "/a";
  bench.rules.hold(proc.get(), 4711, bench.device, false, {&path, 1});
  CHECK(!bench.rules.alone(bench.device));
  bench.publish({});
  CHECK(alone({deny("/a", of_container(1))}));
}

void so_many_paths_find_room() {
  Bench bench;
  const std::size_t names = bench.decider.rules().names.capacity(), changes = bench.decider.rules().changes_at.capacity();
  CHECK(bench.rules.has_room({.components = names, .of_changes = changes}));
  CHECK(!bench.rules.has_room({.components = names + 1, .of_changes = 0}));
  bench.publish({deny("/a/b", of_container(1))});
  CHECK(!bench.rules.has_room({.components = names - 1, .of_changes = changes}));
  CHECK(bench.rules.has_room({.components = names - 2, .of_changes = changes}));
  const auto deletes = of_container(2);
  deletes->events = mask_of(Kind::remove);
  bench.publish({deny("/a/b/c", deletes)});
  CHECK(!bench.rules.has_room({.components = 0, .of_changes = changes - 2}));
  CHECK(bench.rules.has_room({.components = names - 3, .of_changes = changes - 3}));
  bench.publish({});
  CHECK(bench.rules.has_room({.components = names, .of_changes = changes}));
}

void a_rule_that_comes_anew_has_another_version() {
  Bench bench;
  bench.file("d/f");
  const auto version = [&] {
    janus_rule_key key = bench.decider.keys_of(bench.open("d").get()).at(0);
    key.container = 7;
    return bench.decider.rules().inodes.get(key)->version;
  };
  bench.publish({deny("/d", subject(1, kOpen))});
  bench.hold("d", {"/d"});
  const std::uint32_t first = version();
  CHECK(first != 0);
  bench.publish({deny("/d", subject(2, kExec))});
  CHECK(version() == first);
  bench.publish({});
  bench.publish({deny("/d", subject(3, kOpen))});
  CHECK(version() > first);
}

// By an overlay: the inodes of its layers, through it alone.
void an_overlay_is_known_by_its_layers() {
  Bench bench;
  for (const char* path : {"lower/d/f", "lower/d/two", "upper/mine", "work/x"}) bench.file(path);
  fs::create_hard_link(bench.base / "lower/d/two", bench.base / "lower/d/names");
  fs::create_directories(bench.base / "merged");
  fs::remove(bench.base / "work/x");
  const std::string options = "lowerdir=" + (bench.base / "lower").string() + ",upperdir=" + (bench.base / "upper").string() +
                              ",workdir=" + (bench.base / "work").string();
  if (mount("none", (bench.base / "merged").c_str(), "overlay", 0, options.c_str()) != 0) std::abort();
  const auto keys = [&](const std::string& path) { return bench.decider.keys_of(bench.open(path).get()); };
  const auto same = [](const janus_rule_key& one, const janus_rule_key& other) {
    return one.ino == other.ino && one.dev == other.dev && one.generation == other.generation;
  };
  CHECK(keys("merged/d/f").size() == 1 && same(keys("merged/d/f")[0], keys("lower/d/f")[0]));
  CHECK(keys("merged/d/f")[0].superblock != keys("lower/d/f")[0].superblock);
  CHECK(keys("merged/mine").size() == 1 && same(keys("merged/mine")[0], keys("upper/mine")[0]));
  CHECK(same(keys("merged/d/two")[0], keys("merged/d/names")[0]));
  CHECK(keys("merged/d").size() == 1);
  // Copied up, it stays known by what it was; but not if that has other names.
  const auto before = keys("merged/d/f")[0], two = keys("merged/d/two")[0];
  CHECK(chmod((bench.base / "merged/d/f").c_str(), 0600) == 0 && chmod((bench.base / "merged/d/two").c_str(), 0600) == 0);
  CHECK(keys("merged/d/f").size() == 2 && same(keys("merged/d/f")[1], before));
  CHECK(keys("merged/d/two").size() == 1 && !same(keys("merged/d/two")[0], two) && same(keys("merged/d/names")[0], two));
  CHECK(keys("merged/d").size() == 2 && same(keys("merged/d")[0], keys("upper/d")[0]) && same(keys("merged/d")[1], keys("lower/d")[0]));
  umount((bench.base / "merged").c_str());
}

void what_has_no_sure_number_is_not_known() {
  BpfPrograms programs;
  const Decider decider(programs, Decider::Mode::rules);
  CHECK(decider.works());
  const UniqueFd proc(::open("/proc/self/status", O_PATH | O_CLOEXEC));
  CHECK(decider.keys_of(proc.get()).empty());
  CHECK(decider.keys_of(-1).empty());
}

}  // namespace

int main() {
  a_rule_lasts_as_long_as_the_policy_is_certain();
  a_version_says_whether_there_is_anything_to_judge();
  what_it_is_guarded_as_counts_and_each_of_two_that_share_an_inode();
  what_is_too_deep_is_denied_as_long_as_anything_deep_is();
  many_are_judged_again();
  a_path_is_denied_whatever_stands_there();
  changes_have_rules_of_their_own();
  the_kernel_decides_alone_where_all_is_certain();
  so_many_paths_find_room();
  a_rule_that_comes_anew_has_another_version();
  an_overlay_is_known_by_its_layers();
  what_has_no_sure_number_is_not_known();
  return tap::done();
}
