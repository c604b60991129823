// What has to be planned again, and the thread that does it.
//
// Owns: the queue of changes, by container; its thread (run()). To plan is work
// that a container can stretch, so whoever answers questions leaves it here and
// waits only where the answer depends on it: see concerns() and Ticket.
// Containers take turns: one that changes names all the time is planned for as
// often as the others. Thread-safe.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <set>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "cover/name_watch.h"
#include "os/clock.h"
#include "os/unique_fd.h"

namespace janus {

class Replanner {
 public:
  // What has changed for one container.
  struct Change {
    std::set<std::uint32_t> guards;  // names on the way of their paths
    std::vector<std::pair<std::uint64_t, std::uint32_t>> namespaces;  // new: mount namespace, a thread in it
    bool ended = false;
  };
  // Called by run(), without a lock.
  using Plan = std::function<void(std::uint64_t container, const Change& change)>;

  explicit Replanner(Plan plan);

  void names_changed(const std::set<NameOwner>& owners);
  void namespace_seen(std::uint64_t container, std::uint32_t tid, std::uint64_t mnt_ns);
  void ended(std::uint64_t container);

  // A question was asked after names changed: what was not planned then.
  struct Ticket {
    std::uint64_t container = 0;
    std::uint64_t turn = 0;
  };
  // No names have changed that aren't planned for, and published.
  bool is_settled() const { return names_.load(std::memory_order_acquire) == 0; }
  // Of these containers, those whose names have changed.
  std::vector<Ticket> concerns(std::span<const std::uint64_t> containers) const;
  bool is_planned(std::span<const Ticket> tickets) const;
  // An eventfd: readable after something was planned.
  int planned_fd() const { return planned_.get(); }
  void take_planned() const;

  // Waits until all that was told before is planned, or the daemon ends. Not for
  // whoever answers questions.
  void finish() const;

  void run(const std::atomic<bool>& stop);
  void wake();  // after `stop` was set

  const Heartbeat& heartbeat() const { return heartbeat_; }

 private:
  struct Waiting {
    Change change;
    std::uint64_t turn = 0;  // of the first change in it
  };
  template <typename Add>
  void add(std::uint64_t container, Add add);
  bool is_open(const Ticket& ticket) const;  // under the lock

  const Plan plan_;
  const UniqueFd planned_;
  Heartbeat heartbeat_;
  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  std::deque<std::uint64_t> order_;
  std::unordered_map<std::uint64_t, Waiting> waiting_;
  std::uint64_t turn_ = 0;
  // What run() is at; turn 0: nothing.
  Ticket working_;
  bool working_names_ = false;
  bool stopped_ = false;
  std::atomic<std::size_t> names_{0};  // containers whose names have changed
};

}  // namespace janus
