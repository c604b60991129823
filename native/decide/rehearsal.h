// Says how events that were recorded would have been judged if a guard that is not
// held had been: by the code that judges.
//
// Owns: the guard's tables, as its paths lead now. One thread (JavaScript's). Marks,
// pins, watches and records nothing, and opens nothing but with O_PATH.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ebpf/decider.h"
#include "os/fanotify_group.h"
#include "cover/guard_spec.h"
#include "cover/mounts.h"
#include "ebpf/locator.h"
#include "policy/policy.h"
#include "track/tracker.h"

namespace janus {

class Rehearsal {
 public:
  // `guard` should be partial: a path that leads nowhere costs itself. Throws Error(not_found)
  // if a container of it has ended.
  Rehearsal(const BpfPrograms& programs, const Groups& groups, const Decider& decider, Tracker& tracker, GuardSpec guard);

  struct Judged {
    Response response = Response::allow;
    // It hangs on whether the process was the owner, which nobody knows since it has
    // ended: it was taken for none.
    bool assumed = false;
  };
  // `record`: a whole FileEvent. `container`: the id of its subject's. Nothing: the guard
  // has no say. The path is taken for what the container's first process sees there now.
  std::optional<Judged> judge(const BpfPrograms& programs, std::span<const std::uint8_t> record, std::string_view container) const;

  // Paths of the guard that lead nowhere now.
  struct Fault {
    std::string path;
    std::string reason;
  };
  const std::vector<Fault>& faults() const { return faults_; }

 private:
  struct Container {
    std::uint64_t cgroup = 0;
    std::vector<Mount> mounts;  // visible ones
  };

  // `seen`: as the container sees it.
  Decision decide_about(const Container& container, std::string_view seen, bool directory, FileEventKind kind,
                        const Actor& actor) const;

  std::map<std::string, Container, std::less<>> containers_;  // by id
  std::map<Device, SuperblockPolicy> tables_;
  std::vector<Fault> faults_;
};

}  // namespace janus
