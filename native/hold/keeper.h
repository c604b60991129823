// The border between the daemon and its keeper.
//
// Owns: the order of the keeper's arguments, all descriptor numbers.
#pragma once

namespace janus {

enum KeeperArgument {
  kKeeperLife = 1,   // socket: the keeper says that it is ready; the daemon's end
  kKeeperBecome,     // program become_keeper
  kKeeperHeld,       // map held
  kKeeperRing,       // map to_keeper
  kKeeperCounters,   // map hold_counters
  kKeeperGuardians,  // map guardians
  kKeeperLimit,      // not a descriptor: milliseconds
  kKeeperArguments,
};

}  // namespace janus
