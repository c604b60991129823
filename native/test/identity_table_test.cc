// Pinned inodes with their reasons: real files, real marks, real eBPF maps.
#include "identity/identity_table.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "identity/judge.h"
#include "tap.h"

using namespace janus;
namespace fs = std::filesystem;

namespace {

using Kind = FileEventKind;

std::shared_ptr<Subject> subject(std::uint32_t guard, Kind kind, bool owner = false, std::uint64_t container = 7) {
  auto made = std::make_shared<Subject>();
  made->id = made->guard = guard;
  made->container = container;
  made->events = mask_of(kind);
  made->recursive = true;
  made->auto_allow_owner = owner;
  return made;
}

struct Bench {
  Bench() {
    programs.set_identity_group(groups.identity.fd());
    char name[] = "/tmp/janusd-identity.XXXXXX";
    base = mkdtemp(name);
    root = std::string(at("").path);
    device = at("").raw->dev;
  }
  ~Bench() {
    groups.release_permission();  // nobody would answer the removal of a pinned directory
    fs::remove_all(base);
  }

  UniqueFd open(const std::string& path) const { return UniqueFd(::open((base / path).c_str(), O_PATH | O_CLOEXEC)); }
  // Valid until the next one.
  Location at(const std::string& path) {
    return locator.locate(open(path).get(), 0, true);
  }
  void file(const std::string& path) const {
    fs::create_directories((base / path).parent_path());
    std::ofstream(base / path) << "x";
  }
  Rule deny(const std::string& path, std::shared_ptr<const Subject> of) const {
    return {std::make_shared<Entry>(
                Entry{.action = Action::deny, .depth = 0, .path = root + "/" + path, .relative = "", .subject = std::move(of)}),
            true};
  }
  void publish(std::vector<Rule> rules) {
    auto next = std::make_shared<Policy>();
    if (!rules.empty()) {
      auto superblock = std::make_shared<Superblock>();
      superblock->table = std::make_shared<SuperblockPolicy>(std::move(rules), std::vector<View>{});
      superblock->deny_mask = FAN_OPEN_PERM | FAN_OPEN_EXEC_PERM;
      next->superblocks[device] = superblock;
    }
    policies.publish(next);
  }
  IdentityTable::Pinned pin(const std::string& path) {
    const auto policy = policies.get();
    const UniqueFd fd = open(path);
    const Location location = locator.locate(fd.get(), 0, true);
    const auto reasons = reasons_of(*policy->find(device)->table, table, location);
    return table.pin(fd.get(), location, reasons, *policy->find(device));
  }
  bool denied(const std::string& path, Kind kind, const Actor& actor = {}) {
    const auto policy = policies.get();
    return judge(*policy->find(device)->table, table, at(path), actor, kind, false).decision.deny;
  }
  std::shared_ptr<const Identity> held(const std::string& path) {
    const Location location = at(path);
    return location.pinned() ? table.find(location.raw->hit_id[0]) : nullptr;
  }
  void sweep() {
    table.sweep(
        device, policies, [&](const std::string& path) { return open(path.substr(root.size() + 1)); }, locator);
  }

  EngineCounters counters;
  const Groups groups{false};
  BpfPrograms programs;
  PolicyBox policies;
  TreeWatch trees{groups, counters};
  Refusals refusals;
  IdentityTable table{groups, programs, trees, refusals, 200};
  Locator locator{programs, LocatorSlot::planner};
  fs::path base;
  std::string root;  // as the superblock names it
  Device device = 0;
};

void two_guards_on_one_file_both_hold() {
  Bench bench;
  bench.file("a/f");
  fs::create_directories(bench.base / "b");
  fs::create_directories(bench.base / "out");
  fs::create_hard_link(bench.base / "a/f", bench.base / "b/g");
  const auto exec = subject(1, Kind::exec), open = subject(2, Kind::open, true);
  const Actor owner{.container = 7, .owner = true};
  for (const auto* first : {"a/f", "b/g"}) {
    bench.publish({bench.deny("a", exec), bench.deny("b", open)});
    CHECK(bench.pin(first) == IdentityTable::Pinned::now);
    CHECK(bench.pin(first == std::string("a/f") ? "b/g" : "a/f") == IdentityTable::Pinned::already);
    CHECK(bench.held("a/f")->paths.size() == 2);
    fs::create_hard_link(bench.base / "a/f", bench.base / "out/h");
    CHECK(bench.denied("out/h", Kind::exec) && bench.denied("out/h", Kind::open));
    CHECK(bench.denied("out/h", Kind::exec, owner) && !bench.denied("out/h", Kind::open, owner));

    // One goes: what the other denies stays denied, and no more than that.
    bench.publish({bench.deny("b", open)});
    bench.sweep();
    CHECK(bench.table.size() == 1);
    CHECK(bench.denied("out/h", Kind::open) && !bench.denied("out/h", Kind::exec));
    bench.publish({});
    bench.sweep();
    CHECK(bench.table.size() == 0 && !bench.at("out/h").pinned());
    fs::remove(bench.base / "out/h");
  }
}

void another_name_of_the_same_guard_is_no_other_reason() {
  Bench bench;
  bench.file("s/0");
  bench.publish({bench.deny("s", subject(1, Kind::open))});
  CHECK(bench.pin("s/0") == IdentityTable::Pinned::now);
  bool already = true;
  for (int i = 0; i < 100; ++i) {
    fs::rename(bench.base / ("s/" + std::to_string(i)), bench.base / ("s/" + std::to_string(i + 1)));
    already = already && bench.pin("s/" + std::to_string(i + 1)) == IdentityTable::Pinned::already;
  }
  CHECK(already);
  CHECK(bench.held("s/100")->paths.size() == 1);
}

// A container can give an inode as many reasons as there are guarded paths.
void more_reasons_than_are_kept_deny_whoever_is_denied_anything() {
  Bench bench;
  std::vector<Rule> rules;
  for (std::uint32_t i = 0; i < 20; ++i) {
    fs::create_directories(bench.base / ("s" + std::to_string(i)));
    rules.push_back(bench.deny("s" + std::to_string(i), subject(i + 1, i == 19 ? Kind::exec : Kind::open)));
  }
  bench.publish(rules);
  bench.file("s0/f");
  for (int i = 0; i < 20; ++i) {
    if (i > 0)
      fs::rename(bench.base / ("s" + std::to_string(i - 1)) / "f", bench.base / ("s" + std::to_string(i)) / "f");
    bench.pin("s" + std::to_string(i) + "/f");
  }
  fs::rename(bench.base / "s19/f", bench.base / "f");
  CHECK(bench.held("f")->cut && bench.held("f")->paths.size() == 16);
  CHECK(bench.denied("f", Kind::open) && bench.denied("f", Kind::exec) && !bench.denied("f", Kind::access));
  // The guards of the reasons that are kept go: one that is not may still hold.
  bench.publish({rules[19]});
  bench.sweep();
  CHECK(bench.denied("f", Kind::exec) && !bench.denied("f", Kind::open));
  bench.publish({});
  bench.sweep();
  CHECK(bench.table.size() == 0);
}

void every_guarded_ancestor_counts() {
  Bench bench;
  // The top was guarded for exec; what is below, for opens, and elsewhere.
  bench.file("x/top/none");
  bench.file("o/1/2/3/f");
  bench.publish({bench.deny("x", subject(1, Kind::exec)), bench.deny("o", subject(2, Kind::open))});
  for (const auto* path : {"x/top", "o/1", "o/1/2", "o/1/2/3", "o/1/2/3/f"}) bench.pin(path);
  fs::rename(bench.base / "x/top", bench.base / "free");
  fs::rename(bench.base / "o/1", bench.base / "free/1");
  CHECK(bench.at("free/1/2/3/f").hits() == 5);
  CHECK(bench.denied("free/1/2/3/f", Kind::open) && bench.denied("free/1/2/3/f", Kind::exec));
}

void more_guarded_ancestors_than_are_told_deny_too() {
  Bench bench;
  const auto of_exec = bench.deny("x", subject(1, Kind::exec)), of_open = bench.deny("o", subject(2, Kind::open));
  bench.publish({of_exec, of_open});
  bench.file("x/top/none");
  std::string path = "o";
  for (int i = 0; i < 70; ++i) path += "/d";
  bench.file(path + "/f");
  std::string above = "o";
  for (int i = 0; i < 70; ++i) bench.pin(above += "/d");
  bench.pin("x/top");
  fs::rename(bench.base / "x/top", bench.base / "free");
  fs::rename(bench.base / "o/d", bench.base / "free/d");
  const std::string moved = "free" + path.substr(1) + "/f";
  CHECK(bench.at(moved).hits() == JANUS_HITS && bench.at(moved).hits_full());
  CHECK(bench.denied(moved, Kind::exec));
  CHECK(!bench.denied(moved, Kind::access));
}

void the_limit_counts_what_is_there() {
  Bench bench;
  bench.publish({bench.deny("s", subject(1, Kind::open))});
  for (int i = 0; i < 200; ++i) {
    bench.file("s/" + std::to_string(i));
    bench.pin("s/" + std::to_string(i));
  }
  bench.file("s/more");
  CHECK(bench.table.size() == 200 && bench.pin("s/more") == IdentityTable::Pinned::limit);
  CHECK(bench.pin("s/0") == IdentityTable::Pinned::already);
  fs::remove(bench.base / "s/0");
  bench.table.collect();
  CHECK(bench.table.size() == 199 && bench.pin("s/more") == IdentityTable::Pinned::now);
}

// What one container's guards pin takes nothing from another's.
void the_limit_is_each_containers() {
  Bench bench;
  bench.refusals.follow(7, "seven");
  bench.refusals.follow(8, "eight");
  const auto of_seven = bench.deny("s", subject(1, Kind::open)), of_eight = bench.deny("t", subject(2, Kind::open, false, 8));
  bench.publish({of_seven, of_eight});
  for (int i = 0; i < 205; ++i) {
    bench.file("s/" + std::to_string(i));
    bench.pin("s/" + std::to_string(i));
  }
  CHECK(bench.table.size() == 200);
  const auto refused = bench.refusals.all();
  CHECK(refused.size() == 1 && refused[0].container == "seven" && refused[0].resource == "pins" && refused[0].count == 5);
  bench.file("t/f");
  CHECK(bench.pin("t/f") == IdentityTable::Pinned::now);

  // What both deny is whoever's that has room.
  bench.publish({of_seven, of_eight, bench.deny("s", subject(3, Kind::open, false, 8))});
  CHECK(bench.pin("s/204") == IdentityTable::Pinned::now);
  // One that pays and denies no more hands over to one that does.
  bench.publish({of_eight, bench.deny("s", subject(3, Kind::open, false, 8))});
  bench.sweep();
  CHECK(bench.table.size() == 202);
  bench.file("t/g");
  CHECK(bench.pin("t/g") == IdentityTable::Pinned::limit);
  bench.publish({of_seven});
  bench.sweep();
  CHECK(bench.table.size() == 201);  // the last two have a reason again: that of container 7
}

// The paths in a container are as long as it likes: they cost it its own share.
void long_reasons_cost_more() {
  Bench bench;
  bench.refusals.follow(7, "seven");
  bench.publish({bench.deny("s", subject(1, Kind::open)), bench.deny("t", subject(2, Kind::exec))});
  const auto far_down = [&](const std::string& top) {
    std::string path = top;
    for (int i = 0; i < 12; ++i) path += "/" + std::string(250, 'd');
    fs::create_directories(bench.base / path);
    return path;
  };
  const std::string below_s = far_down("s"), below_t = far_down("t");  // 3 KiB: 2 of 200
  bench.file(below_s + "/first");
  CHECK(bench.pin(below_s + "/first") == IdentityTable::Pinned::now);
  std::size_t pinned = 1;
  for (;; ++pinned) {
    bench.file(below_s + "/" + std::to_string(pinned));
    if (bench.pin(below_s + "/" + std::to_string(pinned)) == IdentityTable::Pinned::limit) break;
  }
  CHECK(pinned == 200 / 2 && bench.table.size() == pinned);

  // A reason more than there is room for: whoever is denied anything is denied this.
  fs::rename(bench.base / below_s / "first", bench.base / below_t / "first");
  CHECK(bench.pin(below_t + "/first") == IdentityTable::Pinned::already);
  fs::rename(bench.base / below_t / "first", bench.base / "first");
  CHECK(bench.held("first")->cut && bench.held("first")->paths.size() == 1);
  CHECK(bench.denied("first", Kind::open) && bench.denied("first", Kind::exec) && !bench.denied("first", Kind::access));
  CHECK(bench.refusals.all().size() == 1 && bench.refusals.all()[0].count == 2);

  // What is given back is as much.
  fs::remove_all(bench.base / below_s);
  bench.table.collect();
  bench.publish({});
  bench.sweep();
  CHECK(bench.table.size() == 0);
  bench.publish({bench.deny("s", subject(1, Kind::open))});
  std::size_t again = 0;
  for (; again < 250; ++again) {
    bench.file("s/" + std::to_string(again));
    if (bench.pin("s/" + std::to_string(again)) == IdentityTable::Pinned::limit) break;
  }
  CHECK(again == 200);
}

// What a guard is promised it gets, and nobody else meanwhile.
void what_is_reserved_is_kept() {
  Bench bench;
  bench.publish({bench.deny("s", subject(1, Kind::open))});
  const auto pin_for = [&](const std::string& path, std::uint64_t container) {
    const auto policy = bench.policies.get();
    const UniqueFd fd = bench.open(path);
    const std::string full = bench.root + "/" + path;
    return bench.table.pin(fd.get(), bench.locator.locate(fd.get(), 0, true), {&full, 1}, *policy->find(bench.device), container);
  };
  for (int i = 0; i < 200; ++i) bench.file("s/" + std::to_string(i));
  {
    IdentityTable::Reservation two(bench.table);
    CHECK(two.add(7) && two.add(7));
    for (int i = 0; i < 198; ++i) bench.pin("s/" + std::to_string(i));
    CHECK(bench.pin("s/198") == IdentityTable::Pinned::limit && !two.add(7) && two.add(8));
    CHECK(pin_for("s/198", 7) == IdentityTable::Pinned::now && pin_for("s/199", 7) == IdentityTable::Pinned::now);
  }
  CHECK(bench.table.size() == 200);
  bench.file("s/more");
  CHECK(bench.pin("s/more") == IdentityTable::Pinned::limit);
  fs::remove(bench.base / "s/0");
  bench.table.collect();
  CHECK(bench.pin("s/more") == IdentityTable::Pinned::now);  // nothing is reserved any more
}

// An overlay without an index has an inode for each name of a hard link of its image.
void names_of_one_file_of_an_image() {
  Bench bench;
  bench.file("lower/a/f");
  for (const auto* directory : {"lower/b", "lower/c", "upper", "work", "merged"}) fs::create_directories(bench.base / directory);
  fs::create_hard_link(bench.base / "lower/a/f", bench.base / "lower/b/g");
  fs::create_hard_link(bench.base / "lower/a/f", bench.base / "lower/c/h");
  const std::string options = "lowerdir=" + (bench.base / "lower").string() + ",upperdir=" + (bench.base / "upper").string() +
                              ",workdir=" + (bench.base / "work").string();
  const fs::path merged = bench.base / "merged";
  CHECK(mount("overlay", merged.c_str(), "overlay", 0, options.c_str()) == 0);
  const fs::path outer = bench.base;
  const std::string outer_root = bench.root;
  bench.base = merged;
  bench.root = "";
  bench.device = bench.at("").raw->dev;
  bench.publish({bench.deny("a", subject(1, Kind::exec)), bench.deny("b", subject(2, Kind::open))});
  bench.pin("a/f");
  CHECK(bench.denied("c/h", Kind::exec) && !bench.denied("c/h", Kind::open));
  CHECK(bench.table.has_unknown_names(bench.device));
  bench.pin("b/g");
  CHECK(bench.table.find(bench.at("c/h").raw->hit_id[0])->paths.size() == 2);
  CHECK(bench.denied("c/h", Kind::exec) && bench.denied("c/h", Kind::open));
  CHECK(bench.denied("a/f", Kind::open));  // itself pinned, and the other name's guard holds, too
  // The guard of the name that was pinned first goes.
  bench.publish({bench.deny("b", subject(2, Kind::open))});
  bench.sweep();
  CHECK(bench.table.size() == 1);
  CHECK(bench.denied("c/h", Kind::open) && bench.denied("a/f", Kind::open) && !bench.denied("c/h", Kind::exec));
  bench.publish({});
  bench.sweep();
  CHECK(bench.table.size() == 0 && bench.at("c/h").hits() == 0);
  CHECK(umount(merged.c_str()) == 0);
  bench.base = outer;
  bench.root = outer_root;
}

}  // namespace

int main() {
  two_guards_on_one_file_both_hold();
  another_name_of_the_same_guard_is_no_other_reason();
  more_reasons_than_are_kept_deny_whoever_is_denied_anything();
  every_guarded_ancestor_counts();
  more_guarded_ancestors_than_are_told_deny_too();
  the_limit_counts_what_is_there();
  the_limit_is_each_containers();
  long_reasons_cost_more();
  what_is_reserved_is_kept();
  names_of_one_file_of_an_image();
  return tap::done();
}
