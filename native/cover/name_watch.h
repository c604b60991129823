// Notices when a guarded path may lead elsewhere: a symlink is re-pointed, a
// directory on the way is replaced, a missing part appears.
//
// Owns: the marks of the names group, and an inotify instance for directories
// whose file system gives no handles to name them by (overlayfs before Linux
// 6.6). Thread-safe but for drain().
//
// The kernel queues such an event before the system call that caused it
// returns. So whoever drains first and decides then has seen every change that
// happened before the open it is asked about.
#pragma once

#include <atomic>
#include <functional>
#include <mutex>
#include <set>
#include <string>
#include <unordered_map>

#include "os/fanotify_group.h"
#include "os/path_resolver.h"
#include "os/unique_fd.h"

namespace janus {

class NameWatch {
 public:
  using Changed = std::function<void(const std::string& name)>;

  NameWatch(const Groups& groups, Changed changed);

  // Watches the directories that a resolution went through. Returns how many
  // could not be (fs.inotify.max_user_watches).
  std::size_t watch(const Resolved& resolved);
  // Undoes one watch() of the same names. The marks stay until no name is
  // watched any more: they cost an event for each change in those directories.
  void unwatch(const std::vector<std::string>& names);

  // Readable when drain() has something to do, as the names group is.
  int inotify_fd() const { return groups_.names_inotify.get(); }

  // Calls `changed` for each watched name that something happened to. The gate's
  // thread only.
  void drain();

  std::size_t marks() const { return marks_.load(std::memory_order_relaxed); }

 private:
  bool watch_by_inotify(int directory);
  void happened(std::string name, bool all, std::set<std::string>& names);

  const Groups& groups_;
  const Changed changed_;
  std::mutex names_mutex_;
  std::unordered_map<std::string, std::size_t> names_;
  std::set<int> watches_;  // of inotify
  std::atomic<std::size_t> marks_{0};
};

}  // namespace janus
