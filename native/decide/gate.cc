#include "decide/gate.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <ctime>

#include "os/descriptors.h"

namespace janus {
namespace {

// How soon one that has waited for too long is looked at.
constexpr int kParkedMs = 20;

// When so many questions in a row were there within so long, more may be waiting behind
// them than behind others' answers they should. One look then costs a system call.
constexpr std::size_t kInARow = 32;
constexpr std::uint64_t kAtOnceNs = 100'000;

// So many are answered as they come: nobody waits long behind them.
constexpr std::size_t kFew = 8;

// Questions that are read and wait for their turn. Each is a descriptor.
constexpr std::size_t kQueued = 4096;

// Questions that are read before others are answered again.
constexpr int kReadAtOnce = 64;

// Between two looks for questions, while those that are queued have to wait.
constexpr std::uint64_t kPauseNs = 200'000;

// Containers that are answered before the queues are looked at again.
constexpr std::size_t kRound = 16;

}  // namespace

Gate::Gate(DecideParts parts, std::chrono::milliseconds deadline)
    : parts_(parts),
      deadline_ns_(static_cast<std::uint64_t>(std::chrono::nanoseconds(deadline).count())),
      self_(getpid()),
      answerer_(parts_, LocatorSlot::gate),
      rescuer_(parts_, LocatorSlot::watchdog),
      parked_(descriptor_reserve() / 2) {}

std::uint64_t Gate::beat(Heartbeat& own) const {
  const std::uint64_t now = own.beat();
  parts_.answering.beat(now);
  return now;
}

void Gate::run(const std::atomic<bool>& stop, int stop_fd) {
  // poll(2) looks at them in this order: when a question is there, whatever
  // happened before it was asked is seen in the queues that are looked at later.
  // So drain, then decide, costs no extra system call.
  std::array<pollfd, 7> fds = {{{parts_.groups.identity.fd(), POLLIN, 0},
                                {parts_.groups.gate.fd(), POLLIN, 0},
                                {parts_.groups.moves.fd(), POLLIN, 0},
                                {parts_.groups.names.fd(), POLLIN, 0},
                                {parts_.names.inotify_fd(), POLLIN, 0},
                                {parts_.replans.planned_fd(), POLLIN, 0},
                                {stop_fd, POLLIN, 0}}};
  urgency_.begin(1, beat(heartbeat_));
  while (!stop.load(std::memory_order_relaxed)) {
    asked_from_ns_ = beat(heartbeat_);
    urgency_.pace(asked_from_ns_);
    wait(fds);
    if (fds[2].revents != 0) parts_.learner.drain_moves();
    if (fds[3].revents != 0 || fds[4].revents != 0) parts_.names.drain();
    // Of those that were read earlier: what happened before them has been seen now.
    answer_round();
    if (fds[0].revents != 0) step(parts_.groups.identity);
    if (fds[1].revents != 0) step(parts_.groups.gate);
    if (fds[5].revents != 0) parts_.replans.take_planned();
    resume();
  }
  // Nobody waits for a daemon that is going.
  allow_unread(parts_.groups.identity);
  allow_unread(parts_.groups.gate);
  for (const Question& question : parked_.take([](const Question&) { return true; }))
    question.group->respond(question.event.fd, true, false);
  while (const auto question = queue_.take()) {
    question->group->respond(question->event.fd, true, false);
    parts_.counters.exposed_deadline.add();
  }
}

void Gate::step(const FanotifyGroup& group) {
  if (queue_.size() > kFew || in_a_row_ >= kInARow || spending_.any_over(asked_from_ns_)) return read_all(group);
  bool more = false;
  auto question = read_one(group, more);
  if (!question) return;
  in_a_row_ = question->asked_ns - asked_from_ns_ < kAtOnceNs ? in_a_row_ + 1 : 0;
  answer(*question, Wait::may);
}

void Gate::read_all(const FanotifyGroup& group) {
  bool more = true;
  for (int got = 0; got < kReadAtOnce && queue_.size() < kQueued; ++got) {
    const std::uint64_t from = monotonic_ns();
    auto question = read_one(group, more);
    if (!more) break;
    if (!question) continue;
    question->container = container_of(question->event.pid);
    spending_.add(question->container, from, monotonic_ns());
    // Others need descriptors, too: then the rest stays in the kernel.
    const bool last = in_reserve(question->object.get());
    queue_.add(std::move(*question));
    if (last) break;
  }
  if (queue_.size() <= kFew && !spending_.any_over(monotonic_ns())) in_a_row_ = 0;
}

std::uint64_t Gate::container_of(std::int32_t pid) const {
  const auto task = parts_.programs.task(static_cast<std::uint32_t>(pid));
  return task ? task->container : 0;
}

void Gate::answer_round() {
  if (queue_.empty()) return;
  std::uint64_t now = monotonic_ns();
  const auto may = [&](std::uint64_t container) { return !spending_.over(container, now); };
  paused_ = false;
  for (std::size_t left = std::min(queue_.containers(), kRound); left > 0; --left) {
    auto question = queue_.take_of(may);
    if (!question) {
      paused_ = true;
      urgency_.resume(now);
      return;
    }
    answer(*question, Wait::may);
    now = monotonic_ns();
  }
}

void Gate::wait(std::span<pollfd> fds) const {
  if (queue_.empty()) {
    poll(fds.data(), fds.size(), parked_.empty() ? kBeatMs : kParkedMs);
    return;
  }
  if (paused_) {
    // Not for each question of theirs: several are read at once.
    const std::uint64_t pause_ns = std::min(Spending::left_of_slice(monotonic_ns()), kPauseNs);
    const timespec pause{.tv_sec = 0, .tv_nsec = static_cast<long>(pause_ns)};
    nanosleep(&pause, nullptr);
  }
  poll(fds.data(), fds.size(), 0);
}

std::optional<Question> Gate::read_one(const FanotifyGroup& group, bool& more) {
  // Room for one event: what is not read yet stays in the kernel, where the
  // watchdog can get at it.
  alignas(fanotify_event_metadata) std::array<char, sizeof(fanotify_event_metadata)> buffer;
  bool unreadable = false;
  more = group.read(buffer, unreadable) > 0;
  if (!more) {
    if (unreadable) parts_.counters.exposed_unreadable.add();
    more = unreadable;
    return std::nullopt;
  }
  const auto& event = *reinterpret_cast<const fanotify_event_metadata*>(buffer.data());
  if (event.mask & FAN_Q_OVERFLOW) {
    // The kernel has answered allow for what did not fit.
    parts_.counters.kernel_queue_overflow.add();
    parts_.counters.exposed_overflow.add();
    return std::nullopt;
  }
  Question question{.group = &group, .event = event, .object = UniqueFd(event.fd), .asked_ns = monotonic_ns(), .container = 0, .waits_for = {}};
  if (event.pid == self_) {
    group.respond(event.fd, true, false);
    parts_.counters.asked_self.add();
    return std::nullopt;
  }
  return question;
}

void Gate::answer(Question& question, Wait wait) {
  try {
    if (try_answer(question, wait)) return;
    // More of its container wait than its share is.
    parts_.counters.asked_unplanned.add();
    try_answer(question, Wait::over);
  } catch (...) {
    // It could not be judged. Unanswered, its process would wait for ever.
    if (question.object && in_flight_.claim()) question.group->respond(question.event.fd, true, false);
    in_flight_.end();
    parts_.counters.exposed_unreadable.add();
    throw;
  }
}

// False if it ought to wait, and may not.
bool Gate::try_answer(Question& question, Wait wait) {
  const FanotifyGroup& group = *question.group;
  const std::uint64_t from = monotonic_ns();
  in_flight_.begin(group, question.event.fd, from);
  // Before it is judged: what is planned meanwhile, the policy doesn't know yet.
  const bool settled = wait != Wait::may || parts_.replans.is_settled();
  Answerer::Judged judged = answerer_.judge(question.event, wait == Wait::over);
  const bool in_time = in_flight_.claim();
  const bool tracked = (judged.location.raw->flags & JANUS_LOCATE_TRACKED) != 0;
  const std::uint64_t asker = tracked ? judged.location.raw->container : 0;
  spending_.ask(asker, from);
  if (in_time && !settled) {
    question.waits_for = answerer_.depends_on(judged);
    if (!question.waits_for.empty()) {
      in_flight_.end();
      question.container = asker;
      return parked_.add(question);
    }
    judged = answerer_.judge(question.event, false);
  }
  if (in_time) group.respond(question.event.fd, !judged.verdict.decision.deny, judged.audited());
  const std::uint64_t blocked = monotonic_ns() - question.asked_ns;
  if (!judged.location.found()) parts_.counters.exposed_unreadable.add();
  answerer_.account_and_learn(question, judged, in_time, blocked);
  in_flight_.end();
  spending_.add(asker, from, monotonic_ns());
  return true;
}

// Answers those whose names are planned for, and those that have waited for too long.
void Gate::resume() {
  if (parked_.empty()) return;
  const std::uint64_t now = monotonic_ns();
  const auto late = [&](const Question& question) { return now - question.asked_ns >= deadline_ns_; };
  auto taken = parked_.take([&](const Question& question) { return parts_.replans.is_planned(question.waits_for) || late(question); });
  for (Question& question : taken) {
    beat(heartbeat_);
    const bool planned = parts_.replans.is_planned(question.waits_for);
    if (!planned) parts_.counters.asked_unplanned.add();
    answer(question, planned ? Wait::done : Wait::over);
  }
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
    rescue_queued();
    if (heartbeat_.age_ns() < std::max<std::uint64_t>(deadline_ns_, 2ull * kBeatMs * 1'000'000)) continue;
    // One at a time, for as long as the gate does not move: it answers better.
    const std::uint64_t limit = std::max<std::uint64_t>(deadline_ns_, 2ull * kBeatMs * 1'000'000);
    while (heartbeat_.age_ns() >= limit && !stop.load(std::memory_order_relaxed)) {
      watchdog_urgency_.pace(beat(watchdog_heartbeat_));
      rescue_queued();
      if (!rescue_parked() && !rescue_one(parts_.groups.identity) && !rescue_one(parts_.groups.gate)) break;
    }
  }
}

bool Gate::rescue_parked() {
  const std::uint64_t now = monotonic_ns();
  bool one = false;
  const auto taken = parked_.take([&](const Question& question) {
    return !one && (one = now - question.asked_ns >= deadline_ns_);
  });
  for (const Question& question : taken) {
    parts_.counters.asked_unplanned.add();
    rescue(question, true);
  }
  return one;
}

// A question that has waited for its turn for too long is answered, though the gate moves.
void Gate::rescue_queued() {
  const std::uint64_t now = monotonic_ns();
  if (now < deadline_ns_) return;
  while (const auto question = queue_.take_older(now - deadline_ns_)) {
    watchdog_urgency_.pace(beat(watchdog_heartbeat_));
    rescue(*question, false);
  }
}

bool Gate::rescue_one(const FanotifyGroup& group) {
  bool more = false;
  if (const auto question = read_one(group, more)) rescue(*question, false);
  return more;
}

// By the published policy. Only what that cannot judge is allowed.
void Gate::rescue(const Question& question, bool strictly) {
  const Answerer::Judged judged = rescuer_.judge(question.event, strictly);
  question.group->respond(question.event.fd, !judged.verdict.decision.deny, judged.audited());
  if (!judged.location.found()) parts_.counters.exposed_deadline.add();
  rescuer_.account(question, judged, true, monotonic_ns() - question.asked_ns);
}

}  // namespace janus
