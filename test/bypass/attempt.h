// What every attempt of the bypass suite is written with.
//
// An attempt is one C function that runs inside the container. It makes files
// (`setup`), asks the runner to guard them (`guard_*`), and then tries to get
// at their content in some roundabout way (`secret*`). Each also reads
// something next to the guard that has to stay readable (`control*`), so that
// a daemon which denies everything fails too. What it prints is read by
// runner.ts; the verdict is the runner's, never the attempt's.
//
// Owns: the protocol with the runner, the three kinds of user, the places.
// Must not know what guards the container, or whether anything does.
#pragma once

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

// Who tries. Root has a container's default capabilities; the admin has all of
// them in a user namespace of its own, which anybody may make.
enum who { ROOT = 1, USER = 2, ADMIN = 4, EVERYBODY = 7 };

// Where the files are: in the container's writable layer, in its image (so
// that changing them copies them up), on a volume from the node's disk, on a
// tmpfs volume.
enum place { UPPER = 1, LOWER = 2, DISK = 4, MEMORY = 8, VOLUMES = 12, WRITTEN = 13, ANYWHERE = 15 };

// What janusd owes. `PAST`: readable, and rightly so (or the kernel asks nobody).
// `WINDOW`: denied from some moment on that `window` waits for, and everything else at once.
// `PAST_SINCE_6_14`: since then the kernel settles at open whether reads of a descriptor can ever ask.
enum expected { DENIED, PAST, PAST_SINCE_6_14, WINDOW };

struct attempt {
  const char *name;
  const char *summary;
  int who;     // the kernel lets these get as far as the secret; it stops the others on the way
  int places;  // where it's tried at all
  enum expected expected;
  void (*setup)(void);    // before the guard, as uid 1000; may be run on the node, in the image's directory
  void (*run)(void);      // inside the container
  void (*outside)(void);  // on the node, in the same directory by another mount, when `outside()` is called
  int loops;              // 0, or: a race of the runner's number of tries divided by this
  int extra_capability;   // root keeps CAP_DAC_READ_SEARCH
};

struct family {
  const char *name;
  const struct attempt *attempts;
  int count;
};
// name, summary, who, places, setup (NULL: layout), run; what is not denied, or has more to it, is spelled out.
#define TRY(name_, summary_, who_, places_, setup_, run_) \
  {.name = name_, .summary = summary_, .who = who_, .places = places_, .expected = DENIED, .setup = setup_, .run = run_}
#define FAMILY(id, list) const struct family id = {#id, list, sizeof list / sizeof *list}
extern const struct family names, links, mounts, namespaces, descriptors, volumes, races;

// The attempt's own directory, which is also its working directory when it
// starts, and the same directory by the volume's second mount.
extern char home[PATH_MAX], twin[PATH_MAX];
extern const char *who_name;
extern enum who who;
extern enum place place;
extern long tries;
extern long patience_ms;  // how long a window may stay open
extern pid_t init_pid;  // of the container; only outside

// ---- before the guard
// in/secret in/deep/er/secret out/neighbour, all of them readable and writable by everybody
void layout(void);
void put(const char *path, const char *text);
void make_dir(const char *path);
// Opens what is below until a daemon that learns has learned that it's outside.
void warm(const char *path);

// ---- the guard; each returns when it is in force
#define GUARD_TREE(path) guard("deny", path, "\"recursive\":true,\"event\":[\"open\"]")
// The node goes on writing there, as the kubelet does.
#define GUARD_TREE_OF_NODE(path) guard("deny", path, "\"recursive\":true,\"event\":[\"open\"],\"scope\":\"SCOPE_CONTAINER\"")
#define GUARD_FILE(path) guard("deny", path, "\"event\":[\"open\"]")
#define GUARD_ACCESS(path) guard("deny", path, "\"recursive\":true,\"event\":[\"access\"]")
void guard(const char *response, const char *path, const char *fields);
void guard2(const char *deny, const char *allow, const char *fields);
void outside(void);

// ---- after it
// A step on the way. If the kernel refuses it, the attempt doesn't apply and ends here.
long step(const char *what, long result);
void secret(const char *path);
void secret_at(const char *label, int dir, const char *path);
void secret_fd(const char *label, int fd);  // takes fd; -1: errno says why
void secret_text(const char *label, const char *text, long length);
// What a new mount shows at a guarded path: opens it until it is denied, for `patience_ms` at most, and 50 times more
// once it is. Says how long it was readable; false if it is not denied in the end. To be called right after the mount.
bool window(const char *path);
// The same around a mount that `outside()` makes: opens all the while, so that nothing before its return is missed.
void window_outside(const char *path);
void control(const char *path);
void control_at(const char *label, int dir, const char *path);
void control_fd(const char *label, int fd);
// Puts a new file at a path, without opening anything at that path.
void appear(const char *path);
// For races: true if fd shows the secret, or anything at all if `any`. Closes it.
bool shows_secret(int fd);
bool opened(int fd);
void tally(const char *label, long slips, long of);

// ---- odds and ends
const char *absolute(const char *path);  // below home; one of 16 rotating buffers
const char *format(const char *pattern, ...) __attribute__((format(printf, 1, 2)));
void own_mounts(void);   // a private mount namespace; only the admin gets one
void user_and_mounts(void);  // the same, for anybody, with a new user namespace
void in_child(void (*body)(void));
// Runs `body` in a child up to its `meet()`; the parent goes on when it's there.
pid_t beside(void (*body)(void));
void meet(void);      // in the child: tell the parent, and wait for `let_go`
void let_go(pid_t child);
void broken(const char *what) __attribute__((noreturn));
