#include "judge.h"

namespace janus {

Decision judge(const SuperblockPolicy& table, const IdentityTable& identities, const Location& location,
               FileEventKind kind, bool observed) {
  const Actor actor = actor_of(location);
  if (!location.has_path()) {
    // It may be inside or outside of what is guarded. Denied if anyone would be.
    const Entry* entry = observed ? nullptr : table.strictest(kind, actor);
    return {.entry = entry, .deny = entry != nullptr, .owner = false};
  }
  const bool directory = location.directory();
  Decision best = table.decide(location.path, directory, kind, actor, observed);
  for (int i = 0; i < JANUS_HITS && location.raw->hit_id[i] != 0; ++i) {
    const auto identity = identities.find(location.raw->hit_id[i]);
    if (!identity || identity->device != location.raw->dev) continue;
    const std::size_t tail = location.raw->hit_tail[i];
    std::string path = identity->path;
    if (tail <= location.path.size()) path += location.path.substr(location.path.size() - tail);
    if (path == location.path) continue;
    const Decision other = table.decide(path, directory, kind, actor, observed);
    if (other.entry != nullptr && (best.entry == nullptr || (other.deny && !best.deny))) best = other;
  }
  return best;
}

}  // namespace janus
