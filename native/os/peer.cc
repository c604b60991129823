#include "os/peer.h"

#include <sys/socket.h>

#include <cerrno>
#include <string>

#include "os/error.h"

namespace janus {

Peer peer_of(int fd) {
  // The kernel answers for a socket of another family, too: with nobody.
  int domain = 0;
  socklen_t size = sizeof domain;
  if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) != 0)
    throw Error::system(errno, "getsockopt SO_DOMAIN of descriptor", std::to_string(fd));
  ucred credentials{};
  size = sizeof credentials;
  if (domain != AF_UNIX || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0)
    throw Error::system(domain == AF_UNIX ? errno : EPROTOTYPE, "getsockopt SO_PEERCRED of descriptor", std::to_string(fd));
  return {credentials.pid, credentials.uid};
}

}  // namespace janus
