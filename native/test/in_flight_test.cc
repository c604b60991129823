// Exactly one answer to each question, whoever is first.
#include "decide/in_flight.h"

#include <atomic>
#include <fcntl.h>
#include <thread>

#include "os/clock.h"
#include "tap.h"

using namespace janus;

int main() {
  // Answers written to a group without such an event fail harmlessly: what
  // counts here is who may write them.
  const FanotifyGroup group("test", FAN_CLASS_NOTIF | FAN_CLOEXEC, O_RDONLY | O_CLOEXEC);
  InFlight slot;
  CHECK(!slot.answer_late(monotonic_ns(), 0));  // nothing is being answered
  slot.begin(group, 5, 1'000);
  CHECK(!slot.answer_late(1'500, 1'000));       // in time
  CHECK(slot.answer_late(2'500, 1'000));
  CHECK(!slot.claim());
  slot.end();
  slot.begin(group, 5, 1'000);
  CHECK(slot.claim());
  CHECK(!slot.answer_late(9'000, 1'000));
  slot.end();

  std::atomic<bool> stop{false};
  std::atomic<std::uint64_t> late{0};
  std::thread watchdog([&] {
    while (!stop.load()) late += slot.answer_late(10, 1) ? 1 : 0;
  });
  constexpr std::uint64_t kTurns = 20'000;
  std::uint64_t in_time = 0;
  for (std::uint64_t i = 0; i < kTurns; ++i) {
    slot.begin(group, 5, 0);
    if (i % 7 == 0) std::this_thread::yield();
    in_time += slot.claim() ? 1 : 0;
    slot.end();
  }
  stop.store(true);
  watchdog.join();
  CHECK(in_time + late.load() == kTurns);
  return tap::done();
}
