// How large the eBPF maps are on this machine.
//
// Owns: the numbers. A hash map pays 16 bytes for each entry that it could hold,
// used or not (its buckets), and some 64 for each that it does hold; so the
// sizes follow what the machine can have, and are no larger.
#pragma once

#include <cstddef>
#include <cstdint>

namespace janus {

struct Machine {
  std::uint64_t memory_bytes = 0;
  std::uint64_t processes = 0;  // the most that can exist: pid_max or threads-max, the smaller
  std::uint32_t processors = 1;

  // Reads /proc and sysconf(3). What cannot be read counts as unlimited: then
  // the largest sizes are taken.
  static Machine read();
};

// Entries; of `records`, bytes.
struct MapSizes {
  std::uint32_t tasks, cgroups, identities, lower_identities, records;
};

// What one container may have pinned, unless the operator says otherwise.
inline constexpr std::size_t kIdentityLimit = 16384;

// Pure. docs/architecture/holding.md explains each rule. `identity_limit`: what one
// container may have pinned.
MapSizes map_sizes(const Machine& machine, std::size_t identity_limit = kIdentityLimit);

}  // namespace janus
