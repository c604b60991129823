// One guarded container's file systems, as its first process sees them.
//
// Owns: the list of mounts and private clones of those that guards reach into.
// Used by the planner under its lock.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "ebpf/locator.h"
#include "cover/mounts.h"
#include "track/tracker.h"
#include "os/unique_fd.h"

namespace janus {

// O_PATH of a process's root, opened anew each time: held, it would keep the
// container's mount busy. Throws Error(not_found) when the process is gone.
UniqueFd open_root_of(std::uint32_t pid);

class ContainerView {
 public:
  // Another mount namespace that processes of the container run in.
  struct Namespace {
    std::uint64_t id = 0;  // unique since boot
    std::uint32_t tgid = 0;  // one of them
    std::vector<Mount> mounts;
  };

  // Throws Error(not_found) if the container has just ended.
  explicit ContainerView(ContainerInfo info);

  const ContainerInfo& info() const { return info_; }
  const std::vector<Mount>& mounts() const { return mounts_; }

  const std::vector<Namespace>& namespaces() const { return namespaces_; }

  // Reads the mounts again, of all namespaces.
  void refresh();
  // To be followed by refresh(). The first process's own is known without it.
  void add_namespace(std::uint64_t id, std::uint32_t tgid);

  // Whether the superblock is this container's alone, so that a superblock mark
  // on it reaches nobody else: its root is an overlay of its own, mounted whole.
  bool owns(const Mount& mount) const;

  // A private clone of the mount; null if it cannot be had.
  std::shared_ptr<const UniqueFd> clone_of(const Mount& mount);

 private:
  ContainerInfo info_;
  std::vector<Mount> mounts_;
  std::vector<Namespace> namespaces_;
  std::map<std::uint32_t, std::shared_ptr<const UniqueFd>> clones_;  // by mount id
};

}  // namespace janus
