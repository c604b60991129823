// Decides about one located object: by the path it has, and by what it is.
//
// Owns: nothing. Used by the gate and the observer with their own locators.
#pragma once

#include <string>

#include "identity_table.h"
#include "locator.h"
#include "policy.h"

namespace janus {

inline Actor actor_of(std::uint64_t container, std::uint32_t task_flags) {
  return {.container = container, .owner = (task_flags & (JANUS_TASK_INIT | JANUS_TASK_CHILD)) != 0};
}
// Of an actor that waits for us.
inline Actor actor_of(const Location& location) {
  if (!(location.raw->flags & JANUS_LOCATE_TRACKED)) return {};
  return actor_of(location.raw->container, location.raw->task_flags);
}

struct Verdict {
  Decision decision;
  std::string as;  // the path that decided, if not the object's own
};

// The path's own verdict and that of every guarded inode among the object and
// its ancestors (a hard link, or a guarded directory that was moved): if any
// denies, it is denied.
Verdict judge(const SuperblockPolicy& table, const IdentityTable& identities, const Location& location,
              const Actor& actor, FileEventKind kind, bool observed);

}  // namespace janus
