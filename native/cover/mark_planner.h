// Turns guards into marks and a policy: what is done when a guard comes or goes,
// and when mounts, names or namespaces change.
//
// Owns: the guards, the views of their containers, and the publishing of
// policies. One lock, which is held over work that a container can stretch:
// whoever answers a question never takes it, and whoever is waited for by a client
// (FirstLock) has it before a container that changes mounts all the time has it again.
// Nothing is done under it that could raise a permission event.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "cover/container_view.h"
#include "cover/ground.h"
#include "cover/guard_compiler.h"
#include "cover/mark_plan.h"
#include "cover/mark_set.h"
#include "os/error.h"
#include "os/fanotify_group.h"
#include "os/precedence_mutex.h"
#include "identity/identity_table.h"
#include "cover/ignore_learner.h"
#include "ebpf/locator.h"
#include "cover/name_watch.h"
#include "policy/policy.h"
#include "record/stats.h"
#include "record/subject_book.h"
#include "track/tracker.h"

namespace janus {

// A directory below which inodes are to be pinned.
struct ScanJob {
  std::uint64_t container = 0;  // whose guard it is of
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
    const Decider& decider;
    PolicyBox& policy;
    IdentityTable& identities;
    IgnoreLearner& learner;
    EngineCounters& counters;
    Refusals& refusals;
    bool audit;  // the kernel takes FAN_AUDIT
  };

  explicit MarkPlanner(Parts parts);

  void set_name_watch(NameWatch* names) { compiler_.set_name_watch(names); }
  // Called under the lock, when the policy of these superblocks has been published.
  void set_published(std::function<void(const std::set<Device>& devices)> published) { published_ = std::move(published); }

  // Of the thread that goes to other mount namespaces.
  const Heartbeat& mounts_heartbeat() const { return cloner_.heartbeat(); }

  // Directories to scan, by the caller, once it holds no lock. Until scanned()
  // has been called for each, their superblocks learn nothing.
  using ScanJobs = std::vector<ScanJob>;

  // Superblocks whose identities may have become nobody's, as they were.
  using Before = std::vector<std::pair<Device, std::shared_ptr<const Superblock>>>;

  struct Applied {
    ScanJobs jobs;
    std::set<Device> devices;                          // where these guards are, or were
    Before before;                                     // where guards were that are replaced
    std::map<std::uint64_t, std::string> containers;  // ids, by cgroup
  };
  // All of them or nothing; at one moment. Throws Error with the guard that it is about,
  // as far as it is about one: marks, policy, what is followed and held are then as they
  // were. (The names group's marks go with the last watched name.)
  Applied apply(std::span<const GuardSpec> specs);
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
  // Whether all mounts of a namespace of the container are known. Not those beyond its share.
  bool covers(std::uint64_t container, std::uint64_t mnt_ns) const;

  // All directories that guards deny (on one device; of one container), since what appeared there was lost.
  ScanJobs scan_again(std::optional<Device> device = std::nullopt, std::uint64_t container = 0);
  // `complete`: everything there was is pinned.
  void scanned(Device device, std::uint64_t token, bool complete);

  // Mounts, or the meaning of names, have changed: resolve again.
  struct Replan {
    ScanJobs jobs;
    bool changed = false;   // there was something new to guard
    bool rewatch = false;   // watched() says otherwise than before
    bool again = false;     // resources were short: to be tried again
  };
  Replan replan_container(std::uint64_t container);
  ScanJobs replan_names(std::uint64_t container, const std::set<std::uint32_t>& guards);
  // Once more: paths of it that could not be guarded may be by now.
  ScanJobs retry(std::uint32_t key);
  // `seen`: mount namespaces, each with a thread in it.
  Replan add_namespaces(std::uint64_t container, const std::vector<std::pair<std::uint64_t, std::uint32_t>>& seen);

  // Marks a mount that is in no namespace, by a descriptor that a process holds
  // (open_tree(2)).
  struct Loose {
    enum { marked, needless, unreachable } how = unreachable;
    Device device = 0;
  };
  Loose mark_loose(std::uint32_t pid, std::uint32_t mount_id);

  // Where the kernel decided alone, the gate is asked again once rules have found no room.
  void look_for_room();

  // Whose mounts matter, and to what (janus_watch_flag): a new mount may come
  // over any guarded path; a new namespace has new mounts of the volumes.
  std::map<std::uint64_t, std::uint32_t> watched() const;

  // Of the guard's paths, as they were resolved last. Looks at no file.
  std::vector<PathNote> notes(std::uint32_t key) const;

  // The mark on a superblock (`mount` 0) or a mount.
  PlannedMark mark_at(const MarkKey& key) const {
    const FirstLock lock(mutex_);
    return marks_.at(key);
  }

  // These two wait for no lock that is held while something is planned.
  MarkSet::Counts mark_counts() const { return marks_.counts(); }
  // Of current subjects, and of those that were removed in the last minutes.
  template <typename Visit>
  void each_counts(Visit visit) {
    book_.each(visit);
  }

 private:
  using Devices = std::set<Device>;
  using Places = std::set<std::pair<Device, std::string>>;
  using PlacedList = std::vector<Placed>;

  // Sees to it that there is a view of the container, and that it is fresh.
  ContainerView& view(const ContainerInfo& info);
  // Reads its mounts again. What the container's share has no room for is left out, and told.
  void refresh(ContainerView& view, ContainerView::Read which);
  void add_known_namespaces(ContainerView& view);
  Applied swap_in(std::span<const GuardSpec> specs);
  CompiledGuard compile(const GuardSpec& spec, std::vector<Pin>& pins);
  std::vector<CompiledGuard> compile_all(std::span<const GuardSpec> specs, std::vector<Pin>& pins);
  MarkPlan plan(const Devices& devices);
  // Tells the grounds of what guards lead to no more, and to now.
  void settle(const PlacedList& gone, const PlacedList& come);
  ScanJob begin_scan(std::uint64_t container, Device device, std::string path);
  void publish(const MarkPlan& plan, const Devices& devices);
  void publish_learning(const Devices& devices);
  // What is planned for them is marked, whatever was left to the kernel.
  void ask_again(const Devices& devices);
  bool may_learn(Device device) const;
  // Whether anything else may be ignored than what is published.
  void update_learning(const Devices& devices);
  // Empty: it has just gone.
  UniqueFd find(const Pin& pin);
  // Room for what the guard is about to pin. Throws Error(exhausted) with the path
  // for which there is none: the container has used up its share.
  void reserve(const std::vector<Pin>& pins, IdentityTable::Reservation& reservation);
  // Room for the rules of changes that the guards deny: where those are missing, nobody else denies. Throws
  // Error(exhausted) with the guard for which there is none.
  void check_room(std::span<const CompiledGuard> guards) const;
  // `known`: what is pinned at these places already has been scanned. `reserved`:
  // there is room for each.
  ScanJobs pin(const std::vector<Pin>& pins, const Places& known, bool reserved = false);
  // Returns whether anything is marked that wasn't.
  bool commit(const Devices& devices, bool renew, bool forget);
  void drop(CompiledGuard& guard);
  Before as_published(const Devices& devices) const;
  Before retire(const Devices& devices);
  static Devices devices_of(const CompiledGuard& guard);
  // What is compiled again, of all guards that one plan is for.
  struct Again {
    Devices devices;
    std::vector<Pin> pins;
    Places known;  // what was guarded before
    PlacedList gone, come;
    bool short_of = false;  // resources
    bool marked = false;    // by its commit: what had no mark
  };
  void keep_failed(CompiledGuard& guard, std::uint64_t container, CompiledGuard& next);
  bool recompile(CompiledGuard& guard, std::uint64_t container, Again& again);
  ScanJobs commit(Again& again, bool renew, bool elsewhere);
  std::optional<std::uint32_t> replan_some(std::uint64_t container, std::uint32_t from, Replan& all);
  HeldProcess hold(std::uint64_t container, std::uint32_t pid);

  const Parts parts_;
  mutable PrecedenceMutex mutex_;
  Locator locator_;
  GuardCompiler compiler_;
  MountCloner cloner_;
  ViewShares shares_;
  ContainerViews views_;
  std::map<std::uint32_t, CompiledGuard> guards_;
  std::map<Device, Ground> grounds_;  // where `placed` of guards_ is
  MarkSet marks_;
  std::map<Device, std::set<std::uint64_t>> scans_;  // under way, by token
  std::uint64_t next_scan_ = 1;
  std::map<Device, bool> incomplete_;  // not everything could be pinned
  Devices by_kernel_;                  // where more may be ignored, since the kernel decides
  Devices silent_;                     // of those, where nobody is asked: what marks_ has is what is left
  SubjectBook book_;
  std::function<void(const std::set<Device>& devices)> published_;
};

}  // namespace janus
