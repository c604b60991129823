// What is certainly denied is denied by the policy, whatever lies below and whoever asks: on
// generated rules. And what is plain is certain.
#include "policy/certain.h"

#include <algorithm>
#include <random>
#include <string>

#include "tap.h"

using namespace janus;

namespace {

using Kind = FileEventKind;

constexpr std::uint64_t kContainers[] = {7, 8};

struct Generator {
  explicit Generator(std::uint32_t seed) : random(seed) {}

  std::uint32_t below(std::uint32_t limit) { return random() % limit; }
  bool one_in(std::uint32_t many) { return below(many) == 0; }
  std::string path(std::uint32_t most) {
    std::string path;
    for (std::uint32_t levels = below(most + 1); levels > 0; --levels) path += std::string("/") + "abc"[below(3)];
    return path;
  }
  RuleTable rules() {
    RuleTable::Rules rules;
    const bool audits = one_in(20);
    for (std::uint32_t guard = 1 + below(3); guard > 0; --guard) {
      const bool enforced = !one_in(5), owners = one_in(4), allows = one_in(3);
      for (std::uint32_t number = 1 + below(3); number > 0; --number) {
        auto subject = std::make_shared<Subject>();
        subject->id = guard * 10 + number;
        subject->guard = guard;
        subject->container = kContainers[below(2)];
        subject->events = 1 + below(7);  // of open, access, exec
        subject->recursive = !one_in(3);
        subject->max_depth = one_in(6) ? 1 + below(3) : 0;
        subject->only_dir = one_in(8);
        subject->auto_allow_owner = owners || one_in(8);
        subject->audit = audits && one_in(3);
        subject->only_container = one_in(4);
        subject->enforced = enforced;
        if (one_in(6)) subject->exclude = {one_in(2) ? "." : "b"};
        // Changes can only be denied, and so.
        const bool changes = enforced && one_in(4);
        if (plain || changes) make_plain(*subject);
        if (changes) subject->events |= (1 + random()) & kChanges;
        for (std::uint32_t paths = 1 + below(2); paths > 0; --paths) {
          const Action action = plain || changes ? Action::deny : allows && one_in(2) ? Action::allow : one_in(8) ? Action::watch : Action::deny;
          const std::uint32_t depth = one_in(8) ? below(3) : 0;
          rules.push_back({std::make_shared<Entry>(Entry{.action = action,
                                                         .depth = depth,
                                                         .path = path(3),
                                                         .relative = depth == 0 ? "" : depth == 1 ? "/b" : "/b/c",
                                                         .subject = subject}),
                           action == Action::deny || (action == Action::allow && one_in(2))});
        }
      }
    }
    return RuleTable(rules);
  }

  static void make_plain(Subject& subject) {
    subject.max_depth = 0;
    subject.only_dir = subject.audit = false;
    subject.only_container = subject.enforced = true;
    subject.exclude.clear();
  }

  std::mt19937 random;
  bool plain = false;  // only what may be certain
};

// A set of rules, and an object that they may be about.
struct Case {
  explicit Case(Generator& generate)
      : table(std::make_shared<const SuperblockPolicy>(generate.rules(), std::vector<View>{})),
        denials(table),
        path(generate.path(4)),
        directory(generate.one_in(2)) {}

  struct Object {
    std::string path;
    bool directory = false;
  };
  // The object itself (1), one that it holds (2), or one below that (3).
  Object somewhere(Generator& generate, std::size_t level) const {
    std::string at = path;
    for (std::size_t depth = level == 3 ? 2 + generate.below(2) : level - 1; depth > 0; --depth)
      at += std::string("/") + "abc"[generate.below(3)];
    return {std::move(at), level == 1 ? directory : generate.one_in(2)};
  }

  const std::shared_ptr<const SuperblockPolicy> table;
  const CertainDenials denials;
  const std::string path;
  const bool directory;
};

std::size_t level_of(CertainDenial::Reach reach) { return reach; }

// Of 100,000 sets of rules: no certain denial that the policy does not make. Returns how many there were.
std::size_t contradictions(std::size_t sets, std::size_t& certain) {
  Generator generate(12);
  std::size_t wrong = 0;
  for (std::size_t set = 0; set < sets; ++set) {
    const Case one(generate);
    for (const CertainDenial& denial : one.denials.of(one.path, one.directory)) {
      for (std::size_t kind = 0; kind < kCertainKinds.size(); ++kind) {
        for (const ToWhom whom : {ToWhom::anybody, ToWhom::others}) {
          const auto& [entry, reach] = denial.of(kind)[static_cast<std::size_t>(whom)];
          for (std::size_t level = 1; level <= level_of(reach); ++level) {
            ++certain;
            const auto [at, is_directory] = one.somewhere(generate, level);
            for (const bool owner : {false, true}) {
              if (owner && whom == ToWhom::others) continue;
              const Decision decision = one.table->decide(at, is_directory, kCertainKinds[kind], {denial.container, owner}, false);
              if (!decision.deny || !(entry->subject->events & mask_of(kCertainKinds[kind]))) ++wrong;
            }
          }
        }
      }
    }
  }
  return wrong;
}

// What the policy denies is certain, or asked about: of an object, what it holds, and what is below that. Returns how
// many denials there were, how many of them are only asked about, and how many there were of changes, none of which is.
std::size_t left_out(std::size_t sets, std::size_t& denied, std::size_t& asked, std::size_t& changes) {
  Generator generate(13);
  std::size_t wrong = 0;
  for (std::size_t set = 0; set < sets; ++set) {
    const Case one(generate);
    const std::vector<CertainDenial> all = one.denials.of(one.path, one.directory);
    const Actor actor{kContainers[generate.below(2)], generate.one_in(2)};
    const auto denial = std::ranges::find(all, actor.container, &CertainDenial::container);
    for (std::size_t level = 1; level <= (one.directory ? 3u : 1u); ++level) {
      const auto [at, is_directory] = one.somewhere(generate, level);
      for (std::size_t kind = 0; kind < kAskedKinds.size(); ++kind) {
        const Decision decision = one.table->decide(at, is_directory, kAskedKinds[kind], actor, false);
        // (What a rule names below it is known by itself.)
        if (!decision.deny || decision.entry->subject->container != actor.container || decision.entry->path.size() > one.path.size()) continue;
        ++denied;
        bool known = false, certainly = false;
        for (std::size_t whom = 0; denial != all.end() && whom < (actor.owner ? 1u : 2u); ++whom) {
          certainly = certainly || (kind < kOpens && denial->of(kind)[whom].reach >= level);
          known = known || certainly || (denial->asked[kind][whom] >> (level - 1) & 1);
        }
        if (!known) ++wrong;
        if (!certainly) ++asked;
      }
      for (std::size_t kind = kOpens; kind < kCertainKinds.size(); ++kind) {
        const Decision decision = one.table->decide(at, is_directory, kCertainKinds[kind], actor, false);
        if (!decision.deny || decision.entry->path.size() > one.path.size()) continue;
        ++changes;
        bool known = false;
        for (std::size_t whom = 0; denial != all.end() && whom < (actor.owner ? 1u : 2u); ++whom)
          known = known || denial->of(kind)[whom].reach >= level;
        if (!known) ++wrong;
      }
    }
  }
  return wrong;
}

// Whether the rules' own paths say that this is denied: as the kernel asks them, from the root down.
bool denied_by_paths(const Case& one, const Case::Object& object, std::size_t kind, const Actor& actor) {
  std::size_t level = 1;
  for (std::string_view at = object.path;; at = parent_of(at), ++level) {
    for (const CertainDenial& denial : one.table->is_named(at) ? one.denials.of(at, true) : std::vector<CertainDenial>())
      for (std::size_t whom = 0; denial.container == actor.container && whom < (actor.owner ? 1u : 2u); ++whom)
        if (denial.of(kind)[whom].reach >= std::min<std::size_t>(level, 3)) return true;
    if (at.empty()) return false;
  }
}

// Of sets of rules of which all is certain: where their paths say something else than the policy does.
std::size_t missed(std::size_t sets, std::size_t& whole, std::size_t& denied) {
  Generator generate(14);
  generate.plain = true;
  std::size_t wrong = 0;
  for (std::size_t set = 0; set < sets; ++set) {
    const Case one(generate);
    bool is_whole = one.denials.plain();
    one.table->rules().each([&](const Rule& rule) {
      for (const CertainDenial& denial : one.denials.of(rule.entry->path, true)) is_whole = is_whole && denial.asked == decltype(denial.asked){};
      return !is_whole;
    });
    if (!is_whole) continue;
    ++whole;
    const auto object = one.somewhere(generate, 1 + generate.below(3));
    const Actor actor{generate.one_in(8) ? 9 : kContainers[generate.below(2)], generate.one_in(2)};
    for (std::size_t kind = 0; kind < kCertainKinds.size(); ++kind) {
      const bool denies = one.table->decide(object.path, object.directory, kCertainKinds[kind], actor, false).deny;
      denied += denies;
      if (denies != denied_by_paths(one, object, kind, actor)) ++wrong;
    }
    if (one.table->decide(object.path, object.directory, Kind::access, actor, false).deny) ++wrong;
  }
  return wrong;
}

void where_all_is_certain_nothing_else_is_denied() {
  std::size_t whole = 0, denied = 0;
  CHECK(missed(100'000, whole, denied) == 0);
  std::printf("# %zu sets of which all is certain, %zu denials\n", whole, denied);
  CHECK(whole > 5'000 && denied > 1'000);
}

void what_is_denied_is_certain_or_asked_about() {
  std::size_t denied = 0, asked = 0, changes = 0;
  CHECK(left_out(30'000, denied, asked, changes) == 0);
  std::printf("# %zu denials, %zu of them asked about; %zu of changes\n", denied, asked, changes);
  CHECK(denied > 10'000 && asked > 1'000 && asked < denied && changes > 1'000);
}

void what_is_certain_is_denied() {
  std::size_t certain = 0;
  CHECK(contradictions(100'000, certain) == 0);
  std::printf("# %zu denials\n", certain);
  CHECK(certain > 10'000);
}

std::shared_ptr<Subject> plain(std::uint32_t id, std::uint32_t guard) {
  auto subject = std::make_shared<Subject>();
  subject->id = id;
  subject->guard = guard;
  subject->container = 7;
  subject->events = mask_of(Kind::open);
  subject->recursive = true;
  return subject;
}

Rule rule(Action action, const char* path, std::shared_ptr<const Subject> of) {
  return {std::make_shared<Entry>(Entry{.action = action, .depth = 0, .path = path, .relative = "", .subject = std::move(of)}), true};
}

CertainDenial::Reach reach_of(RuleTable rules, const char* path, bool directory, ToWhom whom = ToWhom::anybody) {
  const CertainDenials denials(std::make_shared<const SuperblockPolicy>(std::move(rules), std::vector<View>{}));
  const auto all = denials.of(path, directory);
  return all.empty() ? CertainDenial::none : all.front().of(0)[static_cast<std::size_t>(whom)].reach;
}

void what_is_plain_is_certain() {
  const auto subject = plain(1, 1);
  const Rule denied = rule(Action::deny, "/d", subject);
  CHECK(reach_of({denied}, "/d", true) == CertainDenial::deeper);
  CHECK(reach_of({denied}, "/d/e/f", false) == CertainDenial::itself);
  CHECK(reach_of({denied}, "/e", true) == CertainDenial::none);
  const auto flat = std::make_shared<Subject>(*subject);
  flat->recursive = false;
  CHECK(reach_of({rule(Action::deny, "/d", flat)}, "/d", true) == CertainDenial::entries);
  CHECK(reach_of({rule(Action::deny, "/d", flat)}, "/d/e", true) == CertainDenial::itself);
  CHECK(reach_of({rule(Action::deny, "/d", flat)}, "/d/e/f", false) == CertainDenial::none);
  // What the guard allows below is not known to be elsewhere.
  const Rule allowed = rule(Action::allow, "/d/n", plain(2, 1));
  CHECK(reach_of({denied, allowed}, "/d", true) == CertainDenial::itself);
  CHECK(reach_of({denied, allowed}, "/d/f", false) == CertainDenial::itself);
  CHECK(reach_of({denied, allowed}, "/d/n/f", false) == CertainDenial::none);
  CHECK(reach_of({denied, rule(Action::allow, "/e", plain(2, 1))}, "/d", true) == CertainDenial::deeper);
  // Another guard's allowing is nothing to this one.
  CHECK(reach_of({denied, rule(Action::allow, "/d/n", plain(2, 2))}, "/d/n/f", false) == CertainDenial::itself);
  const auto owned = std::make_shared<Subject>(*subject);
  owned->auto_allow_owner = true;
  CHECK(reach_of({rule(Action::deny, "/d", owned)}, "/d", true) == CertainDenial::none);
  CHECK(reach_of({rule(Action::deny, "/d", owned)}, "/d", true, ToWhom::others) == CertainDenial::deeper);
  for (const auto change : {+[](Subject& of) { of.enforced = false; }, +[](Subject& of) { of.audit = true; },
                            +[](Subject& of) { of.only_dir = true; }, +[](Subject& of) { of.max_depth = 9; },
                            +[](Subject& of) { of.exclude = {"*.log"}; }}) {
    const auto other = std::make_shared<Subject>(*subject);
    change(*other);
    CHECK(reach_of({rule(Action::deny, "/d", other)}, "/d", true) == CertainDenial::none);
  }
}

// Bits: itself, what it holds, what is below that.
int asked_of(RuleTable rules, const char* path, bool directory, Kind kind = Kind::open) {
  const CertainDenials denials(std::make_shared<const SuperblockPolicy>(std::move(rules), std::vector<View>{}));
  const auto all = denials.of(path, directory);
  const auto at = static_cast<std::size_t>(std::ranges::find(kAskedKinds, kind) - kAskedKinds.begin());
  return all.empty() ? -1 : all.front().asked[at][0];
}

void what_is_not_plain_is_asked_about() {
  const auto subject = plain(1, 1);
  const auto with = [&](void (*change)(Subject&)) {
    const auto other = std::make_shared<Subject>(*subject);
    change(*other);
    return rule(Action::deny, "/d", other);
  };
  CHECK(asked_of({rule(Action::deny, "/d", subject)}, "/d", true) == 0);
  CHECK(asked_of({with([](Subject& of) { of.audit = true; })}, "/d", true) == 7);
  CHECK(asked_of({with([](Subject& of) { of.enforced = false; })}, "/d", true) == -1);
  const Rule shallow = with([](Subject& of) { of.max_depth = 2; });
  CHECK(asked_of({shallow}, "/d", true) == 7 && asked_of({shallow}, "/d/e", true) == 3 && asked_of({shallow}, "/d/e/f", true) == 1);
  CHECK(asked_of({shallow}, "/d/e/f/g", true) == -1);
  const Rule excluding = with([](Subject& of) { of.exclude = {"*.log", "."}; });
  CHECK(asked_of({excluding}, "/d", true) == 6 && asked_of({excluding}, "/d/a", false) == 1 && asked_of({excluding}, "/d/a.log", true) == -1);
  const Rule directories = with([](Subject& of) { of.only_dir = true; });
  CHECK(asked_of({directories}, "/d", true) == 7 && asked_of({directories}, "/d/f", false) == -1);
  const Rule reads = with([](Subject& of) { of.events = mask_of(Kind::access); });
  CHECK(asked_of({reads}, "/d", true, Kind::access) == 7 && asked_of({reads}, "/d", true) == 0);
  // An exception below: what is denied for certain ends at the directory.
  const Rule allowed = rule(Action::allow, "/d/n", plain(2, 1));
  CHECK(asked_of({rule(Action::deny, "/d", subject), allowed}, "/d", true) == 6);
}

}  // namespace

int main() {
  what_is_certain_is_denied();
  what_is_denied_is_certain_or_asked_about();
  where_all_is_certain_nothing_else_is_denied();
  what_is_not_plain_is_asked_about();
  what_is_plain_is_certain();
  return tap::done();
}
