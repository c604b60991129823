// Stops one thread of a process, as a fault or a starved node would, until
// stdin ends: freeze PID NAME. Prints "frozen" when it stands still. The
// other threads go on. Should this program die, the kernel lets the thread go.
#define _GNU_SOURCE
#include <stdio.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "thread.h"

int main(int argc, char **argv) {
  if (argc != 3) return 2;
  const pid_t thread = find_thread(argv[1], argv[2]);
  if (thread == 0) {
    fprintf(stderr, "process %s has no thread \"%s\"\n", argv[1], argv[2]);
    return 1;
  }
  if (ptrace(PTRACE_SEIZE, thread, 0, 0) < 0 || ptrace(PTRACE_INTERRUPT, thread, 0, 0) < 0 ||
      waitpid(thread, NULL, __WALL) != thread) {
    perror("ptrace");
    return 1;
  }
  puts("frozen");
  fflush(stdout);
  while (getchar() != EOF) {
  }
  return ptrace(PTRACE_DETACH, thread, 0, 0) < 0;
}
