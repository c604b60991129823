// Who takes much of the gate's time leaves most of it to others, if there are any.
#include "decide/spending.h"

#include "tap.h"

using namespace janus;

int main() {
  constexpr std::uint64_t kBegin = 1000 * Spending::kSliceNs;
  constexpr std::uint64_t kAnswerNs = 100'000;
  std::uint64_t now = kBegin;
  Spending spending;
  const auto answer = [&](std::uint64_t container) {
    spending.ask(container, now);
    spending.add(container, now, now + kAnswerNs);
    now += kAnswerNs;
  };

  // One alone has all of it.
  for (int i = 0; i < 90; ++i) answer(1);
  CHECK(!spending.contended(now) && !spending.over(1, now) && !spending.any_over(now));

  // Another asks: what the first takes is bounded, the other goes on.
  now = kBegin + Spending::kSliceNs;
  answer(2);
  int answered = 0;
  for (; !spending.over(1, now) && answered < 1000; ++answered) answer(1);
  CHECK(answered == 33 && spending.contended(now) && spending.any_over(now));
  CHECK(!spending.over(2, now) && !spending.over(3, now));
  answer(2);
  CHECK(!spending.over(2, now) && spending.over(1, now));
  CHECK(now + Spending::left_of_slice(now) == kBegin + 2 * Spending::kSliceNs);

  // Each slice begins anew; that one had to wait is known for another.
  now = kBegin + 2 * Spending::kSliceNs;
  CHECK(!spending.over(1, now) && spending.any_over(now));
  now += Spending::kSliceNs;
  CHECK(!spending.any_over(now));

  // Several that take much: each has to wait, however many they are.
  for (int i = 0; i < 30; ++i) answer(1);
  for (int i = 0; i < 30; ++i) answer(3);
  CHECK(spending.over(1, now) && spending.over(3, now) && !spending.over(2, now));

  // The other has not asked for long.
  now += Spending::kRecentNs;
  for (int i = 0; i < 90; ++i) answer(1);
  CHECK(!spending.contended(now + Spending::kRecentNs) && !spending.over(1, now + Spending::kRecentNs));
  return tap::done();
}
