// Short processes, several at a time: storm COUNT PARALLEL EVERY [PATH]
//
// COUNT processes in all, by PARALLEL workers that fork one after the other.
// Every EVERY-th opens PATH, every second of these by a program of its own (this
// one, /bin/storm, as "storm leaf PATH"); the others end at once. Prints how many
// opened it, and how many got EPERM.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

// Exit status: 0 = opened, 1 = EPERM, 2 = something else.
static int attempt(const char *path) {
  return open(path, O_RDONLY) >= 0 ? 0 : errno == EPERM ? 1 : 2;
}

int main(int count, char **arguments) {
  if (count == 3 && !strcmp(arguments[1], "leaf")) return attempt(arguments[2]);
  const long total = atol(arguments[1]), parallel = atol(arguments[2]), every = atol(arguments[3]);
  char *path = count > 4 ? arguments[4] : NULL;
  long *results = mmap(NULL, sizeof(long[3]), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  for (long worker = 0; worker < parallel; ++worker) {
    if (fork() != 0) continue;
    for (long i = worker; i < total; i += parallel) {
      const int opens = path && i / parallel % every == 0;
      const pid_t child = fork();
      if (child < 0) _exit(1);
      if (child == 0) {
        if (opens && i / parallel / every % 2 == 0) execl("/bin/storm", "storm", "leaf", path, NULL);
        _exit(opens ? attempt(path) : 0);
      }
      int status = 0;
      waitpid(child, &status, 0);
      if (opens) __atomic_add_fetch(&results[WIFEXITED(status) ? WEXITSTATUS(status) % 3 : 2], 1, __ATOMIC_RELAXED);
    }
    _exit(0);
  }
  int failed = 0, status = 0;
  while (wait(&status) > 0) failed |= status;
  printf("%ld %ld %ld\n", results[0], results[1], results[2]);
  return failed != 0;
}
