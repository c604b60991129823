// One guarded container's file systems, as its first process sees them.
//
// Owns: the list of mounts and private clones of those that guards reach into, up
// to the container's share of each. Used by the planner under its lock.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#include "ebpf/bpf_programs.h"
#include "ebpf/locator.h"
#include "cover/mount_cloner.h"
#include "cover/mounts.h"
#include "identity/shares.h"
#include "track/tracker.h"
#include "os/process_dir.h"
#include "os/unique_fd.h"

namespace janus {

// A process of the container, held: its number may be another's later. Of its root
// no descriptor is held, which would keep the container's mount busy.
using HeldProcess = std::shared_ptr<const ProcessDir>;

// What all views share. Each namespace takes two descriptors, each clone one.
struct ViewShares {
  ViewShares();
  Shares mounts, namespaces, clones;
};

class ContainerView {
 public:
  // That one container may have.
  static constexpr std::size_t kMounts = 32'768;

  // A mount namespace, as it was read last.
  struct Listed {
    std::vector<Mount> mounts;
    MountPoints served;
    bool whole = true;  // all its mounts are in `mounts`
    MountState state;   // before it was read
  };

  // Another mount namespace that processes of the container run in.
  struct Namespace : Listed {
    Namespace(std::uint64_t id, HeldProcess process) : id(id), process(std::move(process)) {}
    std::uint64_t id;     // unique since boot
    HeldProcess process;  // one of them, or a thread
  };

  // Which namespaces refresh() reads. A path on which something is mounted may be renamed,
  // which changes no namespace.
  enum class Read { changed, all };

  // `first`: its first process. To be followed by refresh().
  ContainerView(ContainerInfo info, HeldProcess first, ViewShares& shares, const BpfPrograms& programs)
      : programs_(programs), info_(std::move(info)), first_(std::move(first)), shares_(shares) {}
  ~ContainerView();
  ContainerView(const ContainerView&) = delete;
  ContainerView& operator=(const ContainerView&) = delete;

  const ContainerInfo& info() const { return info_; }
  const HeldProcess& first() const { return first_; }
  const std::vector<Mount>& mounts() const { return own_.mounts; }
  const MountPoints& served() const { return own_.served; }

  // In any of its namespaces.
  bool has_mount(std::uint32_t id) const { return ids_.contains(id); }

  const std::vector<Namespace>& namespaces() const { return namespaces_; }

  // Reads the mounts again. Throws Error(not_found) if the container has ended; after any
  // other error what was read of each before holds.
  void refresh(Read which);
  // To be followed by refresh(). The first process's own is known without it. Left
  // out if the container has used up its share.
  void add_namespace(std::uint64_t id, HeldProcess process);

  // "namespaces" or "mounts" if some of those were left out, as of the last refresh();
  // else null. The first process's mounts come first, and older ones before newer ones.
  const char* left_out() const;
  // Whether all mounts of the namespace are known.
  bool covers(std::uint64_t id) const;
  // True: namespaces were left out, for which there is room now. They are to be added again.
  bool makes_room();

  // Whether the superblock is this container's alone, so that a superblock mark
  // on it reaches nobody else: its root is an overlay of its own, mounted whole.
  bool owns(const Mount& mount) const;

  // A private clone of the mount; null if it cannot be had. `refused`: since the
  // container has used up its share.
  std::shared_ptr<const UniqueFd> clone_of(const Mount& mount, MountCloner& cloner, bool& refused);

 private:
  enum class Found { gone, same, read };
  // Up to `left` mounts, of which it takes what it lists. Throws Error(system) with nothing changed.
  Found read(Listed& listed, const ProcessDir& process, Read which, std::size_t& left) const;

  const BpfPrograms& programs_;
  ContainerInfo info_;
  HeldProcess first_;
  ViewShares& shares_;
  std::uint64_t first_id_ = 0;      // of its mount namespace; 0: not known yet
  bool lacks_namespaces_ = false;
  Listed own_;                       // the first process's
  std::vector<Namespace> namespaces_;
  std::unordered_set<std::uint32_t> ids_;  // of the mounts of all of them
  std::map<std::uint32_t, std::shared_ptr<const UniqueFd>> clones_;  // by mount id
};

}  // namespace janus
