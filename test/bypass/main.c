// The agent inside the container, and the parts that every attempt shares.
//
//   attempt list                   the table, as JSON
//   attempt layer DIRECTORY        makes the files that belong into the image
//   attempt outside NAME PLACE WHO PID   the node's part of an attempt, in its directory; PID: the container's first process
//   attempt serve                  `run NAME PLACE WHO TRIES PATIENCE EXPLAINED` on standard input, one after the other
//   attempt say                    prints the secret (attempts copy and execute this program)
#include "attempt.h"

#include <grp.h>
#include <linux/capability.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>

static const struct family *const families[] = {&names, &links, &mounts, &namespaces, &descriptors, &volumes, &races};
static const int family_count = sizeof families / sizeof *families;
static const struct { int bit; const char *name; } users[] = {{ROOT, "container-root"}, {USER, "unprivileged"}, {ADMIN, "userns-admin"}};
static const struct { int bit; const char *name, *base, *twin; } sites[] = {
    {UPPER, "layer", "/b", "/b"}, {LOWER, "image", "/i", "/i"}, {DISK, "disk", "/vol", "/vol2"}, {MEMORY, "tmpfs", "/mem", "/mem2"}};

char home[PATH_MAX], twin[PATH_MAX];
const char *who_name;
enum who who;
enum place place;
long tries;
long patience_ms;
pid_t init_pid;

// ---- talking to the runner

// Anything but printable ASCII is written as %xx, so that a line is a line.
static void say(const char *kind, const char *label, const char *value) {
  char line[1024];
  int n = snprintf(line, sizeof line, "%s ", kind);
  for (const char *p = label; *p && n < 600; p++)
    n += snprintf(line + n, sizeof line - n, *p > ' ' && *p < 0x7f && *p != '%' ? "%c" : "%%%02x", (unsigned char)*p);
  n += snprintf(line + n, sizeof line - n, " %s\n", value);
  if (write(1, line, n) != n) _exit(3);
}

static const char *error_name(void) { return strerrorname_np(errno) ? strerrorname_np(errno) : "?"; }

// Byte by byte, since the next line belongs to whoever reads next.
static bool read_line(char *line, size_t size) {
  size_t n = 0;
  char c;
  while (read(0, &c, 1) == 1) {
    if (c == '\n') return line[n] = 0, true;
    if (n + 1 < size) line[n++] = c;
  }
  return false;
}

static void ask(const char *request) {
  char answer[256];
  if (write(1, request, strlen(request)) < 0 || !read_line(answer, sizeof answer)) _exit(3);
  if (strcmp(answer, "ok") != 0) {
    say("broken", "runner", answer);
    _exit(3);
  }
}

void broken(const char *what) {
  say("broken", what, error_name());
  _exit(3);
}

long step(const char *what, long result) {
  if (result < 0) {
    say("stopped", what, error_name());
    _exit(2);
  }
  return result;
}

// ---- verdicts

static bool holds_secret(const char *text, long length) { return memmem(text, length, "SECRET", 6) != NULL; }

static void verdict(const char *kind, const char *label, int fd) {
  char text[64];
  if (fd < 0) return say(kind, label, error_name());
  long n = pread(fd, text, sizeof text, 0);
  bool unreadable = n < 0 && (errno == EBADF || errno == EISDIR);  // opened for writing, or a directory
  say(kind, label, unreadable || n == 0 ? "opened" : n < 0 ? error_name() : "read");
  close(fd);
}

// ---- explanations

static bool explained;  // the runner wants to compare what was opened by a path with an explanation of it
static struct view { ino_t mounts, root; dev_t device; } first_view;

static int escape(char *into, int size, const char *text);

static struct view look_around(void) {
  struct stat mounts, root;
  if (stat("/proc/self/ns/mnt", &mounts) != 0) broken("mount-namespace");
  if (stat("/", &root) != 0) broken("root");
  return (struct view){.mounts = mounts.st_ino, .root = root.st_ino, .device = root.st_dev};
}

// Whoever explains looks from the container's own mounts and root.
static bool sees_what_they_see(void) {
  struct view now = look_around();
  return now.mounts == first_view.mounts && now.root == first_view.root && now.device == first_view.device;
}

// What a descriptor leads to may have lost its path, or lie below a mount.
static bool leads_to_the_same(int dir, const char *path, const char *whole) {
  struct stat one, other;
  if (fstatat(dir, path, &one, 0) != 0) return stat(whole, &other) != 0;
  return stat(whole, &other) == 0 && one.st_dev == other.st_dev && one.st_ino == other.st_ino;
}

// Right after the open, so that nobody had more time before it than without this.
static void compare(int dir, const char *path) {
  char base[PATH_MAX] = "", text[2 * PATH_MAX], request[3 * PATH_MAX];
  if (!explained || !sees_what_they_see()) return;
  if (path[0] != '/') {
    const char *link = dir == AT_FDCWD ? "/proc/self/cwd" : format("/proc/self/fd/%d", dir);
    if (readlink(link, base, sizeof base - 2) < 0) return;
    strcat(base, "/");
  }
  if (strlen(base) + strlen(path) >= PATH_MAX) return;
  const char *whole = format("%s%s", base, path);
  // In /proc, whoever looks finds themselves.
  if (strncmp(whole, "/proc/", 6) == 0 || !leads_to_the_same(dir, path, whole)) return;
  escape(text, sizeof text, whole);
  snprintf(request, sizeof request, "explain \"%s\"\n", text);
  ask(request);
}

void secret_fd(const char *label, int fd) { verdict("secret", label, fd); }
void secret_at(const char *label, int dir, const char *path) {
  secret_fd(label, openat(dir, path, O_RDONLY | O_CLOEXEC));
  compare(dir, path);
}
void secret(const char *path) { secret_at(path, AT_FDCWD, path); }
void secret_text(const char *label, const char *text, long length) {
  say("secret", label, length < 0 ? error_name() : holds_secret(text, length) ? "read" : "opened");
}
void control_fd(const char *label, int fd) { verdict("control", label, fd); }
void control_at(const char *label, int dir, const char *path) {
  control_fd(label, openat(dir, path, O_RDONLY | O_CLOEXEC));
  compare(dir, path);
}
void control(const char *path) { control_at(path, AT_FDCWD, path); }

bool shows_secret(int fd) {
  char text[64];
  if (fd < 0) return false;
  long n = read(fd, text, sizeof text);
  close(fd);
  return n > 0 && holds_secret(text, n);
}

bool opened(int fd) { return fd >= 0 && (close(fd), true); }

// ---- windows

static long microseconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

enum { READABLE, REFUSED, ODD };

static int look(const char *path) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return errno == EPERM ? REFUSED : ODD;
  errno = ENODATA;
  return shows_secret(fd) ? READABLE : ODD;
}

static void pause_ms(void) { nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL); }

static bool window_is(const char *path, const char *what, long us) {
  say("window", path, format("%s %ld", what, us));
  return strcmp(what, "denied") == 0;
}

// The window ends with the first open that is denied once the mount is `made`; it may have begun before that.
static bool watch_window(const char *path, atomic_bool *made) {
  long began = microseconds(), since = 0, readable = 0;
  for (bool seen = false, shut = false; !shut;) {
    bool complete = *made;
    long before = microseconds();
    if (complete && since == 0) since = before;
    int got = look(path);
    long now = microseconds();
    if (got == ODD && complete) return window_is(path, error_name(), readable);
    if (got == READABLE) seen = true;
    else if (!seen) began = before;
    if (seen) readable = now - began;
    shut = got == REFUSED && (seen || complete);
    if (complete && !shut && now - since > patience_ms * 1000) return window_is(path, "read", readable);
    // Whoever is after the secret would spin, too; but not for ever, on a machine of two processors.
    if (!complete || now - since < 10000) sched_yield();
    else pause_ms();
  }
  for (int i = 0; i < 50; i++) {
    pause_ms();
    int got = look(path);
    if (got != REFUSED) return window_is(path, got == READABLE ? "reopened" : error_name(), readable);
  }
  return window_is(path, "denied", readable);
}

bool window(const char *path) {
  atomic_bool made = true;
  return watch_window(path, &made);
}

static struct { const char *path; atomic_bool made; } spied;

static void *spy(void *unused) {
  watch_window(spied.path, &spied.made);
  return unused;
}

void window_outside(const char *path) {
  pthread_t thread;
  spied.path = path;
  if (pthread_create(&thread, NULL, spy, NULL) != 0) broken("thread");
  outside();
  spied.made = true;
  pthread_join(thread, NULL);
}

void tally(const char *label, long slips, long of) { say("tally", label, format("%ld %ld", slips, of)); }

// ---- files

const char *format(const char *pattern, ...) {
  static __thread char buffers[16][PATH_MAX];
  static __thread unsigned next;
  char *into = buffers[next++ % 16];
  va_list arguments;
  va_start(arguments, pattern);
  vsnprintf(into, PATH_MAX, pattern, arguments);
  va_end(arguments);
  return into;
}

const char *absolute(const char *path) { return format("%s/%s", home, path); }

void make_dir(const char *path) {
  if (mkdir(path, 0777) != 0 && errno != EEXIST) broken("mkdir");
}

void put(const char *path, const char *text) {
  int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (fd < 0 || write(fd, text, strlen(text)) < 0) broken(format("put-%s", path));
  close(fd);
}

void appear(const char *path) {
  make_dir("out");
  put("out/.fresh", "SECRET\n");
  if (rename("out/.fresh", path) != 0) broken("appear");
}

void layout(void) {
  make_dir("in");
  make_dir("in/deep");
  make_dir("in/deep/er");
  make_dir("out");
  put("in/secret", "SECRET\n");
  put("in/deep/er/secret", "SECRET\n");
  put("out/neighbour", "PUBLIC\n");
}

void warm(const char *path) {
  for (int i = 0; i < 500; i++) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) broken("warm");
    close(fd);
  }
}

// ---- guards

static int escape(char *into, int size, const char *text) {
  int n = 0;
  for (const unsigned char *p = (const unsigned char *)text; *p && n + 8 < size; p++)
    n += snprintf(into + n, size - n, *p == '"' || *p == '\\' ? "\\%c" : *p < 0x20 ? "\\u%04x" : "%c", *p);
  into[n] = 0;
  return n;
}

static void send_guard(const char *deny, const char *allow, const char *fields) {
  char request[6 * PATH_MAX], path[2 * PATH_MAX];
  int n = 0;
  for (int i = 0; i < 2; i++) {
    const char *raw = i == 0 ? deny : allow;
    if (!raw) continue;
    escape(path, sizeof path, raw[0] == '/' ? raw : absolute(raw));
    n += snprintf(request + n, sizeof request - n, "%s\"%s\":[\"%s\"],", n ? "" : "guard {", i == 0 ? "deny" : "allow", path);
  }
  snprintf(request + n, sizeof request - n, "%s}\n", fields);
  ask(request);
}

void guard(const char *response, const char *path, const char *fields) {
  bool deny = strcmp(response, "deny") == 0;
  send_guard(deny ? path : NULL, deny ? NULL : path, fields);
}
void guard2(const char *deny, const char *allow, const char *fields) { send_guard(deny, allow, fields); }
void outside(void) { ask("outside\n"); }

// ---- processes

static void write_file(const char *path, const char *text) {
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  step(path, fd < 0 ? -1 : write(fd, text, strlen(text)));
  close(fd);
}

static void map_ids(uid_t uid, gid_t gid) {
  write_file("/proc/self/setgroups", "deny");
  write_file("/proc/self/uid_map", format("0 %u 1", uid));
  write_file("/proc/self/gid_map", format("0 %u 1", gid));
}

void own_mounts(void) {
  step("unshare-mounts", unshare(CLONE_NEWNS));
  step("private-mounts", mount("", "/", NULL, MS_REC | MS_PRIVATE, NULL));
}

void user_and_mounts(void) {
  uid_t uid = geteuid();
  gid_t gid = getegid();
  step("unshare-user-and-mounts", unshare(CLONE_NEWUSER | CLONE_NEWNS));
  map_ids(uid, gid);
  step("private-mounts", mount("", "/", NULL, MS_REC | MS_PRIVATE, NULL));
}

void in_child(void (*body)(void)) {
  pid_t child = fork();
  if (child < 0) broken("fork");
  if (child == 0) {
    body();
    _exit(0);
  }
  int status;
  waitpid(child, &status, 0);
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 3);
}

static int meeting[2];

pid_t beside(void (*body)(void)) {
  char c;
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, meeting) != 0) broken("socketpair");
  pid_t child = fork();
  if (child < 0) broken("fork");
  if (child == 0) {
    close(meeting[0]);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    body();
    _exit(0);
  }
  close(meeting[1]);
  if (read(meeting[0], &c, 1) != 1) _exit(2);  // the child said why
  return child;
}

void meet(void) {
  char c = 0;
  if (write(meeting[1], &c, 1) != 1 || read(meeting[1], &c, 1) < 0) _exit(3);
}

void let_go(pid_t child) {
  int status;
  close(meeting[0]);
  waitpid(child, &status, 0);
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) _exit(2);
}

static void become_user(void) {
  if (setgroups(0, NULL) != 0 || setresgid(1000, 1000, 1000) != 0 || setresuid(1000, 1000, 1000) != 0) broken("setuid");
  prctl(PR_SET_DUMPABLE, 1);  // else its own /proc belongs to root, and it cannot write its id maps
}

static void drop_extra_capability(void) {
  struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct data[2];
  if (syscall(SYS_capget, &header, data) != 0) broken("capget");
  data[0].effective &= ~(1u << CAP_DAC_READ_SEARCH);
  data[0].permitted &= ~(1u << CAP_DAC_READ_SEARCH);
  data[0].inheritable = 0;
  prctl(PR_CAPBSET_DROP, CAP_DAC_READ_SEARCH, 0, 0, 0);
  if (syscall(SYS_capset, &header, data) != 0) broken("capset");
}

static void become(const struct attempt *attempt) {
  if (who == ROOT) {
    if (!attempt->extra_capability) drop_extra_capability();
    return;
  }
  become_user();
  if (who == USER) return;
  step("unshare-user", unshare(CLONE_NEWUSER));
  map_ids(1000, 1000);
}

// ---- the modes

static void ready_home(const char *path) {
  char part[PATH_MAX];
  for (const char *slash = path + 1;; slash++) {
    slash = strchrnul(slash, '/');
    snprintf(part, sizeof part, "%.*s", (int)(slash - path), path);
    make_dir(part);
    if (!*slash) break;
  }
  struct stat info;
  if (stat(path, &info) != 0 || (info.st_uid != 1000 && chown(path, 1000, 1000) != 0) || chdir(path) != 0) broken("home");
}

static void set_up(const struct attempt *attempt) {
  become_user();
  (attempt->setup ? attempt->setup : layout)();
}

static void set_up_in_child(const struct attempt *attempt) {
  pid_t child = fork();
  int status = 0;
  if (child == 0) {
    set_up(attempt);
    _exit(0);
  }
  waitpid(child, &status, 0);
  if (status != 0) _exit(3);
}

static const struct attempt *find(const char *name) {
  for (int f = 0; f < family_count; f++)
    for (int i = 0; i < families[f]->count; i++)
      if (strcmp(families[f]->attempts[i].name, name) == 0) return &families[f]->attempts[i];
  return NULL;
}

static const char *const expectations[] = {[DENIED] = "denied", [PAST] = "read", [PAST_SINCE_6_14] = "read since 6.14", [WINDOW] = "window"};

static int list(void) {
  bool first = true;
  printf("[");
  for (int f = 0; f < family_count; f++)
    for (int i = 0; i < families[f]->count; i++) {
      const struct attempt *a = &families[f]->attempts[i];
      printf("%s\n{\"family\":\"%s\",\"name\":\"%s\",\"summary\":\"%s\",\"expected\":\"%s\",\"loops\":%d,\"who\":[", first ? "" : ",",
             families[f]->name, a->name, a->summary, expectations[a->expected], a->loops);
      const char *comma = "";
      for (size_t u = 0; u < 3; u++)
        if (a->who & users[u].bit) printf("%s\"%s\"", comma, users[u].name), comma = ",";
      printf("],\"places\":[");
      comma = "";
      for (size_t s = 0; s < 4; s++)
        if (a->places & sites[s].bit) printf("%s\"%s\"", comma, sites[s].name), comma = ",";
      printf("]}");
      first = false;
    }
  printf("\n]\n");
  return 0;
}

static void locate(const char *name, const char *place_name, const char *user) {
  for (size_t u = 0; u < 3; u++)
    if (strcmp(users[u].name, user) == 0) who = users[u].bit, who_name = users[u].name;
  for (size_t s = 0; s < 4; s++)
    if (strcmp(sites[s].name, place_name) == 0) {
      place = sites[s].bit;
      snprintf(home, sizeof home, "%s/%s/%s", sites[s].base, user, name);
      snprintf(twin, sizeof twin, "%s/%s/%s", sites[s].twin, user, name);
    }
  if (!who_name || !*home) broken("no-such-user-or-place");
}

static int layer(const char *root) {
  for (int f = 0; f < family_count; f++)
    for (int i = 0; i < families[f]->count; i++)
      for (size_t u = 0; u < 3; u++) {
        const struct attempt *a = &families[f]->attempts[i];
        if (!(a->places & LOWER)) continue;
        locate(a->name, "image", users[u].name);
        ready_home(format("%s%s", root, home));
        set_up_in_child(a);
      }
  return 0;
}

static void run(const char *name, const char *place_name, const char *user, long count, long patience) {
  const struct attempt *attempt = find(name);
  if (!attempt) broken("no-such-attempt");
  tries = attempt->loops ? (count + attempt->loops - 1) / attempt->loops : 0;
  patience_ms = patience;
  locate(name, place_name, user);
  ready_home(home);
  if (place != LOWER) set_up_in_child(attempt);
  become(attempt);
  attempt->run();
  _exit(0);
}

static int serve(void) {
  char line[512], name[128], site[32], user[32];
  long count, patience;
  int wanted;
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  first_view = look_around();
  while (read_line(line, sizeof line)) {
    if (sscanf(line, "run %127s %31s %31s %ld %ld %d", name, site, user, &count, &patience, &wanted) != 6) return 3;
    explained = wanted;
    pid_t child = fork();
    if (child == 0) {
      setpgid(0, 0);
      run(name, site, user, count, patience);
    }
    int status = 0;
    waitpid(child, &status, 0);
    kill(-child, SIGKILL);  // whoever it left behind
    while (waitpid(-1, NULL, 0) > 0) continue;
    say("end", name, WIFEXITED(status) ? format("%d", WEXITSTATUS(status)) : format("signal-%d", WTERMSIG(status)));
  }
  return 0;
}

int main(int argc, char **argv) {
  umask(0);
  if (argc == 2 && strcmp(argv[1], "list") == 0) return list();
  if (argc == 3 && strcmp(argv[1], "layer") == 0) return layer(argv[2]);
  if (argc == 2 && strcmp(argv[1], "serve") == 0) return serve();
  // As an interpreter it is given the script, too.
  if (argc >= 2 && strcmp(argv[1], "say") == 0) return puts("SECRET") < 0;
  if (argc == 6 && strcmp(argv[1], "outside") == 0) {
    const struct attempt *attempt = find(argv[2]);
    if (!attempt || !attempt->outside) return 3;
    locate(argv[2], argv[3], argv[4]);
    init_pid = atoi(argv[5]);
    attempt->outside();
    return 0;
  }
  fprintf(stderr, "usage: attempt list | layer DIRECTORY | serve | outside NAME PLACE WHO PID | say\n");
  return 64;
}
