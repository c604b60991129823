#include "policy/policy.h"

#include <algorithm>

#include "policy/glob.h"

namespace janus {

namespace {

// In `exclude`: the subject's path itself. Other patterns are of what is below it.
constexpr std::string_view kItself = ".";

bool reaches(const Entry& entry, std::uint32_t levels, std::string_view tail) {
  return reach(entry, levels, tail) == Bearing::applies;
}

// Whether an entry is about such an event, wherever it reaches.
Bearing concern(const Entry& entry, FileEventKind kind, bool directory, const Actor& actor) {
  const Subject& subject = *entry.subject;
  if (!(subject.events & mask_of(kind))) return Bearing::other_event;
  if (!directory && subject.only_dir) return Bearing::only_directories;
  if (subject.only_container && actor.container != subject.container) return Bearing::other_actor;
  return Bearing::applies;
}

bool concerns(const Entry& entry, FileEventKind kind, bool directory, const Actor& actor) {
  return concern(entry, kind, directory, actor) == Bearing::applies;
}

// Guards that have decided about a path.
class Guards {
 public:
  bool contains(const Entry& entry) const { return std::ranges::binary_search(keys_, entry.subject->guard); }
  // In the order of their keys, as a path's rules are.
  void add(const Entry& entry) {
    if (keys_.empty() || keys_.back() != entry.subject->guard) keys_.push_back(entry.subject->guard);
  }
  void add(const Guards& others) {
    const auto middle = static_cast<std::ptrdiff_t>(keys_.size());
    keys_.insert(keys_.end(), others.keys_.begin(), others.keys_.end());
    std::inplace_merge(keys_.begin(), keys_.begin() + middle, keys_.end());
  }

 private:
  std::vector<std::uint32_t> keys_;  // sorted
};

bool exempts(const Entry& entry, const Actor& actor) {
  return entry.subject->auto_allow_owner && actor.owner && actor.container == entry.subject->container;
}

}  // namespace

// Directories' own entries are one level below; deeper takes `recursive`.
Bearing reach(const Entry& entry, std::uint32_t levels, std::string_view tail) {
  const Subject& subject = *entry.subject;
  const std::uint32_t depth = entry.depth + levels;
  if (depth > 1 && !subject.recursive) return Bearing::too_deep;
  if (depth > 1 && subject.max_depth != 0 && depth > subject.max_depth) return Bearing::too_deep;
  if (subject.exclude.empty()) return Bearing::applies;
  if (depth == 0) return std::ranges::find(subject.exclude, kItself) != subject.exclude.end() ? Bearing::excluded : Bearing::applies;
  std::string relative = entry.relative;
  relative += tail;
  const std::string_view below = std::string_view(relative).substr(relative.starts_with('/') ? 1 : 0);
  const bool excluded = std::any_of(subject.exclude.begin(), subject.exclude.end(),
                                    [&](const std::string& pattern) { return glob_covers(pattern, below); });
  return excluded ? Bearing::excluded : Bearing::applies;
}

SuperblockPolicy::SuperblockPolicy(RuleTable rules, std::vector<View> views)
    : rules_(std::move(rules)), views_(std::move(views)) {
  std::stable_sort(views_.begin(), views_.end(),
                   [](const View& a, const View& b) { return a.root.size() > b.root.size(); });
}

const RuleTable::Rules* SuperblockPolicy::rules_at(std::string_view path) const {
  const RuleTable::Node* node = rules_.find(path);
  return node == nullptr ? nullptr : node->rules.get();
}

std::string_view SuperblockPolicy::comparable(std::string_view path, std::uint32_t& levels) const {
  std::string_view at = path;
  if (at.size() > rules_.longest()) {
    // Up to the last slash that leaves no more than that.
    const auto slash = at.rfind('/', rules_.longest());
    at = at.substr(0, slash == std::string_view::npos ? 0 : slash);
    const std::string_view rest = path.substr(at.size());
    levels += static_cast<std::uint32_t>(std::count(rest.begin(), rest.end(), '/'));
  }
  return at;
}

Decision SuperblockPolicy::decide(std::string_view path, bool directory, FileEventKind kind, const Actor& actor,
                                  bool observed) const {
  const bool every = is_change(kind) && !observed;
  std::uint32_t levels = 0;
  Decision best;
  Guards decided;  // by a path that is more specific
  for (std::string_view at = comparable(path, levels);; ++levels) {
    if (const RuleTable::Rules* rules = rules_at(at)) {
      Guards here;
      for (const Rule& rule : *rules) {
        const Entry& entry = *rule.entry;
        if (rule.answered == observed || !concerns(entry, kind, directory, actor) || decided.contains(entry)) continue;
        if (!reaches(entry, levels, path.substr(at.size()))) continue;
        const bool exempt = entry.action == Action::deny && exempts(entry, actor);
        Decision one{.entry = &entry, .deny = false, .owner = exempt};
        if (entry.action == Action::deny && !exempt) one = Decision::denial(entry);
        if (one.deny) return one;
        if (one.outranks(best)) best = one;
        if (rules_.several_guards() && !every) here.add(entry);
      }
      if (best.entry != nullptr && !rules_.several_guards() && !every) return best;
      decided.add(here);
    }
    if (at.empty()) return best;
    at = parent_of(at);
  }
}

bool SuperblockPolicy::untouched(std::string_view directory, std::uint32_t levels, bool observed, std::uint32_t events) const {
  const RuleTable::Node* node = rules_.find(directory);
  if (node != nullptr && (observed ? node->observed_children : node->answered_children) > 0) return false;
  for (std::string_view at = comparable(directory, levels);; ++levels) {
    if (const RuleTable::Rules* rules = rules_at(at)) {
      for (const Rule& rule : *rules) {
        const Entry& entry = *rule.entry;
        const Subject& subject = *entry.subject;
        if (rule.answered == observed || (subject.events & events) == 0) continue;
        const std::uint32_t depth = entry.depth + levels;
        // Excludes are not looked at: what a pattern leaves alone is still asked about.
        if (depth <= 1 || (subject.recursive && (subject.max_depth == 0 || depth <= subject.max_depth))) return false;
      }
    }
    if (at.empty()) return true;
    at = parent_of(at);
  }
}

std::vector<const Entry*> SuperblockPolicy::denying(std::string_view path, bool directory, FileEventKind kind,
                                                    const Actor& actor, std::size_t most) const {
  std::vector<const Entry*> denying;
  std::uint32_t levels = 0;
  Guards decided;
  for (std::string_view at = comparable(path, levels);; ++levels) {
    if (const RuleTable::Rules* rules = rules_at(at)) {
      Guards here, denied;
      for (const Rule& rule : *rules) {
        const Entry& entry = *rule.entry;
        if (!rule.answered || !concerns(entry, kind, directory, actor) || decided.contains(entry)) continue;
        if (!reaches(entry, levels, path.substr(at.size()))) continue;
        here.add(entry);
        if (entry.action != Action::deny || exempts(entry, actor) || denied.contains(entry)) continue;
        denied.add(entry);
        denying.push_back(&entry);
        if (denying.size() == most) return denying;
      }
      decided.add(is_change(kind) ? denied : here);
    }
    if (at.empty()) return denying;
    at = parent_of(at);
  }
}

template <typename Visit>
void SuperblockPolicy::each_denying_anything(FileEventKind kind, const Actor& actor, Visit visit) const {
  rules_.each([&](const Rule& rule) {
    const Entry& entry = *rule.entry;
    return rule.answered && entry.action == Action::deny && concerns(entry, kind, true, actor) && !exempts(entry, actor) &&
           visit(entry);
  });
}

const Entry* SuperblockPolicy::denying_below(std::string_view path, FileEventKind kind, const Actor& actor) const {
  const Entry* denying = nullptr;
  if (!is_rename(kind)) return denying;
  each_denying_anything(kind, actor, [&](const Entry& entry) {
    if (entry.path.size() > path.size() && is_below(entry.path, path)) denying = &entry;
    return denying != nullptr;
  });
  return denying;
}

std::vector<const Entry*> SuperblockPolicy::watching(std::string_view path, bool directory, FileEventKind kind,
                                                     const Actor& actor, std::size_t most) const {
  const bool of_itself = kind == FileEventKind::deleteself || kind == FileEventKind::moveself;
  std::vector<const Entry*> watching;
  std::uint32_t levels = 0;
  Guards decided;
  for (std::string_view at = comparable(path, levels);; ++levels) {
    if (const RuleTable::Rules* rules = rules_at(at)) {
      Guards here;
      for (const Rule& rule : *rules) {
        const Entry& entry = *rule.entry;
        if (rule.answered || !concerns(entry, kind, directory, actor) || decided.contains(entry)) continue;
        if (of_itself && entry.depth + levels > 0 && !(directory && entry.subject->recursive)) continue;
        if (!reaches(entry, levels, path.substr(at.size()))) continue;
        if (here.contains(entry)) continue;
        here.add(entry);
        watching.push_back(&entry);
        if (watching.size() == most) return watching;
      }
      decided.add(here);
    }
    if (at.empty()) return watching;
    at = parent_of(at);
  }
}

bool SuperblockPolicy::observed_around(std::string_view directory, std::uint32_t events) const {
  const RuleTable::Node* node = rules_.find(directory);
  return (node != nullptr && node->below > 0) || !untouched(directory, 0, true, events);
}

std::vector<RuleBearing> SuperblockPolicy::bearings(std::string_view path, bool directory, FileEventKind kind,
                                                    const Actor& actor, std::size_t most) const {
  std::vector<RuleBearing> all;
  std::uint32_t levels = 0;
  Guards answered, observed;  // that have decided by a path that is more specific
  for (std::string_view at = comparable(path, levels);; ++levels) {
    if (const RuleTable::Rules* rules = rules_at(at)) {
      Guards answered_here, observed_here;
      for (const Rule& rule : *rules) {
        if (all.size() == most) return all;
        const Entry& entry = *rule.entry;
        Bearing bearing = concern(entry, kind, directory, actor);
        if (bearing == Bearing::applies) bearing = reach(entry, levels, path.substr(at.size()));
        if (bearing == Bearing::applies && (rule.answered ? answered : observed).contains(entry)) bearing = Bearing::shadowed;
        if (bearing == Bearing::applies && !(rule.answered && is_change(kind))) (rule.answered ? answered_here : observed_here).add(entry);
        all.push_back({&rule, bearing});
      }
      answered.add(answered_here);
      observed.add(observed_here);
    }
    if (at.empty()) return all;
    at = parent_of(at);
  }
}

std::vector<const Entry*> SuperblockPolicy::denying_anything(FileEventKind kind, const Actor& actor, std::size_t most) const {
  std::vector<const Entry*> denying;
  each_denying_anything(kind, actor, [&](const Entry& entry) {
    const std::uint32_t guard = entry.subject->guard;
    if (std::ranges::none_of(denying, [&](const Entry* other) { return other->subject->guard == guard; })) denying.push_back(&entry);
    return denying.size() == most;
  });
  return denying;
}

Decision SuperblockPolicy::strictest(FileEventKind kind, const Actor& actor) const {
  Decision best;
  each_denying_anything(kind, actor, [&](const Entry& entry) {
    const Decision one = Decision::denial(entry);
    if (one.outranks(best)) best = one;
    return best.deny;
  });
  return best;
}

template <typename Visit>
void SuperblockPolicy::each_denying(std::string_view path, bool directory, Visit visit) const {
  for (const std::uint32_t events :
       {mask_of(FileEventKind::open), mask_of(FileEventKind::access), mask_of(FileEventKind::exec), kChanges}) {
    // The strictest actor there is: in every container at once, nobody's owner.
    std::uint32_t levels = 0;
    Guards decided;
    for (std::string_view at = comparable(path, levels);; ++levels) {
      if (const RuleTable::Rules* rules = rules_at(at)) {
        Guards here;
        for (const Rule& rule : *rules) {
          const Entry& entry = *rule.entry;
          const Subject& subject = *entry.subject;
          if (!rule.answered || decided.contains(entry) || !(subject.events & events) ||
              (!directory && subject.only_dir))
            continue;
          // A path that is denied but for itself counts: what is below it is denied.
          const bool denied = entry.action == Action::deny && entry.depth + levels == 0;
          if (!denied && !reaches(entry, levels, path.substr(at.size()))) continue;
          if (entry.action == Action::deny && visit(entry)) return;
          if (!subject.only_container) here.add(entry);
        }
        decided.add(here);
      }
      if (at.empty()) break;
      at = parent_of(at);
    }
  }
}

const Entry* SuperblockPolicy::deniable(std::string_view path, bool directory) const {
  const Entry* denying = nullptr;
  each_denying(path, directory, [&](const Entry& entry) {
    denying = &entry;
    return true;
  });
  return denying;
}

std::vector<std::uint64_t> SuperblockPolicy::deniers(std::string_view path, bool directory) const {
  std::vector<std::uint64_t> containers;
  each_denying(path, directory, [&](const Entry& entry) {
    const std::uint64_t container = entry.subject->container;
    if (std::ranges::find(containers, container) == containers.end()) containers.push_back(container);
    return false;
  });
  return containers;
}

// False: it depends on more than that.
bool SuperblockPolicy::reach_of(std::string_view path, bool directory, std::vector<Reach>& reach) const {
  if (directory) {
    const RuleTable::Node* node = rules_.find(path);
    if (node != nullptr && node->below > 0) return false;
  }
  std::uint32_t levels = 0;
  for (std::string_view at = comparable(path, levels);; ++levels) {
    if (const RuleTable::Rules* rules = rules_at(at)) {
      for (const Rule& rule : *rules) {
        const Entry& entry = *rule.entry;
        const Subject& subject = *entry.subject;
        if (directory && !subject.exclude.empty()) return false;  // names below it matter
        if (!directory && !reaches(entry, levels, path.substr(at.size()))) continue;
        const std::uint32_t to_go = !directory || (subject.recursive && subject.max_depth == 0) ? 0
                                    : subject.recursive                                       ? levels
                                                                                              : std::min(levels, 2u);
        reach.emplace_back(&entry, to_go);
      }
    }
    if (at.empty()) return true;
    at = parent_of(at);
  }
}

bool SuperblockPolicy::alike(std::string_view path, std::string_view other, bool directory) const {
  if (path == other) return true;
  std::vector<Reach> reach, other_reach;
  return reach_of(path, directory, reach) && reach_of(other, directory, other_reach) && reach == other_reach;
}

std::string SuperblockPolicy::seen_by(std::uint64_t container, std::string_view path) const {
  for (const View& view : views_) {
    if (view.container != container || !is_below(path, view.root)) continue;
    std::string seen = view.point;
    seen += path.substr(view.root.size());
    return seen.empty() ? "/" : seen;
  }
  return path.empty() ? "/" : std::string(path);
}

const Base* Superblock::base_for(std::string_view path) const {
  const auto it = std::find_if(bases.begin(), bases.end(), [&](const Base& base) { return is_below(path, base.root); });
  return it == bases.end() ? nullptr : &*it;
}

}  // namespace janus
