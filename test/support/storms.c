// What a hostile container does to its neighbours: storms, each of one kind of work whose size the container chooses.
//
// Speaks the protocol of actor.c, in whose place it is put: a command a line, fields separated by tabs; the
// answer is one line of numbers, the first an errno. DIR is a directory that the caller may write in. A guard
// is expected to deny DIR/s, which exists and holds the file "token", and DIR/late, which does not exist.
//
//     prepare KIND DIR    what the storm needs once                       0 COUNT
//     storm KIND DIR MS   the storm, for that long                        ERRNO COUNT
//
// COUNT says how often the storm did what it is named for. The kinds:
//
//     names       makes, moves and removes the guarded names and others, by four threads
//     threads     opens DIR/s/token by 1,500 threads at once
//     mounts      mounts and unmounts tmpfs on DIR, with 1,000 stacked on DIR/s/d (CAP_SYS_ADMIN)
//     namespaces  makes user and mount namespaces, 200 alive at a time; each opens DIR/s/token
//     links       makes DIR/late a chain of 40 symbolic links with 815 components each, again and again
//     pins        moves new files into DIR/s, opens them, links them out and opens the links, by four threads
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { kAskers = 1500, kWorkers = 4, kStacked = 1000, kNamespaces = 200, kLinks = 40, kComponents = 815 };

static const char *root;
static uint64_t until;
static atomic_long done;
static atomic_int failed;

static uint64_t now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000u + (uint64_t)t.tv_nsec / 1000000u;
}

static int going(void) { return now_ms() < until && !failed; }

// DIR/NAME, with `id` behind it unless it is negative.
static const char *in(char *path, const char *name, long id) {
  if (id < 0)
    snprintf(path, PATH_MAX, "%s/%s", root, name);
  else
    snprintf(path, PATH_MAX, "%s/%s%ld", root, name, id);
  return path;
}

// The number of a thread comes as its argument.
static void run_threads(void *(*work)(void *), long count) {
  static pthread_t thread[kAskers];
  pthread_attr_t small;
  pthread_attr_init(&small);
  pthread_attr_setstacksize(&small, 65536);
  long made = 0;
  for (; made < count; ++made) {
    const int error = pthread_create(&thread[made], &small, work, (void *)made);
    if (error) {
      failed = error;
      break;
    }
  }
  for (long i = 0; i < made; ++i) pthread_join(thread[i], NULL);
  pthread_attr_destroy(&small);
}

static void *storm_names(void *argument) {
  const long id = (long)argument;
  char from[PATH_MAX], to[PATH_MAX];
  in(from, id == 0 ? "late" : id == 1 ? "s" : "other", id < 2 ? -1 : id);
  in(to, "moved", id);
  for (; going(); ++done) {
    if (id != 1 && mkdir(from, 0755)) failed = errno;
    if (rename(from, to)) failed = errno;
    if (id == 1 ? rename(to, from) : rmdir(to)) failed = errno;
  }
  return NULL;
}

static void *storm_threads(void *argument) {
  (void)argument;
  char path[PATH_MAX];
  in(path, "s/token", -1);
  for (; going(); ++done) {
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) close(fd);
  }
  return NULL;
}

static long stack_mounts(void) {
  char path[PATH_MAX];
  long count = 0;
  if (mkdir(in(path, "s/d", -1), 0755) && errno != EEXIST) failed = errno;
  for (; count < kStacked && !failed; ++count)
    if (mount("tmpfs", path, "tmpfs", 0, "nr_inodes=8,size=4k")) failed = errno;
  return count;
}

static void storm_mounts(void) {
  char path[PATH_MAX], late[PATH_MAX];
  in(late, "late", -1);
  if (mkdir(in(path, "m", -1), 0755) && errno != EEXIST) failed = errno;
  for (; going(); ++done) {
    if (mount("tmpfs", path, "tmpfs", 0, "nr_inodes=8,size=4k")) failed = errno;
    // A guarded name comes and goes: what it leads to is to be found anew, among all the mounts.
    mkdir(late, 0755);
    rmdir(late);
    if (umount2(path, MNT_DETACH)) failed = errno;
  }
}

// The user namespace maps nobody: what it may do, it may do to mounts.
static void live_apart(const char *path, int ready) {
  const char error = (char)(unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0 ? errno : 0);
  const int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd >= 0) close(fd);
  if (write(ready, &error, 1) != 1) _exit(1);
  pause();
  _exit(0);
}

static void storm_namespaces(void) {
  char path[PATH_MAX];
  pid_t alive[kNamespaces] = {0};
  in(path, "s/token", -1);
  for (long i = 0; going(); ++i, ++done) {
    pid_t *slot = &alive[i % kNamespaces];
    if (*slot > 0) {
      kill(*slot, SIGKILL);
      waitpid(*slot, NULL, 0);
    }
    int ready[2];
    char error = EIO;
    if (pipe2(ready, O_CLOEXEC)) {
      failed = errno;
      break;
    }
    *slot = fork();
    if (*slot == 0) live_apart(path, ready[1]);
    close(ready[1]);
    if (*slot < 0)
      failed = errno;
    else if (read(ready[0], &error, 1) != 1 || error)
      failed = error;
    close(ready[0]);
  }
  for (long i = 0; i < kNamespaces; ++i) {
    if (alive[i] <= 0) continue;
    kill(alive[i], SIGKILL);
    waitpid(alive[i], NULL, 0);
  }
}

static void storm_links(void) {
  static char text[kLinks][PATH_MAX + 8];
  char path[PATH_MAX], made[PATH_MAX];
  if (mkdir(in(path, "e", -1), 0755) && errno != EEXIST) failed = errno;
  in(made, "made", -1);
  for (long i = 0; i < kLinks; ++i) {
    char *to = text[i];
    for (int k = 0; k < kComponents; ++k) to = stpcpy(to, "e/../");
    if (i + 1 < kLinks)
      sprintf(to, "link%ld", i + 1);
    else
      strcpy(to, "e");
  }
  while (going())
    for (long i = kLinks - 1; i >= 0 && going(); --i, ++done) {
      i == 0 ? in(path, "late", -1) : in(path, "link", i);
      if (symlink(text[i], made) || rename(made, path)) failed = errno;
    }
  unlink(in(path, "late", -1));
}

static void *storm_pins(void *argument) {
  const long id = (long)argument;
  char from[PATH_MAX], inside[PATH_MAX], out[PATH_MAX];
  in(from, "from", id), in(inside, "s/in", id), in(out, "out", id);
  for (; going(); ++done) {
    int fd = open(from, O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
    if (fd >= 0) close(fd);
    if (rename(from, inside)) failed = errno;
    for (int i = 0; i < 2; ++i) {
      fd = open(i == 0 ? inside : out, O_RDONLY | O_CLOEXEC);
      if (fd >= 0) close(fd);
      if (i == 0 && link(inside, out)) failed = errno;
    }
    unlink(out);
    unlink(inside);
  }
  return NULL;
}

static void storm(const char *kind) {
  if (!strcmp(kind, "names"))
    run_threads(storm_names, kWorkers);
  else if (!strcmp(kind, "threads"))
    run_threads(storm_threads, kAskers);
  else if (!strcmp(kind, "mounts"))
    storm_mounts();
  else if (!strcmp(kind, "namespaces"))
    storm_namespaces();
  else if (!strcmp(kind, "links"))
    storm_links();
  else if (!strcmp(kind, "pins"))
    run_threads(storm_pins, kWorkers);
  else
    failed = EINVAL;
}

int main(void) {
  static char line[65536];
  while (fgets(line, sizeof line, stdin)) {
    char *field[5] = {0};
    int n = 0;
    line[strcspn(line, "\n")] = 0;
    for (char *rest = line; n < 5 && (field[n] = strsep(&rest, "\t"));) ++n;
    done = 0;
    failed = 0;
    root = n > 2 ? field[2] : NULL;
    if (n == 1 && !strcmp(field[0], "pid")) {
      done = getpid();
    } else if (n == 3 && !strcmp(field[0], "prepare")) {
      if (!strcmp(field[1], "mounts")) done = stack_mounts();
    } else if (n == 4 && !strcmp(field[0], "storm")) {
      until = now_ms() + (uint64_t)atol(field[3]);
      storm(field[1]);
    } else {
      failed = EINVAL;
    }
    printf("%d %ld\n", failed, (long)done);
    fflush(stdout);
  }
  return 0;
}
