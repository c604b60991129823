// Who connected to a Unix socket is told by the kernel.
#include "os/peer.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>

#include "os/error.h"
#include "os/unique_fd.h"
#include "tap.h"

using namespace janus;

namespace {

int error_of(int fd) {
  try {
    peer_of(fd);
    return 0;
  } catch (const Error& error) {
    return error.number;
  }
}

}  // namespace

int main() {
  // An abstract name: nothing is left behind.
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  const UniqueFd listener(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  CHECK(bind(listener.get(), reinterpret_cast<sockaddr*>(&name), offsetof(sockaddr_un, sun_path)) == 0);
  CHECK(listen(listener.get(), 1) == 0);
  socklen_t size = sizeof name;
  getsockname(listener.get(), reinterpret_cast<sockaddr*>(&name), &size);

  const pid_t child = fork();
  if (child == 0) {
    const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    _exit(setuid(65534) == 0 && connect(fd, reinterpret_cast<sockaddr*>(&name), size) == 0 ? 0 : 1);
  }
  const UniqueFd accepted(accept(listener.get(), nullptr, nullptr));
  int status = -1;
  waitpid(child, &status, 0);
  const Peer peer = peer_of(accepted.get());
  CHECK(status == 0);
  // Also when that process is gone.
  CHECK(peer.pid == child);
  CHECK(peer.uid == 65534);

  const UniqueFd inet(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  CHECK(error_of(inet.get()) == EPROTOTYPE);
  CHECK(error_of(-1) == EBADF);
  return tap::done();
}
