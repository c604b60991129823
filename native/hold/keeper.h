// The border between the daemon and its keeper.
//
// Owns: the order of the keeper's arguments.
#pragma once

namespace janus {

// Descriptor numbers first. -1: there is none. Of the first three there always is
// one; the others come together, where processes are stopped.
enum KeeperArgument {
  kKeeperLife = 1,   // socket: the keeper says that it is ready; the daemon's end
  kKeeperDaemon,     // pidfd of the daemon
  kKeeperBeat,       // SharedBeat of those who answer
  kKeeperBecome,     // program become_keeper
  kKeeperHeld,       // map held
  kKeeperRing,       // map to_keeper
  kKeeperCounters,   // map hold_counters
  kKeeperExpired,    // map expired
  kKeeperStallLimit,  // not a descriptor: milliseconds; 0: never
  kKeeperStallFile,   // what to write after a stall; empty: nothing
  kKeeperCgroup,      // directory of the cgroup to move to; empty: stay
  kKeeperArguments,
};

inline constexpr int kKeeperDescriptors = kKeeperStallLimit;  // arguments before it

}  // namespace janus
