#include "identity/judge.h"

namespace janus {

Verdict judge(const SuperblockPolicy& table, const IdentityTable& identities, const Location& location,
              const Actor& actor, FileEventKind kind, bool observed) {
  if (!location.has_path()) {
    // It may be inside or outside of what is guarded. Denied if anyone would be.
    const Entry* entry = observed ? nullptr : table.strictest(kind, actor);
    return {.decision = {.entry = entry, .deny = entry != nullptr, .owner = false}, .as = {}};
  }
  Verdict best;
  const bool all = each_path(identities, location, [&](std::string_view path) {
    const Decision other = table.decide(path, location.directory(), kind, actor, observed);
    if (other.entry != nullptr && (best.decision.entry == nullptr || (other.deny && !best.decision.deny)))
      best = {other, path == location.path ? std::string() : std::string(path)};
  });
  if (all || best.decision.deny || observed) return best;
  const Entry* entry = table.strictest(kind, actor);
  return entry == nullptr ? best : Verdict{.decision = {.entry = entry, .deny = true, .owner = false}, .as = {}};
}

std::vector<std::string> reasons_of(const SuperblockPolicy& table, const IdentityTable& identities, const Location& location) {
  std::vector<std::string> reasons;
  each_path(identities, location, [&](std::string_view path) {
    if (table.deniable(path, location.directory()) != nullptr) reasons.emplace_back(path);
  });
  return reasons;
}

}  // namespace janus
