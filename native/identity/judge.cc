#include "identity/judge.h"

#include <algorithm>
#include <utility>

namespace janus {

Verdict judge(const SuperblockPolicy& table, const IdentityTable& identities, const Location& location,
              const Actor& actor, FileEventKind kind, bool observed) {
  if (!location.has_path()) {
    // It may be inside or outside of what is guarded. Denied if anyone would be.
    return {.decision = observed ? Decision{} : table.strictest(kind, actor), .as = {}, .anything = true};
  }
  Verdict best;
  const bool all = each_path(identities, location, [&](std::string_view path) {
    const Decision other = table.decide(path, location.directory(), kind, actor, observed);
    if (other.outranks(best.decision))
      best = {.decision = other, .as = path == location.path ? std::string() : std::string(path), .anything = false};
  });
  if (all || best.decision.deny || observed) return best;
  return stricter(table, actor, kind, std::move(best));
}

Verdict stricter(const SuperblockPolicy& table, const Actor& actor, FileEventKind kind, Verdict than) {
  if (than.decision.deny) return than;
  const Decision strictest = table.strictest(kind, actor);
  return strictest.outranks(than.decision) ? Verdict{.decision = strictest, .as = {}, .anything = true} : than;
}

std::vector<std::uint32_t> other_deniers(const SuperblockPolicy& table, const IdentityTable& identities,
                                         const Location& location, const Actor& actor, FileEventKind kind,
                                         const Verdict& verdict) {
  std::vector<std::uint32_t> ids;
  if (verdict.decision.response() == Response::allow || !table.several_guards()) return ids;
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

bool identity_asks(const IdentityTable& identities, const Location& location, std::uint64_t mask) {
  for (std::uint32_t i = 0; i < location.hits(); ++i) {
    const std::string_view below = location.after(i);
    const bool own = i == 0 && location.pinned();
    const bool directory = below.size() > 1 && !location.cut() && below.find('/', 1) == std::string_view::npos;
    if (!own && !directory) continue;
    const auto identity = identities.find(location.raw->hit_id[i]);
    if (identity && (identity->mask & mask) != 0) return true;
  }
  return false;
}

std::vector<std::string> reasons_of(const SuperblockPolicy& table, const IdentityTable& identities, const Location& location) {
  std::vector<std::string> reasons;
  each_path(identities, location, [&](std::string_view path) {
    if (table.deniable(path, location.directory()) != nullptr) reasons.emplace_back(path);
  });
  return reasons;
}

}  // namespace janus
