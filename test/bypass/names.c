// The same name for something else, the same thing by another name: renames,
// replacements, symbolic links, copy-up, whiteouts, odd and endless names.
#include "attempt.h"

#include <sys/time.h>
#include <sys/xattr.h>

static void plain(void) {
  GUARD_TREE("in");
  secret("in/secret");
  secret("in/deep/er/secret");
  secret_fd("write-only", open("in/secret", O_WRONLY | O_CLOEXEC));
  secret_fd("read-write", open("in/secret", O_RDWR | O_CLOEXEC));
  secret_fd("truncate", open("in/deep/er/secret", O_RDWR | O_TRUNC | O_CLOEXEC));
  secret_fd("list", open("in/deep", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  control("out/neighbour");
}

static void spelling(void) {
  GUARD_TREE("in");
  secret("in/../in//./secret");
  secret("out/../in/deep/../secret");
  secret(format("//%s/in///deep/er/secret", home));
  secret("/proc/self/cwd/in/secret");
  control("in/../out//./neighbour");
}

static void replaced(void) {
  GUARD_FILE("in/secret");
  appear("in/secret");
  secret("in/secret");
  control("out/neighbour");
}

static void replaced_old(void) {
  GUARD_FILE("in/secret");
  step("rename", rename("in/secret", "out/old"));
  appear("in/secret");
  secret("in/secret");
  secret("out/old");
  control("out/neighbour");
}

static void exchange_setup(void) {
  layout();
  put("out/decoy", "SECRET decoy\n");
}

static void exchange(void) {
  GUARD_FILE("in/secret");
  step("exchange", renameat2(AT_FDCWD, "in/secret", AT_FDCWD, "out/decoy", RENAME_EXCHANGE));
  secret("in/secret");
  secret("out/decoy");
  control("out/neighbour");
}

static void exchange_dirs_setup(void) {
  layout();
  make_dir("other");
  make_dir("other/deep");
  put("other/secret", "SECRET other\n");
}

static void exchange_dirs(void) {
  GUARD_TREE("in");
  step("exchange", renameat2(AT_FDCWD, "in", AT_FDCWD, "other", RENAME_EXCHANGE));
  secret("in/secret");
  secret("other/secret");
  secret("other/deep/er/secret");
  control("out/neighbour");
}

static void later(void) {
  GUARD_FILE("later/a/secret");
  make_dir("later");
  make_dir("later/a");
  appear("later/a/secret");
  secret("later/a/secret");
  appear("later/a/neighbour");
  control("later/a/neighbour");
}

static void later_tree(void) {
  GUARD_TREE("later/a");
  make_dir("later");
  make_dir("later/a");
  make_dir("later/a/b");
  appear("later/a/b/secret");
  secret("later/a/b/secret");
  secret_fd("create", open("later/a/b/made", O_CREAT | O_RDWR | O_CLOEXEC, 0666));
  appear("later/neighbour");
  control("later/neighbour");
}

static void later_moved(void) {
  GUARD_FILE("later/a/secret");
  make_dir("out/a");
  appear("out/a/secret");
  make_dir("later");
  step("rename", rename("out/a", "later/a"));
  secret("later/a/secret");
  control("out/neighbour");
}

static void later_linked(void) {
  GUARD_FILE("later/secret");
  make_dir("later");
  put("out/new", "SECRET\n");
  step("link", link("out/new", "later/secret"));
  secret("later/secret");
  control("out/neighbour");
}

static void later_symlink(void) {
  GUARD_FILE("later/secret");
  make_dir("later");
  put("out/new", "SECRET\n");
  step("symlink", symlink("../out/new", "later/secret"));
  window("later/secret");
  control("out/neighbour");
}

static void later_parent_symlink(void) {
  GUARD_FILE("later/secret");
  make_dir("out/target");
  appear("out/target/secret");
  step("symlink", symlink("out/target", "later"));
  secret("later/secret");
  control("out/neighbour");
}

static void again(void) {
  GUARD_FILE("in/secret");
  for (int i = 0; i < 3; i++) {
    step("unlink", unlink("in/secret"));
    appear("in/secret");
    secret("in/secret");
  }
  step("unlink", unlink("in/secret"));
  secret_fd("create", open("in/secret", O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0666));
  control("out/neighbour");
}

static void again_tree(void) {
  GUARD_TREE("in");
  for (int i = 0; i < 2; i++) {
    step("unlink", unlink("in/deep/er/secret"));
    step("rmdir", rmdir("in/deep/er"));
    step("rmdir", rmdir("in/deep"));
    step("unlink", unlink("in/secret"));
    step("rmdir", rmdir("in"));
    make_dir("in");
    make_dir("in/deep");
    make_dir("in/deep/er");
    appear("in/secret");
    appear("in/deep/er/secret");
    secret("in/secret");
    secret("in/deep/er/secret");
  }
  control("out/neighbour");
}

static void symlink_setup(void) {
  layout();
  put("out/one", "SECRET one\n");
  put("out/two", "SECRET two\n");
  if (symlink("out/one", "link") != 0) broken("symlink");
}

static void repoint(void) {
  GUARD_FILE("link");
  secret("link");
  secret("out/one");
  step("symlink", symlink("out/two", "fresh"));
  step("rename", rename("fresh", "link"));
  secret("link");
  secret("out/one");
  control("out/neighbour");
}

static void repoint_slowly(void) {
  GUARD_FILE("link");
  step("unlink", unlink("link"));
  step("symlink", symlink("out/two", "link"));
  secret("link");
  control("out/neighbour");
}

static void repoint_parent_setup(void) {
  layout();
  make_dir("v1");
  make_dir("v2");
  put("v1/secret", "SECRET v1\n");
  put("v2/secret", "SECRET v2\n");
  if (symlink("v1", "current") != 0) broken("symlink");
}

static void repoint_parent(void) {
  GUARD_FILE("current/secret");
  secret("v1/secret");
  step("symlink", symlink("v2", "fresh"));
  step("rename", rename("fresh", "current"));
  secret("current/secret");
  secret("v1/secret");
  control("out/neighbour");
}

static void repoint_tree(void) {
  GUARD_TREE("current");
  step("symlink", symlink("v2", "fresh"));
  step("rename", rename("fresh", "current"));
  secret("current/secret");
  secret("v1/secret");
  control("out/neighbour");
}

static void repoint_behind_setup(void) {
  repoint_parent_setup();
  if (symlink("current/secret", "alias") != 0) broken("symlink");
}

static void repoint_behind(void) {
  GUARD_FILE("alias");
  secret("alias");
  step("symlink", symlink("v2", "fresh"));
  step("rename", rename("fresh", "current"));
  secret("alias");
  secret("v1/secret");
  control("out/neighbour");
}

static void symlink_to(void) {
  GUARD_TREE("in");
  step("symlink", symlink("in/deep/er/secret", "s1"));
  step("symlink", symlink("s1", "out/s2"));
  step("unlink", unlink("out/s2"));
  step("symlink", symlink("../s1", "out/s2"));
  step("symlink", symlink("in/deep", "s3"));
  secret("s1");
  secret("out/s2");
  secret("s3/er/secret");
  control("out/neighbour");
}

static void moved_away(void) {
  GUARD_TREE("in");
  step("rename", rename("in", "out/moved"));
  secret("out/moved/secret");
  secret("out/moved/deep/er/secret");
  make_dir("in");
  appear("in/secret");
  secret("in/secret");
  control("out/neighbour");
}

static void moved_away_file_guard(void) {
  GUARD_FILE("in/secret");
  step("rename", rename("in", "out/moved"));
  secret("out/moved/secret");
  make_dir("in");
  appear("in/secret");
  secret("in/secret");
  control("out/neighbour");
}

static void top_setup(void) {
  make_dir("top");
  make_dir("top/mid");
  make_dir("top/mid/in");
  make_dir("out");
  put("top/mid/in/secret", "SECRET\n");
  put("top/neighbour", "PUBLIC\n");
}

static void parent_moved(void) {
  GUARD_TREE("top/mid/in");
  step("rename", rename("top", "top2"));
  secret("top2/mid/in/secret");
  control("top2/neighbour");
  step("rename", rename("top2/mid", "out/mid"));
  secret("out/mid/in/secret");
  control("top2/neighbour");
}

static void parent_moved_file_guard(void) {
  GUARD_FILE("top/mid/in/secret");
  step("rename", rename("top", "out/top"));
  secret("out/top/mid/in/secret");
  control("out/top/neighbour");
  make_dir("top");
  make_dir("top/mid");
  make_dir("top/mid/in");
  appear("top/mid/in/secret");
  secret("top/mid/in/secret");
}

static void moved_and_back(void) {
  GUARD_TREE("in");
  for (int i = 0; i < 3; i++) {
    step("rename", rename("in", "out/moved"));
    secret("out/moved/secret");
    control("out/neighbour");
    step("rename", rename("out/moved", "in"));
    secret("in/secret");
    secret("in/deep/er/secret");
  }
}

static void moved_from_inside(void) {
  GUARD_TREE("in");
  int dir = step("open-path", open("in/deep", O_PATH | O_CLOEXEC));
  step("rename", rename("in", "out/moved"));
  secret_at("dirfd", dir, "er/secret");
  step("fchdir", fchdir(dir));
  secret("er/secret");
  secret("../secret");
  control_at("out/neighbour", AT_FDCWD, "../../neighbour");
}

static void file_moved_out(void) {
  GUARD_TREE("in");
  step("rename", rename("in/secret", "out/secret"));
  step("rename", rename("in/deep/er/secret", "out/deep"));
  secret("out/secret");
  secret("out/deep");
  step("rename", rename("out/secret", "out/again"));
  secret("out/again");
  control("out/neighbour");
}

static void dir_moved_out(void) {
  GUARD_TREE("in");
  step("rename", rename("in/deep", "out/deep"));
  secret("out/deep/er/secret");
  step("rename", rename("out/deep/er", "er"));
  secret("er/secret");
  step("rename", rename("er/secret", "out/plain"));
  secret("out/plain");
  control("out/neighbour");
}

static void moved_in_setup(void) {
  layout();
  make_dir("out/d");
  make_dir("out/d/e");
  put("out/d/e/secret", "SECRET\n");
}

static void dir_moved_in(void) {
  GUARD_TREE("in");
  step("rename", rename("out/d", "in/d"));
  secret("in/d/e/secret");
  control("out/neighbour");
}

static void warm_dir_moved_in(void) {
  GUARD_TREE("in");
  warm("out/neighbour");
  warm("out/d/e/secret");
  step("rename", rename("out/d", "in/d"));
  secret("in/d/e/secret");
  control("out/neighbour");
}

static void warm_parent_moved_in(void) {
  GUARD_TREE("in");
  warm("out/neighbour");
  warm("out/d/e/secret");
  step("rename", rename("out", "in/out"));
  secret("in/out/d/e/secret");
  make_dir("out");
  put("out/neighbour", "PUBLIC\n");
  control("out/neighbour");
}

static void warm_moved_over_path(void) {
  GUARD_FILE("in/e/secret");
  warm("out/neighbour");
  warm("out/d/e/secret");
  step("rename", rename("out/d/e", "in/e"));
  secret("in/e/secret");
  control("out/neighbour");
}

static void warm_exchange(void) {
  GUARD_TREE("in");
  warm("out/neighbour");
  warm("out/d/e/secret");
  step("exchange", renameat2(AT_FDCWD, "in", AT_FDCWD, "out/d", RENAME_EXCHANGE));
  secret("in/e/secret");
  secret("out/d/secret");
  secret("out/d/deep/er/secret");
  control("out/neighbour");
}

static void warm_receives(void) {
  GUARD_TREE("in");
  warm("out/neighbour");
  warm("out/d/e/secret");
  step("rename", rename("in/secret", "out/d/e/stolen"));
  secret("out/d/e/stolen");
  step("rename", rename("in/deep", "out/d/deep"));
  secret("out/d/deep/er/secret");
  control("out/neighbour");
}

static void warm_receives_file_guard(void) {
  GUARD_FILE("in/secret");
  warm("out/neighbour");
  warm("out/d/e/secret");
  step("rename", rename("in/secret", "out/d/e/stolen"));
  secret("out/d/e/stolen");
  control("out/neighbour");
}

static void warm_then_guarded(void) {
  GUARD_FILE("in/secret");
  warm("out/neighbour");
  warm("out/d/e/secret");
  GUARD_TREE("out/d");
  secret("out/d/e/secret");
  control("out/neighbour");
}

static void warm_file_replaced(void) {
  GUARD_FILE("out/secret");
  warm("out/neighbour");
  appear("out/secret");
  secret("out/secret");
  control("out/neighbour");
}

static void new_tree(void) {
  GUARD_TREE("in");
  make_dir("in/new");
  make_dir("in/new/er");
  appear("in/new/er/secret");
  secret("in/new/er/secret");
  secret_fd("create", open("in/new/er/made", O_CREAT | O_RDWR | O_CLOEXEC, 0666));
  make_dir("out/new");
  appear("out/new/neighbour");
  control("out/new/neighbour");
}

static void temporary(void) {
  GUARD_FILE("in/secret");
  int fd = step("tmpfile", open("out", O_TMPFILE | O_RDWR | O_CLOEXEC, 0666));
  if (write(fd, "SECRET\n", 7) != 7) broken("write");
  step("unlink", unlink("in/secret"));
  step("link", linkat(AT_FDCWD, format("/proc/self/fd/%d", fd), AT_FDCWD, "in/secret", AT_SYMLINK_FOLLOW));
  secret("in/secret");
  control("out/neighbour");
}

static void copied_up(void) {
  GUARD_TREE("in");
  step("chmod", chmod("in/secret", 0644));
  secret("in/secret");
  struct timeval now[2] = {{1, 0}, {1, 0}};
  step("utimes", utimes("in/deep/er/secret", now));
  secret("in/deep/er/secret");
  step("chmod", chmod("in/deep", 0755));
  secret("in/deep/er/secret");
  step("chmod", chmod("out/neighbour", 0644));
  control("out/neighbour");
}

static void copied_up_file_guard(void) {
  GUARD_FILE("in/secret");
  step("chmod", chmod("in/secret", 0644));
  secret("in/secret");
  step("rename", rename("in/secret", "out/moved"));
  secret("out/moved");
  step("link", link("out/moved", "out/linked"));
  secret("out/linked");
  control("out/neighbour");
}

static void copied_up_by_rename(void) {
  GUARD_FILE("in/secret");
  step("rename", rename("in/secret", "out/moved"));
  secret("out/moved");
  control("out/neighbour");
}

static void whiteout(void) {
  GUARD_FILE("in/secret");
  step("unlink", unlink("in/secret"));
  appear("in/secret");
  secret("in/secret");
  step("unlink", unlink("in/secret"));
  make_dir("in/secret");
  secret("in/secret");
  control("out/neighbour");
}

// ---- odd names

static const char *const odd[] = {
    "new\nline", "back\\slash", "*", "?", "[a-z]", "{a,b}", "%s%n", "quote\"'", " lead", "trail ", "-rf", "...", "\x01\x02\x7f",
    "caf\xc3\xa9", "secret (deleted)", "~", "$(id)", "\xe2\x80\xae" "gnp", "#", ":", "\t"};
static const char *const not_utf8[] = {"\xff\xfe", "\xc3", "a\xffz", "\x80"};
#define COUNT(list) (sizeof list / sizeof *list)

static const char *odd_path(const char *dir, const char *name) { return format("%s/%s", dir, name); }
static void odd_put(const char *dir, const char *name) { put(odd_path(dir, name), "SECRET\n"); }

static void odd_setup(void) {
  layout();
  for (size_t i = 0; i < COUNT(odd); i++) odd_put("in", odd[i]), odd_put("out", odd[i]);
  for (size_t i = 0; i < COUNT(not_utf8); i++) odd_put("in", not_utf8[i]), odd_put("out", not_utf8[i]);
}

static void odd_in_tree(void) {
  GUARD_TREE("in");
  for (size_t i = 0; i < COUNT(odd); i++) secret(odd_path("in", odd[i])), control(odd_path("out", odd[i]));
  for (size_t i = 0; i < COUNT(not_utf8); i++) secret(odd_path("in", not_utf8[i])), control(odd_path("out", not_utf8[i]));
}

static void odd_guarded(void) {
  for (size_t i = 0; i < COUNT(odd); i++) GUARD_FILE(odd_path("in", odd[i]));
  for (size_t i = 0; i < COUNT(odd); i++) {
    const char *path = odd_path("in", odd[i]);
    secret(path);
    if (rename(path, "in/away") != 0) broken("rename");
    appear(path);
    secret(path);
    secret("in/away");
    control(odd_path("out", odd[i]));
  }
  put("in/xyz", "PUBLIC\n");
  control("in/xyz");  // `*` and `?` are names here, not patterns
}

static void long_name_setup(void) {
  char name[256];
  layout();
  memset(name, 'n', 255);
  name[255] = 0;
  make_dir(format("in/%s", name));
  put(format("in/%s/%s", name, name), "SECRET\n");
  put(format("out/%s", name), "PUBLIC\n");
}

static void long_name(void) {
  char name[256];
  memset(name, 'n', 255);
  name[255] = 0;
  GUARD_FILE(format("in/%s/%s", name, name));
  secret(format("in/%s/%s", name, name));
  appear(format("in/%s/%s", name, name));
  secret(format("in/%s/%s", name, name));
  control(format("out/%s", name));
}

// ---- endless paths; `width` bytes a name, `depth` levels, walked by openat since no path reaches that far

static int walk(const char *from, int width, int depth, bool make) {
  char name[256];
  memset(name, 'd', width);
  name[width] = 0;
  int dir = open(from, O_PATH | O_DIRECTORY | O_CLOEXEC);
  for (int i = 0; i < depth; i++) {
    if (dir < 0) broken("walk");
    if (make && mkdirat(dir, name, 0777) != 0 && errno != EEXIST) broken("mkdirat");
    int next = openat(dir, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
    close(dir);
    dir = next;
  }
  if (dir < 0) broken("walk");
  return dir;
}

static void endless_put(const char *from, int width, int depth, const char *text) {
  int dir = walk(from, width, depth, true);
  int fd = openat(dir, "secret", O_CREAT | O_WRONLY | O_CLOEXEC, 0666);
  if (fd < 0 || write(fd, text, strlen(text)) < 0) broken("endless");
  close(fd);
  close(dir);
}

static const struct { int width, depth; } endless[] = {{3, 900}, {200, 19}, {255, 15}, {255, 16}, {255, 60}, {1, 3000}};

static void endless_setup(void) {
  layout();
  for (size_t i = 0; i < COUNT(endless); i++) {
    make_dir(format("in/%zu", i));
    make_dir(format("out/%zu", i));
    endless_put(format("in/%zu", i), endless[i].width, endless[i].depth, "SECRET\n");
    endless_put(format("out/%zu", i), endless[i].width, endless[i].depth, "PUBLIC\n");
  }
}

static void endless_run(void) {
  GUARD_TREE("in");
  for (size_t i = 0; i < COUNT(endless); i++) {
    const char *label = format("%dx%d", endless[i].width, endless[i].depth);
    int dir = walk(format("in/%zu", i), endless[i].width, endless[i].depth, false);
    int open_dir = walk(format("out/%zu", i), endless[i].width, endless[i].depth, false);
    secret_at(label, dir, "secret");
    control_at(label, open_dir, "secret");
    control_at(label, open_dir, "secret");
    close(dir);
    close(open_dir);
  }
}

static void endless_moved(void) {
  GUARD_TREE("in");
  for (size_t i = 0; i < COUNT(endless); i++) {
    const char *label = format("%dx%d", endless[i].width, endless[i].depth);
    const char *moved = format("out/moved%zu", i);
    step("rename", rename(format("in/%zu", i), moved));
    int dir = walk(moved, endless[i].width, endless[i].depth, false);
    secret_at(label, dir, "secret");
    if (renameat(dir, "secret", AT_FDCWD, "out/short") == 0) secret("out/short");
    close(dir);
  }
  control("out/neighbour");
}

static void long_path_setup(void) {
  layout();
  endless_put("in", 200, 19, "SECRET\n");
}

// The longest guard path there can be, as a path of its own.
static void long_path(void) {
  char path[PATH_MAX] = "in", name[201];
  memset(name, 'd', 200);
  name[200] = 0;
  for (int i = 0; i < 19; i++) strcat(strcat(path, "/"), name);
  GUARD_FILE(strcat(path, "/secret"));
  secret(path);
  appear(path);
  secret(path);
  control("out/neighbour");
}

// ---- exceptions of a guard, as a way out

static void excluded_setup(void) {
  layout();
  put("in/app.log", "PUBLIC\n");
}

static void excluded(void) {
  guard("deny", "in", "\"recursive\":true,\"event\":[\"open\"],\"exclude\":[\"*.log\"]");
  control("in/app.log");
  step("rename", rename("in/secret", "in/secret.log"));
  secret("in/secret.log");
  step("link", link("in/deep/er/secret", "in/deep.log"));
  secret("in/deep.log");
}

static void allowed_setup(void) {
  layout();
  make_dir("in/public");
  put("in/public/neighbour", "PUBLIC\n");
}

static void allowed(void) {
  guard2("in", "in/public", "\"recursive\":true,\"event\":[\"open\"]");
  control("in/public/neighbour");
  step("link", link("in/secret", "in/public/linked"));
  secret("in/public/linked");
  step("rename", rename("in/deep/er/secret", "in/public/stolen"));
  secret("in/public/stolen");
}

static void too_deep_setup(void) {
  layout();
  make_dir("in/deep/er/still");
  put("in/deep/er/still/neighbour", "PUBLIC\n");
}

static void too_deep(void) {
  guard("deny", "in", "\"recursive\":true,\"maxDepth\":2,\"event\":[\"open\"]");
  secret("in/secret");
  control("in/deep/er/still/neighbour");
  step("rename", rename("in/secret", "in/deep/er/still/stolen"));
  secret("in/deep/er/still/stolen");
}

static const struct attempt list[] = {
    TRY("plain", "Opens what is guarded, in every mode, at every depth", EVERYBODY, ANYWHERE, NULL, plain),
    TRY("spelling", "Spells the path with .., // and ., and through /proc/self/cwd", EVERYBODY, ANYWHERE, NULL, spelling),
    TRY("replaced", "Renames a new file over a guarded one", EVERYBODY, ANYWHERE, NULL, replaced),
    TRY("replaced-old", "Renames a guarded file away, and puts a new one in its place: both", EVERYBODY, ANYWHERE, NULL, replaced_old),
    TRY("exchange", "Exchanges a guarded file with another one (RENAME_EXCHANGE): both", EVERYBODY, ANYWHERE, exchange_setup, exchange),
    TRY("exchange-dirs", "Exchanges a guarded directory with another one: both", EVERYBODY, WRITTEN, exchange_dirs_setup, exchange_dirs),
    TRY("later", "A guarded path that appears after the guard, parents and all", EVERYBODY, ANYWHERE, NULL, later),
    TRY("later-tree", "A guarded tree that appears after the guard", EVERYBODY, ANYWHERE, NULL, later_tree),
    TRY("later-moved", "A guarded path that appears as its parent is moved there", EVERYBODY, ANYWHERE, NULL, later_moved),
    TRY("later-linked", "A guarded path that appears as a hard link", EVERYBODY, ANYWHERE, NULL, later_linked),
    {.name = "later-symlink", .summary = "A guarded path that appears as a symbolic link to something else", .who = EVERYBODY, .places = ANYWHERE, .expected = WINDOW, .run = later_symlink},
    TRY("later-parent-symlink", "A guarded path that appears below a symbolic link", EVERYBODY, ANYWHERE, NULL, later_parent_symlink),
    TRY("again", "Deletes and re-creates a guarded file, over and over", EVERYBODY, ANYWHERE, NULL, again),
    TRY("again-tree", "Deletes and re-creates a whole guarded tree (whiteouts and opaque directories in an image)", EVERYBODY, ANYWHERE, NULL, again_tree),
    TRY("symlink", "Reaches into a guarded tree by symbolic links from outside", EVERYBODY, ANYWHERE, NULL, symlink_to),
    TRY("repoint", "Re-points a guarded symbolic link by rename: what it shows now, and what it showed", EVERYBODY, ANYWHERE, symlink_setup, repoint),
    TRY("repoint-slowly", "Re-points a guarded symbolic link by unlink and symlink", EVERYBODY, ANYWHERE, symlink_setup, repoint_slowly),
    TRY("repoint-parent", "Re-points a symbolic link in the middle of a guarded path", EVERYBODY, ANYWHERE, repoint_parent_setup, repoint_parent),
    TRY("repoint-tree", "Re-points a symbolic link that is the top of a guarded tree", EVERYBODY, ANYWHERE, repoint_parent_setup, repoint_tree),
    TRY("repoint-behind", "Re-points a symbolic link that a guarded symbolic link goes through", EVERYBODY, ANYWHERE, repoint_behind_setup, repoint_behind),
    TRY("moved-away", "Renames a guarded directory away, then makes a new one", EVERYBODY, WRITTEN, NULL, moved_away),
    TRY("moved-away-file-guard", "Renames the parent of a guarded file away, then makes a new one", EVERYBODY, WRITTEN, NULL, moved_away_file_guard),
    TRY("parent-moved", "Renames the parents of a guarded directory away", EVERYBODY, WRITTEN, top_setup, parent_moved),
    TRY("parent-moved-file-guard", "Renames a distant parent of a guarded file away, and rebuilds the path", EVERYBODY, WRITTEN, top_setup, parent_moved_file_guard),
    TRY("moved-and-back", "Moves a guarded directory elsewhere and back, three times", EVERYBODY, WRITTEN, NULL, moved_and_back),
    TRY("moved-from-inside", "Opens relative to a directory inside the guarded one, after that was moved", EVERYBODY, WRITTEN, NULL, moved_from_inside),
    TRY("file-moved-out", "Moves files out of a guarded tree", EVERYBODY, ANYWHERE, NULL, file_moved_out),
    TRY("dir-moved-out", "Moves directories out of a guarded tree, and files out of those", EVERYBODY, WRITTEN, NULL, dir_moved_out),
    TRY("dir-moved-in", "Moves a directory into a guarded tree", EVERYBODY, WRITTEN, moved_in_setup, dir_moved_in),
    TRY("warm-dir-moved-in", "The same with a directory that is known to be outside", EVERYBODY, WRITTEN, moved_in_setup, warm_dir_moved_in),
    TRY("warm-parent-moved-in", "The same with its parent", EVERYBODY, WRITTEN, moved_in_setup, warm_parent_moved_in),
    TRY("warm-moved-over-path", "Moves a directory that is known to be outside to where a guarded path leads through", EVERYBODY, WRITTEN, moved_in_setup, warm_moved_over_path),
    TRY("warm-exchange", "Exchanges a directory that is known to be outside with the guarded one", EVERYBODY, WRITTEN, moved_in_setup, warm_exchange),
    TRY("warm-receives", "Moves files and directories of a guarded tree into a directory that is known to be outside", EVERYBODY, WRITTEN, moved_in_setup, warm_receives),
    TRY("warm-receives-file-guard", "Moves a guarded file into a directory that is known to be outside", EVERYBODY, ANYWHERE, moved_in_setup, warm_receives_file_guard),
    TRY("warm-then-guarded", "A second guard on what is known to be outside the first", EVERYBODY, ANYWHERE, moved_in_setup, warm_then_guarded),
    TRY("warm-file-appears", "A guarded file appears in a directory whose other files are open to all", EVERYBODY, ANYWHERE, NULL, warm_file_replaced),
    TRY("new-tree", "Makes directories and files in a guarded tree", EVERYBODY, ANYWHERE, NULL, new_tree),
    TRY("temporary", "Links an O_TMPFILE file to a guarded path", EVERYBODY, ANYWHERE, NULL, temporary),
    TRY("copied-up", "Copies guarded files up by chmod and utimes", EVERYBODY, ANYWHERE, NULL, copied_up),
    TRY("copied-up-file-guard", "Copies a guarded file up, then moves and links it", EVERYBODY, ANYWHERE, NULL, copied_up_file_guard),
    TRY("copied-up-by-rename", "Copies a guarded file up by renaming it", EVERYBODY, ANYWHERE, NULL, copied_up_by_rename),
    TRY("whiteout", "Deletes a guarded file, then puts a file and a directory there", EVERYBODY, ANYWHERE, NULL, whiteout),
    TRY("odd-in-tree", "Names with newlines, wildcards, quotes, 0xff and the like in a guarded tree", EVERYBODY, ANYWHERE, odd_setup, odd_in_tree),
    TRY("odd-guarded", "Such names as guarded paths; a wildcard is a name", EVERYBODY, ANYWHERE, odd_setup, odd_guarded),
    TRY("long-name", "Names of 255 bytes", EVERYBODY, ANYWHERE, long_name_setup, long_name),
    TRY("long-path", "A guarded path close to PATH_MAX", EVERYBODY, ANYWHERE, long_path_setup, long_path),
    TRY("endless", "Trees of up to 3,000 levels and 15,000 bytes of path, below a guarded directory", EVERYBODY, WRITTEN, endless_setup, endless_run),
    TRY("endless-moved", "The same, moved out of it", EVERYBODY, WRITTEN, endless_setup, endless_moved),
    TRY("excluded", "Renames and links a guarded file to a name that the guard excludes", EVERYBODY, ANYWHERE, excluded_setup, excluded),
    TRY("allowed", "Moves and links a guarded file to where a more specific path allows", EVERYBODY, ANYWHERE, allowed_setup, allowed),
    TRY("too-deep", "Moves a guarded file below the guard's maxDepth", EVERYBODY, ANYWHERE, too_deep_setup, too_deep),
};
FAMILY(names, list);
