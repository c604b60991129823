// The permission event that a thread is answering right now, so that the
// watchdog can answer it if that takes too long.
//
// Owns: who answers. Exactly one of the two threads claims an event, and only
// the claimer writes the answer. The reader keeps the descriptor open until
// end(), so the watchdog never answers for a number that was used again.
#pragma once

#include <atomic>
#include <cstdint>

#include "os/fanotify_group.h"

namespace janus {

class InFlight {
 public:
  // Reader thread: `fd` is an event of `group`.
  void begin(const FanotifyGroup& group, int fd, std::uint64_t now_ns) {
    group_.store(&group, std::memory_order_relaxed);
    fd_.store(fd, std::memory_order_relaxed);
    since_ns_.store(now_ns, std::memory_order_relaxed);
    turn_ += 4;
    state_.store(turn_ | kOpen, std::memory_order_release);
  }
  // Reader thread: true if it may answer, false if the watchdog has.
  bool claim() {
    std::uint64_t expected = turn_ | kOpen;
    return state_.compare_exchange_strong(expected, turn_ | kClaimed, std::memory_order_acq_rel);
  }
  // Reader thread, before it closes the descriptor: waits out a watchdog that
  // is just writing (one system call).
  void end() {
    state_.wait(turn_ | kAnswering, std::memory_order_acquire);
    state_.store(turn_ | kIdle, std::memory_order_release);
  }

  // Watchdog thread: answers allow if the event is older than `deadline_ns`.
  bool answer_late(std::uint64_t now_ns, std::uint64_t deadline_ns) {
    // The turn is part of the state: an event that begins meanwhile is another.
    std::uint64_t seen = state_.load(std::memory_order_acquire);
    if ((seen & 3) != kOpen) return false;
    const std::uint64_t since = since_ns_.load(std::memory_order_relaxed);
    if (now_ns < since || now_ns - since < deadline_ns) return false;
    const std::uint64_t answering = (seen & ~std::uint64_t{3}) | kAnswering;
    if (!state_.compare_exchange_strong(seen, answering, std::memory_order_acq_rel)) return false;
    group_.load(std::memory_order_relaxed)->respond(fd_.load(std::memory_order_relaxed), true, false);
    state_.store((answering & ~std::uint64_t{3}) | kClaimed, std::memory_order_release);
    state_.notify_one();
    return true;
  }

 private:
  enum State : std::uint64_t { kIdle, kOpen, kAnswering, kClaimed };  // in the two low bits
  std::uint64_t turn_ = 0;  // reader thread only
  std::atomic<std::uint64_t> state_{kIdle};
  std::atomic<const FanotifyGroup*> group_{nullptr};
  std::atomic<int> fd_{-1};
  std::atomic<std::uint64_t> since_ns_{0};
};

}  // namespace janus
