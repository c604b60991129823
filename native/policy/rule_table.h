// The rules of a superblock, by path.
//
// Owns: the rules. A table never changes: an edit makes another, which shares with
// the first what is the same. So a guard that comes or goes costs what it says itself,
// however many others there are, and whoever reads the first goes on with it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "policy/rule.h"

namespace janus {

class RuleTable {
 public:
  using Rules = std::vector<Rule>;

  // What there is at a path, and below it.
  struct Node {
    std::string path;
    std::shared_ptr<const Rules> rules;  // by the key of their guard; null: none
    std::uint32_t below = 0;             // rules of what is below it
    std::uint32_t denied_below = 0;      // ... that deny
    // Rules of what it holds directly: answered, and only observed.
    std::uint32_t answered_children = 0, observed_children = 0;

    bool empty() const { return rules == nullptr && below == 0; }
  };

  class Edit;

  RuleTable() = default;
  RuleTable(const Rules& rules);
  RuleTable(std::initializer_list<Rule> rules) : RuleTable(Rules(rules)) {}

  // Null: no rule is there, nor below it. Lives as long as the table.
  const Node* find(std::string_view path) const;

  // No path of a rule is longer. Bytes.
  std::size_t longest() const { return longest_; }
  // False: all rules are one guard's.
  bool several_guards() const { return several_guards_; }

  // All rules, in no order, until `visit` returns true.
  template <typename Visit>
  void each(Visit visit) const {
    for (const auto& shard : shards_) {
      if (shard == nullptr) continue;
      for (const auto& [hash, node] : *shard) {
        if (node->rules == nullptr) continue;
        for (const Rule& rule : *node->rules)
          if (visit(rule)) return;
      }
    }
  }

 private:
  // A change copies the shards that it is in. So a shard is short, and so is their list.
  static constexpr std::size_t kShards = 256;
  using Shard = std::vector<std::pair<std::size_t, std::shared_ptr<const Node>>>;  // by hash of the path

  static std::size_t hash_of(std::string_view path) { return std::hash<std::string_view>{}(path); }

  std::array<std::shared_ptr<const Shard>, kShards> shards_;
  // As long as no rule was removed; else they may be too much.
  std::size_t longest_ = 0;
  std::uint32_t guard_ = 0;  // of the first rule
  bool several_guards_ = false;
};

// Makes a table from another one.
class RuleTable::Edit {
 public:
  explicit Edit(const RuleTable& from) : next_(from) {}

  void add(Rule rule);
  // The rule of this entry, which is there. Whether it was answered.
  bool remove(const Entry& entry);
  // Whether a rule above, at or below `path` denies.
  bool denied_around(std::string_view path) const;
  RuleTable done() &&;

 private:
  struct Draft {
    Node node;
    std::shared_ptr<Rules> own;  // node.rules, once they differ from what the table has
  };
  Draft& draft(std::string_view path);
  Rules& rules_of(Draft& draft);
  const Node* find(std::string_view path) const;
  void count(const Entry& entry, bool answered, int by);

  RuleTable next_;  // as it was, but for what drafts_ say
  std::unordered_map<std::string, Draft> drafts_;
};

}  // namespace janus
