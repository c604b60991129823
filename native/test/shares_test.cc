// Who may take how much, whatever the others hold.
#include "identity/shares.h"

#include <cstdint>

#include "tap.h"

using namespace janus;

namespace {

constexpr std::size_t kUnlimited = 1 << 30;

std::size_t take_all(Shares& shares, std::uint64_t container) {
  std::size_t taken = 0;
  while (shares.take(container)) ++taken;
  return taken;
}

void the_limit_is_each_ones() {
  Shares shares(100'000, 1000);
  for (std::uint64_t container = 1; container <= 5; ++container) CHECK(take_all(shares, container) == 1000);
  shares.give_back(3);
  CHECK(shares.held(3) == 999 && shares.take(3) && !shares.take(3));
  CHECK(shares.used() == 5000);
}

void whoever_takes_all_it_can_leaves_most_to_the_others() {
  Shares shares(30'000, kUnlimited);
  std::size_t left = 30'000;
  for (std::uint64_t container = 1; container <= 6; ++container) {
    const std::size_t taken = take_all(shares, container);
    CHECK(taken <= left / 3 + 1 && taken + 2 >= left / 3);
    left -= taken;
  }
  CHECK(left >= Shares::kLeast);
  // Those that took more than the least share leave it to who comes now.
  CHECK(take_all(shares, 7) >= Shares::kLeast);
}

void there_is_no_more_than_there_is() {
  Shares shares(1000, kUnlimited);
  CHECK(take_all(shares, 1) == Shares::kLeast);
  CHECK(take_all(shares, 2) == 1000 - Shares::kLeast);
  CHECK(take_all(shares, 3) == 0);
  for (std::size_t i = 0; i < 100; ++i) shares.give_back(1);
  CHECK(take_all(shares, 3) == 100);
}

// What was promised, or was another's, is held whatever the share is.
void what_is_added_counts() {
  Shares shares(10'000, 10);
  for (int i = 0; i < 20; ++i) shares.add(1);
  CHECK(shares.held(1) == 20 && !shares.take(1));
  for (int i = 0; i < 11; ++i) shares.give_back(1);
  CHECK(shares.take(1) && !shares.take(1));
  for (int i = 0; i < 20; ++i) shares.give_back(1);
  CHECK(shares.used() == 0 && shares.held(1) == 0);
}

void several_are_taken_at_once_or_none() {
  Shares shares(900, 100, 10);
  CHECK(shares.take(1, 98) && !shares.take(1, 3) && shares.held(1) == 98 && shares.take(1, 2) && !shares.take(1));
  shares.add(1, 5);
  shares.give_back(1, 6);
  CHECK(shares.held(1) == 99 && shares.used() == 99);
  shares.give_back(1, 1000);
  shares.give_back(2, 1);
  CHECK(shares.held(1) == 0 && shares.used() == 0);
}

// A count that is taken as it is found.
void what_is_set_replaces_what_was_held() {
  Shares shares(900, kUnlimited, 10);
  CHECK(shares.most(1) == 300);
  shares.set(1, 300);
  CHECK(shares.most(1) == 300 && shares.most(2) == 200 && !shares.take(1));
  shares.set(1, 100);
  CHECK(shares.held(1) == 100 && shares.used() == 100 && shares.most(2) == 266);
  shares.set(2, 800);
  CHECK(shares.most(3) == 0 && shares.most(1) == 33);
  shares.set(2, 795);
  CHECK(shares.most(3) == 5);
  shares.set(1, 0);
  shares.set(2, 0);
  CHECK(shares.used() == 0 && shares.held(2) == 0);
}

}  // namespace

int main() {
  the_limit_is_each_ones();
  whoever_takes_all_it_can_leaves_most_to_the_others();
  there_is_no_more_than_there_is();
  what_is_added_counts();
  several_are_taken_at_once_or_none();
  what_is_set_replaces_what_was_held();
  return tap::done();
}
