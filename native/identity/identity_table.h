// Guarded inodes: the things that were at a guarded path.
//
// Owns: the inode marks of the identity group and the eBPF map that names them;
// has pinned directories watched.
// Such an inode raises its questions by whatever name, mount or namespace it is
// reached, and no ignore mark can silence it. Thread-safe.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <shared_mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "os/fanotify_group.h"
#include "ebpf/locator.h"
#include "policy/policy.h"
#include "identity/tree_watch.h"

namespace janus {

struct Identity {
  Device device = 0;
  std::string path;  // where it was, in its superblock
  std::uint64_t mask = 0;  // the permission events that its mark asks about
};

class IdentityTable {
 public:
  IdentityTable(const Groups& groups, BpfPrograms& programs, TreeWatch& trees, std::size_t limit)
      : groups_(groups), programs_(programs), trees_(trees), limit_(limit) {}

  // `limit`: this superblock holds as many as it may, or the eBPF map does.
  enum class Pinned { now, already, limit };
  // `location` is of `fd`, identities and all; `path` is what it is guarded as.
  // Unless it is `limit`, the mark asks about all of the superblock's deny_mask.
  Pinned pin(int fd, const Location& location, std::string_view path, const Superblock& superblock);

  // True once for each pinned directory: its entries are to be pinned, too.
  bool begin_listing(std::uint64_t inode);

  // A guarded file of the image has names there that are not known: only a
  // question can tell that it is opened by one of them.
  bool has_unknown_names(Device device) const;

  std::optional<Identity> find(std::uint32_t id) const;

  // Unpins what `keep` refuses; `open` finds an inode again by device and path
  // (it may fail: then the mark stays until the inode goes, and means nothing).
  void sweep(Device device, const std::function<bool(const std::string& path, bool directory)>& keep,
             const std::function<UniqueFd(const std::string& path)>& open, Locator& locator);

  // A pin goes with its inode, and the kernel doesn't say so. `crowded`: so many
  // were made since the last collect() that it is worth looking for those.
  bool crowded() const;
  void collect();

  std::size_t size() const;

 private:
  // An inode of an image layer: number, device; {0, 0} = none.
  using LowerInode = std::pair<std::uint64_t, std::uint64_t>;
  struct Held {
    Identity identity;
    std::uint64_t inode = 0;
    std::uint64_t mask = 0;
    bool directory = false;
    bool listed = false;
    LowerInode lower;
  };
  // A hard-linked file of the image: its names that are pinned, of all it has.
  struct Links {
    Device device = 0;
    std::size_t known = 0, all = 0;
  };
  void erase(std::unordered_map<std::uint32_t, Held>::iterator held);

  const Groups& groups_;
  BpfPrograms& programs_;
  TreeWatch& trees_;
  const std::size_t limit_;
  mutable std::shared_mutex mutex_;
  std::uint32_t next_ = 1;
  std::size_t since_collected_ = 0;  // pins, made or refused
  std::unordered_map<std::uint32_t, Held> held_;
  std::unordered_map<std::uint64_t, std::uint32_t> by_inode_;
  std::unordered_map<Device, std::size_t> sizes_;
  std::map<LowerInode, Links> links_;
};

}  // namespace janus
