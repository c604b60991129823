// janusd-canary: opens the canary's file whenever it is asked to, and says what came of it.
//
// A process of its own, since the daemon's own opens are answered without being judged, and
// since it waits where nobody answers. Descriptor 3 is the root of the canary's file
// system. For each byte that it reads from its standard input, it writes a line with the
// errno of open(2), 0 for none. It ends with its standard input.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

int main() {
  constexpr int kRoot = 3;
  char asked = 0;
  while (read(STDIN_FILENO, &asked, 1) == 1) {
    const int fd = openat(kRoot, "denied", O_RDONLY | O_CLOEXEC);
    dprintf(STDOUT_FILENO, "%d\n", fd < 0 ? errno : 0);
    if (fd >= 0) close(fd);
  }
}
