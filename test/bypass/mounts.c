// The same file through another mount, and another file at the same path. All
// of it takes a mount namespace that the attempt owns: anybody gets that with
// a user namespace, nobody without (namespaces.c tries the latter).
#include "attempt.h"

#include <linux/mount.h>

#ifndef SYS_mount_setattr
#define SYS_mount_setattr 442
#endif

static int clone_tree(const char *path, unsigned flags) {
  return (int)step("open_tree", syscall(SYS_open_tree, AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | flags));
}

static void attach(int tree, const char *path) {
  step("move_mount", syscall(SYS_move_mount, tree, "", AT_FDCWD, path, MOVE_MOUNT_F_EMPTY_PATH));
}

static void bind_at(const char *from, const char *to, unsigned long flags) {
  step("bind", mount(from, to, NULL, MS_BIND | flags, NULL));
}

static void points_setup(void) {
  layout();
  make_dir("point");
  make_dir("point2");
  make_dir("out/d");
  put("file-point", "");
  put("out/d/neighbour", "PUBLIC\n");
}

static void bind_dir(void) {
  GUARD_TREE("in");
  own_mounts();
  bind_at("in", "point", 0);
  secret("point/secret");
  secret("point/deep/er/secret");
  bind_at("out", "point2", 0);
  control("point2/neighbour");
}

static void bind_below(void) {
  GUARD_TREE("in");
  own_mounts();
  bind_at("in/deep", "point", 0);
  secret("point/er/secret");
  control("out/neighbour");
}

static void bind_parent(void) {
  GUARD_TREE("in");
  own_mounts();
  bind_at(home, "point", 0);
  secret("point/in/secret");
  secret("point/in/deep/er/secret");
  control("point/out/neighbour");
}

static void bind_file(void) {
  GUARD_FILE("in/secret");
  own_mounts();
  bind_at("in/secret", "file-point", 0);
  secret("file-point");
  control("out/neighbour");
}

static void bind_over_warm(void) {
  GUARD_TREE("in");
  warm("out/d/neighbour");
  own_mounts();
  bind_at("in", "out/d", 0);
  secret("out/d/secret");
  control("out/neighbour");
}

static void bind_and_move(void) {
  GUARD_TREE("in");
  own_mounts();
  bind_at("in", "point", 0);
  step("move", mount("point", "point2", NULL, MS_MOVE, NULL));
  secret("point2/secret");
  step("rename", rename("in", "out/in"));
  secret("point2/deep/er/secret");
  control("out/neighbour");
}

static void whole_tree(void) {
  GUARD_TREE("in");
  own_mounts();
  bind_at("/", "point", MS_REC);
  secret(format("point%s/in/secret", home));
  control(format("point%s/out/neighbour", home));
}

static void bound_before_child(void) {
  own_mounts();
  bind_at("in", "point", 0);
  int dir = open("point", O_PATH | O_CLOEXEC);
  meet();
  secret("point/secret");
  secret("in/secret");
  secret_at("dirfd", dir, "deep/er/secret");
  control("out/neighbour");
}

static void bound_before(void) {
  pid_t child = beside(bound_before_child);
  GUARD_TREE("in");
  let_go(child);
}

static void detached(void) {
  GUARD_TREE("in");
  own_mounts();
  int tree = clone_tree("in", 0);
  secret_at("clone", tree, "secret");
  secret_at("clone-deep", tree, "deep/er/secret");
  int whole = clone_tree(home, 0);
  secret_at("clone-parent", whole, "in/secret");
  control_at("clone-parent", whole, "out/neighbour");
  control("out/neighbour");
}

static void detached_file(void) {
  GUARD_FILE("in/secret");
  own_mounts();
  int tree = clone_tree("in/secret", 0);
  secret(format("/proc/self/fd/%d", tree));
  control("out/neighbour");
}

static void detached_before_child(void) {
  own_mounts();
  int tree = clone_tree("in", 0);
  meet();
  secret_at("clone", tree, "secret");
  secret_at("clone-deep", tree, "deep/er/secret");
  attach(tree, "point");
  secret("point/secret");
  control("out/neighbour");
}

static void detached_before(void) {
  pid_t child = beside(detached_before_child);
  GUARD_TREE("in");
  let_go(child);
}

static void attached(void) {
  GUARD_TREE("in");
  own_mounts();
  int tree = clone_tree("in", AT_RECURSIVE);
  attach(tree, "point");
  secret("point/secret");
  secret_at("clone", tree, "deep/er/secret");
  control("out/neighbour");
}

static void tmpfs_over(void) {
  GUARD_TREE("in");
  own_mounts();
  int below = step("open-path", open("in", O_PATH | O_CLOEXEC));
  bind_at("in", "in", 0);
  secret_at("bound-over-itself", AT_FDCWD, "in/secret");
  int tmp = step("open-path", open("out", O_PATH | O_CLOEXEC));
  step("tmpfs", mount("tmpfs", "point", "tmpfs", 0, NULL));
  put("point/secret", "SECRET tmpfs\n");
  step("move", mount("point", "in", NULL, MS_MOVE, NULL));
  window("in/secret");
  secret_at("hidden", below, "secret");
  secret_at("hidden-deep", below, "deep/er/secret");
  control_at("out/neighbour", tmp, "neighbour");
}

static void tmpfs_over_file_guard(void) {
  GUARD_FILE("in/secret");
  own_mounts();
  step("tmpfs", mount("tmpfs", "in", "tmpfs", 0, NULL));
  put("in/fresh", "SECRET tmpfs\n");
  step("rename", rename("in/fresh", "in/secret"));
  window("in/secret");
  control("out/neighbour");
}

static void tmpfs_below(void) {
  GUARD_TREE("in");
  own_mounts();
  step("tmpfs", mount("tmpfs", "point", "tmpfs", 0, NULL));
  put("point/secret", "SECRET tmpfs\n");
  step("move", mount("point", "in/deep", NULL, MS_MOVE, NULL));
  window("in/deep/secret");
  make_dir("in/deep/x");
  step("rename", rename("in/deep/secret", "in/deep/x/secret"));
  secret("in/deep/x/secret");
  control("out/neighbour");
}

static void tmpfs_over_parent(void) {
  GUARD_TREE("in");
  own_mounts();
  step("tmpfs", mount("tmpfs", home, "tmpfs", 0, NULL));
  step("chdir", chdir(home));
  make_dir("out");
  make_dir("in");
  put("out/neighbour", "PUBLIC\n");
  appear("in/secret");
  window("in/secret");
  control("out/neighbour");
}

static void public_over(void) {
  GUARD_TREE("in");
  warm("out/d/neighbour");
  own_mounts();
  put("out/d/secret", "SECRET\n");
  bind_at("out/d", "in", 0);
  window("in/secret");
  control("out/neighbour");
}

static void file_over(void) {
  GUARD_FILE("in/secret");
  own_mounts();
  put("out/other", "SECRET\n");
  bind_at("out/other", "in/secret", 0);
  window("in/secret");
  control("out/neighbour");
}

static void unmounted(void) {
  GUARD_TREE("in");
  own_mounts();
  bind_at("in", "point", 0);
  int dir = step("open-path", open("point", O_PATH | O_CLOEXEC));
  step("umount", umount2("point", MNT_DETACH));
  secret_at("detached", dir, "secret");
  secret_at("detached-deep", dir, "deep/er/secret");
  control("out/neighbour");
}

static void unmounted_parent(void) {
  GUARD_TREE("in");
  own_mounts();
  bind_at(home, "point", 0);
  int dir = step("open-path", open("point", O_PATH | O_CLOEXEC));
  step("umount", umount2("point", MNT_DETACH));
  secret_at("detached", dir, "in/secret");
  secret_at("detached-deep", dir, "in/deep/er/secret");
  control_at("detached", dir, "out/neighbour");
  control("out/neighbour");
}

// A new super block, with inodes of its own, that shows the guarded files.
static void overlay(void) {
  GUARD_TREE("in");
  own_mounts();
  step("overlay", mount("overlay", "point", "overlay", 0, format("lowerdir=%s/in:%s/out", home, home)));
  secret("point/secret");
  secret("point/deep/er/secret");
  control("point/neighbour");
  control("out/neighbour");
}

static void overlay_parent(void) {
  GUARD_TREE("in");
  own_mounts();
  step("overlay", mount("overlay", "point", "overlay", 0, format("lowerdir=%s:/mnt", home)));
  secret("point/in/secret");
  control("point/out/neighbour");
}

static void overlay_upper(void) {
  GUARD_FILE("in/secret");
  own_mounts();
  step("tmpfs", mount("tmpfs", "point2", "tmpfs", 0, NULL));
  make_dir("point2/upper");
  make_dir("point2/work");
  step("overlay", mount("overlay", "point", "overlay", 0, format("userxattr,lowerdir=%s/in,upperdir=%s/point2/upper,workdir=%s/point2/work", home, home, home)));
  step("chmod", chmod("point/secret", 0600));
  secret("point2/upper/secret");
  secret("point/secret");
  control("out/neighbour");
}

// The guarded name is the oldest, behind more names than are looked at in the kernel, before Linux 6.5 (deny_below).
static void overlay_names(void) {
  GUARD_TREE("in");
  for (int i = 0; i < 1100; i++) step("link", link("in/secret", format("out/%d", i)));
  own_mounts();
  step("overlay", mount("overlay", "point", "overlay", 0, format("lowerdir=%s/out:/mnt", home)));
  for (int i = 0; i < 1100; i += 366) secret(format("point/%d", i));
  control("point/neighbour");
}

// Further below the guarded directory than is looked at in the kernel, before Linux 6.5.
#define LEVELS 4200

static void descend(void) {
  for (int i = 0; i < LEVELS; i++) step("chdir", chdir("d"));
}

static void overlay_levels_setup(void) {
  points_setup();
  if (who != ADMIN) return;  // nobody else gets as far
  if (chdir("in") != 0) broken("chdir");
  for (int i = 0; i < LEVELS; i++) {
    make_dir("d");
    if (chdir("d") != 0) broken("chdir");
  }
  put("secret", "SECRET\n");
}

static void overlay_levels(void) {
  own_mounts();
  GUARD_TREE("in");
  step("chdir", chdir("in"));
  descend();
  step("overlay", mount("overlay", absolute("point"), "overlay", 0, "lowerdir=.:/mnt"));
  // Each level is pinned on its own, and its names are read up to the root.
  patience_ms *= 10;
  window(absolute("point/secret"));
  control(absolute("out/neighbour"));
}

static void overlay_before_child(void) {
  own_mounts();
  step("overlay", mount("overlay", "point", "overlay", 0, format("lowerdir=%s/in:%s/out", home, home)));
  meet();
  secret("point/secret");
  secret("point/deep/er/secret");
  control("point/neighbour");
}

static void overlay_before(void) {
  pid_t child = beside(overlay_before_child);
  GUARD_TREE("in");
  let_go(child);
}

static void second_mount(void) {
  GUARD_TREE("in");
  secret(format("%s/in/secret", twin));
  secret(format("%s/in/deep/er/secret", twin));
  control(format("%s/out/neighbour", twin));
}

static void second_mount_file_guard(void) {
  GUARD_FILE("in/secret");
  secret(format("%s/in/secret", twin));
  step("chdir", chdir(twin));
  appear("in/secret");
  secret("in/secret");
  step("chdir", chdir(home));
  secret("in/secret");
  control(format("%s/out/neighbour", twin));
}

static void second_mount_moved(void) {
  GUARD_TREE("in");
  step("rename", rename(format("%s/in", twin), format("%s/out/moved", twin)));
  secret("out/moved/secret");
  secret(format("%s/out/moved/deep/er/secret", twin));
  control("out/neighbour");
}

// What a new mount shows at a guarded path.
#define NEW_MOUNT(name_, summary_, setup_, run_) \
  {.name = name_, .summary = summary_, .who = ADMIN, .places = ANYWHERE, .expected = WINDOW, .setup = setup_, .run = run_}

static const struct attempt list[] = {
    TRY("bind", "Bind-mounts a guarded directory elsewhere", ADMIN, ANYWHERE, points_setup, bind_dir),
    TRY("bind-below", "Bind-mounts a directory inside a guarded tree elsewhere", ADMIN, ANYWHERE, points_setup, bind_below),
    TRY("bind-parent", "Bind-mounts a parent of a guarded directory elsewhere", ADMIN, ANYWHERE, points_setup, bind_parent),
    TRY("bind-file", "Bind-mounts a guarded file elsewhere", ADMIN, ANYWHERE, points_setup, bind_file),
    TRY("bind-over-warm", "Bind-mounts a guarded directory over one that is known to be outside", ADMIN, ANYWHERE, points_setup, bind_over_warm),
    TRY("bind-moved", "Moves the bind mount, then renames the guarded directory", ADMIN, WRITTEN, points_setup, bind_and_move),
    TRY("bind-everything", "Bind-mounts the whole container elsewhere, volumes and all", ADMIN, ANYWHERE, points_setup, whole_tree),
    TRY("bind-before", "A bind mount, in a mount namespace of its own, older than the guard", ADMIN, ANYWHERE, points_setup, bound_before),
    TRY("clone-detached", "Opens below an open_tree clone that is mounted nowhere", ADMIN, ANYWHERE, points_setup, detached),
    TRY("clone-detached-file", "Re-opens an open_tree clone of one file", ADMIN, ANYWHERE, points_setup, detached_file),
    TRY("clone-before", "The same with a clone older than the guard, then mounted", ADMIN, ANYWHERE, points_setup, detached_before),
    TRY("clone-mounted", "Mounts an open_tree clone by move_mount", ADMIN, ANYWHERE, points_setup, attached),
    NEW_MOUNT("tmpfs-over", "Mounts a tmpfs over a guarded directory: what is seen, and what is hidden", points_setup, tmpfs_over),
    NEW_MOUNT("tmpfs-over-file-guard", "Mounts a tmpfs over the parent of a guarded file, and puts a file there", points_setup, tmpfs_over_file_guard),
    NEW_MOUNT("tmpfs-below", "Mounts a tmpfs inside a guarded tree", points_setup, tmpfs_below),
    NEW_MOUNT("tmpfs-over-parent", "Mounts a tmpfs over a distant parent, and rebuilds the guarded path", points_setup, tmpfs_over_parent),
    NEW_MOUNT("public-over", "Bind-mounts a directory that is known to be outside over the guarded one", points_setup, public_over),
    NEW_MOUNT("file-over", "Bind-mounts a file over a guarded one", points_setup, file_over),
    TRY("unmounted", "Opens below a bind mount that was unmounted lazily", ADMIN, ANYWHERE, points_setup, unmounted),
    TRY("unmounted-parent", "The same with a parent of the guarded directory", ADMIN, ANYWHERE, points_setup, unmounted_parent),
    TRY("overlay", "Mounts an overlay that has the guarded directory as a layer", ADMIN, ANYWHERE, points_setup, overlay),
    TRY("overlay-parent", "The same with its parent", ADMIN, ANYWHERE, points_setup, overlay_parent),
    TRY("overlay-copied-up", "Has an overlay of its own copy a guarded file up to a tmpfs", ADMIN, ANYWHERE, points_setup, overlay_upper),
    TRY("overlay-of-many-names", "An overlay of a guarded file that has a thousand links outside", ADMIN, DISK, points_setup, overlay_names),
    {.name = "overlay-of-many-levels", .summary = "An overlay of a directory 4,200 levels below the guarded one", .who = ADMIN, .places = DISK, .expected = WINDOW, .setup = overlay_levels_setup, .run = overlay_levels},
    TRY("overlay-before", "An overlay older than the guard", ADMIN, ANYWHERE, points_setup, overlay_before),
    TRY("second-mount", "Reads through the volume's second mount in the container", EVERYBODY, VOLUMES, NULL, second_mount),
    TRY("second-mount-file-guard", "Replaces a guarded file through the second mount", EVERYBODY, VOLUMES, NULL, second_mount_file_guard),
    TRY("second-mount-moved", "Moves the guarded directory through the second mount", EVERYBODY, VOLUMES, NULL, second_mount_moved),
};
FAMILY(mounts, list);
