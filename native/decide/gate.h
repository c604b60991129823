// The gate: reads permission questions, has them answered, and before that takes
// notice of renames and changed names.
//
// Owns: its thread, every question of the gate and identity groups until it is
// answered, and the events of the moves and names groups. Opens nothing but with
// O_PATH, plans nothing and waits for nobody. A question whose verdict depends on
// names that have changed is parked until those are planned for, at most for the
// deadline; then it is denied if anyone could be denied there. Others are
// answered meanwhile. While many ask, containers are answered in turn. JavaScript is not
// on this path.
#pragma once

#include <poll.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "decide/answerer.h"
#include "decide/fair_queue.h"
#include "decide/in_flight.h"
#include "decide/parked.h"
#include "decide/spending.h"
#include "os/clock.h"
#include "os/fanotify_group.h"
#include "os/urgency.h"

namespace janus {

class Gate {
 public:
  Gate(DecideParts parts, std::chrono::milliseconds deadline);

  void run(const std::atomic<bool>& stop, int stop_fd);
  // Watchdog thread: answers what has waited too long, for as long as the gate
  // does not move.
  void rescue(const std::atomic<bool>& stop, int stop_fd);

  const Heartbeat& heartbeat() const { return heartbeat_; }
  const Heartbeat& watchdog_heartbeat() const { return watchdog_heartbeat_; }
  const Urgency& urgency() const { return urgency_; }
  const Urgency& watchdog_urgency() const { return watchdog_urgency_; }

 private:
  // Whether a question may wait for planning; or it has, and there it ended.
  enum class Wait { may, done, over };

  std::uint64_t beat(Heartbeat& own) const;
  // Reads and answers one question; or reads all that are there, while many are.
  void step(const FanotifyGroup& group);
  // Reads one that is to be judged. Nothing: there is none, `more` is false; or it was
  // dealt with.
  std::optional<Question> read_one(const FanotifyGroup& group, bool& more);
  void read_all(const FanotifyGroup& group);
  // Answers one question of each container that has some.
  void answer_round();
  void wait(std::span<pollfd> fds) const;
  std::uint64_t container_of(std::int32_t pid) const;
  void answer(Question& question, Wait wait);
  bool try_answer(Question& question, Wait wait);
  void resume();
  void allow_unread(const FanotifyGroup& group);
  // Watchdog thread: answers one that is unread, or one that has waited, as the
  // gate would have. False: there is none.
  bool rescue_one(const FanotifyGroup& group);
  bool rescue_parked();
  void rescue_queued();
  void rescue(const Question& question, bool strictly);

  const DecideParts parts_;
  const std::uint64_t deadline_ns_;
  const int self_;
  Answerer answerer_;
  Answerer rescuer_;  // the watchdog's
  Parked parked_;
  FairQueue queue_;
  // Of the gate's thread: questions in a row that were there at once.
  std::size_t in_a_row_ = 0;
  std::uint64_t asked_from_ns_ = 0;  // when it began to wait for a question
  Spending spending_;
  bool paused_ = false;  // all whose questions are queued have used up their part
  InFlight in_flight_;
  Heartbeat heartbeat_;
  Heartbeat watchdog_heartbeat_;
  Urgency urgency_;
  Urgency watchdog_urgency_;
};

}  // namespace janus
