// A permission group that never answers, made by whoever may (CAP_SYS_ADMIN in the first user namespace).
//
//     listener KIND CLASS PATH...    marks each PATH, says "listening", and waits to be killed
//
// KIND is what is marked: `inode` (a directory with its children) or `filesystem`. CLASS is `content` or `pre`.
// A path that begins with "+" is opened by a process of its own, which then waits for an answer.
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/fanotify.h>
#include <sys/stat.h>
#include <unistd.h>

int main(int count, char **arguments) {
  if (count < 4) errx(2, "usage: listener KIND CLASS PATH...");
  const unsigned class = strcmp(arguments[2], "pre") == 0 ? FAN_CLASS_PRE_CONTENT : FAN_CLASS_CONTENT;
  const int group = fanotify_init(class | FAN_CLOEXEC | FAN_UNLIMITED_QUEUE, O_RDONLY);
  if (group < 0) err(1, "fanotify_init");
  const unsigned kind = strcmp(arguments[1], "filesystem") == 0 ? FAN_MARK_FILESYSTEM : FAN_MARK_INODE;
  for (int i = 3; i < count; ++i) {
    const char *path = arguments[i] + (arguments[i][0] == '+');
    struct stat status;
    if (stat(path, &status)) err(1, "stat %s", path);
    const unsigned long more = S_ISDIR(status.st_mode) ? FAN_ONDIR | FAN_EVENT_ON_CHILD | FAN_ACCESS_PERM : 0;
    if (fanotify_mark(group, FAN_MARK_ADD | kind, FAN_OPEN_PERM | more, AT_FDCWD, path)) err(1, "mark %s", path);
  }
  for (int i = 3; i < count; ++i) {
    if (arguments[i][0] != '+' || fork() != 0) continue;
    open(arguments[i] + 1, O_RDONLY);
    _exit(0);
  }
  puts("listening");
  fflush(stdout);
  for (;;) pause();
}
