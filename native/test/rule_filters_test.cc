// What the kernel may pass over: never what has a rule.
#include "ebpf/rule_filters.h"

#include <algorithm>
#include <cstring>
#include <set>
#include <vector>

#include "tap.h"

using namespace janus;

namespace {

bool is_empty(const janus_filter& filter) {
  for (const auto bits : filter.bits)
    if (bits != 0) return false;
  return true;
}

// On which devices any is used.
bool is_used(const janus_filter& devices, std::uint32_t device) {
  const std::uint32_t bit = janus_filter_bit(device);
  return (devices.bits[bit / 64] >> bit % 64 & 1) != 0;
}

void a_sign_lasts_as_long_as_it_is_given() {
  std::vector<janus_filter> memory(4);
  janus_filter devices{};
  RuleFilters filters;
  filters.open(memory, devices);
  CHECK(!is_used(devices, 1));
  const std::uint32_t number = filters.use(7, 1);
  CHECK(number != 0 && is_empty(memory[number]) && is_used(devices, 1) && !is_used(devices, 2));
  for (std::uint64_t sign = 0; sign < 5000; ++sign) filters.give(7, 1, sign);
  for (std::uint64_t sign = 0; sign < 5000; ++sign) filters.give(7, 1, sign);
  for (std::uint64_t sign = 0; sign < 5000; ++sign) filters.take_back(7, 1, sign);
  bool all = true;
  for (std::uint64_t sign = 0; sign < 5000; ++sign) all = all && filters.has(7, 1, sign);
  CHECK(all);
  CHECK(!filters.has(7, 2, 1) && !filters.has(8, 1, 1));
  for (std::uint64_t sign = 1; sign < 5000; ++sign) filters.take_back(7, 1, sign);
  CHECK(filters.has(7, 1, 0));
  filters.take_back(7, 1, 0);
  CHECK(is_empty(memory[number]));
  CHECK(filters.use(7, 1) == number);
  filters.leave(7, 1);
  CHECK(is_used(devices, 1));
  filters.leave(7, 1);
  CHECK(!filters.has(7, 1, 0) && is_empty(devices));
}

// A few rules leave nearly all else without a sign.
void few_have_the_same_bit() {
  std::vector<janus_filter> memory(2);
  janus_filter devices{};
  RuleFilters filters;
  filters.open(memory, devices);
  for (std::uint64_t inode = 0; inode < 50; ++inode) filters.give(7, 1, 0xffff888012340000 + inode * 0x280);
  std::size_t same = 0;
  for (std::uint64_t inode = 0; inode < 10'000; ++inode) same += filters.has(7, 1, 0xffff888056780000 + inode * 0x280) ? 1 : 0;
  CHECK(same < 500);
  same = 0;
  for (std::uint64_t inode = 1; inode <= 10'000; ++inode) same += filters.has(7, 1, inode) ? 1 : 0;
  CHECK(same < 500);
}

// Who finds no room has rules all the same, and whoever goes makes room.
void more_than_there_is_room_for() {
  std::vector<janus_filter> memory(3);
  janus_filter devices{};
  RuleFilters filters;
  filters.open(memory, devices);
  std::set<std::uint32_t> numbers;
  for (std::uint64_t container = 1; container <= 4; ++container) numbers.insert(filters.use(container, 1));
  CHECK((numbers == std::set<std::uint32_t>{0, 1, 2}));
  for (std::uint64_t container = 1; container <= 4; ++container) filters.give(container, 1, 5);
  for (std::uint64_t container = 1; container <= 4; ++container) CHECK(filters.has(container, 1, 5));
  CHECK(is_used(devices, 1));
  CHECK(filters.has(4, 1, 6) && !filters.has(1, 1, 6));
  for (std::uint64_t container = 1; container <= 4; ++container) {
    filters.take_back(container, 1, 5);
    filters.leave(container, 1);
  }
  CHECK(is_empty(devices));
  CHECK(filters.use(9, 1) != 0 && !filters.has(9, 1, 5));
  CHECK(!is_empty(memory[0]));
}

// The kernel finds most filters by their numbers, and never another's.
void a_place_is_written_in_its_own_filter() {
  std::vector<janus_filter> memory(JANUS_FILTERS);
  janus_filter devices{};
  RuleFilters filters;
  filters.open(memory, devices);
  const std::uint64_t place = janus_filter_place(7, 1);
  const std::uint32_t number = janus_filter_number(place);
  std::uint64_t other = 8;
  while (janus_filter_number(janus_filter_place(other, 1)) != number) ++other;
  const auto places = [&] { return std::ranges::count_if(memory, [](const janus_filter& filter) { return filter.place != 0; }); };

  CHECK(filters.use(7, 1) == number && memory[number].place == place);
  CHECK(filters.use(other, 1) != number && memory[number].place == place && places() == 1);
  filters.leave(7, 1);
  CHECK(places() == 0);
  CHECK(filters.use(other, 1) != number && places() == 0);  // it stays where it is
  filters.leave(other, 1);
  filters.leave(other, 1);
  CHECK(filters.use(other, 1) == number && memory[number].place == janus_filter_place(other, 1));

  const std::uint64_t large = (1ull << 32) + 7;  // as `7` in 32 bits
  CHECK(filters.use(large, 1) != 0 && places() == 1);
  CHECK(memory[0].place == 0);
}

// As the kernel has it: the name's first eight bytes, whatever comes after it in memory.
void names() {
  const auto read = [](const char* memory, std::uint32_t length) {
    std::uint64_t first = 0;
    std::memcpy(&first, memory, sizeof(first));
    return janus_name_sign(first, length);
  };
  CHECK(RuleFilters::sign_of("etc") == read("etc\0abcdefg", 3) && RuleFilters::sign_of("etc") == read("etc-other-", 3));
  CHECK(RuleFilters::sign_of("12345678") == read("12345678\0", 8));
  CHECK(RuleFilters::sign_of("123456789") == read("123456789", 9));
  CHECK(RuleFilters::sign_of("etc") != RuleFilters::sign_of("etd") && RuleFilters::sign_of("etc") != RuleFilters::sign_of("et"));
  CHECK(RuleFilters::sign_of("123456789") != RuleFilters::sign_of("12345678"));
}

void without_memory() {
  RuleFilters filters;
  CHECK(filters.use(1, 1) == 0);
  filters.give(1, 1, 1);
  filters.take_back(1, 1, 1);
  filters.leave(1, 1);
}

}  // namespace

int main() {
  a_sign_lasts_as_long_as_it_is_given();
  few_have_the_same_bit();
  more_than_there_is_room_for();
  a_place_is_written_in_its_own_filter();
  names();
  without_memory();
  return tap::done();
}
