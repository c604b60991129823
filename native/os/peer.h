// Who is at the other end of a Unix socket.
#pragma once

#include <cstdint>

namespace janus {

struct Peer {
  std::int32_t pid;  // as this PID namespace knows it; 0: it has no number here
  std::uint32_t uid;
};

// The process that connected, and its user at that moment (SO_PEERCRED, unix(7)). The
// kernel took them down: the peer cannot choose them. `fd` stays the caller's. Throws
// Error(system) if it is no connected Unix socket.
Peer peer_of(int fd);

}  // namespace janus
