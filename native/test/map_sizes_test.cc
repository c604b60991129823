// The maps follow the machine, between what is useful and what is paid for.
#include "ebpf/map_sizes.h"

#include <bit>
#include <limits>

#include "tap.h"

using namespace janus;

namespace {

constexpr std::uint64_t kGiB = 1ull << 30;

bool ring_is_valid(const MapSizes& sizes) { return std::has_single_bit(sizes.records) && sizes.records % 65536 == 0; }

}  // namespace

int main() {
  const MapSizes small = map_sizes({.memory_bytes = kGiB / 4, .processes = 1000, .processors = 1});
  CHECK(small.tasks >= 1000);
  CHECK(small.records >= 1 << 20);
  CHECK(ring_is_valid(small));

  const MapSizes node = map_sizes({.memory_bytes = 24 * kGiB, .processes = 32768, .processors = 6});
  CHECK(node.tasks == 32768);  // as many as there can be processes: it is never full
  CHECK(node.identities > small.identities);
  CHECK(std::has_single_bit(node.identities));
  CHECK(node.records > small.records);
  CHECK(ring_is_valid(node));

  // What cannot be read counts as unlimited.
  constexpr auto unlimited = std::numeric_limits<std::uint64_t>::max();
  const MapSizes large = map_sizes({.memory_bytes = unlimited, .processes = unlimited, .processors = 1024});
  CHECK(large.tasks == 1 << 18);
  CHECK(large.identities == 1 << 20);
  CHECK(ring_is_valid(large));

  // Who raises the limit of one container gets a map in which it can be reached, up to the most.
  const Machine tiny{.memory_bytes = kGiB, .processes = 1000, .processors = 1};
  CHECK(map_sizes(tiny).identities == 1 << 14);
  CHECK(map_sizes(tiny, 1).identities == 1 << 14);
  CHECK(map_sizes(tiny, 100'000).identities >= 300'000);
  CHECK(map_sizes(tiny, std::numeric_limits<std::size_t>::max()).identities == 1 << 20);

  const Machine machine = Machine::read();
  CHECK(machine.memory_bytes >= kGiB / 4 && machine.memory_bytes < unlimited);
  CHECK(machine.processes > 0 && machine.processes < unlimited);
  CHECK(machine.processors >= 1);
  return tap::done();
}
