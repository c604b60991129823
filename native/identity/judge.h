// Decides about one located object: by the path it has, and by what it is.
//
// Owns: nothing. Used by the gate and the observer with their own locators.
#pragma once

#include <string>
#include <string_view>
#include <vector>

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

// What a located object's path would be if the guarded inodes among it and its ancestors
// were where they were (a hard link, or a guarded directory that was moved). False: these
// are not all.
template <typename Visit>
bool each_former_path(const IdentityTable& identities, const Location& location, Visit visit) {
  bool all = !location.hits_full();
  for (std::uint32_t i = 0; i < location.hits(); ++i) {
    const auto identity = identities.find(location.raw->hit_id[i]);
    if (!identity || identity->device != location.raw->dev) continue;
    all = all && !identity->cut;
    const std::string_view below = location.after(i);
    for (const std::string& reason : identity->paths) {
      // Mostly it is where it was.
      if (location.path.size() == reason.size() + below.size() && location.path.starts_with(reason)) continue;
      std::string path = reason;
      path += below;
      visit(std::string_view(path));
    }
  }
  return all;
}

// The paths that it is judged by: its own, if that is known, and its former ones.
template <typename Visit>
bool each_path(const IdentityTable& identities, const Location& location, Visit visit) {
  if (location.has_path()) visit(location.path);
  return each_former_path(identities, location, visit);
}

// Those of its paths at which anybody is denied it.
std::vector<std::string> reasons_of(const SuperblockPolicy& table, const IdentityTable& identities, const Location& location);

// Whether the identity group asks about the object: it is pinned, or the directory that
// holds it is, for any of these permission events.
bool identity_asks(const IdentityTable& identities, const Location& location, std::uint64_t mask);

struct Verdict {
  Decision decision;
  std::string as;  // the path that decided, if not the object's own
  bool anything = false;  // its place isn't known: denied to whoever is denied anything there
};

// By each_path(): if any denies, it is denied. If these are not all, it is denied
// to whoever is denied anything on that superblock.
Verdict judge(const SuperblockPolicy& table, const IdentityTable& identities, const Location& location,
              const Actor& actor, FileEventKind kind, bool observed);

// The same, where it isn't known that `than` looked at all that it could be.
Verdict stricter(const SuperblockPolicy& table, const Actor& actor, FileEventKind kind, Verdict than);

// Which guards deny what was judged, or only audit and would, as their subjects' ids: one of each guard
// other than the one that decided. If they are more than kDeniers, these may not be all.
std::vector<std::uint32_t> other_deniers(const SuperblockPolicy& table, const IdentityTable& identities,
                                         const Location& location, const Actor& actor, FileEventKind kind,
                                         const Verdict& verdict);

}  // namespace janus
