// Rules and paths against the rules' definition: the most specific path wins, deny wins a tie, any guard that enforces
// denies; denials of changes add up. And against each other: what decides, what is pinned (`deniable`) and what is
// ignored (`outside`) must not contradict one another.
// sources: policy/policy.cc policy/rule_table.cc policy/glob.cc
#include "policy/policy.h"

#include "policy/glob.h"
#include "test/fuzz/input.h"

using namespace janus;

namespace {

constexpr FileEventKind kKinds[] = {FileEventKind::open, FileEventKind::access, FileEventKind::exec, FileEventKind::remove};
constexpr const char* kNames[] = {"/a", "/b", "/ab", "/a.log"};
constexpr const char* kPatterns[] = {"*.log", "**/*.log", "a", "b/**", "*/a"};

std::string path_from(fuzz::Input& input) {
  std::string path;
  for (unsigned left = input.below(5); left > 0; --left) path += kNames[input.below(4)];
  return path;
}

std::vector<Rule> rules_from(fuzz::Input& input) {
  std::vector<Rule> rules;
  for (unsigned left = input.below(8); left > 0; --left) {
    auto subject = std::make_shared<Subject>();
    const std::uint8_t flags = input.byte(), more = input.byte();
    subject->container = 1 + (flags & 1);
    subject->recursive = flags & 2;
    subject->only_dir = flags & 4;
    subject->auto_allow_owner = flags & 8;
    subject->only_container = flags & 16;
    subject->max_depth = more % 4;
    subject->guard = 1 + (more >> 5) % 4;
    subject->enforced = subject->guard <= 2;
    for (const FileEventKind kind : kKinds)
      if (input.flag()) subject->events |= mask_of(kind);
    if (flags & 32) subject->exclude.emplace_back(kPatterns[more % 5]);
    auto entry = std::make_shared<Entry>();
    const bool changes = (subject->events & kChanges) != 0;
    if (changes) subject->only_container = true;  // ... and denied: nothing else can be (src/guard/guard.ts)
    entry->action = flags & 64 && !changes ? Action::allow : Action::deny;
    entry->path = path_from(input);
    entry->subject = subject;
    // A part of the subject that is mounted elsewhere: it lies some levels below the subject's path.
    if (flags & 128) {
      entry->relative = path_from(input);
      for (const char c : entry->relative) entry->depth += c == '/';
    }
    rules.push_back({entry, entry->action == Action::deny || (more & 16) != 0});
  }
  return rules;
}

// By the definition, one rule at a time: how many levels of the path are above what the rule names. -1: it has no say.
int says(const Rule& rule, const std::string& path, bool directory, FileEventKind kind, const Actor& actor, bool observed) {
  const Entry& entry = *rule.entry;
  const Subject& subject = *entry.subject;
  if (rule.answered == observed || !(subject.events & mask_of(kind)) || (!directory && subject.only_dir)) return -1;
  if (subject.only_container && actor.container != subject.container) return -1;
  if (path != entry.path && path.rfind(entry.path + "/", 0) != 0) return -1;
  const std::string tail = path.substr(entry.path.size());
  std::uint32_t depth = entry.depth;
  for (const char c : tail) depth += c == '/';
  if (depth > 1 && (!subject.recursive || (subject.max_depth != 0 && depth > subject.max_depth))) return -1;
  const std::string below = entry.relative + tail;
  if (depth > 0)
    for (const std::string& pattern : subject.exclude)
      if (glob_covers(pattern, std::string_view(below).substr(1))) return -1;
  return static_cast<int>(entry.path.size());
}

Decision of_guard(std::uint32_t guard, const std::vector<Rule>& rules, const std::string& path, bool directory,
                  FileEventKind kind, const Actor& actor, bool observed) {
  const bool every = is_change(kind) && !observed;
  int nearest = -1;
  Decision best;
  for (const Rule& rule : rules) {
    if (rule.entry->subject->guard != guard) continue;
    const int near = says(rule, path, directory, kind, actor, observed);
    if (near < 0 || (near < nearest && !every)) continue;
    const Subject& subject = *rule.entry->subject;
    const bool exempt = subject.auto_allow_owner && actor.owner && actor.container == subject.container;
    const bool deny = rule.entry->action == Action::deny && !exempt;
    if ((near > nearest && !every) || best.entry == nullptr || (deny && !best.deny && !best.audit))
      best = {rule.entry.get(), deny && guard <= 2, rule.entry->action == Action::deny && exempt, deny && guard > 2};
    nearest = near;
  }
  return best;
}

// Guards don't know of each other: a denial comes first, then what would be one.
Decision by_definition(const std::vector<Rule>& rules, const std::string& path, bool directory, FileEventKind kind,
                       const Actor& actor, bool observed) {
  Decision best;
  for (std::uint32_t guard = 1; guard <= 4; ++guard) {
    const Decision one = of_guard(guard, rules, path, directory, kind, actor, observed);
    if (one.deny || (one.audit && !best.deny) || best.entry == nullptr) best = one;
  }
  return best;
}

// A table of the first rules, to which the others belonged for a while.
RuleTable changed_into(const std::vector<Rule>& rules, const std::vector<Rule>& gone) {
  const RuleTable before(gone);
  RuleTable::Edit both(before);
  for (const Rule& rule : rules) both.add(rule);
  const RuleTable all = std::move(both).done();
  RuleTable::Edit without(all);
  for (const Rule& rule : gone) without.remove(*rule.entry);
  return std::move(without).done();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::Input input(data, size);
  const std::vector<Rule> rules = rules_from(input), gone = rules_from(input);
  const SuperblockPolicy policy(changed_into(rules, gone), {{1, path_from(input), path_from(input)}, {2, "", ""}});
  for (int asked = 0; asked < 8 && !input.empty(); ++asked) {
    const std::string path = path_from(input);
    const bool directory = input.flag(), observed = input.flag();
    const Actor actor{.container = input.below(3), .owner = input.flag()};
    for (const FileEventKind kind : kKinds) {
      const Decision got = policy.decide(path, directory, kind, actor, observed);
      const Decision right = by_definition(rules, path, directory, kind, actor, observed);
      CLAIM((got.entry == nullptr) == (right.entry == nullptr) && got.deny == right.deny && got.audit == right.audit, path);
      // Whoever is denied, is denied something that is pinned, and asked about.
      if (got.deny || got.audit) CLAIM(policy.deniable(path, directory), path);
      CLAIM(!got.outranks(policy.strictest(kind, actor)) || got.response() == Response::allow, path);
      if (got.entry != nullptr && !path.empty()) CLAIM(!policy.outside(parent_of(path), observed), path);
      if (got.entry != nullptr && directory) CLAIM(!policy.ignorable(path, observed), path);
    }
    policy.seen_by(actor.container, path);
  }
  return 0;
}
