// Pins the inodes below a denied directory.
//
// Owns: its thread and queue. The path already guards the directory's contents
// from the moment CreateGuard returns; this makes each of them guarded as what
// it is, too, so that it stays so when it is moved or linked elsewhere.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <utility>
#include <variant>

#include "identity_table.h"
#include "ignore_learner.h"
#include "locator.h"
#include "mark_planner.h"
#include "policy.h"

namespace janus {

class IdentityScanner {
 public:
  struct Parts {
    const BpfPrograms& programs;
    const PolicyBox& policy;
    IdentityTable& identities;
    IgnoreLearner& learner;
    MarkPlanner& planner;
    EngineCounters& counters;
  };

  explicit IdentityScanner(Parts parts) : parts_(parts), locator_(parts.programs, LocatorSlot::scanner) {}

  // Scans a small directory at once and leaves the rest to the thread.
  void scan(const ScanJob& job);
  // Leaves all of it to the thread: for whoever must not wait for an answer.
  void queue(const MarkPlanner::ScanJobs& jobs);
  // Unpins what nobody guards any more; `before` tells where to find it.
  void sweep(const MarkPlanner::Before& before);

  void run(const std::atomic<bool>& stop);
  void wake();

 private:
  // False: not all of it, since `budget` entries were not enough or the limit is met.
  bool walk(const ScanJob& job, std::size_t budget, const std::atomic<bool>* stop);
  using Sweep = std::pair<Device, std::shared_ptr<const Superblock>>;
  void sweep_now(const Sweep& sweep);

  const Parts parts_;
  std::mutex walk_mutex_;  // the locator is one thread's at a time
  Locator locator_;
  std::mutex queue_mutex_;
  std::condition_variable ready_;
  std::deque<std::variant<ScanJob, Sweep>> queue_;
};

}  // namespace janus
