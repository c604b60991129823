// What is answered to a question, and what is made of it after.
//
// Owns: a locator; so each thread has an answerer of its own. Judges by the
// published policy, takes no lock of the planner's, waits for nobody.
#pragma once

#include <cstdint>
#include <memory>

#include "cover/ignore_learner.h"
#include "cover/name_watch.h"
#include "cover/replanner.h"
#include "decide/parked.h"
#include "decide/recorder.h"
#include "ebpf/locator.h"
#include "identity/identity_table.h"
#include "identity/judge.h"
#include "os/fanotify_group.h"
#include "os/shared_beat.h"
#include "policy/policy.h"
#include "record/stats.h"
#include "track/tracker.h"

namespace janus {

// What the gate, its watchdog and the observer work with.
struct DecideParts {
  const Groups& groups;
  const BpfPrograms& programs;
  const PolicyBox& policy;
  IdentityTable& identities;
  IgnoreLearner& learner;
  NameWatch& names;
  const Replanner& replans;
  Tracker& tracker;
  Recorder& recorder;
  EngineCounters& counters;
  SharedBeat& answering;  // of gate and watchdog: as long as one moves, nobody waits for ever
};

class Answerer {
 public:
  Answerer(const DecideParts& parts, LocatorSlot slot) : parts_(parts), locator_(parts.programs, slot) {}

  // What a question is about, and what is to be answered.
  struct Judged {
    std::shared_ptr<const Policy> policy;  // by which it was judged; owns the rest
    Location location;                     // valid until the next judge()
    FileEventKind kind;
    const Superblock* superblock;  // nullptr: nothing on it is guarded
    Verdict verdict;
    bool audited() const { return verdict.decision.entry != nullptr && verdict.decision.entry->subject->audit; }
  };
  // `strictly`: it isn't known where guarded paths lead by now. Then it is denied
  // if anyone could be denied on its superblock.
  Judged judge(const fanotify_event_metadata& event, bool strictly);

  // Which changes of names the verdict may depend on: those of the container that
  // asks, and of all that are guarded on the superblock.
  std::vector<Replanner::Ticket> depends_on(const Judged& judged) const;

  // After the answer: counts and records it. `in_time`: the answer was ours.
  // `blocked_ns`: how long the process has waited.
  void account(const Question& question, const Judged& judged, bool in_time, std::uint64_t blocked_ns);
  // The same, and what is learned from it: inodes are pinned, ignore marks set.
  // `judged` is consumed.
  void account_and_learn(const Question& question, const Judged& judged, bool in_time, std::uint64_t blocked_ns);

 private:
  Tracker::Actor identify(std::int32_t pid, const janus_locate& raw, std::uint64_t ago_ns) const;
  bool asked_twice(const Question& question, const Location& location) const;
  // `elsewhere`: the identity group keeps the account of it.
  void count(const Question& question, const Judged& judged, bool elsewhere, bool in_time, std::uint64_t blocked_ns);

  const DecideParts& parts_;
  Locator locator_;
};

}  // namespace janus
