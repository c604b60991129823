// Hard links: the same file under a name that no guard mentions. They are made
// before and after the guard, inside the guarded tree and outside of it.
#include "attempt.h"

static void before_setup(void) {
  layout();
  make_dir("out/d");
  if (link("in/secret", "out/before") != 0 || link("in/secret", "in/twin") != 0) broken("link");
  if (link("in/deep/er/secret", "out/d/deep") != 0) broken("link");
}

static void before(void) {
  GUARD_FILE("in/secret");
  secret("out/before");
  secret("in/twin");
  control("out/neighbour");
  control("in/deep/er/secret");  // another file, and the guard is on one
}

static void before_tree(void) {
  GUARD_TREE("in");
  secret("out/before");
  secret("out/d/deep");
  control("out/neighbour");
}

static void before_tree_alone(void) {
  GUARD_TREE("in");
  step("unlink", unlink("in/deep/er/secret"));
  secret("out/d/deep");  // now its only name
  control("out/neighbour");
}

static void before_alone(void) {
  GUARD_FILE("in/secret");
  step("unlink", unlink("in/secret"));
  step("unlink", unlink("in/twin"));
  secret("out/before");
  control("out/neighbour");
}

static void before_warm(void) {
  GUARD_FILE("in/deep/er/secret");
  warm("out/neighbour");
  step("link", link("out/d/deep", "out/again"));
  secret("out/again");
  secret("out/d/deep");
  control("out/neighbour");
}

static void before_copied_up(void) {
  GUARD_FILE("in/secret");
  step("chmod", chmod("out/before", 0644));
  secret("out/before");
  step("chmod", chmod("in/secret", 0644));
  secret("in/secret");
  secret("out/before");
  secret("in/twin");
  control("out/neighbour");
}

static void after(void) {
  GUARD_FILE("in/secret");
  step("link", link("in/secret", "out/after"));
  secret("out/after");
  step("link", link("in/secret", "in/other"));
  secret("in/other");
  step("link", link("out/after", "out/third"));
  secret("out/third");
  secret("in/secret");
  control("out/neighbour");
}

static void after_tree(void) {
  GUARD_TREE("in");
  step("link", link("in/secret", "out/after"));
  secret("out/after");
  step("link", link("in/deep/er/secret", "out/deep"));
  secret("out/deep");
  step("rename", rename("out/deep", "out/renamed"));
  secret("out/renamed");
  step("link", link("out/neighbour", "out/harmless"));
  control("out/harmless");
}

static void after_alone(void) {
  GUARD_TREE("in");
  step("link", link("in/deep/er/secret", "out/after"));
  step("unlink", unlink("in/deep/er/secret"));
  secret("out/after");
  control("out/neighbour");
}

static void after_alone_file_guard(void) {
  GUARD_FILE("in/secret");
  step("link", link("in/secret", "out/after"));
  step("unlink", unlink("in/secret"));
  secret("out/after");
  appear("in/secret");
  secret("in/secret");
  secret("out/after");
  control("out/neighbour");
}

static void by_descriptor(void) {
  GUARD_TREE("in");
  int fd = step("open-path", open("in/deep/er/secret", O_PATH | O_CLOEXEC));
  step("link", linkat(AT_FDCWD, format("/proc/self/fd/%d", fd), AT_FDCWD, "out/after", AT_SYMLINK_FOLLOW));
  secret("out/after");
  control("out/neighbour");
}

static void into_warm(void) {
  GUARD_TREE("in");
  warm("out/neighbour");
  step("link", link("in/secret", "out/after"));
  secret("out/after");
  step("unlink", unlink("in/secret"));
  secret("out/after");
  control("out/neighbour");
}

static void warm_file_setup(void) {
  layout();
  put("out/file", "SECRET\n");
}

// The other way round: a file that everybody may read gets a guarded name.
static void warm_linked_in(void) {
  GUARD_TREE("in");
  warm("out/file");
  step("link", link("out/file", "in/file"));
  secret("in/file");
  control("out/neighbour");
}

static void new_file_linked_out(void) {
  GUARD_TREE("in");
  appear("in/new");
  step("link", link("in/new", "out/new"));
  secret("in/new");
  control("out/neighbour");
}

static void link_of_symlink_setup(void) {
  layout();
  if (symlink("in/secret", "alias") != 0) broken("symlink");
}

static void link_of_symlink(void) {
  GUARD_FILE("alias");
  step("link", linkat(AT_FDCWD, "alias", AT_FDCWD, "out/followed", AT_SYMLINK_FOLLOW));
  secret("out/followed");
  step("link", linkat(AT_FDCWD, "alias", AT_FDCWD, "alias2", 0));
  secret("alias2");
  control("out/neighbour");
}

static void many(void) {
  GUARD_FILE("in/secret");
  for (int i = 0; i < 200; i++) step("link", link("in/secret", format("out/%d", i)));
  step("unlink", unlink("in/secret"));
  for (int i = 0; i < 200; i += 20) secret(format("out/%d", i));
  for (int i = 0; i < 199; i++) step("unlink", unlink(format("out/%d", i)));
  secret("out/199");
  control("out/neighbour");
}

static const struct attempt list[] = {
    TRY("link-before", "Hard links of a guarded file, older than the guard", EVERYBODY, ANYWHERE, before_setup, before),
    TRY("link-before-tree", "Hard links of files in a guarded tree, older than the guard", EVERYBODY, ANYWHERE, before_setup, before_tree),
    TRY("link-before-alone", "The same, once the guarded name is deleted", EVERYBODY, ANYWHERE, before_setup, before_alone),
    TRY("link-before-tree-alone", "The same in a tree", EVERYBODY, ANYWHERE, before_setup, before_tree_alone),
    TRY("link-before-warm", "A link older than the guard, linked again into a directory that is known to be outside", EVERYBODY, ANYWHERE, before_setup, before_warm),
    TRY("link-before-copied-up", "Copies an older hard link of the image up by chmod, which makes it a file of its own", EVERYBODY, ANYWHERE, before_setup, before_copied_up),
    TRY("link-after", "Hard links a guarded file, inside, outside, and from link to link", EVERYBODY, ANYWHERE, NULL, after),
    TRY("link-after-tree", "Hard links files out of a guarded tree, and renames the link", EVERYBODY, ANYWHERE, NULL, after_tree),
    TRY("link-after-alone", "Hard links a file out of a guarded tree, then deletes the guarded name", EVERYBODY, ANYWHERE, NULL, after_alone),
    TRY("link-after-alone-file-guard", "The same with one guarded file, which then appears again", EVERYBODY, ANYWHERE, NULL, after_alone_file_guard),
    TRY("link-by-descriptor", "Hard links by an O_PATH descriptor", EVERYBODY, ANYWHERE, NULL, by_descriptor),
    TRY("link-into-warm", "Hard links into a directory that is known to be outside", EVERYBODY, ANYWHERE, NULL, into_warm),
    TRY("link-warm-file-in", "Hard links a file that was open to all into a guarded tree", EVERYBODY, ANYWHERE, warm_file_setup, warm_linked_in),
    TRY("link-new-file-out", "Makes a file in a guarded tree, links it out, and reads the guarded name", EVERYBODY, ANYWHERE, NULL, new_file_linked_out),
    TRY("link-of-symlink", "Hard links a guarded symbolic link, and what it points to", EVERYBODY, ANYWHERE, link_of_symlink_setup, link_of_symlink),
    TRY("link-many", "200 links of one guarded file, deleted until one is left", EVERYBODY, ANYWHERE, NULL, many),
};
FAMILY(links, list);
