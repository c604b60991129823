// Notices when a guarded path may lead elsewhere: a symlink is re-pointed, a
// directory on the way is replaced, a missing part appears.
//
// Owns: the marks of the names group, and an inotify instance for directories
// whose file system gives no handles to name them by (overlayfs before Linux
// 6.6). Thread-safe but for drain(). Its lock is held for lookups only.
//
// The kernel queues such an event before the system call that caused it
// returns. So whoever drains first and decides then has seen every change that
// happened before the open it is asked about.
//
// What changed is known by directory and name. An overlay's directory gets
// another handle when it is copied up, which the first change in it may do. So an
// event of an overlay's directory that is not known counts for the name in any
// watched directory of that file system.
#pragma once

#include <atomic>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "os/fanotify_group.h"
#include "os/path_resolver.h"
#include "os/unique_fd.h"

namespace janus {

// Whose paths a name is on the way of.
struct NameOwner {
  std::uint64_t container = 0;
  std::uint32_t guard = 0;
  auto operator<=>(const NameOwner&) const = default;
};

class NameWatch {
 public:
  using Changed = std::function<void(const std::set<NameOwner>& owners)>;

  // What one container may have watched: a container makes its paths as long as it likes.
  static constexpr std::size_t kNamesOfOne = 65536;

  NameWatch(const Groups& groups, Changed changed, std::size_t limit = kNamesOfOne);

  // Whether the container may have so many more names watched.
  bool has_room(std::uint64_t container, std::size_t more) const;

  // A name in a directory. All who watch it share one.
  struct Name {
    std::string directory;
    std::string name;
    bool changes = false;  // the directory may get another handle
  };
  // A name that is watched; see watch().
  struct Watched {
    std::shared_ptr<const Name> what;
    std::uint32_t subject = 0, path = 0;  // for the caller, who sets it
  };

  // Watches the directories that a resolution went through, and adds what is to
  // be given to unwatch().
  struct Outcome {
    std::size_t failed = 0;  // directories that could not be watched (fs.inotify.max_user_watches)
    bool is_new = false;     // the owner didn't watch all of it before
  };
  Outcome watch(const Resolved& resolved, const NameOwner& owner, std::vector<Watched>& watched);
  // Undoes watch(). The marks stay until no name is watched any more: they cost
  // an event for each change in those directories.
  void unwatch(const std::vector<Watched>& watched, const NameOwner& owner);

  // Readable when drain() has something to do, as the names group is.
  int inotify_fd() const { return inotify_.get(); }

  // Calls `changed` once, if something happened to watched names. The gate's
  // thread only.
  void drain();

  std::size_t marks() const { return marks_.load(std::memory_order_relaxed); }

 private:
  // Of one name: all guards of a container may be among them.
  class Owners {
   public:
    // Returns how often the owner watches it now.
    std::uint32_t add(const NameOwner& owner);
    void remove(const NameOwner& owner);
    bool empty() const { return guards_.empty(); }
    void tell(std::set<NameOwner>& owners) const;

   private:
    using Guards = std::vector<std::pair<std::uint32_t, std::uint32_t>>;  // by key, each with how often
    std::map<std::uint64_t, Guards> guards_;                             // by container
  };
  struct Watchers {
    std::shared_ptr<const Name> what;
    Owners owners;
  };

  // Whether it is watched; `is_new` is set if the owner didn't watch it before.
  bool watch_name(int directory, const std::string& name, const NameOwner& owner, std::vector<Watched>& watched,
                  bool& is_new);
  void forget(const Watched& watched, const NameOwner& owner);  // under the lock
  void happened(std::string_view directory, std::string_view name, std::set<NameOwner>& owners) const;
  void everything(std::set<NameOwner>& owners) const;

  const Groups& groups_;
  const Changed changed_;
  const std::size_t limit_;
  const UniqueFd inotify_;
  mutable std::mutex mutex_;
  std::unordered_map<std::string, std::unordered_map<std::string, Watchers>> directories_;  // -> name
  // Of each file system whose directories get other handles, whatever the directory.
  std::unordered_map<std::string, std::unordered_map<std::string, Watchers>> file_systems_;
  std::map<std::uint64_t, std::size_t> by_container_;  // names that are watched
  std::set<int> watches_;  // of inotify
  std::atomic<std::size_t> marks_{0};
};

}  // namespace janus
