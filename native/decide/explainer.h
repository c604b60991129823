// Says how an open of a path would be judged, and why: by the code that judges it. And how a change
// would be, which the kernel decides about by the same rules (identity/kernel_rules.h).
//
// Owns: a locator. One thread (JavaScript's). Looks the path up as the container's
// first process sees it, opens nothing but with O_PATH, and asks nobody: so nothing is
// recorded, pinned or learned by it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cover/mark_planner.h"
#include "ebpf/locator.h"
#include "identity/identity_table.h"
#include "policy/policy.h"
#include "track/tracker.h"

namespace janus {

struct Explanation {
  // A rule at or above one of the paths that the object is judged by.
  struct Line {
    std::uint32_t subject = 0;  // id
    Action action = Action::deny;
    std::string path;  // where the rule is, as the subject's container sees it
    Bearing bearing = Bearing::applies;
    bool answered = true;  // whoever opens it waits; else it is only recorded
  };
  enum class Who : std::uint8_t { container, owner, node, process };
  struct Answer {
    Who who = Who::container;
    bool judged = false;  // false: no guard has a say
    bool answered = false;
    Response response = Response::allow;
    bool owner = false;      // allowed by autoAllowOwner
    bool anything = false;   // its place isn't known: denied to whoever is denied anything there
    std::uint32_t subject = 0;
    Action action = Action::deny;
    std::string path;  // of the rule that decided
    std::vector<std::uint32_t> others;  // guards that deny it, too, or would: a subject's id of each
  };
  // What asks the gate about it. `told`: the kernel only tells, after the fact.
  struct Cover {
    bool identity = false, superblock = false, mount = false, told = false;
    bool ignored = false;  // it may be ignored by now: nothing is guarded where it is
    std::string never;     // why the kernel asks nobody; "": it may
  };

  std::string container;  // id
  std::string seen;       // where the path leads in the container, symlinks followed
  bool exists = false;
  bool directory = false;
  bool symlink = false;     // itself: such a change doesn't follow it
  std::uint32_t links = 0;  // names of the file
  std::string file_system;
  std::vector<std::string> judged_as;  // as the container sees them; its own comes first
  std::vector<Line> lines;
  std::vector<Answer> answers;
  Cover cover;
};

class Explainer {
 public:
  struct Parts {
    const BpfPrograms& programs;
    const PolicyBox& policy;
    const IdentityTable& identities;
    const MarkPlanner& planner;
    Tracker& tracker;
  };
  explicit Explainer(const Parts& parts) : parts_(parts), locator_(parts.programs, LocatorSlot::explainer) {}

  // `pid`: a process to be judged, too; 0: none. Throws Error(not_found) for a container
  // that isn't there, Error(invalid) with the path for one that leads nowhere, or without
  // it if there is no such process.
  Explanation explain(const std::string& container, const std::string& path, FileEventKind kind, std::uint32_t pid);

 private:
  const Parts parts_;
  Locator locator_;
};

}  // namespace janus
