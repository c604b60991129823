#include "policy/rule_table.h"

#include <algorithm>

#include "policy/path.h"

namespace janus {
namespace {

template <typename Shard>
auto place_in(Shard& shard, std::size_t hash, std::string_view path) {
  auto at = std::ranges::lower_bound(shard, hash, {}, [](const auto& item) { return item.first; });
  while (at != shard.end() && at->first == hash && at->second->path != path) ++at;
  return at;
}

bool denies(const Rule& rule) { return rule.entry->action == Action::deny; }

}  // namespace

RuleTable::RuleTable(const Rules& rules) {
  const RuleTable none;
  Edit edit(none);
  for (const Rule& rule : rules) edit.add(rule);
  *this = std::move(edit).done();
}

const RuleTable::Node* RuleTable::find(std::string_view path) const {
  const std::size_t hash = hash_of(path);
  const auto& shard = shards_[hash % kShards];
  if (shard == nullptr) return nullptr;
  const auto at = place_in(*shard, hash, path);
  return at != shard->end() && at->first == hash ? at->second.get() : nullptr;
}

const RuleTable::Node* RuleTable::Edit::find(std::string_view path) const {
  const auto drafted = drafts_.find(std::string(path));
  return drafted == drafts_.end() ? next_.find(path) : &drafted->second.node;
}

RuleTable::Edit::Draft& RuleTable::Edit::draft(std::string_view path) {
  const auto [at, is_new] = drafts_.try_emplace(std::string(path));
  if (is_new) {
    if (const Node* was = next_.find(path)) at->second.node = *was;
    else at->second.node.path = path;
  }
  return at->second;
}

RuleTable::Rules& RuleTable::Edit::rules_of(Draft& draft) {
  if (draft.own == nullptr) {
    draft.own = draft.node.rules == nullptr ? std::make_shared<Rules>() : std::make_shared<Rules>(*draft.node.rules);
    draft.node.rules = draft.own;
  }
  return *draft.own;
}

void RuleTable::Edit::count(const Entry& entry, bool answered, int by) {
  const std::string_view path = entry.path;
  if (path.empty()) return;
  std::string_view at = parent_of(path);
  Node& parent = draft(at).node;
  (answered ? parent.answered_children : parent.observed_children) += static_cast<std::uint32_t>(by);
  for (;; at = parent_of(at)) {
    Node& node = draft(at).node;
    node.below += static_cast<std::uint32_t>(by);
    if (entry.action == Action::deny) node.denied_below += static_cast<std::uint32_t>(by);
    if (at.empty()) return;
  }
}

void RuleTable::Edit::add(Rule rule) {
  const Entry& entry = *rule.entry;
  const std::uint32_t guard = entry.subject->guard;
  next_.longest_ = std::max(next_.longest_, entry.path.size());
  if (next_.guard_ == 0) next_.guard_ = guard;
  next_.several_guards_ = next_.several_guards_ || next_.guard_ != guard;
  count(entry, rule.answered, 1);
  Rules& rules = rules_of(draft(entry.path));
  const auto at = std::ranges::upper_bound(rules, guard, {}, [](const Rule& other) { return other.entry->subject->guard; });
  rules.insert(at, std::move(rule));
}

bool RuleTable::Edit::remove(const Entry& entry) {
  Rules& rules = rules_of(draft(entry.path));
  const auto at = std::ranges::find(rules, &entry, [](const Rule& rule) { return rule.entry.get(); });
  const bool answered = at->answered;
  count(entry, answered, -1);
  rules.erase(at);
  return answered;
}

bool RuleTable::Edit::denied_around(std::string_view path) const {
  if (const Node* node = find(path); node != nullptr && node->denied_below > 0) return true;
  for (std::string_view at = path;; at = parent_of(at)) {
    const Node* node = find(at);
    if (node != nullptr && node->rules != nullptr && std::ranges::any_of(*node->rules, denies)) return true;
    if (at.empty()) return false;
  }
}

RuleTable RuleTable::Edit::done() && {
  std::unordered_map<std::size_t, std::shared_ptr<Shard>> copies;
  for (auto& [path, draft] : drafts_) {
    if (draft.own != nullptr && draft.own->empty()) draft.node.rules = nullptr;
    const std::size_t hash = hash_of(path);
    const std::size_t number = hash % kShards;
    auto& shard = copies[number];
    auto& place = next_.shards_[number];
    if (shard == nullptr) place = shard = place == nullptr ? std::make_shared<Shard>() : std::make_shared<Shard>(*place);
    const auto at = place_in(*shard, hash, path);
    const bool there = at != shard->end() && at->first == hash;
    if (draft.node.empty()) {
      if (there) shard->erase(at);
      continue;
    }
    if (draft.own != nullptr) draft.own->shrink_to_fit();
    auto node = std::make_shared<const Node>(std::move(draft.node));
    if (there) at->second = std::move(node);
    else shard->emplace(at, hash, std::move(node));
  }
  for (const auto& [number, shard] : copies)
    if (shard->empty()) next_.shards_[number] = nullptr;
  return std::move(next_);
}

}  // namespace janus
