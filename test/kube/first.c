/*
 * Opens the file that its argument names, before it does anything else, and says on standard output what came of it.
 * With a second argument it says so at the end of that file as well, and fails.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

int main(int count, char **arguments) {
  const int file = open(count > 1 ? arguments[1] : "", O_RDONLY);
  const char *const outcome = file >= 0 ? "READ" : strerror(errno);
  puts(outcome);
  if (count < 3) return 0;
  FILE *const log = fopen(arguments[2], "a");
  if (log) {
    fprintf(log, "%s\n", outcome);
    fclose(log);
  }
  return 1;
}
