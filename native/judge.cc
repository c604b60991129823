#include "judge.h"

#include <utility>

namespace janus {

Verdict judge(const SuperblockPolicy& table, const IdentityTable& identities, const Location& location,
              const Actor& actor, FileEventKind kind, bool observed) {
  if (!location.has_path()) {
    // It may be inside or outside of what is guarded. Denied if anyone would be.
    const Entry* entry = observed ? nullptr : table.strictest(kind, actor);
    return {.decision = {.entry = entry, .deny = entry != nullptr, .owner = false}, .as = {}};
  }
  const bool directory = location.directory();
  Verdict best{.decision = table.decide(location.path, directory, kind, actor, observed), .as = {}};
  for (int i = 0; i < JANUS_HITS && location.raw->hit_id[i] != 0; ++i) {
    const auto identity = identities.find(location.raw->hit_id[i]);
    if (!identity || identity->device != location.raw->dev) continue;
    const std::size_t tail = location.raw->hit_tail[i];
    std::string path = identity->path;
    if (tail <= location.path.size()) path += location.path.substr(location.path.size() - tail);
    if (path == location.path) continue;
    const Decision other = table.decide(path, directory, kind, actor, observed);
    if (other.entry != nullptr && (best.decision.entry == nullptr || (other.deny && !best.decision.deny)))
      best = {other, std::move(path)};
  }
  return best;
}

}  // namespace janus
