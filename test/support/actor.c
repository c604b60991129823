// Runs inside a test's container and does what its stdin says, one command a
// line, fields separated by tabs, with %XX for any byte. Answers each command
// with one line: "errno extra...". A helper that is already there does in
// microseconds what `runc exec` takes 50 ms for, from the container's cgroup.
//
// Owns: nothing outlives a command, except the process name, the namespaces and
// the lingering processes that a command asked for.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

enum { kMaxFields = 32, kMaxSamples = 4000000, kMaxLingering = 16 };

static int lingering[kMaxLingering], lingerers;  // where each reads its commands

static void loop(void);

static uint32_t *samples;

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

static int compare(const void *a, const void *b) {
  uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  return (x > y) - (x < y);
}

static void answer(int error) {
  printf("%d\n", error);
}

static void answer_result(int result) {
  answer(result < 0 ? errno : 0);
}

// Opens and closes until `count` tries or `milliseconds` are over.
// "0 opened denied other p50_ns p99_ns max_ns total_ns".
static void repeat(const char *path, long count, long milliseconds) {
  long opened = 0, denied = 0, other = 0, n = 0;
  if (!samples) samples = malloc(kMaxSamples * sizeof *samples);
  const uint64_t start = now_ns(), end = milliseconds ? start + (uint64_t)milliseconds * 1000000u : 0;
  uint64_t last = start;
  while (n < count && n < kMaxSamples && (!end || last < end)) {
    int fd = open(path, O_RDONLY);
    const int error = errno;
    const uint64_t then = now_ns();
    samples[n++] = then - last > UINT32_MAX ? UINT32_MAX : (uint32_t)(then - last);
    if (fd >= 0) {
      ++opened;
      close(fd);
    } else if (error == EPERM) {
      ++denied;
    } else {
      ++other;
    }
    last = now_ns();
  }
  qsort(samples, (size_t)n, sizeof *samples, compare);
  printf("0 %ld %ld %ld %u %u %u %llu\n", opened, denied, other, n ? samples[n / 2] : 0, n ? samples[n * 99 / 100] : 0,
         n ? samples[n - 1] : 0, (unsigned long long)(last - start));
}

// fork + execve; the child's errno comes back through a pipe that exec closes.
static void execute(char **argv) {
  int ends[2], error = 0, status = 0;
  if (pipe2(ends, O_CLOEXEC) < 0) return answer(errno);
  pid_t child = fork();
  if (child == 0) {
    int null = open("/dev/null", O_RDWR);
    dup2(null, 0);
    dup2(null, 1);
    char *environment[] = {NULL};
    execve(argv[0], argv, environment);
    error = errno;
    if (write(ends[1], &error, sizeof error) != sizeof error) _exit(126);
    _exit(127);
  }
  close(ends[1]);
  if (read(ends[0], &error, sizeof error) < 0) error = errno;
  close(ends[0]);
  waitpid(child, &status, 0);
  printf("%d %d\n", error, WEXITSTATUS(status));
}

// Makes so many directories in one another, and a file in the last. "E LEVELS": the errno of opening
// it, and how many there are.
static void deep(const char *path, int levels) {
  int at = open(path, O_PATH | O_DIRECTORY), made = 0;
  while (at >= 0 && made < levels && mkdirat(at, "d", 0755) == 0) {
    const int below = openat(at, "d", O_PATH | O_DIRECTORY);
    close(at);
    at = below;
    ++made;
  }
  const int fd = mknodat(at, "f", S_IFREG | 0644, 0) < 0 ? -1 : openat(at, "f", O_RDONLY);
  printf("%d %d\n", fd < 0 ? errno : 0, made);
  if (fd >= 0) close(fd);
  if (at >= 0) close(at);
}

static void *loop_apart(void *flags) {
  answer_result(unshare(CLONE_FS) < 0 ? -1 : unshare(*(int *)flags));
  fflush(stdout);
  loop();
  exit(0);
}

// From here on the commands are carried out by a thread with namespaces of its
// own, while its process keeps the old ones.
static void go_apart(int flags) {
  pthread_t thread;
  const int error = pthread_create(&thread, NULL, loop_apart, &flags);
  if (error) return answer(error);
  pthread_join(thread, NULL);
}

// posix_spawn (vfork and exec). "errno status".
static void spawn(char **argv) {
  char *environment[] = {NULL};
  pid_t child = 0;
  int status = 0;
  const int error = posix_spawn(&child, argv[0], NULL, NULL, argv, environment);
  if (error == 0) waitpid(child, &status, 0);
  printf("%d %d\n", error, WEXITSTATUS(status));
}

// fork, into the given number of this pid namespace, and of the one above (0: any).
static pid_t fork_as(pid_t own, pid_t above) {
  const pid_t wanted[] = {own, above};
  struct clone_args args = {
      .exit_signal = SIGCHLD, .set_tid = (uintptr_t)wanted, .set_tid_size = above ? 2 : 1};
  return (pid_t)syscall(SYS_clone3, &args, sizeof args);
}

static pid_t fork_into(const char *cgroup) {
  const int directory = open(cgroup, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (directory < 0) return -1;
  struct clone_args args = {
      .flags = CLONE_INTO_CGROUP, .exit_signal = SIGCHLD, .cgroup = (uint64_t)directory};
  const pid_t child = (pid_t)syscall(SYS_clone3, &args, sizeof args);
  const int error = errno;
  close(directory);
  errno = error;
  return child;
}

static void become_lingerer(const int *ends) {
  dup2(ends[0], 0);
  close(ends[1]);
  __fpurge(stdin);
  for (int i = 0; i < lingerers; ++i) close(lingering[i]);
  lingerers = 0;
  loop();
  _exit(0);
}

static void *linger_from_thread(void *ends) {
  if (fork() == 0) become_lingerer(ends);
  return NULL;
}

// Leaves a process that does what "tell" says. MODE is how it comes to be:
//   child    forked by this process
//   thread   forked by another thread of it, which ends
//   orphan   forked by a child, which ends
//   session  the same, by a child with a session of its own
//   exec     the same, by a child that has executed something
//   late     the same; the child ends after this process has forked another
//   sibling  by a child, which makes it our child at once (CLONE_PARENT)
static void linger(const char *mode) {
  int ends[2];
  if (lingerers == kMaxLingering || pipe(ends) < 0) return answer(EAGAIN);
  fcntl(ends[1], F_SETFD, FD_CLOEXEC);
  fflush(stdout);
  if (!strcmp(mode, "thread")) {
    pthread_t thread;
    pthread_create(&thread, NULL, linger_from_thread, ends);
    pthread_join(thread, NULL);
  } else {
    pid_t child = fork();
    if (child == 0 && !strcmp(mode, "child")) become_lingerer(ends);
    if (child == 0) {
      if (!strcmp(mode, "session")) setsid();
      if (!strcmp(mode, "exec")) {
        dup2(ends[0], 0);
        execl("/proc/self/exe", "actor", "orphan", NULL);
      }
      const int sibling = !strcmp(mode, "sibling");
      struct clone_args args = {.flags = sibling ? CLONE_PARENT : 0, .exit_signal = sibling ? 0 : SIGCHLD};
      if (syscall(SYS_clone3, &args, sizeof args) == 0) become_lingerer(ends);
      if (!strcmp(mode, "late")) raise(SIGSTOP);
      _exit(0);
    }
    if (!strcmp(mode, "late")) {
      waitpid(child, NULL, WUNTRACED);
      if (fork() == 0) pause();
      kill(child, SIGCONT);
    }
    if (strcmp(mode, "child")) waitpid(child, NULL, 0);
  }
  close(ends[0]);
  lingering[lingerers] = ends[1];
  printf("0 %d\n", lingerers++);
}

// Passes a command on. The answer comes from the lingerer itself.
static void tell(int lingerer, char **f, int n) {
  for (int i = 0; i < n; ++i) dprintf(lingering[lingerer], "%s%c", f[i], i + 1 < n ? '\t' : '\n');
}

struct command {
  char **fields;
  int count;
};

static void run(char **f, int n);

static void *run_in_thread(void *command) {
  run(((struct command *)command)->fields, ((struct command *)command)->count);
  return NULL;
}

static void run(char **f, int n) {
  const char *name = f[0];
  if (!strcmp(name, "child")) {  // the rest, in a process forked for it
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
      run(f + 1, n - 1);
      fflush(stdout);
      _exit(0);
    }
    waitpid(child, NULL, 0);
  } else if (!strcmp(name, "childas") && n > 3) {  // PID PID_ABOVE and the rest: "child" with these numbers
    fflush(stdout);
    pid_t child = fork_as(atoi(f[1]), atoi(f[2]));
    if (child < 0) return answer(errno);
    if (child == 0) {
      run(f + 3, n - 3);
      fflush(stdout);
      _exit(0);
    }
    waitpid(child, NULL, 0);
  } else if (!strcmp(name, "childin") && n > 2) {  // DIRECTORY and the rest: "child", born in this cgroup
    fflush(stdout);
    pid_t child = fork_into(f[1]);
    if (child < 0) return answer(errno);
    if (child == 0) {
      run(f + 2, n - 2);
      fflush(stdout);
      _exit(0);
    }
    waitpid(child, NULL, 0);
  } else if (!strcmp(name, "inthread")) {  // the rest, in a thread
    pthread_t thread;
    struct command command = {f + 1, n - 1};
    pthread_create(&thread, NULL, run_in_thread, &command);
    pthread_join(thread, NULL);
  } else if (!strcmp(name, "linger") && n == 2) {  // MODE
    linger(f[1]);
  } else if (!strcmp(name, "tell") && n > 2) {  // WHO and the rest
    tell(atoi(f[1]), f + 2, n - 2);
  } else if (!strcmp(name, "spawn") && n >= 2) {  // PROGRAM ARGUMENT...
    f[n] = NULL;
    spawn(f + 1);
  } else if (!strcmp(name, "become") && n >= 2) {  // execve, for good
    f[n] = NULL;
    answer(0);
    fflush(stdout);
    execv(f[1], f + 1);
    _exit(126);
  } else if (!strcmp(name, "pause")) {  // until it is killed
    pause();
  } else if (!strcmp(name, "flood") && n == 2) {  // COUNT processes that end at once
    int forked = 0;
    for (; forked < atoi(f[1]); ++forked) {
      const pid_t child = fork();
      if (child == 0) _exit(0);
      if (child < 0) break;
      waitpid(child, NULL, 0);
    }
    printf("0 %d\n", forked);
  } else if (!strcmp(name, "reap")) {  // one child that has ended
    answer_result(waitpid(-1, NULL, 0));
  } else if (!strcmp(name, "open") && n >= 2) {  // PATH [FLAGS]
    int fd = open(f[1], n > 2 ? atoi(f[2]) : O_RDONLY, 0644);
    answer_result(fd);
    if (fd >= 0) close(fd);
  } else if (!strcmp(name, "read") && n == 2) {  // PATH: the errno of open or of read
    char buffer[256];
    int fd = open(f[1], O_RDONLY);
    if (fd < 0) return answer(errno);
    ssize_t got = read(fd, buffer, sizeof buffer);
    answer_result((int)got);
    close(fd);
  } else if (!strcmp(name, "exec") && n >= 2) {
    f[n] = NULL;
    execute(f + 1);
  } else if (!strcmp(name, "repeat") && n == 4) {  // PATH COUNT MILLISECONDS (0 = no limit)
    repeat(f[1], atol(f[2]), atol(f[3]));
  } else if (!strcmp(name, "write") && n == 3) {  // PATH TEXT
    int fd = open(f[1], O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (fd < 0) return answer(errno);
    answer_result((int)write(fd, f[2], strlen(f[2])));
    close(fd);
  } else if (!strcmp(name, "link") && n == 3) {
    answer_result(link(f[1], f[2]));
  } else if (!strcmp(name, "symlink") && n == 3) {
    answer_result(symlink(f[1], f[2]));
  } else if (!strcmp(name, "rename") && n == 3) {
    answer_result(rename(f[1], f[2]));
  } else if (!strcmp(name, "mkdir") && n == 2) {
    answer_result(mkdir(f[1], 0755));
  } else if (!strcmp(name, "deep") && n == 3) {  // PATH LEVELS
    deep(f[1], atoi(f[2]));
  } else if (!strcmp(name, "unlink") && n == 2) {
    answer_result(unlink(f[1]));
  } else if (!strcmp(name, "rmdir") && n == 2) {
    answer_result(rmdir(f[1]));
  } else if (!strcmp(name, "exchange") && n == 3) {
    answer_result((int)syscall(SYS_renameat2, AT_FDCWD, f[1], AT_FDCWD, f[2], 2 /* RENAME_EXCHANGE */));
  } else if (!strcmp(name, "mkfifo") && n == 2) {
    answer_result(mkfifo(f[1], 0644));
  } else if (!strcmp(name, "truncate") && n == 2) {
    answer_result(truncate(f[1], 0));
  } else if (!strcmp(name, "chmod") && n == 3) {  // PATH MODE
    answer_result(chmod(f[1], (mode_t)atoi(f[2])));
  } else if (!strcmp(name, "chown") && n == 3) {  // PATH UID
    answer_result(chown(f[1], (uid_t)atoi(f[2]), (gid_t)-1));
  } else if (!strcmp(name, "touch") && n == 2) {  // what is there
    answer_result(utimensat(AT_FDCWD, f[1], NULL, 0));
  } else if (!strcmp(name, "setxattr") && n == 3) {  // PATH NAME
    answer_result(setxattr(f[1], f[2], "x", 1, 0));
  } else if (!strcmp(name, "removexattr") && n == 3) {  // PATH NAME
    answer_result(removexattr(f[1], f[2]));
  } else if (!strcmp(name, "link-nameless") && n == 3) {  // DIRECTORY PATH: a file that had no name gets this one
    const int fd = open(f[1], O_TMPFILE | O_RDWR, 0644);
    char self[64];
    snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
    answer_result(fd < 0 ? fd : linkat(AT_FDCWD, self, AT_FDCWD, f[2], AT_SYMLINK_FOLLOW));
    if (fd >= 0) close(fd);
  } else if (!strcmp(name, "hold") && n == 3) {  // FD PATH: open for writing
    const int fd = open(f[2], O_WRONLY);
    answer_result(fd < 0 ? fd : dup2(fd, atoi(f[1])));
    if (fd >= 0) close(fd);
  } else if (!strcmp(name, "ftruncate") && n == 2) {  // FD
    answer_result(ftruncate(atoi(f[1]), 0));
  } else if (!strcmp(name, "comm") && n == 2) {
    answer_result(prctl(PR_SET_NAME, f[1]));
  } else if (!strcmp(name, "unshare") && n == 2) {  // FLAGS
    answer_result(unshare(atoi(f[1])));
  } else if (!strcmp(name, "thread") && n == 2) {  // FLAGS
    go_apart(atoi(f[1]));
  } else if (!strcmp(name, "clone-open") && n == 3) {  // DIRECTORY NAME: through a mount that is nowhere
    int clone = (int)syscall(SYS_open_tree, AT_FDCWD, f[1], OPEN_TREE_CLONE);
    int fd = clone < 0 ? -1 : openat(clone, f[2], O_RDONLY);
    answer_result(fd);
    if (fd >= 0) close(fd);
    if (clone >= 0) close(clone);
  } else if (!strcmp(name, "bind") && n == 3) {
    answer_result(mount(f[1], f[2], NULL, MS_BIND, NULL));
  } else if (!strcmp(name, "pid")) {
    printf("0 %d %d\n", getpid(), getppid());
  } else {
    answer(ENOSYS);
  }
}

static void loop(void) {
  char *line = NULL, *fields[kMaxFields + 1];
  size_t room = 0;
  for (ssize_t length; (length = getline(&line, &room, stdin)) > 0;) {
    int n = 0;
    line[length - 1] = 0;
    for (char *rest = line, *field; n < kMaxFields && (field = strsep(&rest, "\t"));) {
      decode(field);
      fields[n++] = field;
    }
    run(fields, n);
    fflush(stdout);
  }
}

int main(int count, char **arguments) {
  if (count > 1 && !strcmp(arguments[1], "orphan") && fork() != 0) _exit(0);
  loop();
  return 0;
}
