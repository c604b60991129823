// The programs of bpf/decide.bpf.c: opens and execs that the kernel denies by itself.
//
// Owns: what libbpf opened for it. Only where the kernel takes fmod_ret programs; elsewhere
// nothing is denied here, and each call does nothing. Methods may be called from any thread
// unless they say otherwise. Must not judge: see identity/kernel_rules.h.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "bpf/event.h"
#include "ebpf/attachments.h"
#include "ebpf/bpf_map.h"
#include "ebpf/bpf_programs.h"
#include "ebpf/record_stream.h"
#include "ebpf/rule_filters.h"

struct decide_bpf;
struct ring_buffer;

namespace janus {

struct ChangeHooks;

class Decider {
 public:
  enum class Mode {
    off,
    rules,  // only its maps, and what an inode is known by: nothing is denied
    on,     // where the kernel takes it; else off, and if it should have been taken refusal() says why
  };
  // What is kept tells of the daemon.
  struct Self {
    std::string version;
    bool away_denies = false;  // while none is there, what only the gate could judge is denied to guarded containers
  };
  Decider(const BpfPrograms& programs, Mode mode, const Self& self);
  Decider(const BpfPrograms& programs, Mode mode) : Decider(programs, mode, Self{}) {}
  ~Decider();
  Decider(const Decider&) = delete;
  Decider& operator=(const Decider&) = delete;

  bool works() const { return skeleton_ != nullptr; }
  const std::string& refusal() const { return refusal_; }
  // Whether it denies changes, too; else why not.
  bool denies_changes() const { return works() && changes_refusal_.empty(); }
  const std::string& changes_refusal() const { return changes_refusal_; }
  // Whether the kernel may interrupt a program for another task. What that opens then, the program isn't run for.
  bool may_miss() const { return may_miss_; }

  // What denies, also without a daemon, and counts: a link and maps.
  std::vector<std::pair<std::string, int>> kept() const;
  // All guards of before are in place: if this daemon goes, nobody else has its part.
  void settle();
  // The daemon is there, with this policy. Twice a second.
  void beat(std::uint64_t generation);
  // No other daemon would go on any more.
  void lose_heir();
  // The daemon is about to answer nobody any more: what lies below something that is denied is denied
  // from here, too. The kernel sees by itself that it ends.
  void leave();

  // By what the inode of a descriptor is known, without a container. Empty: its file system
  // doesn't tell inodes apart for sure.
  std::vector<janus_rule_key> keys_of(int fd) const;
  // What is denied to whom: identity/kernel_rules.h writes it.
  struct Rules {
    BpfMap<janus_rule_key, janus_rule> inodes;
    // By kernel address: directories that may have a rule, and have a mark that keeps them there.
    BpfMap<std::uint64_t, std::uint8_t> directories;
    // What is denied at a path, and where a container is denied anything for its path.
    BpfMap<janus_name_key, janus_name> names;
    BpfMap<janus_guarded_key, std::uint32_t> guarded;  // a number of `filters`
    RuleFilters filters;
    // Changes: of an inode; of what stands at a path, by the path's number; of what is too deep.
    BpfMap<janus_rule_key, janus_change_rule> changes;
    BpfMap<std::uint32_t, janus_change_rule> changes_at;
    BpfMap<janus_guarded_key, janus_change_rule> changes_anywhere;
  };
  Rules& rules() { return rules_; }
  const Rules& rules() const { return rules_; }
  // Until then the kernel looks for no rules of changes.
  void expect_changes();

  // Readable when denials wait; -1: never. For kGatherMs after that more may come without a word:
  // look once more then. One consumer at a time.
  static constexpr int kGatherMs = 5;
  int fd() const;
  // Returns how many there were.
  std::size_t consume(const std::function<void(const KernelDenial&)>& visit);
  // Those that found no room in the ring, so far. The total is cheap to ask for.
  struct Lost {
    std::uint32_t subject = 0, kind = 0;
    std::uint64_t count = 0;
  };
  std::uint64_t lost_total() const;
  std::vector<Lost> lost() const;

  // Entries that found no room, by map.
  std::map<std::string, std::uint64_t> full() const;
  bool has_room() const;  // each found some, so far
  std::vector<MapUse> maps() const;                   // its own
  std::vector<std::string> attached() const { return attachments_.present(); }
  std::uint64_t missed() const { return attachments_.missed(); }

 private:
  // Returns why it was refused; empty: it is loaded, and attached.
  std::string load(const BpfPrograms& programs, Mode mode, const Self& self, const ChangeHooks& hooks);
  void close();
  int preemption() const;
  static int on_denial(void* context, void* data, std::size_t size);

  decide_bpf* skeleton_ = nullptr;
  ring_buffer* ring_ = nullptr;
  Attachments attachments_;
  std::string refusal_, changes_refusal_;
  bool may_miss_ = false;
  Rules rules_;
  const std::function<void(const KernelDenial&)>* visit_ = nullptr;  // during consume()
  std::size_t visited_ = 0;
};

}  // namespace janus
