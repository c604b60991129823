// Decides about one located object: by the path it has, and by what it is.
//
// Owns: nothing. Used by the gate and the observer with their own locators.
#pragma once

#include <string>
#include <string_view>

#include "identity/identity_table.h"
#include "ebpf/locator.h"
#include "policy/policy.h"

namespace janus {

inline Actor actor_of(std::uint64_t container, std::uint32_t task_flags) {
  return {.container = container, .owner = (task_flags & (JANUS_TASK_INIT | JANUS_TASK_CHILD)) != 0};
}
// Of an actor that waits for us.
inline Actor actor_of(const Location& location) {
  if (!(location.raw->flags & JANUS_LOCATE_TRACKED)) return {};
  return actor_of(location.raw->container, location.raw->task_flags);
}

// The paths that a located object is judged by: its own, and what it would be if
// the guarded inodes among it and its ancestors were where they were (a hard
// link, or a guarded directory that was moved).
template <typename Visit>
void each_path(const IdentityTable& identities, const Location& location, Visit visit) {
  visit(location.path);
  for (int i = 0; i < JANUS_HITS && location.raw->hit_id[i] != 0; ++i) {
    const auto identity = identities.find(location.raw->hit_id[i]);
    if (!identity || identity->device != location.raw->dev) continue;
    std::string path = identity->path;
    path += location.after(i);
    if (path != location.path) visit(std::string_view(path));
  }
}

struct Verdict {
  Decision decision;
  std::string as;  // the path that decided, if not the object's own
};

// By each_path(): if any denies, it is denied.
Verdict judge(const SuperblockPolicy& table, const IdentityTable& identities, const Location& location,
              const Actor& actor, FileEventKind kind, bool observed);

}  // namespace janus
