// Turns guards into marks and a policy.
//
// Owns: the guards, the views of their containers, the superblock and mount
// marks, and the publishing of policies. One lock; nothing is done under it
// that could raise a permission event (the gate may be waiting for the lock).
//
// Which mark covers a path:
//   superblock  the container's own overlay: every file of it, by any name, in
//               any mount namespace; reaches nobody else
//   mount       a volume, or a root that isn't an overlay of its own: the
//               container's mount only, since the node shares the superblock
//   inode       what stood at a denied path: by IdentityTable, see there
#pragma once

#include <chrono>
#include <compare>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "cover/container_view.h"
#include "os/error.h"
#include "os/fanotify_group.h"
#include "identity/identity_table.h"
#include "cover/ignore_learner.h"
#include "ebpf/locator.h"
#include "cover/name_watch.h"
#include "policy/policy.h"
#include "record/stats.h"
#include "track/tracker.h"

namespace janus {

// What the caller wants; see NativeSubject in src/native.ts.
struct SubjectSpec {
  std::uint32_t id = 0;
  std::string container_id;
  std::vector<std::string> allow, deny, watch, exclude;
  std::uint32_t events = 0;
  std::uint32_t max_depth = 0;
  bool only_dir = false, auto_allow_owner = false, audit = false, recursive = false, only_container = false, exact = false;
};

struct GuardSpec {
  std::uint32_t key = 0;
  std::vector<SubjectSpec> subjects;
};

// A directory below which inodes are to be pinned.
struct ScanJob {
  Device device = 0;
  std::string path;
  std::uint64_t token = 0;  // tells it from others of the device
};

class MarkPlanner {
 public:
  struct Parts {
    BpfPrograms& programs;
    Tracker& tracker;
    const Groups& groups;
    PolicyBox& policy;
    IdentityTable& identities;
    IgnoreLearner& learner;
    EngineCounters& counters;
    bool audit;  // the kernel takes FAN_AUDIT
  };

  explicit MarkPlanner(Parts parts);

  void set_name_watch(NameWatch* names) { names_ = names; }

  // Directories to scan, by the caller, once it holds no lock. Until scanned()
  // has been called for each, their superblocks learn nothing.
  using ScanJobs = std::vector<ScanJob>;

  struct Applied {
    ScanJobs jobs;
    std::map<std::uint64_t, std::string> containers;  // ids, by cgroup
  };
  // All of it or nothing.
  Applied apply(const GuardSpec& spec);
  // Superblocks whose identities may have become nobody's, as they were.
  using Before = std::vector<std::pair<Device, std::shared_ptr<const Superblock>>>;
  Before remove(std::uint32_t key, bool& existed);
  // Takes the container out of all guards, for good.
  Before container_ended(std::uint64_t container);

  // The mount namespaces of guarded containers, by one of their processes.
  struct Place {
    std::uint64_t container = 0;
    HeldProcess process;
    auto operator<=>(const Place&) const = default;
  };
  std::vector<Place> places() const;

  // All directories that guards deny (on one device), since what appeared there was lost.
  ScanJobs scan_again(std::optional<Device> device = std::nullopt);
  // `complete`: everything there was is pinned.
  void scanned(Device device, std::uint64_t token, bool complete);

  // Mounts, or the meaning of names, have changed: resolve again.
  struct Replan {
    ScanJobs jobs;
    bool changed = false;  // there was something new to guard
  };
  Replan replan_container(std::uint64_t container);
  ScanJobs replan_name(const std::string& name);
  // `pid`: a thread in that namespace.
  Replan add_namespace(std::uint64_t container, std::uint32_t pid, std::uint64_t mnt_ns);

  // Marks a mount that is in no namespace, by a descriptor that a process holds
  // (open_tree(2)).
  struct Loose {
    enum { marked, needless, unreachable } how = unreachable;
    Device device = 0;
  };
  Loose mark_loose(std::uint32_t pid, std::uint32_t mount_id);

  // Whose mounts matter, and to what (janus_watch_flag): a new mount may come
  // over any guarded path; a new namespace has new mounts of the volumes.
  std::map<std::uint64_t, std::uint32_t> watched() const;

  struct MarkCounts {
    std::size_t superblock = 0, mount = 0;
  };
  MarkCounts mark_counts() const;
  // Of current subjects, and of those that were removed in the last minutes.
  void each_stats(const std::function<void(std::uint32_t, const SubjectStats&)>& visit);

 private:
  struct Placed {
    std::uint64_t container = 0;
    Device device = 0;
    bool owned = false;
    std::shared_ptr<const Entry> entry;
  };
  struct Guard {
    GuardSpec spec;
    std::vector<std::shared_ptr<const Subject>> subjects;  // of the spec's, one each
    std::vector<Placed> placed;      // what the paths lead to now, and `original`; by device
    std::vector<Placed> original;    // ... and led to when the guard was made
    std::vector<std::string> names;  // watched
  };
  // What is at a denied path now; pinned once the policy is published.
  struct Pin {
    UniqueFd object;
    bool directory = false;
    Device device = 0;
    std::string path;
  };
  struct MarkKey {
    Device device = 0;
    std::uint32_t mount = 0;  // 0: the superblock
    auto operator<=>(const MarkKey&) const = default;
  };
  struct MarkPlan {
    std::uint64_t gate = 0, observer = 0;
    HeldProcess process;       // through whose root it is reached
    std::string point;
    bool fleeting = false;     // in a mount namespace that may end any moment
  };
  struct Plan {
    std::map<Device, std::shared_ptr<const Superblock>> superblocks;
    std::map<MarkKey, MarkPlan> marks;
  };
  struct Retired {
    std::uint32_t id;
    std::shared_ptr<const SubjectStats> stats;
    std::chrono::steady_clock::time_point until;
  };
  using Devices = std::vector<Device>;
  using Places = std::set<std::pair<Device, std::string>>;

  Guard compile(const GuardSpec& spec, std::vector<Pin>& pins);
  // Where a path leads to in one mount namespace of the container.
  struct Where {
    ContainerView& view;
    const ProcessDir& process;
    const std::vector<Mount>& mounts;
    const MountPoints& served;
    bool first;  // the namespace of the first process
  };
  static void sort_by_device(std::vector<Placed>& placed);
  void place(const Where& where, const SubjectSpec& spec, const std::shared_ptr<const Subject>& subject,
             const std::string& path, Action action, Guard& guard, std::vector<Pin>& pins);
  void pass_by(const ContainerView& view, const Mount& mount);
  Plan plan(const Devices& devices);
  // `all`: or nothing, and throws. Else what can be marked is, and failures count.
  void set_marks(const Plan& plan, bool renew, bool all);
  ScanJob begin_scan(Device device, std::string path);
  void trim_marks(const Plan& plan, const Devices& devices);
  bool mark(const MarkKey& key, const MarkPlan& want, unsigned flag, std::uint64_t gate, std::uint64_t observer);
  void publish(const Plan& plan, const Devices& devices);
  void publish_learning(const Devices& devices);
  bool may_learn(Device device) const;
  // `known`: what is pinned at these places already has been scanned.
  ScanJobs pin(const std::vector<Pin>& pins, const Places& known);
  void commit(const Devices& devices, bool renew, bool forget);
  void drop(Guard& guard);
  void retire_counts(const Subject& subject);
  Before retire(const Devices& devices);
  static Devices devices_of(const Guard& guard);
  static void add_devices(Devices& to, const Devices& from);
  bool recompile(Guard& guard, bool renew, ScanJobs& jobs);
  HeldProcess hold(std::uint64_t container, std::uint32_t pid);
  static Places places_of(const Guard& guard);

  const Parts parts_;
  NameWatch* names_ = nullptr;
  mutable std::mutex mutex_;
  Locator locator_;
  MountCloner cloner_;
  std::map<std::uint64_t, std::unique_ptr<ContainerView>> views_;
  std::map<std::uint64_t, std::set<std::uint32_t>> passed_by_;  // mounts that are counted, by container
  std::map<std::uint32_t, Guard> guards_;
  std::map<MarkKey, MarkPlan> marks_;
  std::map<Device, std::set<std::uint64_t>> scans_;  // under way, by token
  std::uint64_t next_scan_ = 1;
  std::map<Device, bool> incomplete_;  // not everything could be pinned
  std::map<std::uint32_t, std::shared_ptr<SubjectStats>> stats_;
  std::vector<Retired> retired_;
};

}  // namespace janus
