#include "ebpf/map_sizes.h"

#include <unistd.h>

#include <algorithm>
#include <bit>
#include <fstream>
#include <limits>
#include <string>

namespace janus {
namespace {

std::uint64_t number_in(const char* file) {
  std::uint64_t number = 0;
  return std::ifstream(file) >> number ? number : std::numeric_limits<std::uint64_t>::max();
}

std::uint32_t within(std::uint64_t wanted, std::uint32_t least, std::uint32_t most) {
  return static_cast<std::uint32_t>(std::clamp<std::uint64_t>(wanted, least, most));
}

}  // namespace

Machine Machine::read() {
  const long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE), processors = sysconf(_SC_NPROCESSORS_CONF);
  return {.memory_bytes = pages > 0 ? static_cast<std::uint64_t>(pages) * static_cast<std::uint64_t>(page)
                                    : std::numeric_limits<std::uint64_t>::max(),
          .processes = std::min(number_in("/proc/sys/kernel/pid_max"), number_in("/proc/sys/kernel/threads-max")),
          .processors = processors > 0 ? static_cast<std::uint32_t>(processors) : 1};
}

MapSizes map_sizes(const Machine& machine, std::size_t identity_limit) {
  constexpr std::uint64_t kMemoryPerIdentity = 128 << 10;
  constexpr std::uint32_t kLeastIdentities = 1 << 14, kMostIdentities = 1 << 20;
  // One container alone gets a third of all (identity/shares.h).
  constexpr std::uint64_t kPerLimit = 3;
  constexpr std::uint64_t kRecordsPerProcessor = 1 << 20;
  MapSizes sizes{};
  sizes.tasks = within(machine.processes, 4096, 1 << 18);
  sizes.cgroups = within(sizes.tasks / 16, 1024, 1 << 14);
  // The kernel rounds a hash map's buckets up to a power of two; so no entry is
  // paid for that cannot be used.
  sizes.identities = std::bit_floor(within(machine.memory_bytes / kMemoryPerIdentity, kLeastIdentities, kMostIdentities));
  // Who raises the limit wants it to be reached.
  if (identity_limit > kIdentityLimit)
    sizes.identities = std::max(
        sizes.identities, std::bit_ceil(within(std::min<std::uint64_t>(identity_limit, kMostIdentities) * kPerLimit,
                                               kLeastIdentities, kMostIdentities)));
  sizes.lower_identities = sizes.identities / 8;
  sizes.records = std::bit_ceil(within(machine.processors * kRecordsPerProcessor, 1 << 20, 1 << 24));
  return sizes;
}

}  // namespace janus
