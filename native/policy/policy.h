// The compiled policy: which subject decides about a path of a superblock.
//
// Owns: the decision table, immutable once built and swapped as a whole.
// Must not know fanotify, containers' file systems or eBPF: paths come in as
// the superblock names them, so bind mounts, chroots and mount namespaces do
// not matter here.
//
// Rules: within one guard the most specific path wins; on a tie deny wins. Guards
// don't know of each other: if any denies, it is denied. One that only audits is judged
// in the same way: what it would deny is allowed, unless another denies it. Denials of
// changes (kChanges) add up: no rule takes another's back.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "os/unique_fd.h"
#include "policy/path.h"
#include "policy/rule.h"
#include "policy/rule_table.h"

namespace janus {

// Who acts.
struct Actor {
  std::uint64_t container = 0;  // cgroup id; 0 = in no guarded container
  bool owner = false;           // first process of `container`, or forked by it
};

struct Decision {
  const Entry* entry = nullptr;  // null: nobody cares
  bool deny = false;
  bool owner = false;  // allowed by autoAllowOwner
  bool audit = false;  // allowed, and denied if the guard of `entry` enforced

  Response response() const { return deny ? Response::deny : audit ? Response::audit : Response::allow; }
  // Whether it says more than `other`: a denial, then what would be one.
  bool outranks(const Decision& other) const {
    const auto rank = [](const Decision& of) { return of.deny ? 3 : of.audit ? 2 : of.entry != nullptr ? 1 : 0; };
    return rank(*this) > rank(other);
  }

  // That its entry denies it.
  static Decision denial(const Entry& entry) {
    const bool enforced = entry.subject->enforced;
    return {.entry = &entry, .deny = enforced, .owner = false, .audit = !enforced};
  }
};

// How a rule at or above a path stands to it.
enum class Bearing : std::uint8_t {
  applies,
  shadowed,          // it would, but its guard says something more specific
  other_event,       // it is not about that event
  other_actor,       // ... or not about who acts
  only_directories,  // ... or about directories only
  too_deep,          // the path is further below than it reaches
  excluded,
};

// How far an entry reaches: to an object `levels` below its path, which `tail` leads to from there? Whatever
// the event and the actor.
Bearing reach(const Entry& entry, std::uint32_t levels, std::string_view tail);

struct RuleBearing {
  const Rule* rule = nullptr;  // lives as long as the table
  Bearing bearing = Bearing::applies;
};

// How one container sees a superblock: where it mounted which part of it.
struct View {
  std::uint64_t container = 0;
  std::string root;   // in the superblock; "" is its root
  std::string point;  // in the container; "" is its root
};

class SuperblockPolicy {
 public:
  SuperblockPolicy(RuleTable rules, std::vector<View> views);

  // What to answer when `actor` does `kind` to `path`. Considers entries that
  // are answered (or, with `observed`, those that are only seen).
  Decision decide(std::string_view path, bool directory, FileEventKind kind, const Actor& actor, bool observed) const;

  // Whether no entry, answered or observed as asked, can ever match a child of
  // the directory `path`: then nothing in it has to be looked for.
  bool outside(std::string_view directory, bool observed) const { return untouched(directory, 1, observed); }

  // Whether none can match the directory itself, nor a child of it: an ignore mark on it
  // silences both.
  bool ignorable(std::string_view directory, bool observed) const { return untouched(directory, 0, observed); }

  // Who denies `actor` this path, or would: an entry for each guard, up to so many.
  std::vector<const Entry*> denying(std::string_view path, bool directory, FileEventKind kind, const Actor& actor,
                                    std::size_t most) const;

  // Who denies `actor` a rename of what leads to a path of his, which this one is; null: nobody.
  const Entry* denying_below(std::string_view path, FileEventKind kind, const Actor& actor) const;

  // All rules at and above the path, the most specific first, up to so many.
  std::vector<RuleBearing> bearings(std::string_view path, bool directory, FileEventKind kind, const Actor& actor,
                                    std::size_t most) const;

  // Who watches that `actor` does this to the path: an entry for each guard, its most specific, up
  // to so many. `deleteself` and `moveself` are of a watched path itself, and of directories below it.
  std::vector<const Entry*> watching(std::string_view path, bool directory, FileEventKind kind, const Actor& actor,
                                     std::size_t most) const;

  // Whether a rule that is only observed, of any of these events (mask_of()), is at the directory,
  // below it, or reaches it or what it holds.
  bool observed_around(std::string_view directory, std::uint32_t events) const;

  // Whether there is a rule at the path itself.
  bool is_named(std::string_view path) const { return rules_at(path) != nullptr; }

  const RuleTable& rules() const { return rules_; }

  // The longest part of `path` that an entry could have, and how many levels
  // the rest has: a container can make paths of any length, and must not make
  // us look at each of its prefixes.
  std::string_view comparable(std::string_view path, std::uint32_t& levels) const;

  // Whether more than one guard has anything here.
  bool several_guards() const { return rules_.several_guards(); }

  // About an object of unknown place. If somebody denies here, it is denied, since we
  // cannot tell that it isn't inside.
  Decision strictest(FileEventKind kind, const Actor& actor) const;

  // Who denies something here, or would: an entry for each guard, up to so many.
  std::vector<const Entry*> denying_anything(FileEventKind kind, const Actor& actor, std::size_t most) const;

  // Who could deny anyone this path; null: nobody. Used to find what to pin.
  const Entry* deniable(std::string_view path, bool directory) const;

  // Whose guards could deny anyone this path: containers, each once.
  std::vector<std::uint64_t> deniers(std::string_view path, bool directory) const;

  // Whether whatever is decided about one path is decided about the other, and
  // about all below it, too, as long as no entry is added. It may be false where
  // that holds.
  bool alike(std::string_view path, std::string_view other, bool directory) const;

  // The path as `container` sees it.
  std::string seen_by(std::uint64_t container, std::string_view path) const;

 private:
  // Whether no entry is a child of the directory, or reaches what is `levels` below it.
  bool untouched(std::string_view directory, std::uint32_t levels, bool observed, std::uint32_t events = ~0u) const;

  // Null: none.
  const RuleTable::Rules* rules_at(std::string_view path) const;

  // An entry that reaches a path, and how far its reach goes on below it.
  using Reach = std::pair<const Entry*, std::uint32_t>;
  bool reach_of(std::string_view path, bool directory, std::vector<Reach>& reach) const;

  // Entries that could deny anyone this path, until `visit` returns true.
  template <typename Visit>
  void each_denying(std::string_view path, bool directory, Visit visit) const;
  // Entries that deny `actor` something here, until `visit` returns true.
  template <typename Visit>
  void each_denying_anything(FileEventKind kind, const Actor& actor, Visit visit) const;

  RuleTable rules_;
  std::vector<View> views_;  // longest root first
};

// Where paths of a superblock can be opened from: a private clone of a mount
// (never the container's own mount, which we would keep busy).
struct Base {
  std::string root;  // in the superblock; "" is its root
  std::shared_ptr<const UniqueFd> mount;
};

struct Superblock {
  std::shared_ptr<const SuperblockPolicy> table;
  std::vector<Base> bases;  // longest root first
  // False while (or because) not all guarded inodes are pinned: then nothing
  // may be ignored, since an inode that is moved or linked would go unseen.
  bool learn = false;
  // What is denied here is denied by the kernel itself, wherever it is moved: so directories that can be
  // renamed may be ignored, too.
  bool by_kernel = false;
  // Which permission events anybody is denied here: what a pinned inode asks.
  std::uint64_t deny_mask = 0;
  // Whose guards are here, in order.
  std::vector<std::uint64_t> containers;
  // A guarded path may lead elsewhere at once (Placed::shifts): the gate waits for the plan, the kernel can't.
  bool shifts = false;
  // With the node or other containers: only the container's mounts are marked.
  bool shared = false;
  // Which events on directories and attributes anybody watches here: mask_of().
  std::uint32_t dirents = 0;
  // Another one: what is watched of them, or from where it is reached, has changed.
  std::uint64_t dirents_version = 0;
  // Another one: the rules may say something else. 0: not known.
  std::uint64_t rules_version = 0;

  // The clone that a path is reached from, and the path below it.
  const Base* base_for(std::string_view path) const;
};

// Immutable map of all superblocks.
struct Policy {
  std::uint64_t generation = 0;
  std::unordered_map<Device, std::shared_ptr<const Superblock>> superblocks;

  const Superblock* find(Device device) const {
    const auto it = superblocks.find(device);
    return it == superblocks.end() ? nullptr : it->second.get();
  }
};

// Holds the current policy: one writer (the planner), any reader.
class PolicyBox {
 public:
  std::shared_ptr<const Policy> get() const {
    const std::lock_guard lock(mutex_);
    return policy_;
  }
  void publish(std::shared_ptr<const Policy> policy) {
    const std::lock_guard lock(mutex_);
    policy_.swap(policy);
  }

 private:
  mutable std::mutex mutex_;  // held for a pointer copy; the old policy dies outside
  std::shared_ptr<const Policy> policy_ = std::make_shared<Policy>();
};

}  // namespace janus
