// A file that is denied to everybody, on a file system that nobody else sees: whoever
// opens it proves that denying works, from the kernel's question to the record.
//
// Owns: the file system. It is mounted nowhere, so only who has its descriptor gets
// there: the daemon, and the opener that it starts (native/cover/canary_opener.cc). Its
// rules are in the policy from the first one on. No guard, and counted as none.
#pragma once

#include "os/fanotify_group.h"
#include "os/unique_fd.h"
#include "policy/policy.h"

namespace janus {

class Canary {
 public:
  // Marks it, and publishes its rules. Before any planner publishes. Throws
  // Error(system).
  Canary(const FanotifyGroup& gate, PolicyBox& policy);

  // Its root directory. In it is the file `denied`.
  int root() const { return root_.get(); }

 private:
  UniqueFd root_;
};

}  // namespace janus
