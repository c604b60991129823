// An urgent thread that takes most of a processor is ordinary for a while.
#include "os/urgency.h"

#include <sched.h>

#include <thread>

#include "os/clock.h"
#include "tap.h"

using namespace janus;

namespace {

constexpr std::uint64_t kMs = 1'000'000;

int policy() { return sched_getscheduler(0) & ~SCHED_RESET_ON_FORK; }

void burn(std::uint64_t ns) {
  const std::uint64_t until = clock_ns(CLOCK_THREAD_CPUTIME_ID) + ns;
  while (clock_ns(CLOCK_THREAD_CPUTIME_ID) < until) {
  }
}

}  // namespace

int main() {
  Urgency urgency;
  std::uint64_t now = 1000 * kMs;  // a clock of our own; what the thread ran is real
  urgency.pace(now);
  CHECK(!urgency.is_urgent());  // not before it begins
  urgency.begin(1, now);
  if (!urgency.is_urgent()) {
    std::printf("1..%d # no urgent threads here: CAP_SYS_NICE, or the cgroup\n", tap::count);
    return EXIT_SUCCESS;
  }
  CHECK(policy() == SCHED_FIFO);
  int started = -1;
  std::thread([&] { started = policy(); }).join();
  CHECK(started == SCHED_OTHER);

  burn(20 * kMs);
  urgency.pace(now += 100 * kMs);
  CHECK(policy() == SCHED_FIFO);
  burn(90 * kMs);
  urgency.pace(now += 100 * kMs);
  CHECK(policy() == SCHED_OTHER);
  CHECK(!urgency.is_urgent());
  urgency.pace(now += 500 * kMs);
  CHECK(policy() == SCHED_OTHER);
  urgency.pace(now += 600 * kMs);
  CHECK(policy() == SCHED_FIFO);
  CHECK(urgency.is_urgent());
  return tap::done();
}
