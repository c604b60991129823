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
#include <string_view>
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

// Where something is, as a walk came there. Each entry has its place from its directory's: to look
// up its ancestors would cost as much again as the tree is deep.
struct Place {
  // In the superblock. Of a path that is too long the head is kept, some whole names (`cut`).
  struct Path {
    std::string text;
    bool cut = false;
    Path below(std::string_view name) const;
  };
  // Its own first, then what that would be if guarded inodes on it were where they were
  // (identity/judge.h), the nearest first.
  std::vector<Path> paths;
  bool more = false;        // than these
  std::uint64_t inode = 0;  // the kernel's address; 0: not known, and nor are all paths

  // What leads on from a directory's place to that of its entry.
  struct Step {
    std::string name;                 // "/name"; "": the directory itself
    std::vector<std::string> former;  // where the entry itself was
    std::uint64_t inode = 0;
  };
  Place after(const Step& step) const;
};

class TreeWalk {
 public:
  // Lists a directory, by its path in the superblock, with all that it is told to enter.
  explicit TreeWalk(std::string path);
  TreeWalk() = default;

  // To be listed as well. `step` leads there from `above`. Without room the directory is found again
  // by its path. `held` has to outlive the walk.
  void enter(UniqueFd directory, std::shared_ptr<const Place> above, Place::Step step, HeldOpen& held, std::uint64_t container);

  bool empty() const { return todo_.empty() && !listed_; }

  // Of the directory whose entry next() has given. Who finds out more about it may complete it.
  const std::shared_ptr<Place>& place() const { return place_; }
  // The same directory, O_PATH.
  int directory() const { return listed_->directory(); }
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
    std::shared_ptr<void> room;  // of `fd`
    // A directory may have a million below it: they share the long part.
    std::shared_ptr<const Place> above;
    Place::Step step;
  };
  void enter_next(const Superblock& superblock, const DirectoryLister& lister, DirectoryLister::Whose whose);
  void left_out(int number);

  std::vector<Directory> todo_;
  std::shared_ptr<DirectoryLister::Listing> listed_;
  std::shared_ptr<Place> place_;  // of listed_
  bool has_part_ = false;  // of listed_
  bool waits_ = false;
  bool stuck_ = false;
  bool complete_ = true;
};

}  // namespace janus
