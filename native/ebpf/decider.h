// The programs of bpf/decide.bpf.c: opens and execs that the kernel denies by itself.
//
// Owns: what libbpf opened for it. Only where the kernel takes fmod_ret programs; elsewhere
// nothing is denied here, and each call does nothing. Methods may be called from any thread
// unless they say otherwise. Must not judge: see identity/kernel_rules.h.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bpf/event.h"
#include "ebpf/attachments.h"
#include "ebpf/bpf_programs.h"
#include "ebpf/record_stream.h"

struct bpf_map;
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
  // False: no room.
  bool set(const janus_rule_key& key, const janus_rule& rule);
  void remove(const janus_rule_key& key);
  std::optional<janus_rule> rule(const janus_rule_key& key) const;
  // A directory that may have a rule, by its kernel address: it has a mark that keeps it there.
  bool set_directory(std::uint64_t inode);
  void remove_directory(std::uint64_t inode);
  // What is denied at a path, and where anything is denied for its path.
  bool set(const janus_name_key& key, const janus_name& name);
  std::optional<janus_name> name(const janus_name_key& key) const;
  void remove(const janus_name_key& key);
  bool set(const janus_guarded_key& key);
  void remove(const janus_guarded_key& key);
  // What changes are denied of an inode, of what stands at a path (by its number), of what is too deep.
  bool set(const janus_rule_key& key, const janus_change_rule& rule);
  bool set(std::uint32_t number, const janus_change_rule& rule);
  bool set(const janus_guarded_key& key, const janus_change_rule& rule);
  std::optional<janus_change_rule> changes(const janus_rule_key& key) const;
  std::optional<janus_change_rule> changes(std::uint32_t number) const;
  std::optional<janus_change_rule> changes(const janus_guarded_key& key) const;
  void remove_changes(const janus_rule_key& key);
  void remove_changes(std::uint32_t number);
  void remove_changes(const janus_guarded_key& key);

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
  template <typename Value>
  static std::optional<Value> get(const bpf_map* map, const void* key);
  static bool put(const bpf_map* map, const void* key, const void* value, Counter& full);
  static int on_denial(void* context, void* data, std::size_t size);

  decide_bpf* skeleton_ = nullptr;
  ring_buffer* ring_ = nullptr;
  Attachments attachments_;
  std::string refusal_, changes_refusal_;
  Counter rules_full_, directories_full_, names_full_, guarded_full_, change_rules_full_, change_paths_full_, change_places_full_;
  const std::function<void(const KernelDenial&)>* visit_ = nullptr;  // during consume()
  std::size_t visited_ = 0;
};

}  // namespace janus
