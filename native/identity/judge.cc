#include "identity/judge.h"

#include <algorithm>

namespace janus {

Verdict judge(const SuperblockPolicy& table, const IdentityTable& identities, const Location& location,
              const Actor& actor, FileEventKind kind, bool observed) {
  if (!location.has_path()) {
    // It may be inside or outside of what is guarded. Denied if anyone would be.
    const Entry* entry = observed ? nullptr : table.strictest(kind, actor);
    return {.decision = {.entry = entry, .deny = entry != nullptr, .owner = false}, .as = {}, .anything = true};
  }
  Verdict best;
  const bool all = each_path(identities, location, [&](std::string_view path) {
    const Decision other = table.decide(path, location.directory(), kind, actor, observed);
    if (other.entry != nullptr && (best.decision.entry == nullptr || (other.deny && !best.decision.deny)))
      best = {.decision = other, .as = path == location.path ? std::string() : std::string(path), .anything = false};
  });
  if (all || best.decision.deny || observed) return best;
  const Entry* entry = table.strictest(kind, actor);
  return entry == nullptr ? best : Verdict{.decision = {.entry = entry, .deny = true, .owner = false}, .as = {}, .anything = true};
}

std::vector<std::uint32_t> other_deniers(const SuperblockPolicy& table, const IdentityTable& identities,
                                         const Location& location, const Actor& actor, FileEventKind kind,
                                         const Verdict& verdict) {
  std::vector<std::uint32_t> ids;
  if (!verdict.decision.deny || !table.several_guards()) return ids;
  std::vector<std::uint32_t> named = {verdict.decision.entry->subject->guard};
  // With the one that decided, and one more that tells that there are more.
  constexpr std::size_t kMost = kDeniers + 2;
  const auto add = [&](const std::vector<const Entry*>& entries) {
    for (const Entry* entry : entries) {
      if (std::ranges::find(named, entry->subject->guard) != named.end()) continue;
      named.push_back(entry->subject->guard);
      ids.push_back(entry->subject->id);
    }
  };
  if (verdict.anything) {
    add(table.denying_anything(kind, actor, kMost));
  } else {
    each_path(identities, location,
              [&](std::string_view path) { add(table.denying(path, location.directory(), kind, actor, kMost)); });
  }
  return ids;
}

std::vector<std::string> reasons_of(const SuperblockPolicy& table, const IdentityTable& identities, const Location& location) {
  std::vector<std::string> reasons;
  each_path(identities, location, [&](std::string_view path) {
    if (table.deniable(path, location.directory()) != nullptr) reasons.emplace_back(path);
  });
  return reasons;
}

}  // namespace janus
