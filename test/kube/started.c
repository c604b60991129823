/* Writes the time, in microseconds of the machine's clock, before it does anything else; then what first.c writes. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

int main(int count, char **arguments) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  const int file = open(count > 1 ? arguments[1] : "", O_RDONLY);
  printf("%lld %s\n", now.tv_sec * 1000000LL + now.tv_nsec / 1000, file >= 0 ? "READ" : strerror(errno));
  return 0;
}
