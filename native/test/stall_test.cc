// A daemon that stands still is told from one that is slow, and from one that
// stood still together with its keeper.
#include "hold/stall.h"

#include "tap.h"

using namespace janus;

namespace {

constexpr std::uint64_t kTick = 500;

}  // namespace

int main() {
  Stall stall(kTick);
  std::uint64_t now = 1'000'000;
  CHECK(stall.look(0, now, true) == 0);  // it has not begun
  CHECK(stall.look(0, now += kTick, true) == 0);
  CHECK(stall.look(1, now += kTick, false) == 0);
  CHECK(stall.look(1, now += kTick, false) == kTick);
  CHECK(stall.look(1, now += kTick, false) == 2 * kTick);
  CHECK(stall.look(2, now += kTick, false) == 0);  // slow, no more
  CHECK(stall.look(2, now += kTick, false) == kTick);

  // Both were frozen for an hour: it gets time to move again.
  CHECK(stall.look(2, now += 3'600'000, false) == 3 * kTick);
  CHECK(stall.look(3, now += 1, false) == 0);

  // It is ending: nobody waits for it.
  CHECK(stall.look(3, now += kTick, false) == kTick);
  CHECK(stall.look(3, now += kTick, true) == 0);
  return tap::done();
}
