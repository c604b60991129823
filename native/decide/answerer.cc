#include "decide/answerer.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "os/clock.h"

namespace janus {
namespace {

FileEventKind kind_of(std::uint64_t mask) {
  if (mask & FAN_OPEN_EXEC_PERM) return FileEventKind::exec;
  if (mask & FAN_ACCESS_PERM) return FileEventKind::access;
  return FileEventKind::open;
}

}  // namespace

Answerer::Judged Answerer::judge(const fanotify_event_metadata& event, bool strictly) {
  auto policy = parts_.policy.get();
  const Location location = locator_.locate(event.fd, event.pid, true);
  const FileEventKind kind = kind_of(event.mask);
  const Superblock* superblock = location.found() ? policy->find(location.raw->dev) : nullptr;
  Verdict verdict;
  if (superblock != nullptr) {
    const Actor actor = actor_of(location);
    verdict = janus::judge(*superblock->table, parts_.identities, location, actor, kind, false);
    if (strictly) verdict = stricter(*superblock->table, actor, kind, std::move(verdict));
  }
  return {std::move(policy), location, kind, superblock, std::move(verdict)};
}

std::vector<Replanner::Ticket> Answerer::depends_on(const Judged& judged) const {
  std::vector<std::uint64_t> containers;
  if (judged.superblock != nullptr) containers = judged.superblock->containers;
  if (judged.location.raw->flags & JANUS_LOCATE_TRACKED) containers.push_back(judged.location.raw->container);
  return parts_.replans.concerns(containers);
}

// The identity group asks about this open, too, since the object or its
// directory is pinned: it keeps the account. (The gate's own question is spared
// by an ignore mark, but those may be forgotten any time.)
bool Answerer::asked_twice(const Question& question, const Location& location) const {
  return question.group == &parts_.groups.gate && identity_asks(parts_.identities, location, question.event.mask);
}

// A process that was killed while it waited has to be looked up: it was there
// when its question was read, `ago_ns` ago.
Tracker::Actor Answerer::identify(std::int32_t pid, const janus_locate& raw, std::uint64_t ago_ns) const {
  const auto tgid = static_cast<std::uint32_t>(pid);
  if (raw.start_ns != 0)
    return {.key = {tgid, raw.start_ns},
            .container = raw.flags & JANUS_LOCATE_TRACKED ? raw.container : 0,
            .flags = raw.task_flags};
  const std::uint64_t then = boot_ns() - ago_ns;
  return parts_.tracker.actor(tgid, then, then, true);
}

void Answerer::count(const Question& question, const Judged& judged, bool elsewhere, bool in_time,
                     std::uint64_t blocked_ns) {
  if (judged.verdict.decision.entry == nullptr) parts_.counters.asked_unguarded.add();
  if (judged.verdict.decision.entry == nullptr) return;
  const Decision& decision = judged.verdict.decision;
  const Response response = in_time ? decision.response() : Response::allow;
  // The identity group is asked first. If it had denied this open, nobody else would be
  // asked: it allowed it, by the policy of that moment, and now it is denied all the same.
  if (elsewhere && response != Response::deny) return;
  (decision.entry->subject->id == kCanarySubject ? parts_.counters.asked_canary : parts_.counters.asked_guarded).add();
  // What is in the ring happened before: who it is, and what that runs.
  parts_.tracker.drain();
  const auto flags = static_cast<std::uint16_t>(kFlagAnswered | (judged.audited() && in_time ? kFlagAudited : 0) |
                                               (decision.owner ? kFlagOwner : 0) | (in_time ? 0 : kFlagLate));
  const SuperblockPolicy& table = *judged.superblock->table;
  parts_.recorder.record(table, *decision.entry->subject, judged.location,
                         {.kind = judged.kind,
                          .response = response,
                          .flags = flags,
                          .blocked_ns = blocked_ns,
                          .actor = identify(question.event.pid, *judged.location.raw, blocked_ns),
                          .time_ns = clock_ns(CLOCK_REALTIME),
                          .deniers = in_time ? other_deniers(table, parts_.identities, judged.location,
                                                             actor_of(judged.location), judged.kind, judged.verdict)
                                             : std::vector<std::uint32_t>{}});
}

void Answerer::account(const Question& question, const Judged& judged, bool in_time, std::uint64_t blocked_ns) {
  count(question, judged, asked_twice(question, judged.location), in_time, blocked_ns);
}

void Answerer::account_and_learn(const Question& question, const Judged& judged, bool in_time, std::uint64_t blocked_ns) {
  const auto& [policy, location, kind, superblock, verdict] = judged;
  const janus_locate& raw = *location.raw;
  const int object = question.event.fd;
  const bool by_gate = question.group == &parts_.groups.gate;
  if ((raw.flags & JANUS_LOCATE_TRACKED) && (raw.flags & JANUS_LOCATE_ACTOR))
    parts_.tracker.see_namespace(raw.container, static_cast<std::uint32_t>(question.event.pid), raw.mnt_ns);
  // By the marks that there were when it was asked: pinning may add to them.
  const bool elsewhere = asked_twice(question, location);
  bool pinned = false;
  if (superblock != nullptr && superblock->deny_mask != 0 && location.stable()) {
    // Whoever is denied it, or is not: it stays guarded as what it is, wherever it
    // goes. It may have come here unasked. One that is pinned already may be asked
    // about less than is denied by now.
    const auto reasons = reasons_of(*superblock->table, parts_.identities, location);
    if (!reasons.empty())
      pinned = parts_.identities.pin(object, location, reasons, *superblock) != IdentityTable::Pinned::limit;
  }
  count(question, judged, elsewhere, in_time, blocked_ns);
  const Entry* entry = verdict.decision.entry;
  if (entry == nullptr) {
    if (superblock != nullptr && by_gate) parts_.learner.learn(false, locator_, location, *policy);
  } else if (elsewhere) {
    const auto identity = location.pinned() ? parts_.identities.find(raw.hit_id[0]) : nullptr;
    if (identity) parts_.learner.leave_to_identity(object, raw.dev, location.directory(), identity->mask);
  } else if (entry->action == Action::deny && pinned && by_gate) {
    // One of the two groups is enough to ask about it.
    parts_.learner.leave_to_identity(object, raw.dev, location.directory(), superblock->deny_mask);
  }
}

}  // namespace janus
