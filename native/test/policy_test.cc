#include "policy/policy.h"

#include <algorithm>

#include "tap.h"

using namespace janus;

namespace {

std::shared_ptr<Subject> subject(bool recursive = false, std::uint32_t max_depth = 0) {
  auto made = std::make_shared<Subject>();
  made->id = 1;
  made->container = 7;
  made->events = mask_of(FileEventKind::open);
  made->recursive = recursive;
  made->max_depth = max_depth;
  return made;
}

Rule entry(Action action, const char* path, std::shared_ptr<const Subject> of, bool answered = true) {
  return {std::make_shared<Entry>(
              Entry{.action = action, .depth = 0, .path = path, .relative = "", .subject = std::move(of)}),
          answered};
}

bool denies(const SuperblockPolicy& policy, const char* path, const Actor& actor = {}, bool directory = false) {
  return policy.decide(path, directory, FileEventKind::open, actor, false).deny;
}

void a_directory_holds_its_entries_and_recursion_the_tree() {
  const SuperblockPolicy flat({entry(Action::deny, "/d", subject())}, {});
  CHECK(denies(flat, "/d") && denies(flat, "/d/f"));
  CHECK(!denies(flat, "/d/e/f") && !denies(flat, "/dd") && !denies(flat, ""));
  const SuperblockPolicy deep({entry(Action::deny, "/d", subject(true))}, {});
  CHECK(denies(deep, "/d/a/b/c/d/e/f"));
  const SuperblockPolicy two({entry(Action::deny, "/d", subject(true, 2))}, {});
  CHECK(denies(two, "/d/a/b") && !denies(two, "/d/a/b/c"));
  const SuperblockPolicy root({entry(Action::deny, "", subject(true))}, {});
  CHECK(denies(root, "") && denies(root, "/x/y"));
}

void the_most_specific_path_wins_and_deny_wins_a_tie() {
  const SuperblockPolicy policy({entry(Action::deny, "/etc", subject(true)), entry(Action::allow, "/etc/nginx", subject(true)),
                                 entry(Action::deny, "/etc/nginx/key", subject()), entry(Action::allow, "/t", subject()),
                                 entry(Action::deny, "/t", subject())},
                                {});
  CHECK(denies(policy, "/etc/shadow"));
  CHECK(!denies(policy, "/etc/nginx/conf.d/x"));
  CHECK(policy.decide("/etc/nginx/x", false, FileEventKind::open, {}, false).entry != nullptr);
  CHECK(denies(policy, "/etc/nginx/key"));
  CHECK(denies(policy, "/t/x"));
}

std::vector<std::uint32_t> guards_of(const std::vector<const Entry*>& entries) {
  std::vector<std::uint32_t> guards;
  for (const Entry* entry : entries) guards.push_back(entry->subject->guard);
  std::ranges::sort(guards);
  return guards;
}

void each_guard_that_denies_is_named_once() {
  std::vector<std::shared_ptr<Subject>> of;
  for (std::uint32_t guard = 1; guard <= 4; ++guard) of.push_back(subject(true)), of.back()->guard = guard;
  of[3]->auto_allow_owner = true;
  const SuperblockPolicy policy({entry(Action::deny, "/d", of[0]), entry(Action::deny, "/d/e", of[0]),
                                 entry(Action::deny, "/d/e", of[1]), entry(Action::deny, "/d", of[2]),
                                 entry(Action::allow, "/d/e/f", of[2]), entry(Action::deny, "/d/e", of[3])},
                                {});
  using Guards = std::vector<std::uint32_t>;
  const auto denying = [&](const char* path, const Actor& actor = {}) {
    return guards_of(policy.denying(path, false, FileEventKind::open, actor, 10));
  };
  CHECK(policy.several_guards());
  CHECK(denying("/d/x") == Guards({1, 3}));
  CHECK(denying("/d/e/x") == Guards({1, 2, 3, 4}));
  CHECK(denying("/d/e/f") == Guards({1, 2, 4}));  // the third allows it
  CHECK(denying("/d/e/f", {.container = 7, .owner = true}) == Guards({1, 2}));
  CHECK(denying("/x").empty());
  CHECK(policy.denying("/d/e/x", false, FileEventKind::open, {}, 3).size() == 3);
  CHECK(guards_of(policy.denying_anything(FileEventKind::open, {}, 10)) == Guards({1, 2, 3, 4}));
  CHECK(policy.denying_anything(FileEventKind::exec, {}, 10).empty());
}

void denials_of_changes_add_up() {
  std::vector<std::shared_ptr<Subject>> of;
  for (int index = 0; index < 4; ++index) of.push_back(subject(true)), of.back()->events = mask_of(FileEventKind::remove);
  of[1]->auto_allow_owner = true;
  of[2]->events = mask_of(FileEventKind::open);
  const Actor owner{.container = 7, .owner = true};
  const auto deletes = [&](const SuperblockPolicy& policy, const char* path) {
    return policy.decide(path, false, FileEventKind::remove, owner, false).deny;
  };
  const SuperblockPolicy policy({entry(Action::deny, "/d", of[0]), entry(Action::deny, "/d/own", of[1]),
                                 entry(Action::deny, "/d/read", of[2]), entry(Action::deny, "/own", of[1])},
                                {});
  CHECK(deletes(policy, "/d/x") && deletes(policy, "/d/own/x") && deletes(policy, "/d/read/x"));
  CHECK(!deletes(policy, "/own/x") && policy.decide("/own/x", false, FileEventKind::remove, owner, false).owner);
  CHECK(policy.denying("/d/own/x", false, FileEventKind::remove, owner, 10).size() == 1);
  const auto bearings = policy.bearings("/d/own/x", false, FileEventKind::remove, {.container = 7}, 10);
  CHECK(bearings.size() == 2 && std::ranges::all_of(bearings, [](const RuleBearing& one) { return one.bearing == Bearing::applies; }));
  // What leads there can't be renamed, either.
  const auto leads = [&](const char* path, FileEventKind kind, const Actor& actor) { return policy.denying_below(path, kind, actor) != nullptr; };
  of[0]->events = mask_of(FileEventKind::movedfrom);
  CHECK(leads("", FileEventKind::movedfrom, owner) && !leads("", FileEventKind::movedto, owner) && !leads("", FileEventKind::remove, owner));
  CHECK(!leads("/d", FileEventKind::movedfrom, owner) && !leads("/dd", FileEventKind::movedfrom, owner));
  of[0]->events = mask_of(FileEventKind::remove);
  // Of two guards each has its own.
  of[1]->guard = of[3]->guard = 2;
  const SuperblockPolicy two({entry(Action::deny, "/d", of[0]), entry(Action::deny, "/d", of[3]), entry(Action::deny, "/d/own", of[1])}, {});
  CHECK(two.denying("/d/own/x", false, FileEventKind::remove, owner, 10).size() == 2);
  CHECK(two.denying("/d/own/x", false, FileEventKind::remove, {.container = 7}, 10).size() == 2);
}

void guards_do_not_loosen_each_other() {
  auto strict = subject(true), loose = subject(true);
  strict->guard = 1;
  loose->guard = 2;
  loose->auto_allow_owner = true;
  const Actor owner{.container = 7, .owner = true};
  const SuperblockPolicy policy({entry(Action::deny, "/d", strict), entry(Action::allow, "/d/pub", loose),
                                 entry(Action::deny, "/d/own", loose), entry(Action::allow, "/d/own/x", strict)},
                                {});
  CHECK(denies(policy, "/d/pub/x"));
  CHECK(denies(policy, "/d/own", owner));
  CHECK(policy.deniable("/d/pub", false) != nullptr);
  // Of one guard the most specific path still decides, and the other has its say.
  CHECK(denies(policy, "/d/own/x") && !denies(policy, "/d/own/x", owner));
  CHECK(policy.decide("/d/own/x", false, FileEventKind::open, owner, false).entry != nullptr);
}

void a_guard_that_audits_is_judged_and_denies_nothing() {
  std::vector<std::shared_ptr<Subject>> of;
  for (std::uint32_t guard = 1; guard <= 3; ++guard) of.push_back(subject(true)), of.back()->guard = guard;
  of[0]->enforced = of[2]->enforced = false;
  of[0]->auto_allow_owner = true;
  const SuperblockPolicy policy({entry(Action::deny, "/d", of[0]), entry(Action::allow, "/d/pub", of[0]),
                                 entry(Action::allow, "/d/t", of[0]), entry(Action::deny, "/d/t", of[0]),
                                 entry(Action::deny, "/d/e", of[1]), entry(Action::allow, "/d/e/f", of[1]),
                                 entry(Action::deny, "/d/e", of[2])},
                                {});
  const Actor owner{.container = 7, .owner = true};
  const auto decide = [&](const char* path, const Actor& actor = {}) {
    return policy.decide(path, false, FileEventKind::open, actor, false);
  };
  const auto says = [&](const char* path, Response response, std::uint32_t guard, const Actor& actor = {}) {
    const Decision decision = decide(path, actor);
    return decision.response() == response && decision.entry != nullptr && decision.entry->subject->guard == guard;
  };
  CHECK(says("/d/x", Response::audit, 1) && !decide("/d/x").deny);
  CHECK(says("/d/t", Response::audit, 1));  // deny wins a tie, as ever
  CHECK(says("/d/pub", Response::allow, 1));
  CHECK(says("/d/x", Response::allow, 1, owner) && decide("/d/x", owner).owner);
  CHECK(says("/d/e/x", Response::deny, 2));  // one that enforces decides, more specific or not
  CHECK(decide("/d/e/f").audit && !decide("/d/e/f").deny);  // it allows that, and the two others would deny it
  CHECK(guards_of(policy.denying("/d/e/x", false, FileEventKind::open, {}, 10)) == std::vector<std::uint32_t>({1, 2, 3}));
  CHECK(policy.strictest(FileEventKind::open, {}).deny);
  CHECK(policy.deniable("/d/x", false) != nullptr);
  const SuperblockPolicy alone({entry(Action::deny, "/d", of[0])}, {});
  CHECK(alone.strictest(FileEventKind::open, {}).response() == Response::audit);
  CHECK(alone.strictest(FileEventKind::open, owner).entry == nullptr);
}

void paths_that_are_judged_alike() {
  auto flat = subject(), limited = subject(true, 3), without = subject(true);
  without->exclude = {"*.log"};
  const SuperblockPolicy policy({entry(Action::deny, "/r", subject(true)), entry(Action::deny, "/f", flat),
                                 entry(Action::deny, "/m", limited), entry(Action::deny, "/x", without),
                                 entry(Action::allow, "/r/a/b", subject())},
                                {});
  CHECK(policy.alike("/r/1", "/r/2/3", false) && policy.alike("/r/1", "/r/2/3", true));
  CHECK(!policy.alike("/r/1", "/f/1", false) && !policy.alike("/r/1", "/1", false));
  CHECK(!policy.alike("/r/a", "/r/c", true));  // something else is decided below one
  CHECK(policy.alike("/f/1", "/f/2", true) && !policy.alike("/f", "/f/2", true));
  CHECK(policy.alike("/m/1", "/m/2", true) && !policy.alike("/m/1", "/m/1/2", true));
  CHECK(policy.alike("/x/1", "/x/2", false) && !policy.alike("/x/1", "/x/2.log", false));
  CHECK(!policy.alike("/x/1", "/x/2", true));
  CHECK(policy.alike("/x/1", "/x/1", true));
}

void a_subject_decides_only_about_its_events() {
  auto reads = subject(true);
  reads->events = mask_of(FileEventKind::access);
  const SuperblockPolicy policy({entry(Action::allow, "/d/x", reads), entry(Action::deny, "/d", subject(true))}, {});
  CHECK(denies(policy, "/d/x"));  // the more specific one isn't about opens
  CHECK(policy.decide("/d/x", false, FileEventKind::exec, {}, false).entry == nullptr);
}

void only_directories() {
  auto only = subject(true);
  only->only_dir = true;
  const SuperblockPolicy policy({entry(Action::deny, "/d", only)}, {});
  CHECK(denies(policy, "/d/e", {}, true) && !denies(policy, "/d/e", {}, false));
}

void owners_and_scope() {
  auto owned = subject(true);
  owned->auto_allow_owner = true;
  const SuperblockPolicy policy({entry(Action::deny, "/d", owned)}, {});
  CHECK(!denies(policy, "/d/x", {.container = 7, .owner = true}));
  CHECK(policy.decide("/d/x", false, FileEventKind::open, {.container = 7, .owner = true}, false).owner);
  CHECK(denies(policy, "/d/x", {.container = 7, .owner = false}));
  CHECK(denies(policy, "/d/x", {.container = 8, .owner = true}));  // somebody else's first process
  // Another subject's deny on the same path does not exempt the owner.
  const SuperblockPolicy both({entry(Action::deny, "/d", owned), entry(Action::deny, "/d", subject(true))}, {});
  CHECK(denies(both, "/d/x", {.container = 7, .owner = true}));
  auto inside = subject(true);
  inside->only_container = true;
  const SuperblockPolicy scoped({entry(Action::deny, "/d", inside)}, {});
  CHECK(denies(scoped, "/d/x", {.container = 7, .owner = false}) && !denies(scoped, "/d/x"));
}

void excludes_are_relative_to_the_subjects_path() {
  auto with = subject(true);
  with->exclude = {"cache", "*.tmp"};
  const Rule below{std::make_shared<Entry>(
                       Entry{.action = Action::deny, .depth = 1, .path = "/vol", .relative = "/mounted", .subject = with}),
                   true};
  const SuperblockPolicy policy({entry(Action::deny, "/d", with), below}, {});
  CHECK(!denies(policy, "/d/cache/x") && !denies(policy, "/d/x.tmp") && denies(policy, "/d/x"));
  CHECK(denies(policy, "/vol/cache"));  // seen as mounted/cache
}

void a_directory_can_be_denied_but_for_itself() {
  auto below = subject(true);
  below->exclude = {"*.tmp", "."};
  const SuperblockPolicy policy({entry(Action::deny, "/d", below)}, {});
  const auto asked = [&](const char* path) { return policy.decide(path, true, FileEventKind::open, {}, false); };
  CHECK(asked("/d").entry == nullptr && asked("/d/x").deny && asked("/d/x/y").deny && asked("/d/x.tmp").entry == nullptr);
  CHECK(policy.bearings("/d", true, FileEventKind::open, {}, 9).front().bearing == Bearing::excluded);
  CHECK(policy.deniable("/d", true) != nullptr);  // it stays known when it is moved
  auto all_below = subject(true);
  all_below->exclude = {"*"};
  CHECK(denies(SuperblockPolicy({entry(Action::deny, "/d", all_below)}, {}), "/d"));
}

void what_may_be_ignored() {
  const SuperblockPolicy policy({entry(Action::deny, "/a/b/secret", subject()), entry(Action::deny, "/tree", subject(true)),
                                 entry(Action::allow, "/seen", subject(true), false), entry(Action::allow, "/flat", subject()),
                                 entry(Action::watch, "/look", subject(), false)},
                                {});
  CHECK(!policy.outside("/a/b", false));  // the guarded name may appear there
  CHECK(policy.outside("/a", false));
  CHECK(!policy.outside("/a/b/secret", false));
  CHECK(!policy.outside("/tree/x/y", false));
  CHECK(policy.outside("/seen/x", false) && !policy.outside("/seen/x", true));
  CHECK(policy.outside("/tree", true));
  CHECK(policy.outside("", false) == false);  // holds /tree
  // A directory's own entries may be guarded without what is in them.
  CHECK(policy.outside("/flat/x", false) && !policy.ignorable("/flat/x", false) && policy.ignorable("/flat/x/y", false));
  CHECK(policy.outside("/look/x", true) && !policy.ignorable("/look/x", true) && policy.ignorable("/look/x", false));
}

void a_path_of_any_length() {
  const SuperblockPolicy policy({entry(Action::deny, "/d", subject(true)), entry(Action::deny, "/limited", subject(true, 3))}, {});
  std::string path = "/d";
  for (int i = 0; i < 20'000; ++i) path += "/x";
  CHECK(denies(policy, path.c_str()) && policy.deniable(path, false) && !policy.outside(path, false));
  CHECK(denies(policy, "/limited/a/b/c") && !denies(policy, "/limited/a/b/c/d"));
  CHECK(!denies(policy, "/dd") && !denies(policy, "/very/long/and/elsewhere"));
}

void unknown_places_are_denied_if_anyone_is() {
  const SuperblockPolicy policy({entry(Action::deny, "/d", subject())}, {});
  CHECK(policy.strictest(FileEventKind::open, {}).deny);
  CHECK(policy.strictest(FileEventKind::access, {}).entry == nullptr);
  CHECK(policy.deniable("/d/x", false) && !policy.deniable("/e", false));
}

void containers_see_their_mounts() {
  const SuperblockPolicy policy({}, {{7, "", ""}, {7, "/var/pod/vol", "/data"}, {8, "/var/pod", "/p"}});
  CHECK(policy.seen_by(7, "/var/pod/vol/x") == "/data/x");
  CHECK(policy.seen_by(8, "/var/pod/vol/x") == "/p/vol/x");
  CHECK(policy.seen_by(7, "") == "/");
  CHECK(policy.seen_by(9, "/x") == "/x");
}

}  // namespace

int main() {
  a_directory_holds_its_entries_and_recursion_the_tree();
  the_most_specific_path_wins_and_deny_wins_a_tie();
  each_guard_that_denies_is_named_once();
  denials_of_changes_add_up();
  guards_do_not_loosen_each_other();
  a_guard_that_audits_is_judged_and_denies_nothing();
  paths_that_are_judged_alike();
  a_subject_decides_only_about_its_events();
  only_directories();
  owners_and_scope();
  excludes_are_relative_to_the_subjects_path();
  a_directory_can_be_denied_but_for_itself();
  what_may_be_ignored();
  a_path_of_any_length();
  unknown_places_are_denied_if_anyone_is();
  containers_see_their_mounts();
  return tap::done();
}
