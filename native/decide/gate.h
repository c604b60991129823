// The gate: reads permission questions, decides, answers, records; before it
// decides, it takes notice of renames and changed names.
//
// Owns: its thread, the answer to every question of the gate and identity
// groups, and the events of the moves and names groups. Opens nothing but with
// O_PATH. It still waits for the planner's lock when a watched name or a new
// namespace has to be resolved: what that takes, a container can stretch. Then
// the watchdog judges by the published policy, which needs no lock of the planner.
// JavaScript is not on this path.
#pragma once

#include <atomic>
#include <thread>

#include "os/clock.h"
#include "os/shared_beat.h"
#include "os/fanotify_group.h"
#include "identity/identity_table.h"
#include "cover/ignore_learner.h"
#include "decide/in_flight.h"
#include "identity/judge.h"
#include "ebpf/locator.h"
#include "cover/name_watch.h"
#include "policy/policy.h"
#include "decide/recorder.h"
#include "record/stats.h"
#include "os/urgency.h"

namespace janus {

class Gate {
 public:
  struct Parts {
    const Groups& groups;
    const BpfPrograms& programs;
    const PolicyBox& policy;
    IdentityTable& identities;
    IgnoreLearner& learner;
    NameWatch& names;
    Tracker& tracker;
    Recorder& recorder;
    EngineCounters& counters;
    SharedBeat& answering;  // of gate and watchdog: as long as one moves, nobody waits for ever
  };

  Gate(Parts parts, std::chrono::milliseconds deadline);

  void run(const std::atomic<bool>& stop, int stop_fd);
  // Watchdog thread: answers what has waited too long, for as long as the gate
  // does not move.
  void rescue(const std::atomic<bool>& stop, int stop_fd);

  const Heartbeat& heartbeat() const { return heartbeat_; }
  const Heartbeat& watchdog_heartbeat() const { return watchdog_heartbeat_; }
  const Urgency& urgency() const { return urgency_; }
  const Urgency& watchdog_urgency() const { return watchdog_urgency_; }

 private:
  // What an event is about, and what is to be answered. `location` is valid until the locator's next locate().
  struct Judged {
    std::shared_ptr<const Policy> policy;  // by which it was judged; owns the rest
    Location location;
    FileEventKind kind;
    const Superblock* superblock;  // nullptr: nothing on it is guarded
    Verdict verdict;
  };
  Judged judge_event(Locator& locator, const fanotify_event_metadata& event) const;
  std::uint64_t beat(Heartbeat& own) const;
  // Reads and answers one event, if one is there.
  void step(const FanotifyGroup& group);
  void answer(const FanotifyGroup& group, const fanotify_event_metadata& event);
  Tracker::Actor identify(std::int32_t pid, const janus_locate& raw, std::uint64_t ago_ns) const;
  bool asked_twice(const FanotifyGroup& group, const Location& location, std::uint64_t mask) const;
  void allow_unread(const FanotifyGroup& group);
  // Watchdog thread: answers one that is unread, as the gate would have.
  bool rescue_one(const FanotifyGroup& group);

  const Parts parts_;
  const std::uint64_t deadline_ns_;
  const int self_;
  Locator locator_;
  Locator watchdog_locator_;
  InFlight in_flight_;
  Heartbeat heartbeat_;
  Heartbeat watchdog_heartbeat_;
  Urgency urgency_;
  Urgency watchdog_urgency_;
};

}  // namespace janus
