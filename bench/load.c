// The load: does file operations inside a container and times them.
//
// Speaks the protocol of test/support/actor.c, in whose place it is put into
// the bench's containers: a command a line, fields separated by tabs, %XX for
// any byte; the answer is one line of numbers, the first an errno. In a PATTERN
// each "#" stands for the index of the file. The commands:
//
//     pid                            0 PID
//     null COUNT                     system calls that do nothing    0 NS
//     file PATTERN COUNT             makes directories and files      0
//     open PATTERN COUNT REPEAT      open+close, file after file      0 NS OPENED DENIED OTHER
//     each PATTERN COUNT REPEAT      the same, timed one by one       0 P50 OPENED DENIED OTHER
//     storm PATTERN COUNT THREADS MS the same by several threads      0 NS OPENED DENIED OTHER
//     latency PATH MS                opens PATH once a millisecond    0 P50 P99 MAX OPENED DENIED OTHER
//     rename FROM TO NAME COUNT      for each of COUNT patterns: opens NAME in FROM, moves FROM to TO,
//                                    opens NAME in TO, moves it back  0 NS OPENED DENIED OTHER
//     tree PATH OUTER INNER          OUTER x INNER directories        0
//     spawn COUNT TIMES              forks, executes and awaits a program that
//                                    ends at once; NS is of the fastest of TIMES  0 NS
//     run CWD PROGRAM [ARGUMENT]     output to /tmp/run.log           0 NS STATUS CPU
//
// NS is of the whole command (unless said otherwise), by CLOCK_MONOTONIC. DENIED counts EPERM; of rename,
// OPENED and DENIED count what happened in TO, and a failure in FROM is OTHER. CPU
// is the processor time of the program and all that it awaited, in nanoseconds. P50, P99 and MAX are nanoseconds of one
// open; an open that should have begun while an earlier one was waiting counts with the rest of that wait.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { kMaxFields = 32, kMaxThreads = 64 };

typedef struct {
  uint64_t opened, denied, other;
} Counts;

static uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void decode(char *text) {
  char *to = text;
  for (const char *from = text; *from; ++to) {
    unsigned byte;
    if (from[0] == '%' && sscanf(from + 1, "%2x", &byte) == 1) {
      *to = (char)byte;
      from += 3;
    } else {
      *to = *from++;
    }
  }
  *to = 0;
}

static void answer(int error) { printf("%d\n", error); }

static void answer_counts(uint64_t ns, Counts counts) {
  printf("0 %llu %llu %llu %llu\n", (unsigned long long)ns, (unsigned long long)counts.opened,
         (unsigned long long)counts.denied, (unsigned long long)counts.other);
}

static void open_once(const char *path, Counts *counts) {
  const int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd >= 0) {
    close(fd);
    ++counts->opened;
  } else if (errno == EPERM) {
    ++counts->denied;
  } else {
    ++counts->other;
  }
}

// The paths of a pattern, made before any clock runs. Owned by the caller.
static char **expand(const char *pattern, long count) {
  char **paths = malloc((size_t)count * sizeof *paths);
  for (long i = 0; i < count; ++i) {
    char path[PATH_MAX];
    size_t length = 0;
    for (const char *from = pattern; *from && length < sizeof path - 24; ++from) {
      if (*from == '#')
        length += (size_t)sprintf(path + length, "%ld", i);
      else
        path[length++] = *from;
    }
    path[length] = 0;
    paths[i] = strdup(path);
  }
  return paths;
}

static void release(char **paths, long count) {
  for (long i = 0; i < count; ++i) free(paths[i]);
  free(paths);
}

static int make_parents(char *path) {
  for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
    *slash = 0;
    const int failed = mkdir(path, 0755) && errno != EEXIST;
    *slash = '/';
    if (failed) return errno;
  }
  return 0;
}

static void do_null(long count) {
  const uint64_t start = now_ns();
  for (long i = 0; i < count; ++i) syscall(SYS_getppid);
  printf("0 %llu\n", (unsigned long long)(now_ns() - start));
}

static void do_file(const char *pattern, long count) {
  char **paths = expand(pattern, count);
  int error = 0;
  for (long i = 0; i < count && !error; ++i) {
    error = make_parents(paths[i]);
    const int fd = error ? -1 : open(paths[i], O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    if (fd >= 0) {
      if (write(fd, "content\n", 8) != 8) error = EIO;
      close(fd);
    } else if (!error) {
      error = errno;
    }
  }
  release(paths, count);
  answer(error);
}

static void do_open(const char *pattern, long count, long repeat) {
  char **paths = expand(pattern, count);
  Counts counts = {0};
  const uint64_t start = now_ns();
  for (long r = 0; r < repeat; ++r)
    for (long i = 0; i < count; ++i) open_once(paths[i], &counts);
  const uint64_t ns = now_ns() - start;
  release(paths, count);
  answer_counts(ns, counts);
}

typedef struct {
  char **paths;
  long count, first;
  uint64_t deadline;
  Counts counts;
} Storm;

static void *storm_thread(void *argument) {
  Storm *storm = argument;
  // The clock is read once in sixteen opens: it costs a tenth of the cheapest.
  for (long i = storm->first; (i & 15) || now_ns() < storm->deadline; ++i)
    open_once(storm->paths[i % storm->count], &storm->counts);
  return NULL;
}

static void do_storm(const char *pattern, long count, long threads, long ms) {
  char **paths = expand(pattern, count);
  pthread_t thread[kMaxThreads];
  Storm storm[kMaxThreads];
  if (threads > kMaxThreads) threads = kMaxThreads;
  const uint64_t start = now_ns();
  for (long i = 0; i < threads; ++i) {
    storm[i] = (Storm){paths, count, i * count / threads, start + (uint64_t)ms * 1000000u, {0}};
    pthread_create(&thread[i], NULL, storm_thread, &storm[i]);
  }
  Counts counts = {0};
  for (long i = 0; i < threads; ++i) {
    pthread_join(thread[i], NULL);
    counts.opened += storm[i].counts.opened;
    counts.denied += storm[i].counts.denied;
    counts.other += storm[i].counts.other;
  }
  const uint64_t ns = now_ns() - start;
  release(paths, count);
  answer_counts(ns, counts);
}

static int by_size(const void *a, const void *b) {
  const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return x < y ? -1 : x > y;
}

// Adds `wait`, and the waits of the opens that it kept from beginning.
static size_t add_wait(uint64_t *waits, size_t count, size_t room, uint64_t wait, uint64_t interval) {
  for (;; wait -= interval) {
    if (count < room) waits[count++] = wait;
    if (wait <= interval) return count;
  }
}

static void do_latency(const char *path, long ms) {
  const uint64_t interval = 1000000u;
  const size_t room = (size_t)ms + 16;
  uint64_t *waits = malloc(room * sizeof *waits);
  size_t count = 0;
  Counts counts = {0};
  const uint64_t end = now_ns() + (uint64_t)ms * interval;
  for (uint64_t start = now_ns(); start < end; start = now_ns()) {
    open_once(path, &counts);
    const uint64_t wait = now_ns() - start;
    count = add_wait(waits, count, room, wait, interval);
    if (wait < interval) {
      const struct timespec rest = {0, (long)(interval - wait)};
      nanosleep(&rest, NULL);
    }
  }
  qsort(waits, count, sizeof *waits, by_size);
  printf("0 %llu %llu %llu %llu %llu %llu\n", (unsigned long long)waits[count / 2],
         (unsigned long long)waits[count * 99 / 100], (unsigned long long)waits[count - 1],
         (unsigned long long)counts.opened, (unsigned long long)counts.denied, (unsigned long long)counts.other);
  free(waits);
}

static void do_each(const char *pattern, long count, long repeat) {
  char **paths = expand(pattern, count);
  const size_t all = (size_t)(count * repeat);
  uint64_t *waits = malloc(all * sizeof *waits);
  Counts counts = {0};
  for (size_t i = 0; i < all; ++i) {
    const uint64_t start = now_ns();
    open_once(paths[i % (size_t)count], &counts);
    waits[i] = now_ns() - start;
  }
  release(paths, count);
  qsort(waits, all, sizeof *waits, by_size);
  answer_counts(waits[all / 2], counts);
  free(waits);
}

static void do_rename(const char *from, const char *to, const char *name, long count) {
  char **source = expand(from, count), **target = expand(to, count);
  Counts before = {0}, after = {0};
  int error = 0;
  const uint64_t start = now_ns();
  for (long i = 0; i < count && !error; ++i) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", source[i], name);
    open_once(path, &before);
    if (rename(source[i], target[i])) error = errno;
    snprintf(path, sizeof path, "%s/%s", target[i], name);
    open_once(path, &after);
    if (!error && rename(target[i], source[i])) error = errno;
  }
  const uint64_t ns = now_ns() - start;
  release(source, count);
  release(target, count);
  after.other += before.other + before.denied;
  if (error)
    answer(error);
  else
    answer_counts(ns, after);
}

static void do_tree(const char *path, long outer, long inner) {
  char name[PATH_MAX];
  if (mkdir(path, 0755) && errno != EEXIST) return answer(errno);
  for (long i = 0; i < outer; ++i) {
    snprintf(name, sizeof name, "%s/%ld", path, i);
    if (mkdir(name, 0755)) return answer(errno);
    const int directory = open(name, O_DIRECTORY | O_CLOEXEC);
    for (long j = 0; j < inner; ++j) {
      snprintf(name, sizeof name, "%ld", j);
      if (mkdirat(directory, name, 0755)) {
        answer(errno);
        close(directory);
        return;
      }
    }
    close(directory);
  }
  answer(0);
}

static int spawn_one(void) {
  const pid_t child = fork();
  if (child == 0) {
    char *const arguments[] = {"load", "end", NULL};
    execv("/proc/self/exe", arguments);
    _exit(127);
  }
  int status = -1;
  if (child < 0 || waitpid(child, &status, 0) < 0) return errno;
  return status == 0 ? 0 : EIO;
}

static void do_spawn(long count, long times) {
  uint64_t best = UINT64_MAX;
  for (long t = 0; t < times; ++t) {
    const uint64_t start = now_ns();
    for (long i = 0; i < count; ++i) {
      const int error = spawn_one();
      if (error) return answer(error);
    }
    const uint64_t ns = now_ns() - start;
    if (ns < best) best = ns;
  }
  printf("0 %llu\n", (unsigned long long)best);
}

static uint64_t children_ns(void) {
  struct rusage usage;
  getrusage(RUSAGE_CHILDREN, &usage);
  const uint64_t us = (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000u +
                      (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
  return us * 1000u;
}

static void do_run(char **field) {
  const uint64_t before = children_ns();
  const uint64_t start = now_ns();
  const pid_t child = fork();
  if (child == 0) {
    const int log = open("/tmp/run.log", O_WRONLY | O_CREAT | O_TRUNC, 0644);
    const int null = open("/dev/null", O_RDONLY);
    dup2(null, 0);
    dup2(log, 1);
    dup2(log, 2);
    setenv("PATH", "/usr/bin:/bin", 1);
    setenv("HOME", "/tmp", 1);
    if (!chdir(field[1])) execvp(field[2], field + 2);
    perror(field[2]);
    _exit(127);
  }
  int status = -1;
  if (child < 0 || waitpid(child, &status, 0) < 0) return answer(errno);
  printf("0 %llu %d %llu\n", (unsigned long long)(now_ns() - start), WIFEXITED(status) ? WEXITSTATUS(status) : -1,
         (unsigned long long)(children_ns() - before));
}

static void obey(int n, char **field) {
  const char *name = field[0];
  if (!strcmp(name, "pid")) {
    printf("0 %d\n", (int)getpid());
  } else if (!strcmp(name, "null") && n == 2) {
    do_null(atol(field[1]));
  } else if (!strcmp(name, "file") && n == 3) {
    do_file(field[1], atol(field[2]));
  } else if (!strcmp(name, "open") && n == 4) {
    do_open(field[1], atol(field[2]), atol(field[3]));
  } else if (!strcmp(name, "each") && n == 4) {
    do_each(field[1], atol(field[2]), atol(field[3]));
  } else if (!strcmp(name, "storm") && n == 5) {
    do_storm(field[1], atol(field[2]), atol(field[3]), atol(field[4]));
  } else if (!strcmp(name, "latency") && n == 3) {
    do_latency(field[1], atol(field[2]));
  } else if (!strcmp(name, "rename") && n == 5) {
    do_rename(field[1], field[2], field[3], atol(field[4]));
  } else if (!strcmp(name, "tree") && n == 4) {
    do_tree(field[1], atol(field[2]), atol(field[3]));
  } else if (!strcmp(name, "spawn") && n == 3) {
    do_spawn(atol(field[1]), atol(field[2]));
  } else if (!strcmp(name, "run") && n >= 3) {
    do_run(field);
  } else {
    answer(EINVAL);
  }
}

int main(int argc, char **argv) {
  if (argc > 1 && !strcmp(argv[1], "end")) return 0;
  static char line[65536];
  while (fgets(line, sizeof line, stdin)) {
    char *field[kMaxFields + 1] = {0};
    int n = 0;
    line[strcspn(line, "\n")] = 0;
    for (char *rest = line; n < kMaxFields && (field[n] = strsep(&rest, "\t")); ++n) decode(field[n]);
    if (n == 0) continue;
    obey(n, field);
    fflush(stdout);
  }
  return 0;
}
