// Goes through a directory tree, a few entries at a time.
//
// Owns: the descriptors of the directories to come. By descriptor where
// possible: a tree may be deeper than any path can say. Used by one thread at a
// time. Reads no directory itself: the lister does.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "cover/directory_lister.h"
#include "identity/shares.h"
#include "os/unique_fd.h"
#include "policy/policy.h"

namespace janus {

// The directories that walks hold open. Each container has a share. Thread-safe.
class HeldOpen {
 public:
  HeldOpen();
  // Room for one, given back with the last copy; null: there is none.
  std::shared_ptr<void> take(std::uint64_t container);

 private:
  std::mutex mutex_;
  Shares shares_;
};

class TreeWalk {
 public:
  // To be listed, with all that it is told to enter. Without room it is found again
  // by its path. `held` has to outlive the walk.
  void enter(UniqueFd directory, std::string path, HeldOpen& held, std::uint64_t container);
  // By its path in the superblock alone.
  explicit TreeWalk(std::string path) { todo_.push_back({UniqueFd(), std::move(path), nullptr}); }
  TreeWalk() = default;

  bool empty() const { return todo_.empty() && !listed_; }
  // False: something was left out, for want of a descriptor or memory, or since a
  // directory is stuck.
  bool complete() const { return complete_; }

  // The next entry that is no symlink, O_PATH. Empty: waits() tells whether there may be
  // more later; else that was all.
  UniqueFd next(const Superblock& superblock, DirectoryLister& lister, DirectoryLister::Whose whose);

  // A directory is being read, or is to be when a thread is free.
  bool waits() const { return waits_; }
  // A directory took too long. The walk ends there.
  bool stuck() const { return stuck_; }
  // Waits until a directory is read that was asked for. False: not by then, or none was.
  bool wait(DirectoryLister& lister, std::uint64_t until_ns) const { return listed_ && lister.wait(*listed_, until_ns); }

 private:
  struct Directory {
    UniqueFd fd;
    std::string path;
    std::shared_ptr<void> room;  // of `fd`
  };
  void enter_next(const Superblock& superblock, const DirectoryLister& lister, DirectoryLister::Whose whose);
  void left_out(int number);

  std::vector<Directory> todo_;
  std::shared_ptr<DirectoryLister::Listing> listed_;
  bool has_part_ = false;  // of listed_
  bool waits_ = false;
  bool stuck_ = false;
  bool complete_ = true;
};

}  // namespace janus
