// Has a thread that others wait for run before all ordinary threads of the
// machine (SCHED_FIFO), for as long as it takes little.
//
// Owns: the scheduling policy of the thread that calls. A container waits for
// each answer. On a busy node an ordinary gate would first wait for a processor,
// by the share that the daemon's pod has of them: milliseconds, where the answer
// takes microseconds. A thread that takes most of a processor is none that
// others may be kept waiting for, so it goes back among them for a while: a
// container that opens files in a storm doesn't get the node's processors by it.
#pragma once

#include <atomic>
#include <cstdint>

namespace janus {

class Urgency {
 public:
  // Call from the thread itself, at its start. Of two urgent threads, that of
  // the higher priority (from 1) runs first. Without CAP_SYS_NICE, or where the
  // thread's cgroup may have no such threads, nothing happens.
  void begin(int priority, std::uint64_t now_ns);
  // Call often, with the monotonic time.
  void pace(std::uint64_t now_ns) {
    if (now_ns >= look_ns_) look(now_ns);
  }

  // It takes less from now on: it is urgent again, if it may be, without waiting.
  void resume(std::uint64_t now_ns);

  bool is_urgent() const { return urgent_.load(std::memory_order_relaxed); }

 private:
  void look(std::uint64_t now_ns);
  bool set(bool urgent);

  std::atomic<bool> urgent_{false};
  // The thread's own.
  int priority_ = 1;
  std::uint64_t look_ns_ = UINT64_MAX, since_ns_ = 0, ran_ns_ = 0;
};

}  // namespace janus
