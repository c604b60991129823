// From what the caller said to places in superblocks: where each path of a
// guard leads to now, in every mount namespace of its containers.
//
// Owns: which mounts were passed by. Used by the planner under its lock. Opens nothing but with
// O_PATH; the names that a path goes through are watched before they are looked up.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "cover/container_view.h"
#include "cover/guard_spec.h"
#include "cover/name_watch.h"
#include "cover/path_note.h"
#include "ebpf/decider.h"
#include "ebpf/locator.h"
#include "os/unique_fd.h"
#include "policy/policy.h"
#include "record/refusals.h"
#include "record/stats.h"

namespace janus {

// A path of a subject, where it leads to.
struct Placed {
  std::uint64_t container = 0;
  Device device = 0;
  bool owned = false;  // the superblock is the container's alone
  // A symlink leads there, or nothing is there yet: another name may lead elsewhere at once, which only a plan can tell.
  bool shifts = false;
  std::uint32_t path = 0;  // of the entry's subject: allow, deny, then watch, counted on
  std::shared_ptr<const Entry> entry;
};

// A path of a subject that cannot be guarded now.
struct FailedPath {
  std::uint32_t subject = 0;  // id
  std::uint32_t path = 0;     // as in Placed
  std::string said;           // as the subject has it
  std::string reason;
};

// What is at a denied path now; pinned once the policy is published.
struct Pin {
  UniqueFd object;       // empty: it is the root of what is mounted at `point`, to be found then.
                         // A container chooses how many those are.
  std::uint32_t mount = 0;
  std::string point;
  Device device = 0;
  std::string path;
  std::uint64_t container = 0;
  // What the caller said: the guard, its subject, and the path there.
  std::uint32_t guard = 0;
  int subject = 0;
  std::string asked;
};

struct CompiledGuard {
  GuardSpec spec;
  std::vector<std::shared_ptr<const Subject>> subjects;  // of the spec's, one each
  std::vector<Placed> placed;      // what the paths lead to now, and `original`
  std::vector<Placed> original;    // ... and led to when the guard was made
  std::map<std::uint64_t, std::vector<NameWatch::Watched>> names;  // by container
  std::vector<PathNote> notes;
  std::vector<FailedPath> failed;  // only if the spec is partial
};

bool is_of(const Placed& placed, std::uint32_t subject, std::uint32_t path);

// Of guarded containers, by cgroup id.
using ContainerViews = std::map<std::uint64_t, std::unique_ptr<ContainerView>>;

class GuardCompiler {
 public:
  // The counters of a subject that is there already; else new ones.
  using StatsOf = std::function<std::shared_ptr<SubjectStats>(std::uint32_t subject)>;

  // `dirents`: the group that is to tell of entries and attributes. `decider`: what denies changes. `audit`: the
  // kernel takes FAN_AUDIT.
  GuardCompiler(const BpfPrograms& programs, const FanotifyGroup& dirents, const Decider& decider, Locator& locator,
                EngineCounters& counters, Refusals& refusals, bool audit)
      : programs_(programs),
        dirents_(dirents),
        decider_(decider),
        locator_(locator),
        counters_(counters),
        refusals_(refusals),
        audit_(audit) {}

  void set_name_watch(NameWatch* names) { names_ = names; }

  // Throws Error with the subject and path that it is about; nothing is watched then. Of a spec
  // that is partial only if none of its paths can be guarded, or if resources are short.
  // `pins`: what is to be pinned is added.
  CompiledGuard compile(const GuardSpec& spec, const ContainerViews& views, const StatsOf& stats, std::vector<Pin>& pins);

  void unwatch(const CompiledGuard& guard);
  void unwatch(CompiledGuard& guard, std::uint64_t container);

  // The container's mounts were read again: numbers are used again.
  void refreshed(const ContainerView& view);
  void forget(std::uint64_t container);

 private:
  // Where a path leads to in one mount namespace of the container.
  struct Where {
    ContainerView& view;
    const ProcessDir& process;
    const std::vector<Mount>& mounts;
    const MountPoints& served;
    bool first;  // the namespace of the first process
  };
  void add_subjects(CompiledGuard& guard, const ContainerViews& views, const StatsOf& stats, std::vector<Pin>& pins);
  // A path of a subject.
  struct What {
    const SubjectPolicy& policy;
    const std::shared_ptr<const Subject>& subject;
    std::uint32_t number;  // as in Placed
    const std::string& path;
    Action action;
    // Where the subject's paths lead to so far.
    std::set<std::pair<Device, std::string>>& places;
  };
  void place_everywhere(ContainerView& view, const What& what, CompiledGuard& guard, std::vector<Pin>& pins);
  Resolved resolve_watched(const Where& where, const What& what, CompiledGuard& guard);
  void place(const Where& where, const What& what, CompiledGuard& guard, std::vector<Pin>& pins);

  // A mount that is not guarded, though a guarded path leads over it: counted once.
  void pass_by(const ContainerView& view, const Mount& mount);

  const BpfPrograms& programs_;
  const FanotifyGroup& dirents_;
  const Decider& decider_;
  Locator& locator_;
  EngineCounters& counters_;
  Refusals& refusals_;
  const bool audit_;
  NameWatch* names_ = nullptr;
  std::map<std::uint64_t, std::set<std::uint32_t>> passed_by_;  // mounts, by container
};

}  // namespace janus
