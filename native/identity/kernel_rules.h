// What the kernel denies by itself, to whom: pinned inodes for what they are, and whatever
// stands at a path.
//
// Owns: the rules of the decider's maps. A rule is there only as long as the published policy
// is certain of it (policy/certain.h): changed() is to be called after each publishing, and
// before anybody is told that a guard is gone. Thread-safe.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "ebpf/decider.h"
#include "policy/certain.h"
#include "policy/policy.h"

namespace janus {

class KernelRules {
 public:
  KernelRules(Decider& decider, const PolicyBox& policies) : decider_(decider), policies_(policies) {}

  // The inode of `fd` is pinned, and guarded as what stood at these paths. What was said of it before
  // is forgotten. `inode`: its kernel address.
  void hold(int fd, std::uint64_t inode, Device device, bool directory, std::span<const std::string> paths);
  // Its paths are these now. Nothing, if it isn't held.
  void change(std::uint64_t inode, std::span<const std::string> paths);
  void release(std::uint64_t inode);

  // Whether the kernel finds what stands at such a path, as the superblock names it.
  static bool follows(std::string_view path);

  // Of the paths of a guard: components of all that it denies at, and of those at which it denies changes.
  struct Room {
    std::size_t components = 0, of_changes = 0;
  };
  // Whether they find room, each for itself, besides those of all guards that are there.
  bool has_room(const Room& wanted) const;

  // The policy of the superblock was published.
  void changed(Device device);
  // Whether the kernel denies all that its policy denies anybody, wherever things are moved: as long as what is
  // guarded there is pinned.
  bool alone(Device device) const;
  // ... and besides nobody tells of anything that is asked about there: no owner is exempt.
  bool complete(Device device) const;

  // What it was guarded as; empty: it isn't held.
  std::vector<std::string> paths_of(std::uint64_t inode) const;
  // Null: no rule has named it for a while.
  std::shared_ptr<const Subject> subject(std::uint32_t id) const;
  // Forgets subjects that no rule has named since then: what the kernel has denied for them is recorded.
  void forget_unused(std::uint64_t since_ns);

 private:
  using Key = std::array<std::uint64_t, 5>;
  using Lock = std::unique_lock<std::mutex>;
  struct Held {
    Device device = 0;
    bool directory = false;
    std::vector<janus_rule_key> keys;  // without a container
    std::vector<std::string> paths;
    std::vector<CertainDenial> denials;
  };
  // Where the rules of one key come from.
  struct Written {
    janus_rule_key key{};
    std::map<std::uint64_t, const CertainDenial*> of;  // by inode
    janus_rule rule{};
    janus_change_rule changes{};
  };
  // Who denies what is far below a directory, anywhere on a superblock, and how many rules of his do.
  struct Deeper {
    std::map<std::uint32_t, std::size_t> of[JANUS_OPENS][JANUS_TO_WHOM];  // by subject
    std::size_t asked[JANUS_ASKED_KINDS][JANUS_TO_WHOM] = {};
  };
  static Key key_of(const janus_rule_key& key) {
    return {key.container, key.superblock, key.ino, key.generation, key.dev};
  }
  // What is denied at the paths of a superblock.
  struct Paths {
    using Prefix = std::pair<std::uint64_t, std::string>;                          // container, path
    std::map<Prefix, std::uint32_t> numbers;                                       // of those that lead to a rule
    std::map<std::tuple<std::uint64_t, std::uint32_t, std::string>, janus_name> names;  // by container, directory, name
    std::map<std::uint64_t, std::uint32_t> containers;  // that are denied opens: their filters
    // Of changes: of those paths, and of what leads to them, by number; by container, of whoever is denied any.
    std::map<std::uint32_t, janus_change_rule> changes_at;
    std::map<std::uint64_t, janus_change_rule> changes_anywhere;
    std::vector<CertainDenial> denials;
    bool whole = false;  // nothing else is denied
    bool owners = false;  // some are exempt
  };
  bool alone(std::map<Device, Paths>::const_iterator paths) const;
  const CertainDenials* certain_of(Device device);
  void write_paths(Device device);
  void add_path(const Paths& before, Paths& paths, const CertainDenial& denial, std::string_view path);
  void swap_paths(Device device, Paths& before, Paths& now);
  void judge(std::uint64_t inode, Held& held);
  void name(const CertainDenial& denial, int by);
  void sign(std::uint64_t inode, const Held& held, std::uint64_t container, bool on);
  void unwrite(std::uint64_t inode, const Held& held, std::uint64_t container);
  void drop(std::map<std::uint64_t, Held>::iterator held);
  void write(Written& written);
  void set_deeper(const janus_rule_key& key, const janus_rule& before, const janus_rule& now);

  Decider& decider_;
  const PolicyBox& policies_;
  mutable std::mutex mutex_;
  std::map<std::uint64_t, Held> held_;  // by inode
  std::map<Device, std::set<std::uint64_t>> by_device_;
  std::map<Key, Written> written_;
  std::map<std::pair<std::uint64_t, std::uint64_t>, Deeper> deeper_;  // by container and superblock
  // What is certain on each superblock, by its published table.
  struct Judged {
    std::uint64_t rules_version = 0;
    std::unique_ptr<const CertainDenials> certain;
  };
  std::map<Device, Judged> judged_;
  std::map<Device, Paths> paths_;
  std::set<Device> unknown_;  // its inodes can't be told apart
  std::uint32_t next_number_ = 1;
  std::uint32_t next_version_ = 1;
  struct Named {
    std::shared_ptr<const Subject> subject;
    std::size_t by = 0;          // rulings
    std::uint64_t until_ns = 0;  // of one that none names; monotonic
  };
  std::map<std::uint32_t, Named> subjects_;
};

}  // namespace janus
