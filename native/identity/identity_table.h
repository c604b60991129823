// Guarded inodes: the things that were at a guarded path.
//
// Owns: the inode marks of the identity group and the eBPF map that names them;
// has pinned directories watched.
// Such an inode raises its questions by whatever name, mount or namespace it is
// reached, and no ignore mark can silence it. Thread-safe.
//
// An inode has reasons: the paths at which it was denied to somebody, by one
// guard or several. It is judged by each. A reason goes when no guard denies that
// path any more; the pin goes with the last reason.
//
// A pin is charged to a container whose guard denies it, by the length of its reasons: what one
// container makes others guard less by nothing (shares.h).
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <shared_mutex>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "os/fanotify_group.h"
#include "ebpf/locator.h"
#include "policy/policy.h"
#include "identity/kernel_rules.h"
#include "identity/shares.h"
#include "identity/tree_watch.h"
#include "record/refusals.h"

namespace janus {

// Immutable: the table replaces it as a whole.
struct Identity {
  Device device = 0;
  std::vector<std::string> paths;  // the reasons: where it was, in its superblock
  bool cut = false;                // there were more reasons than are kept
  std::uint64_t mask = 0;          // the permission events that its mark asks about
};

class IdentityTable {
 public:
  // `limit`: what one container may have pinned.
  IdentityTable(const Groups& groups, BpfPrograms& programs, TreeWatch& trees, Refusals& refusals, std::size_t limit);

  // Is told of each pin, its paths and its end.
  void set_kernel_rules(KernelRules* rules) { rules_of_kernel_ = rules; }

  // Room that a container's guard was promised. Goes with this object.
  class Reservation {
   public:
    explicit Reservation(IdentityTable& table) : table_(table) {}
    ~Reservation();
    Reservation(const Reservation&) = delete;
    Reservation& operator=(const Reservation&) = delete;
    // For one more. False: the container has used up its share.
    bool add(std::uint64_t container);

   private:
    IdentityTable& table_;
    std::vector<std::uint64_t> containers_;
  };

  // `limit`: all whose guards deny it have used up their share, or the kernel
  // refuses the mark.
  enum class Pinned { now, already, limit };
  // `location` is of `fd`, identities and all; `paths` is what it is guarded as,
  // one at least. What the policy says of a reason that is held already is no
  // reason of its own. Unless it is `limit`, the mark asks about all of the
  // superblock's deny_mask. `reserved_for`: the container that has a Reservation for
  // it; 0: nobody. `more`: it may have more reasons than these.
  Pinned pin(int fd, const Location& location, std::span<const std::string> paths, const Superblock& superblock,
             std::uint64_t reserved_for = 0, bool more = false);

  // True once for each pinned directory: its entries are to be pinned, too.
  bool begin_listing(std::uint64_t inode);

  // A guarded file of the image has names there that are not known: only a
  // question can tell that it is opened by one of them.
  bool has_unknown_names(Device device) const;

  // Whether the kernel denies by itself all that is denied on the superblock (KernelRules::alone).
  bool decided_by_kernel(Device device) const { return rules_of_kernel_ != nullptr && rules_of_kernel_->alone(device); }
  // ... and nothing that is allowed there is told (KernelRules::complete).
  bool left_to_kernel(Device device) const { return rules_of_kernel_ != nullptr && rules_of_kernel_->complete(device); }
  // Whether the kernel's rules of these paths find room (KernelRules::has_room).
  bool kernel_has_room(const KernelRules::Room& wanted) const { return rules_of_kernel_ == nullptr || rules_of_kernel_->has_room(wanted); }

  // Null: nobody's.
  std::shared_ptr<const Identity> find(std::uint32_t id) const;

  // Drops the reasons for which nobody is denied any more, and unpins what has
  // none left. The policy is looked up with the table locked: a guard that is made
  // meanwhile pins after it publishes, so whatever is unpinned by an older policy
  // it pins again. `open` finds an inode again by its path (it may fail: then the
  // mark stays until the inode goes, and means nothing).
  void sweep(Device device, const PolicyBox& policies, const std::function<UniqueFd(const std::string& path)>& open,
             Locator& locator);

  // A pin goes with its inode, and the kernel doesn't say so. `crowded`: so many
  // were made since the last collect() that it is worth looking for those.
  bool crowded() const;
  void collect();

  std::size_t size() const;

 private:
  // An inode of an image layer: number, device; {0, 0} = none.
  using LowerInode = std::pair<std::uint64_t, std::uint64_t>;
  struct Held {
    std::uint32_t id = 0;
    bool directory = false;
    bool listed = false;
    LowerInode lower;
    std::uint64_t payer = 0;  // the container whose share it is of
    std::size_t units = 0;    // ... and how much of that
  };
  using ByInode = std::unordered_map<std::uint64_t, Held>;  // by kernel address
  // A hard-linked file of the image: its names that are pinned, of all it has.
  // It is an identity, too, with the reasons of all these names. Those of a name that is gone
  // stay until the next sweep.
  struct Links {
    std::uint32_t id = 0;
    Device device = 0;
    std::set<std::uint64_t> known;  // inodes
    std::size_t all = 0;
    std::uint64_t payer = 0;
  };
  std::uint32_t new_id();
  bool mark(int fd, std::uint64_t mask, bool directory) const;
  Pinned pin_new(int fd, const Location& location, std::span<const std::string> paths, const Superblock& superblock,
                 std::uint64_t reserved_for, bool more);
  std::optional<std::uint64_t> charge(std::span<const std::string> paths, std::size_t units, bool directory,
                                      const SuperblockPolicy& table);
  bool charge_for(Held& held, std::span<const std::string> paths);
  void charge_another(Held& held, std::span<const std::string> paths, const SuperblockPolicy& table);
  static bool has_reason(const Identity& identity, const std::string& path, const SuperblockPolicy& table, bool directory);
  static void add_reasons(Identity& identity, std::span<const std::string> paths, const SuperblockPolicy& table, bool directory);
  void join_links(const LowerInode& lower, const Identity& name, const SuperblockPolicy& table);
  void erase(ByInode::iterator held);

  const Groups& groups_;
  BpfPrograms& programs_;
  TreeWatch& trees_;
  Refusals& refusals_;
  KernelRules* rules_of_kernel_ = nullptr;
  mutable std::shared_mutex mutex_;
  std::uint32_t next_ = 1;
  std::size_t since_collected_ = 0;  // pins, made or refused
  std::unordered_map<std::uint32_t, std::shared_ptr<const Identity>> identities_;
  ByInode by_inode_;
  std::map<LowerInode, Links> links_;
  Shares shares_;        // of the map of inodes
  Shares lower_shares_;  // ... and of that of the images' inodes
};

}  // namespace janus
