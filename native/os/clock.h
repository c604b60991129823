// Time, in nanoseconds.
//
// Owns: nothing.
#pragma once

#include <ctime>

#include <atomic>
#include <cstdint>

namespace janus {

inline std::uint64_t clock_ns(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000u + static_cast<std::uint64_t>(now.tv_nsec);
}

inline std::uint64_t monotonic_ns() { return clock_ns(CLOCK_MONOTONIC); }
inline std::uint64_t boot_ns() { return clock_ns(CLOCK_BOOTTIME); }
// What to add to a time since boot for the wall clock's.
inline std::uint64_t boot_epoch_ns() { return clock_ns(CLOCK_REALTIME) - boot_ns(); }

// A thread proves that it moves. Each wakes at least twice a second.
class Heartbeat {
 public:
  // Returns the time.
  std::uint64_t beat() {
    const std::uint64_t now = monotonic_ns();
    at_.store(now, std::memory_order_relaxed);
    return now;
  }
  std::uint64_t age_ns() const {
    const std::uint64_t now = monotonic_ns();
    const std::uint64_t at = at_.load(std::memory_order_relaxed);
    return now > at ? now - at : 0;
  }

 private:
  std::atomic<std::uint64_t> at_{monotonic_ns()};
};

inline constexpr int kBeatMs = 400;

}  // namespace janus
