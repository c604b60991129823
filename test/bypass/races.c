// The moments in between, tried over and over. A try is a slip if it shows the
// secret, or opens what is guarded. The concurrent ones have a second thread
// that changes the tree as fast as it can.
#include "attempt.h"

#include <linux/mount.h>
#include <pthread.h>
#include <stdatomic.h>

static int open_it(const char *path) { return open(path, O_RDONLY | O_CLOEXEC); }
static bool reads(const char *path) { return shows_secret(open_it(path)); }

// `attempt` once each try; a slip if it returns true.
static void sequence(const char *label, bool (*attempt)(long)) {
  long slips = 0;
  for (long i = 0; i < tries; i++) slips += attempt(i);
  tally(label, slips, tries);
  control("out/neighbour");
}

static atomic_bool over;
static atomic_long moves;
static void *mover_body(void *move) {
  for (; !over; moves++) {
    ((void (*)(long))move)(moves);
    // On a busy machine all moves may be made in one turn, and the other side sees the last of them only.
    if (moves % 4 == 0) sched_yield();
  }
  return NULL;
}

// As many tries, while another thread calls `move`.
enum { TURNS = 32 };  // in which the other thread moved between two tries, at least
static void concurrence(const char *label, void (*move)(long), bool (*attempt)(long)) {
  pthread_t mover;
  if (pthread_create(&mover, NULL, mover_body, move) != 0) broken("thread");
  long slips = 0, i, turns = 0, seen = 0;
  // On a busy machine each may run for long without the other: what counts is that they took turns.
  for (i = 0; i < tries || ((moves < tries || turns < TURNS) && i < 100 * tries); i++) {
    slips += attempt(i);
    if (moves != seen) turns++;
    seen = moves;
    if (i % 8 == 0) sched_yield();
  }
  over = true;
  pthread_join(mover, NULL);
  tally(label, slips, i);
  control("out/neighbour");
}

static bool mkdir_create(long i) {
  make_dir(format("in/%ld", i));
  const char *path = format("in/%ld/made", i);
  bool slip = opened(open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0666));
  appear(path);
  slip |= reads(path);
  unlink(path);
  rmdir(format("in/%ld", i));
  return slip;
}
static void mkdir_create_open(void) {
  GUARD_TREE("in");
  sequence("mkdir-create-open", mkdir_create);
}

static bool mkdirs_create(long i) {
  const char *path = format("in/%ld", i);
  make_dir(path);
  for (int level = 0; level < 4; level++) make_dir(path = format("%s/x", path));
  path = format("%s/secret", path);
  appear(path);
  return reads(path);
}
static void mkdirs_create_open(void) {
  GUARD_TREE("in");
  sequence("mkdirs-create-open", mkdirs_create);
}

static bool replace(long i) {
  (void)i;
  appear("in/secret");
  return reads("in/secret");
}
static void replace_open(void) {
  GUARD_FILE("in/secret");
  sequence("replace-open", replace);
}

static bool come_and_go(long i) {
  appear("in/secret");
  bool slip = reads("in/secret");
  unlink("in/secret");
  if (i % 8 == 0) {
    rename("in", "out/gone");
    rename("out/gone/deep", "deep");
    rmdir("out/gone");
    make_dir("in");
    rename("deep", "in/deep");
  }
  return slip;
}
static void come_and_go_open(void) {
  GUARD_FILE("in/secret");
  sequence("appear-open", come_and_go);
}

static bool out_and_back(long i) {
  (void)i;
  if (rename("in/secret", "out/stolen") != 0) broken("rename");
  bool slip = reads("out/stolen");
  if (rename("out/stolen", "in/secret") != 0) broken("rename");
  return slip | reads("in/secret");
}
static void rename_out_open(void) {
  GUARD_TREE("in");
  sequence("rename-out-open", out_and_back);
}
static void rename_out_open_file_guard(void) {
  GUARD_FILE("in/secret");
  sequence("rename-out-open", out_and_back);
}

static void bounce(long i) {
  (void)i;
  rename("in/secret", "out/stolen");
  rename("out/stolen", "in/secret");
}
static bool either(long i) {
  (void)i;
  return reads("in/secret") | reads("out/stolen");
}
static void bouncing_file(void) {
  GUARD_TREE("in");
  concurrence("file", bounce, either);
}

static void bounce_dir(long i) {
  (void)i;
  rename("in", "out/stolen");
  rename("out/stolen", "in");
}
static bool either_dir(long i) {
  (void)i;
  return reads("in/deep/er/secret") | reads("out/stolen/deep/er/secret");
}
static void bouncing_dir(void) {
  GUARD_TREE("in");
  concurrence("directory", bounce_dir, either_dir);
}

// A new directory, opened often enough to be known as outside, which is then moved.
static bool warm_moved(long i, const char *to) {
  const char *dir = format("out/w%ld", i);
  make_dir(dir);
  make_dir(format("%s/e", dir));
  appear(format("%s/e/secret", dir));
  for (int n = 0; n < 3; n++)
    if (!reads(format("%s/e/secret", dir))) broken("an unguarded file is denied");
  if (rename(dir, to) != 0) broken("rename");
  return reads(format("%s/e/secret", to));
}

static bool warm_to_path(long i) {
  bool slip = warm_moved(i, "in/d");
  if (rename("in/d", format("out/gone%ld", i)) != 0) broken("rename");
  return slip;
}
static void warm_rename_open(void) {
  GUARD_FILE("in/d/e/secret");
  sequence("warm-rename-open", warm_to_path);
}

static bool warm_into_tree(long i) { return warm_moved(i, format("in/w%ld", i)); }
static void warm_rename_open_tree(void) {
  GUARD_TREE("in");
  sequence("warm-rename-open", warm_into_tree);
}

static bool link_out(long i) {
  const char *path = format("out/l%ld", i);
  if (link("in/deep/er/secret", path) != 0) broken("link");
  bool slip = reads(path);
  unlink(path);
  return slip;
}
static void link_open(void) {
  GUARD_TREE("in");
  sequence("link-open", link_out);
}
static void link_open_warm(void) {
  GUARD_FILE("in/deep/er/secret");
  warm("out/neighbour");
  sequence("link-open", link_out);
}

static bool link_swap(long i) {
  const char *from = i % 2 ? "out/only" : "in/secret", *to = i % 2 ? "in/secret" : "out/only";
  if (link(from, to) != 0) broken("link");
  if (unlink(from) != 0) broken("unlink");
  return reads(to);
}
static void link_unlink_open(void) {
  GUARD_FILE("in/secret");
  sequence("link-unlink-open", link_swap);
}

static void exchange(long i) {
  (void)i;
  renameat2(AT_FDCWD, "in/secret", AT_FDCWD, "out/decoy", RENAME_EXCHANGE);
}
static bool either_exchanged(long i) {
  (void)i;
  return reads("in/secret") | reads("out/decoy");
}
static void exchange_setup(void) {
  layout();
  put("out/decoy", "PUBLIC\n");
}
static void exchanging(void) {
  GUARD_FILE("in/secret");
  concurrence("exchange", exchange, either_exchanged);
}

// Which side the link shows; irregular, so that the reader cannot fall into step with it.
static bool coin(long i) { return (unsigned)i * 2654435761u >> 31; }

static void swap_link(long i) {
  if (symlink(coin(i) ? "in/secret" : "out/neighbour", "fresh") == 0) rename("fresh", "link");
}
static bool through_link(long i) {
  (void)i;
  return reads("link");
}
static void symlink_swap(void) {
  swap_link(0);
  GUARD_FILE("in/secret");
  concurrence("symlink", swap_link, through_link);
}

static void swap_parent(long i) {
  if (symlink(coin(i) ? "in" : "out", "fresh") == 0) rename("fresh", "link");
}
static bool through_parent(long i) {
  (void)i;
  return reads("link/secret") | reads("link/deep/er/secret");
}
static void symlink_swap_parent(void) {
  swap_parent(0);
  GUARD_TREE("in");
  concurrence("symlink", swap_parent, through_parent);
}

static bool repoint(long i) {
  const char *target = format("out/v%ld", i);
  put(target, "SECRET\n");
  if (symlink(target, "fresh") != 0 || rename("fresh", "link") != 0) broken("symlink");
  return reads("link");
}
static void symlink_repoint(void) {
  repoint(-1);
  GUARD_FILE("link");
  sequence("repoint-open", repoint);
}

static bool repoint_parent(long i) {
  const char *target = format("out/v%ld", i);
  make_dir(target);
  put(format("%s/secret", target), "SECRET\n");
  if (symlink(target, "fresh") != 0 || rename("fresh", "link") != 0) broken("symlink");
  return reads("link/secret");
}
static void symlink_repoint_parent(void) {
  repoint_parent(-1);
  GUARD_FILE("link/secret");
  sequence("repoint-open", repoint_parent);
}

// A child that does one thing, and says by its exit status if it slipped.
static bool child_slips(unsigned long flags, bool (*body)(void)) {
  pid_t child = fork();
  if (child < 0) broken("fork");
  if (child == 0) {
    if (flags && unshare(flags) != 0) _exit(2);
    _exit(body());
  }
  int status;
  waitpid(child, &status, 0);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 2) step("unshare", -1);
  return !WIFEXITED(status) || WEXITSTATUS(status) != 0;
}

static bool read_file(void) { return reads("in/secret") | reads("in/deep/er/secret"); }
static bool unshare_one(long i) {
  (void)i;
  return child_slips(who == ADMIN ? CLONE_NEWNS : CLONE_NEWUSER | CLONE_NEWNS, read_file);
}
static void unshare_open(void) {
  GUARD_TREE("in");
  sequence("unshare-open", unshare_one);
}

static bool thread_slipped;
static void *thread_unshares(void *unused) {
  if (unshare(CLONE_FS) != 0 || unshare(CLONE_NEWNS) != 0) step("unshare", -1);
  thread_slipped = read_file();
  return unused;
}
static bool thread_one(long i) {
  (void)i;
  pthread_t thread;
  if (pthread_create(&thread, NULL, thread_unshares, NULL) != 0) broken("thread");
  pthread_join(thread, NULL);
  return thread_slipped;
}
static void thread_unshare_open(void) {
  GUARD_TREE("in");
  sequence("thread-unshare-open", thread_one);
}

static void points_setup(void) {
  layout();
  make_dir("point");
}

static bool bind_read(void) {
  if (mount("in", "point", NULL, MS_BIND, NULL) != 0) return true;
  return reads("point/secret") | reads("point/deep/er/secret");
}
static bool bind_one(long i) {
  (void)i;
  bool slip = bind_read();
  if (umount2("point", MNT_DETACH) != 0) broken("umount");
  return slip;
}
static void bind_open(void) {
  GUARD_TREE("in");
  own_mounts();
  sequence("bind-open", bind_one);
}
static bool unshare_bind_one(long i) {
  (void)i;
  return child_slips(CLONE_NEWNS, bind_read);
}
static void unshare_bind_open(void) {
  GUARD_TREE("in");
  step("unshare-mounts", unshare(CLONE_NEWNS));
  sequence("unshare-bind-open", unshare_bind_one);
}

static bool clone_one(long i) {
  (void)i;
  int tree = (int)syscall(SYS_open_tree, AT_FDCWD, "in", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
  if (tree < 0) broken("open_tree");
  bool slip = shows_secret(openat(tree, "secret", O_RDONLY | O_CLOEXEC));
  close(tree);
  return slip;
}
static void clone_open(void) {
  GUARD_TREE("in");
  own_mounts();
  sequence("open_tree-open", clone_one);
}

// Each try waits for its window to close; what is below the mount has none.
static void tmpfs_open(void) {
  GUARD_TREE("in");
  own_mounts();
  long slips = 0, i = 0;
  for (bool shut = true; shut && i < tries && i < 20; i++) {
    if (mount("tmpfs", "point", "tmpfs", 0, NULL) != 0) broken("mount");
    put("point/secret", "SECRET\n");
    if (mount("point", "in", NULL, MS_MOVE, NULL) != 0) broken("move");
    shut = window("in/secret");
    if (umount2("in", MNT_DETACH) != 0) broken("umount");
    slips += reads("in/secret");
  }
  tally("uncovered", slips, i);
  control("out/neighbour");
}

// Against nothing a race is won at least once; the concurrent ones not at each try.
#define RACE(name_, summary_, who_, places_, divisor_, setup_, run_) \
  {.name = name_, .summary = summary_, .who = who_, .places = places_, .expected = DENIED, .setup = setup_, .run = run_, .loops = divisor_}

static const struct attempt list[] = {
    RACE("race-mkdir", "mkdir, create, open", EVERYBODY, WRITTEN, 1, NULL, mkdir_create_open),
    RACE("race-mkdirs", "mkdir five times, create, open", EVERYBODY, WRITTEN, 1, NULL, mkdirs_create_open),
    RACE("race-replace", "Renames a new file over a guarded one, opens", EVERYBODY, ANYWHERE, 1, NULL, replace_open),
    RACE("race-appear", "A guarded file appears, is opened, disappears; its directory now and then as well", EVERYBODY, WRITTEN, 1, NULL, come_and_go_open),
    RACE("race-rename-out", "Renames a file out of a guarded tree, opens, renames back, opens", EVERYBODY, ANYWHERE, 1, NULL, rename_out_open),
    RACE("race-rename-out-file-guard", "The same with a guard on one file", EVERYBODY, ANYWHERE, 1, NULL, rename_out_open_file_guard),
    RACE("race-bouncing-file", "A thread moves a file out of a guarded tree and back; opens both names", EVERYBODY, ANYWHERE, 1, NULL, bouncing_file),
    RACE("race-bouncing-directory", "A thread moves a guarded directory away and back; opens both names", EVERYBODY, WRITTEN, 1, NULL, bouncing_dir),
    RACE("race-warm-rename", "Renames a directory that is known to be outside to where a guarded path leads through, opens", EVERYBODY, WRITTEN, 1, NULL, warm_rename_open),
    RACE("race-warm-rename-tree", "Makes a directory known to be outside, renames it into a guarded tree, opens", EVERYBODY, WRITTEN, 1, NULL, warm_rename_open_tree),
    RACE("race-link", "Hard links a file out of a guarded tree, opens", EVERYBODY, ANYWHERE, 1, NULL, link_open),
    RACE("race-link-warm", "Hard links a guarded file into a directory that is known to be outside, opens", EVERYBODY, ANYWHERE, 1, NULL, link_open_warm),
    RACE("race-link-unlink", "Link, unlink, open: a guarded file changes its only name", EVERYBODY, ANYWHERE, 1, NULL, link_unlink_open),
    RACE("race-exchange", "A thread exchanges a guarded file with an open one; reads both names", EVERYBODY, ANYWHERE, 1, exchange_setup, exchanging),
    RACE("race-symlink", "A thread swaps a symbolic link between a guarded and an open file; reads it", EVERYBODY, ANYWHERE, 1, NULL, symlink_swap),
    RACE("race-symlink-parent", "The same with a link to a directory", EVERYBODY, ANYWHERE, 1, NULL, symlink_swap_parent),
    RACE("race-repoint", "Re-points a guarded symbolic link to a new file, opens", EVERYBODY, WRITTEN, 1, NULL, symlink_repoint),
    RACE("race-repoint-parent", "Re-points a symbolic link in a guarded path to a new directory, opens", EVERYBODY, WRITTEN, 1, NULL, symlink_repoint_parent),
    RACE("race-unshare", "A child unshares its mount namespace, opens", EVERYBODY, ANYWHERE, 1, NULL, unshare_open),
    RACE("race-thread-unshare", "A thread unshares its mount namespace, opens", ADMIN, ANYWHERE, 1, NULL, thread_unshare_open),
    RACE("race-bind", "Bind-mounts a guarded directory, opens, unmounts", ADMIN, ANYWHERE, 1, points_setup, bind_open),
    RACE("race-unshare-bind", "A child unshares, bind-mounts, opens", ADMIN, ANYWHERE, 1, points_setup, unshare_bind_open),
    RACE("race-open_tree", "Clones a guarded directory by open_tree, opens", ADMIN, ANYWHERE, 1, points_setup, clone_open),
    {.name = "race-mount-over", .summary = "Moves a tmpfs over a guarded directory, opens, unmounts, opens (20 tries at most)", .who = ADMIN, .places = ANYWHERE, .expected = WINDOW, .setup = points_setup, .run = tmpfs_open, .loops = 1},
};
FAMILY(races, list);
