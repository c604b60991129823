// Counters that are kept natively, so that they are exact even when event
// records are dropped.
//
// Owns: the numbers. Written with relaxed atomics by the gate, observer and
// watchdog threads, read by the JavaScript thread.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>

#include "record/file_event.h"

namespace janus {

// Upper bounds of the blocked-time histogram, nanoseconds; the last bucket is open.
inline constexpr std::array<std::uint64_t, 17> kBlockedBoundsNs = {
    2'000,     5'000,      10'000,     20'000,      50'000,      100'000,       200'000,       500'000,       1'000'000,
    2'000'000, 5'000'000, 10'000'000, 50'000'000, 100'000'000, 500'000'000, 1'000'000'000, 5'000'000'000};

// Which bucket of the histogram such a time is in.
inline std::size_t blocked_bucket(std::uint64_t ns) {
  std::size_t at = 0;
  while (at < kBlockedBoundsNs.size() && ns > kBlockedBoundsNs[at]) ++at;
  return at;
}

class Counter {
 public:
  void add(std::uint64_t n = 1) { value_.fetch_add(n, std::memory_order_relaxed); }
  std::uint64_t get() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::uint64_t> value_{0};
};

// What one subject has decided on one container.
struct SubjectCounts {
  // [kind][response][answered]
  std::array<std::array<std::array<Counter, 2>, kResponses>, kFileEventKinds> decisions;
  // [response]
  std::array<std::array<Counter, kBlockedBoundsNs.size() + 1>, kResponses> blocked;
  std::array<Counter, kResponses> blocked_ns;
};

// The same, of a subject that may never decide anything, as most never do: it takes
// memory from the first decision on. Lives as long as anyone counts in it.
class SubjectStats {
 public:
  void count(FileEventKind kind, Response response, bool answered) {
    counts().decisions[static_cast<std::size_t>(kind)][static_cast<std::size_t>(response)][answered].add();
  }
  void block(Response response, std::uint64_t ns) {
    counts().blocked[static_cast<std::size_t>(response)][blocked_bucket(ns)].add();
    counts().blocked_ns[static_cast<std::size_t>(response)].add(ns);
  }
  // Null: nothing was decided yet.
  const SubjectCounts* counted() const { return there_.load(std::memory_order_acquire) ? counts_.get() : nullptr; }

 private:
  SubjectCounts& counts() {
    std::call_once(once_, [this] {
      counts_ = std::make_unique<SubjectCounts>();
      there_.store(true, std::memory_order_release);
    });
    return *counts_;
  }

  std::once_flag once_;
  std::unique_ptr<SubjectCounts> counts_;
  std::atomic<bool> there_{false};
};

// Of the whole engine.
struct EngineCounters {
  // What became of each permission event that was read.
  Counter asked_guarded;    // a subject decided
  Counter asked_unguarded;  // no subject cares: allowed
  Counter asked_canary;     // the canary's
  Counter asked_self;       // our own: allowed
  Counter asked_unplanned;  // answered strictly: where guarded paths lead was not planned in time

  // Lost records.
  Counter kernel_queue_overflow;
  Counter dirents_lost;  // events on directories and attributes that found no room, or of which nobody knew where they were

  // Opens that were not judged, or might not have been.
  Counter exposed_overflow;    // FAN_Q_OVERFLOW on a permission group
  Counter exposed_deadline;    // the watchdog answered
  Counter exposed_move;        // a directory with a learned ignore mark was renamed
  Counter exposed_unreadable;  // the event's descriptor could not be opened or located
  Counter exposed_identity;    // a guarded inode was not pinned: the limit is met
  Counter exposed_scan;        // what is below a guarded directory is pinned after the fact
  Counter exposed_mount;       // a mount came over or below a guarded path
  Counter exposed_mount_limit; // a container has more mounts or mount namespaces than its share
  Counter exposed_served;      // a file system that a server answers for is at or below a guarded path
  Counter exposed_path;        // a name on the way to a guarded path changed, and it leads elsewhere
  Counter exposed_rescan;      // paths changed faster than they could be resolved

  // Watched events on directories and attributes that may have gone unseen.
  Counter dirents_late;     // a directory held entries before it was watched
  Counter dirents_unknown;  // a directory in a watched tree was gone before it was looked at, or could not be read
  Counter dirents_limit;    // a directory is beyond its container's share

  Counter exposed_stall;  // the run before stood still, and was ended by its keeper
  Counter exposed_away;   // only the gate could have judged it, and no daemon was there

  // While none was there: what the kernel has denied (and that since it was too deep), what it has denied though
  // only the gate could have judged, and how long that was.
  Counter away_denied, away_deep, away_refused, away_ns;

  Counter thread_failures;  // rounds of a thread that ended with an error; it went on
  Counter forgotten;  // times that all learned ignore marks were dropped
};

}  // namespace janus
