#include "os/urgency.h"

#include <sched.h>

#include "os/clock.h"

namespace janus {
namespace {

constexpr std::uint64_t kWindowNs = 100'000'000;
constexpr std::uint64_t kMostPercent = 75;  // of one processor
constexpr std::uint64_t kPenaltyNs = 1'000'000'000;

}  // namespace

void Urgency::begin(int priority, std::uint64_t now_ns) {
  priority_ = priority;
  if (!set(true)) return;
  since_ns_ = now_ns;
  look_ns_ = now_ns + kWindowNs;
  ran_ns_ = clock_ns(CLOCK_THREAD_CPUTIME_ID);
}

void Urgency::look(std::uint64_t now_ns) {
  const std::uint64_t ran_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);
  const bool too_much = is_urgent() && (ran_ns - ran_ns_) * 100 > (now_ns - since_ns_) * kMostPercent;
  set(!too_much);
  look_ns_ = now_ns + (too_much ? kPenaltyNs : kWindowNs);
  since_ns_ = now_ns;
  ran_ns_ = ran_ns;
}

void Urgency::resume(std::uint64_t now_ns) {
  if (!is_urgent() && look_ns_ != UINT64_MAX) begin(priority_, now_ns);
}

bool Urgency::set(bool urgent) {
  if (is_urgent() == urgent) return true;
  const sched_param parameters{.sched_priority = urgent ? priority_ : 0};
  // Threads that this one starts are ordinary.
  if (sched_setscheduler(0, (urgent ? SCHED_FIFO : SCHED_OTHER) | SCHED_RESET_ON_FORK, &parameters) != 0) return false;
  urgent_.store(urgent, std::memory_order_relaxed);
  return true;
}

}  // namespace janus
