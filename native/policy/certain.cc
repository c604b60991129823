#include "policy/certain.h"

#include <algorithm>
#include <span>
#include <utility>

namespace janus {
namespace {

// Whether nothing but place, event and actor decides whether it applies.
bool is_plain(const Subject& subject) {
  return subject.enforced && !subject.only_dir && subject.max_depth == 0 && subject.exclude.empty();
}

// What it may deny of an object, and of what that holds: bits of CertainDenial::asked.
std::uint8_t may_deny(const Entry& entry, std::uint32_t levels, std::string_view tail, bool directory) {
  const Subject& subject = *entry.subject;
  const std::uint32_t depth = entry.depth + levels;
  const auto within = [&](std::uint32_t far) {
    return far <= 1 || (subject.recursive && (subject.max_depth == 0 || far <= subject.max_depth));
  };
  const Bearing bearing = reach(entry, levels, tail);
  unsigned may = bearing == Bearing::applies && (directory || !subject.only_dir) ? 1 : 0;
  // Whoever excludes a directory excludes what is below, but for the subject's own path.
  if (!directory || (bearing == Bearing::excluded && depth > 0)) return static_cast<std::uint8_t>(may);
  if (within(depth + 1)) may |= 2;
  if (within(depth + 2)) may |= 4;
  return static_cast<std::uint8_t>(may);
}

// How far it denies below its path. That is `levels` above the object.
CertainDenial::Reach reach_of(const Entry& entry, std::uint32_t levels, bool directory) {
  const Subject& subject = *entry.subject;
  const std::uint32_t depth = entry.depth + levels;
  if (depth > 1 && !subject.recursive) return CertainDenial::none;
  if (!directory || (depth > 0 && !subject.recursive)) return CertainDenial::itself;
  return subject.recursive ? CertainDenial::deeper : CertainDenial::entries;
}

}  // namespace

CertainDenials::CertainDenials(std::shared_ptr<const SuperblockPolicy> table) : table_(std::move(table)) {
  table_->rules().each([&](const Rule& rule) {
    const Entry& entry = *rule.entry;
    if (!rule.answered) return false;
    audited_ = audited_ || entry.subject->audit;
    plain_ = plain_ && entry.action == Action::deny && entry.subject->only_container && is_plain(*entry.subject);
    if (entry.action == Action::allow) doubts_[entry.subject->guard].allowed.push_back(entry.path);
    else if (entry.subject->auto_allow_owner) doubts_[entry.subject->guard].owners.push_back(entry.path);
    return false;
  });
  for (auto& [guard, doubts] : doubts_) {
    std::ranges::sort(doubts.allowed);
    std::ranges::sort(doubts.owners);
  }
}

bool CertainDenials::any_at(const std::vector<std::string>& paths, std::string_view path) {
  return std::ranges::binary_search(paths, path, {}, [](const std::string& each) { return std::string_view(each); });
}

bool CertainDenials::any_below(const std::vector<std::string>& paths, std::string_view path) {
  const std::string below = std::string(path) + "/";
  const auto next = std::ranges::lower_bound(paths, below);
  return next != paths.end() && next->starts_with(below);
}

bool CertainDenial::concerns_opens() const {
  const auto anything = [](const auto& kind) { return std::ranges::any_of(kind, [](const Ruling& ruling) { return ruling.reach != none; }); };
  return std::ranges::any_of(opens, anything) || asked != decltype(asked){};
}

const CertainDenial::Rulings& CertainDenial::of(std::size_t kind) const {
  static const Rulings nothing{};
  if (kind < kOpens) return opens[kind];
  return changes.empty() ? nothing : changes[kind - kOpens];
}

void CertainDenial::add(std::size_t kind, std::size_t whom, const Ruling& ruling) {
  if (ruling.reach <= of(kind)[whom].reach) return;
  if (kind >= kOpens) changes.resize(kCertainKinds.size() - kOpens);
  (kind < kOpens ? opens[kind] : changes[kind - kOpens])[whom] = ruling;
}

// `at` is the entry's path; `path` as much of the object's as a rule could have.
CertainDenial::Reach CertainDenials::spoilt(const Entry& entry, std::string_view path, std::string_view at,
                                            CertainDenial::Reach reach) const {
  const Subject& subject = *entry.subject;
  const auto doubts = doubts_.find(subject.guard);
  if (doubts == doubts_.end()) return reach;
  const auto spoil = [&](const std::vector<std::string>& paths) {
    // What is as near to the object, or nearer, decides instead.
    for (std::string_view between = path;; between = parent_of(between)) {
      if (any_at(paths, between)) reach = CertainDenial::none;
      if (between.size() == at.size()) break;
    }
    if (any_below(paths, path)) reach = std::min(reach, CertainDenial::itself);
  };
  spoil(doubts->second.allowed);
  if (!subject.auto_allow_owner) spoil(doubts->second.owners);
  return reach;
}

std::vector<CertainDenial> CertainDenials::of(std::string_view path, bool directory) const {
  std::vector<CertainDenial> all;
  std::uint32_t levels = 0;
  const std::string_view comparable = table_->comparable(path, levels);
  for (std::string_view at = comparable;; at = parent_of(at), ++levels) {
    const RuleTable::Node* node = table_->rules().find(at);
    const std::shared_ptr<const RuleTable::Rules> rules = node == nullptr ? nullptr : node->rules;
    for (const Rule& rule : rules == nullptr ? std::span<const Rule>() : std::span<const Rule>(*rules)) {
      const Entry& entry = *rule.entry;
      if (!rule.answered || entry.action != Action::deny || !entry.subject->enforced) continue;
      const bool plain = !audited_ && is_plain(*entry.subject);
      const CertainDenial::Reach whole = reach_of(entry, levels, directory);
      const CertainDenial::Reach far = plain ? spoilt(entry, comparable, at, whole) : CertainDenial::none;
      const std::uint8_t may = may_deny(entry, levels, path.substr(at.size()), directory);
      if (may == 0) continue;
      const auto uncertain = static_cast<std::uint8_t>(may & ~((1u << far) - 1u));
      const auto whom = static_cast<std::size_t>(entry.subject->auto_allow_owner ? ToWhom::others : ToWhom::anybody);
      const std::uint64_t container = entry.subject->container;
      auto denial = std::ranges::find(all, container, &CertainDenial::container);
      if (denial == all.end()) denial = all.insert(all.end(), CertainDenial{.container = container});
      for (std::size_t kind = 0; kind < kAskedKinds.size(); ++kind)
        if (entry.subject->events & mask_of(kAskedKinds[kind])) denial->asked[kind][whom] |= kind < kOpens ? uncertain : may;
      for (std::size_t kind = 0; kind < kCertainKinds.size(); ++kind)
        if (entry.subject->events & mask_of(kCertainKinds[kind])) denial->add(kind, whom, {rule.entry, kind < kOpens ? far : whole});
    }
    if (at.empty()) break;
  }
  std::erase_if(all, [](const CertainDenial& denial) { return denial.empty(); });
  return all;
}

}  // namespace janus
