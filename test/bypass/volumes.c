// What happens to a guarded path from outside the container: the kubelet
// rotates secrets, another pod writes to the same volume, the runtime mounts.
#include "attempt.h"

#include <linux/mount.h>

// A secret volume as the kubelet's atomic writer makes it.
static void version(const char *name, const char *text) {
  make_dir(format("creds/%s", name));
  put(format("creds/%s/secret", name), text);
}

static void point_data_to(const char *name) {
  if (symlink(name, "creds/..data_tmp") != 0 || rename("creds/..data_tmp", "creds/..data") != 0) broken("..data");
}

static void credentials_setup(void) {
  make_dir("creds");
  make_dir("out");
  put("out/neighbour", "PUBLIC\n");
  version("..v1", "SECRET v1\n");
  point_data_to("..v1");
  if (symlink("..data/secret", "creds/secret") != 0) broken("symlink");
}

static void rotate(void) {
  version("..v2", "SECRET v2\n");
  point_data_to("..v2");
  if (unlink("creds/..v1/secret") != 0 || rmdir("creds/..v1") != 0) broken("old-version");
}

static void rotated(void) {
  secret("creds/secret");
  secret("creds/..data/secret");
  outside();
  secret("creds/secret");
  secret("creds/..data/secret");
  secret("creds/..v2/secret");
  control("out/neighbour");
}

static void rotated_file(void) {
  GUARD_FILE("creds/secret");
  rotated();
}

static void rotated_tree(void) {
  GUARD_TREE_OF_NODE("creds");
  rotated();
}

static void rotated_data(void) {
  GUARD_TREE("creds/..data");
  rotated();
}

static void rotated_warm(void) {
  GUARD_FILE("creds/secret");
  warm("out/neighbour");
  rotated();
}

// A clone that is mounted nowhere carries no mark, and nobody can know of it: only what is pinned is denied there.
static const char *clone_of(const char *path) {
  user_and_mounts();
  int tree = (int)step("open_tree", syscall(SYS_open_tree, AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC));
  return format("/proc/self/fd/%d", tree);
}

static void rotate_deep(void) {
  make_dir("creds/..v2");
  make_dir("creds/..v2/tls");
  make_dir("creds/..v2/tls/deep");
  put("creds/..v2/tls/deep/secret", "SECRET v2\n");
  rotate();
}

static void rotated_data_clone(void) {
  GUARD_TREE_OF_NODE("creds/..data");
  const char *clone = clone_of("creds");
  secret(format("%s/..v1/secret", clone));
  outside();
  secret("creds/..data/tls/deep/secret");
  window(format("%s/..v2/tls/deep/secret", clone));
  control("out/neighbour");
}

// ---- another pod, or the node, on the same volume

static void replace(void) { appear("in/secret"); }

static void replaced_file(void) {
  GUARD_FILE("in/secret");
  outside();
  secret("in/secret");
  control("out/neighbour");
}

static void replaced_file_clone(void) {
  GUARD_FILE("in/secret");
  const char *clone = clone_of("in");
  outside();
  window(format("%s/secret", clone));
  control("out/neighbour");
}

static void move_away(void) {
  if (rename("in", "out/moved") != 0) broken("rename");
  make_dir("in");
  appear("in/secret");
}

static void moved(void) {
  GUARD_TREE("in");
  outside();
  secret("out/moved/secret");
  secret("out/moved/deep/er/secret");
  secret("in/secret");
  control("out/neighbour");
}

static void moved_file_guard(void) {
  GUARD_FILE("in/secret");
  outside();
  secret("out/moved/secret");
  secret("in/secret");
  control("out/neighbour");
}

static void link_out(void) {
  if (link("in/secret", "out/linked") != 0 || link("in/deep/er/secret", "out/deep") != 0) broken("link");
}

static void linked(void) {
  GUARD_TREE("in");
  warm("out/neighbour");
  outside();
  secret("out/linked");
  secret("out/deep");
  control("out/neighbour");
}

static void make_later(void) {
  make_dir("later");
  make_dir("later/a");
  appear("later/a/secret");
}

static void later(void) {
  GUARD_FILE("later/a/secret");
  outside();
  secret("later/a/secret");
  control("out/neighbour");
}

static void later_clone(void) {
  GUARD_FILE("later/a/secret");
  const char *clone = clone_of(".");
  outside();
  window(format("%s/later/a/secret", clone));
  control("out/neighbour");
}

static void warm_setup(void) {
  layout();
  make_dir("out/d");
  put("out/d/secret", "SECRET\n");
}

static void move_in(void) {
  if (rename("out/d", "in/d") != 0) broken("rename");
}

static void warm_moved_in(void) {
  GUARD_TREE("in");
  warm("out/neighbour");
  warm("out/d/secret");
  outside();
  secret("in/d/secret");
  control("out/neighbour");
}

static void grow(void) {
  make_dir("in/new");
  appear("in/new/secret");
}

static void grown(void) {
  GUARD_TREE("in");
  outside();
  secret("in/new/secret");
  control("out/neighbour");
}

static void put_deep(const char *directory) {
  make_dir(directory);
  make_dir(format("%s/dir", directory));
  put(format("%s/dir/secret", directory), "SECRET\n");
}

static void grow_deep(void) { put_deep("in/new"); }

static void grown_clone(void) {
  GUARD_TREE_OF_NODE("in");
  const char *clone = clone_of("in");
  outside();
  window(format("%s/new/dir/secret", clone));
  control("out/neighbour");
}

static void built_setup(void) {
  layout();
  put_deep("out/built");
}

static void move_built_in(void) {
  if (rename("out/built", "in/built") != 0) broken("rename");
}

static void moved_in_clone(void) {
  GUARD_TREE_OF_NODE("in");
  const char *clone = clone_of("in");
  outside();
  window(format("%s/built/dir/secret", clone));
  control("out/neighbour");
}

static void grown_linked(void) {
  GUARD_TREE_OF_NODE("in");
  outside();
  step("link", link("in/new/dir/secret", "out/linked"));
  window("out/linked");
  control("out/neighbour");
}

static void grown_after_move(void) {
  GUARD_TREE_OF_NODE("in");
  const char *clone = clone_of(".");
  step("rename", rename("in/deep", "out/deep"));
  outside();
  window(format("%s/out/deep/new/dir/secret", clone));
  control("out/neighbour");
}

static void grow_moved(void) { put_deep("out/deep/new"); }

// ---- subPath: the mount is one directory or one file of the volume

static void sub_dir(void) {
  char own[64], whole[64];
  snprintf(own, sizeof own, "/sub/%s.dir", who_name);
  snprintf(whole, sizeof whole, "/vol/sub/%s.dir", who_name);
  put(format("%s/secret", own), "SECRET\n");
  make_dir(format("%s/deep", own));
  put(format("%s/deep/secret", own), "SECRET\n");
  GUARD_TREE(own);
  secret(format("%s/secret", own));
  secret(format("%s/deep/secret", own));
  secret(format("%s/secret", whole));
  secret(format("%s/deep/secret", whole));
  step("rename", rename(format("%s/deep", whole), format("/vol/%s/subpath-directory/out/deep", who_name)));
  secret("out/deep/secret");
  control("out/neighbour");
}

static void volume_below(void) {
  const char *own = format("/sub/%s.dir", who_name);
  make_dir(format("%s/deep", own));
  put(format("%s/deep/secret", own), "SECRET\n");
  GUARD_TREE("/sub");
  secret(format("%s/deep/secret", clone_of(own)));
  secret(format("%s/deep/secret", own));
  control("out/neighbour");
}

static void sub_dir_below(void) {
  char own[64];
  snprintf(own, sizeof own, "/sub/%s.dir", who_name);
  make_dir(format("%s/only", own));
  put(format("%s/only/secret", own), "SECRET\n");
  put(format("%s/neighbour", own), "PUBLIC\n");
  GUARD_FILE(format("%s/only/secret", own));
  secret(format("%s/only/secret", own));
  secret(format("/vol/sub/%s.dir/only/secret", who_name));
  appear(format("/vol/sub/%s.dir/only/secret", who_name));
  secret(format("%s/only/secret", own));
  control(format("%s/neighbour", own));
}

static void sub_file(void) {
  char own[64];
  snprintf(own, sizeof own, "/sub/%s.file", who_name);
  put(own, "SECRET\n");
  GUARD_FILE(own);
  secret(own);
  secret(format("/vol/sub/%s.file", who_name));
  step("link", link(format("/vol/sub/%s.file", who_name), "out/linked"));
  secret("out/linked");
  control("out/neighbour");
}

// ---- the runtime mounts into the container's own mount namespace

static void enter_container(void) {
  int fd = open(format("/proc/%d/ns/mnt", init_pid), O_RDONLY | O_CLOEXEC);
  if (fd < 0 || setns(fd, CLONE_NEWNS) != 0 || chdir(home) != 0) broken("setns");
}

// As a runtime does: filled first, and then put into the container, whole.
static void mount_at(const char *path) {
  char made[] = "/tmp/bypass-XXXXXX";
  if (!mkdtemp(made) || unshare(CLONE_NEWNS) != 0 || mount("", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) broken("unshare");
  if (mount("tmpfs", made, "tmpfs", 0, "mode=777") != 0) broken("mount");
  put(format("%s/secret", made), "SECRET tmpfs\n");
  make_dir(format("%s/deep", made));
  put(format("%s/deep/secret", made), "SECRET tmpfs\n");
  int tree = (int)syscall(SYS_open_tree, AT_FDCWD, made, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
  if (tree < 0 || umount2(made, MNT_DETACH) != 0 || rmdir(made) != 0) broken("open_tree");
  enter_container();
  if (syscall(SYS_move_mount, tree, "", AT_FDCWD, path, MOVE_MOUNT_F_EMPTY_PATH) != 0) broken("move_mount");
}

static void mount_over(void) { mount_at("in"); }

static void mounted_over(void) {
  GUARD_TREE("in");
  window_outside("in/secret");
  secret("in/deep/secret");
  control("out/neighbour");
}

static void mounted_over_file_guard(void) {
  GUARD_FILE("in/secret");
  window_outside("in/secret");
  control("out/neighbour");
}

static void mount_below(void) { mount_at("in/deep"); }

static void mounted_below(void) {
  GUARD_TREE("in");
  window_outside("in/deep/secret");
  control("out/neighbour");
}

static void propagate_below(void) {
  char made[] = "/tmp/bypass-XXXXXX";
  if (!mkdtemp(made) || mount("tmpfs", made, "tmpfs", 0, "mode=777") != 0) broken("mount");
  put(format("%s/secret", made), "SECRET tmpfs\n");
  if (mount(made, "in/deep", NULL, MS_BIND, NULL) != 0 || umount(made) != 0 || rmdir(made) != 0) broken("bind");
}

static void mount_elsewhere(void) {
  enter_container();
  if (mount("in", "out", NULL, MS_BIND, NULL) != 0) broken("mount");
}

static void mounted_elsewhere(void) {
  int out = step("open-path", open("out", O_PATH | O_CLOEXEC));
  GUARD_TREE("in");
  outside();
  secret("out/secret");
  secret("out/deep/er/secret");
  control_at("out/neighbour", out, "neighbour");
}

static void bind_public_over(void) {
  enter_container();
  if (mount("out/d", "in", NULL, MS_BIND, NULL) != 0) broken("mount");
}

static void public_mounted_over(void) {
  GUARD_TREE("in");
  warm("out/neighbour");
  warm("out/d/secret");
  window_outside("in/secret");
  control("out/neighbour");
}

#define FROM_NODE(name_, summary_, places_, setup_, run_, outside_) \
  {.name = name_, .summary = summary_, .who = EVERYBODY, .places = places_, .expected = DENIED, .setup = setup_, .run = run_, .outside = outside_}
#define SEEN_AFTER(name_, summary_, setup_, run_, outside_) \
  {.name = name_, .summary = summary_, .who = EVERYBODY, .places = VOLUMES, .expected = WINDOW, .setup = setup_, .run = run_, .outside = outside_}
#define MOUNTED_BY_NODE(name_, summary_, setup_, run_, outside_) \
  {.name = name_, .summary = summary_, .who = EVERYBODY, .places = ANYWHERE, .expected = WINDOW, .setup = setup_, .run = run_, .outside = outside_}

static const struct attempt list[] = {
    FROM_NODE("rotated-file", "The kubelet rotates a secret (..data swap, from outside); the guard is on its file", VOLUMES, credentials_setup, rotated_file, rotate),
    FROM_NODE("rotated-tree", "The same with a guard on the volume", VOLUMES, credentials_setup, rotated_tree, rotate),
    FROM_NODE("rotated-data", "The same with a guard on ..data", VOLUMES, credentials_setup, rotated_data, rotate),
    FROM_NODE("rotated-warm", "The same in a volume whose other files are read all the time", VOLUMES, credentials_setup, rotated_warm, rotate),
    SEEN_AFTER("rotated-data-clone", "The same, read below an open_tree clone that is mounted nowhere: directories below ..data", credentials_setup, rotated_data_clone, rotate_deep),
    FROM_NODE("node-replaces", "The node replaces a guarded file by rename", VOLUMES, NULL, replaced_file, replace),
    SEEN_AFTER("node-replaces-clone", "The same, read below an open_tree clone that is mounted nowhere", NULL, replaced_file_clone, replace),
    FROM_NODE("node-moves", "The node moves a guarded directory away, and makes a new one", VOLUMES, NULL, moved, move_away),
    FROM_NODE("node-moves-file-guard", "The same with a guard on one file", VOLUMES, NULL, moved_file_guard, move_away),
    FROM_NODE("node-links", "The node hard links guarded files into a directory that is known to be outside", VOLUMES, NULL, linked, link_out),
    FROM_NODE("node-creates", "The node creates a guarded path", VOLUMES, NULL, later, make_later),
    SEEN_AFTER("node-creates-clone", "The same, read below an open_tree clone that is mounted nowhere", NULL, later_clone, make_later),
    FROM_NODE("node-moves-in", "The node moves a directory that is known to be outside into a guarded tree", VOLUMES, warm_setup, warm_moved_in, move_in),
    FROM_NODE("node-grows", "The node makes a directory in a guarded tree", VOLUMES, NULL, grown, grow),
    SEEN_AFTER("node-grows-clone", "The node makes directories in a guarded tree, read below a clone that is mounted nowhere", NULL, grown_clone, grow_deep),
    SEEN_AFTER("node-moves-tree-in-clone", "The node moves a tree into a guarded tree, read below such a clone", built_setup, moved_in_clone, move_built_in),
    SEEN_AFTER("node-grows-linked", "Hard links a file out of a directory that the node has just made in a guarded tree", NULL, grown_linked, grow_deep),
    SEEN_AFTER("node-grows-moved", "The node makes directories in a guarded directory that was moved away, read below such a clone", NULL, grown_after_move, grow_moved),
    TRY("volume-below", "A volume that is mounted below a guarded path, read below such a clone of it", EVERYBODY, DISK, NULL, volume_below),
    TRY("subpath-directory", "A subPath directory, and the same files through the whole volume", EVERYBODY, DISK, NULL, sub_dir),
    TRY("subpath-below", "A file below a subPath directory, replaced through the whole volume", EVERYBODY, DISK, NULL, sub_dir_below),
    TRY("subpath-file", "A subPath file, and the same file through the whole volume", EVERYBODY, DISK, NULL, sub_file),
    MOUNTED_BY_NODE("node-mounts-over", "The runtime mounts a tmpfs over a guarded directory of the running container", NULL, mounted_over, mount_over),
    MOUNTED_BY_NODE("node-mounts-over-file-guard", "The same over the parent of a guarded file", NULL, mounted_over_file_guard, mount_over),
    MOUNTED_BY_NODE("node-mounts-below", "The runtime mounts a tmpfs inside a guarded tree", NULL, mounted_below, mount_below),
    {.name = "node-propagates-below", .summary = "The node mounts a tmpfs inside a guarded tree of a volume that is an rslave of the node's", .who = EVERYBODY, .places = DISK, .expected = WINDOW, .setup = NULL, .run = mounted_below, .outside = propagate_below},
    FROM_NODE("node-binds-elsewhere", "The runtime bind-mounts a guarded directory elsewhere in the container", ANYWHERE, NULL, mounted_elsewhere, mount_elsewhere),
    MOUNTED_BY_NODE("node-binds-over", "The runtime bind-mounts a directory that is known to be outside over the guarded one", warm_setup, public_mounted_over, bind_public_over),
};
FAMILY(volumes, list);
