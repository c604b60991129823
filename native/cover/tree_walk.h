// Goes through a directory tree, a few entries at a time.
//
// Owns: the descriptors of the directories to come. By descriptor where
// possible: a tree may be deeper than any path can say. Used by one thread at a
// time; reading a directory may ask the gate, so the caller holds no lock.
#pragma once

#include <dirent.h>

#include <memory>
#include <string>
#include <vector>

#include "policy/policy.h"
#include "os/unique_fd.h"

namespace janus {

class TreeWalk {
 public:
  // To be listed, with all that it is told to enter.
  void enter(UniqueFd directory, std::string path);
  // By its path in the superblock alone.
  explicit TreeWalk(std::string path) { todo_.push_back({UniqueFd(), std::move(path)}); }
  TreeWalk() = default;

  bool empty() const { return todo_.empty() && !listed_; }
  // False: something was left out for want of a descriptor or memory.
  bool complete() const { return complete_; }

  // The next entry that is no symlink, O_PATH; empty: that was all.
  UniqueFd next(const Superblock& superblock);

 private:
  struct Directory {
    UniqueFd fd;
    std::string path;
  };
  struct Close {
    void operator()(DIR* directory) const { closedir(directory); }
  };
  void list(Directory directory, const Superblock& superblock);
  void left_out(int number);

  std::vector<Directory> todo_;
  std::unique_ptr<DIR, Close> listed_;
  bool complete_ = true;
};

}  // namespace janus
