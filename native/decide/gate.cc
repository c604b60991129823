#include "decide/gate.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>

namespace janus {
namespace {

FileEventKind kind_of(std::uint64_t mask) {
  if (mask & FAN_OPEN_EXEC_PERM) return FileEventKind::exec;
  if (mask & FAN_ACCESS_PERM) return FileEventKind::access;
  return FileEventKind::open;
}

}  // namespace

Gate::Gate(Parts parts, std::chrono::milliseconds deadline)
    : parts_(parts),
      deadline_ns_(static_cast<std::uint64_t>(std::chrono::nanoseconds(deadline).count())),
      self_(getpid()),
      locator_(parts.programs, LocatorSlot::gate),
      watchdog_locator_(parts.programs, LocatorSlot::watchdog) {}

std::uint64_t Gate::beat(Heartbeat& own) const {
  const std::uint64_t now = own.beat();
  parts_.answering.beat(now);
  return now;
}

void Gate::run(const std::atomic<bool>& stop, int stop_fd) {
  // poll(2) looks at them in this order: when a question is there, whatever
  // happened before it was asked is seen in the queues that are looked at later.
  // So drain, then decide, costs no extra system call.
  std::array<pollfd, 6> fds = {{{parts_.groups.identity.fd(), POLLIN, 0},
                                {parts_.groups.gate.fd(), POLLIN, 0},
                                {parts_.groups.moves.fd(), POLLIN, 0},
                                {parts_.groups.names.fd(), POLLIN, 0},
                                {parts_.names.inotify_fd(), POLLIN, 0},
                                {stop_fd, POLLIN, 0}}};
  urgency_.begin(1, beat(heartbeat_));
  while (!stop.load(std::memory_order_relaxed)) {
    urgency_.pace(beat(heartbeat_));
    poll(fds.data(), fds.size(), kBeatMs);
    if (fds[2].revents != 0) parts_.learner.drain_moves();
    if (fds[3].revents != 0 || fds[4].revents != 0) parts_.names.drain();
    if (fds[0].revents != 0) step(parts_.groups.identity);
    if (fds[1].revents != 0) step(parts_.groups.gate);
  }
  // Nobody waits for a daemon that is going.
  allow_unread(parts_.groups.identity);
  allow_unread(parts_.groups.gate);
}

void Gate::step(const FanotifyGroup& group) {
  // Room for one event: what is not read yet stays in the kernel, where the
  // watchdog can get at it.
  alignas(fanotify_event_metadata) std::array<char, sizeof(fanotify_event_metadata)> buffer;
  bool unreadable = false;
  if (group.read(buffer, unreadable) == 0) {
    if (unreadable) parts_.counters.exposed_unreadable.add();
    return;
  }
  const auto& event = *reinterpret_cast<const fanotify_event_metadata*>(buffer.data());
  if (event.mask & FAN_Q_OVERFLOW) {
    // The kernel has answered allow for what did not fit.
    parts_.counters.kernel_queue_overflow.add();
    parts_.counters.exposed_overflow.add();
    return;
  }
  const UniqueFd fd(event.fd);
  if (event.pid == self_) {
    group.respond(fd.get(), true, false);
    parts_.counters.asked_self.add();
    return;
  }
  try {
    answer(group, event);
  } catch (...) {
    // It could not be judged. Unanswered, its process would wait for ever.
    if (in_flight_.claim()) group.respond(fd.get(), true, false);
    in_flight_.end();
    parts_.counters.exposed_unreadable.add();
    throw;
  }
}

// The identity group asks about this open, too, since the object or its
// directory is pinned: it keeps the account. (The gate's own question is spared
// by an ignore mark, but those may be forgotten any time.)
bool Gate::asked_twice(const FanotifyGroup& group, const Location& location, std::uint64_t mask) const {
  if (&group != &parts_.groups.gate) return false;
  for (std::uint32_t i = 0; i < location.hits(); ++i) {
    const std::string_view below = location.after(i);
    const bool own = i == 0 && location.pinned();
    const bool directory = below.size() > 1 && !location.cut() && below.find('/', 1) == std::string_view::npos;
    if (!own && !directory) continue;
    const auto identity = parts_.identities.find(location.raw->hit_id[i]);
    if (identity && (identity->mask & mask) != 0) return true;
  }
  return false;
}

// A process that was killed while it waited has to be looked up: it was there
// when its question was read, `ago_ns` ago.
Tracker::Actor Gate::identify(std::int32_t pid, const janus_locate& raw, std::uint64_t ago_ns) const {
  const auto tgid = static_cast<std::uint32_t>(pid);
  if (raw.start_ns != 0)
    return {.key = {tgid, raw.start_ns},
            .container = raw.flags & JANUS_LOCATE_TRACKED ? raw.container : 0,
            .flags = raw.task_flags};
  const std::uint64_t then = boot_ns() - ago_ns;
  return parts_.tracker.actor(tgid, then, then, true);
}

Gate::Judged Gate::judge_event(Locator& locator, const fanotify_event_metadata& event) const {
  auto policy = parts_.policy.get();
  const Location location = locator.locate(event.fd, event.pid, true);
  const FileEventKind kind = kind_of(event.mask);
  const Superblock* superblock = location.found() ? policy->find(location.raw->dev) : nullptr;
  Verdict verdict;
  if (superblock != nullptr) verdict = judge(*superblock->table, parts_.identities, location, actor_of(location), kind, false);
  return {std::move(policy), location, kind, superblock, std::move(verdict)};
}

void Gate::answer(const FanotifyGroup& group, const fanotify_event_metadata& event) {
  const std::uint64_t begun = monotonic_ns();
  in_flight_.begin(group, event.fd, begun);

  const auto [policy, location, kind, superblock, verdict] = judge_event(locator_, event);
  const Decision& decision = verdict.decision;
  if (!location.found()) parts_.counters.exposed_unreadable.add();

  const bool audited = decision.entry != nullptr && decision.entry->subject->audit;
  const bool in_time = in_flight_.claim();
  if (in_time) group.respond(event.fd, !decision.deny, audited);
  const std::uint64_t blocked = monotonic_ns() - begun;

  const janus_locate& raw = *location.raw;
  if ((raw.flags & JANUS_LOCATE_TRACKED) && (raw.flags & JANUS_LOCATE_ACTOR))
    parts_.tracker.see_namespace(raw.container, static_cast<std::uint32_t>(event.pid), raw.mnt_ns);
  bool pinned = false;
  if (superblock != nullptr && superblock->deny_mask != 0 && location.has_path()) {
    // Whoever is denied it, or is not: it stays guarded as what it is, wherever it
    // goes. It may have come here unasked. One that is pinned already may be asked
    // about less than is denied by now.
    const auto reasons = reasons_of(*superblock->table, parts_.identities, location);
    if (!reasons.empty())
      pinned = parts_.identities.pin(event.fd, location, reasons, *superblock) != IdentityTable::Pinned::limit;
  }
  if (decision.entry == nullptr) {
    parts_.counters.asked_unguarded.add();
    if (superblock != nullptr && &group == &parts_.groups.gate) parts_.learner.learn(false, locator_, location, *policy);
  } else if (asked_twice(group, location, event.mask)) {
    const auto identity = location.pinned() ? parts_.identities.find(location.raw->hit_id[0]) : nullptr;
    if (identity) parts_.learner.leave_to_identity(event.fd, location.raw->dev, location.directory(), identity->mask);
  } else {
    parts_.counters.asked_guarded.add();
    // What is in the ring happened before: who it is, and what that runs.
    parts_.tracker.drain();
    const auto flags = static_cast<std::uint16_t>(kFlagAnswered | (audited && in_time ? kFlagAudited : 0) |
                                                 (decision.owner ? kFlagOwner : 0) | (in_time ? 0 : kFlagLate));
    parts_.recorder.record(*superblock->table, *decision.entry, location,
                           {.kind = kind,
                            .response = static_cast<std::uint8_t>(decision.deny && in_time ? 1 : 0),
                            .flags = flags,
                            .blocked_ns = blocked,
                            .actor = identify(event.pid, raw, blocked),
                            .time_ns = clock_ns(CLOCK_REALTIME)});
    // One of the two groups is enough to ask about it.
    if (decision.entry->action == Action::deny && pinned && &group == &parts_.groups.gate)
      parts_.learner.leave_to_identity(event.fd, location.raw->dev, location.directory(), superblock->deny_mask);
  }
  in_flight_.end();
}

void Gate::allow_unread(const FanotifyGroup& group) {
  alignas(fanotify_event_metadata) std::array<char, sizeof(fanotify_event_metadata)> buffer;
  bool unreadable = false;
  while (group.read(buffer, unreadable) > 0 || unreadable) {
    if (unreadable) continue;
    const auto& event = *reinterpret_cast<const fanotify_event_metadata*>(buffer.data());
    const UniqueFd fd(event.fd);
    if (!fd) continue;
    group.respond(fd.get(), true, false);
    if (event.pid == self_) parts_.counters.asked_self.add();
    else parts_.counters.exposed_deadline.add();
  }
}

void Gate::rescue(const std::atomic<bool>& stop, int stop_fd) {
  const int step_ms = static_cast<int>(std::clamp<std::uint64_t>(deadline_ns_ / 4'000'000, 5, kBeatMs));
  watchdog_urgency_.begin(2, beat(watchdog_heartbeat_));  // not behind a gate that does not stop
  while (!stop.load(std::memory_order_relaxed)) {
    watchdog_urgency_.pace(beat(watchdog_heartbeat_));
    pollfd stopped{stop_fd, POLLIN, 0};
    poll(&stopped, 1, step_ms);
    if (in_flight_.answer_late(monotonic_ns(), deadline_ns_)) parts_.counters.exposed_deadline.add();
    if (heartbeat_.age_ns() < std::max<std::uint64_t>(deadline_ns_, 2ull * kBeatMs * 1'000'000)) continue;
    // One at a time, for as long as the gate does not move: it answers better.
    const std::uint64_t limit = std::max<std::uint64_t>(deadline_ns_, 2ull * kBeatMs * 1'000'000);
    while (heartbeat_.age_ns() >= limit && !stop.load(std::memory_order_relaxed)) {
      watchdog_urgency_.pace(beat(watchdog_heartbeat_));
      if (!rescue_one(parts_.groups.identity) && !rescue_one(parts_.groups.gate)) break;
    }
  }
}

// By the published policy. Only what that cannot judge is allowed.
bool Gate::rescue_one(const FanotifyGroup& group) {
  alignas(fanotify_event_metadata) std::array<char, sizeof(fanotify_event_metadata)> buffer;
  bool unreadable = false;
  if (group.read(buffer, unreadable) == 0) {
    if (unreadable) parts_.counters.exposed_unreadable.add();
    return unreadable;
  }
  const auto& event = *reinterpret_cast<const fanotify_event_metadata*>(buffer.data());
  if (event.mask & FAN_Q_OVERFLOW) {
    parts_.counters.kernel_queue_overflow.add();
    parts_.counters.exposed_overflow.add();
    return true;
  }
  const UniqueFd fd(event.fd);
  if (event.pid == self_) {
    group.respond(fd.get(), true, false);
    parts_.counters.asked_self.add();
    return true;
  }
  const std::uint64_t begun = monotonic_ns();
  const auto [policy, location, kind, superblock, verdict] = judge_event(watchdog_locator_, event);
  const Decision& decision = verdict.decision;
  const bool audited = decision.entry != nullptr && decision.entry->subject->audit;
  group.respond(fd.get(), !decision.deny, audited);
  if (!location.found()) parts_.counters.exposed_deadline.add();
  if (decision.entry == nullptr) {
    parts_.counters.asked_unguarded.add();
    return true;
  }
  if (asked_twice(group, location, event.mask)) return true;
  parts_.counters.asked_guarded.add();
  const std::uint64_t blocked = monotonic_ns() - begun;
  parts_.recorder.record(*superblock->table, *decision.entry, location,
                         {.kind = kind,
                          .response = static_cast<std::uint8_t>(decision.deny ? 1 : 0),
                          .flags = static_cast<std::uint16_t>(kFlagAnswered | (audited ? kFlagAudited : 0) |
                                                               (decision.owner ? kFlagOwner : 0)),
                          .blocked_ns = blocked,
                          .actor = identify(event.pid, *location.raw, blocked),
                          .time_ns = clock_ns(CLOCK_REALTIME)});
  return true;
}

}  // namespace janus
