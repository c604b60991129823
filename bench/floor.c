// The floor: the least that any fanotify permission listener must do for an
// open. Poll, read, write, close; no policy, no log. What janusd takes beyond
// this is janusd's own.
//
//     floor allow|deny PATH
//
// Marks the file system that PATH is on, which must be an overlay: a
// container's own, never the node's. Says "ready", then answers until killed.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fanotify.h>
#include <sys/prctl.h>
#include <sys/vfs.h>
#include <unistd.h>

static void fail(const char *what) {
  fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
  exit(1);
}

int main(int argc, char **argv) {
  if (argc != 3 || (strcmp(argv[1], "allow") && strcmp(argv[1], "deny"))) {
    fprintf(stderr, "usage: floor allow|deny PATH\n");
    return 2;
  }
  const unsigned response = strcmp(argv[1], "deny") ? FAN_ALLOW : FAN_DENY;
  // A listener that outlives the bench would freeze the container.
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  struct statfs fs;
  if (statfs(argv[2], &fs)) fail(argv[2]);
  if (fs.f_type != OVERLAYFS_SUPER_MAGIC) {
    fprintf(stderr, "floor: %s is not on an overlay\n", argv[2]);
    return 1;
  }
  const int group = fanotify_init(FAN_CLASS_CONTENT | FAN_CLOEXEC | FAN_NONBLOCK, O_RDONLY | O_LARGEFILE | O_CLOEXEC);
  if (group < 0) fail("fanotify_init");
  if (fanotify_mark(group, FAN_MARK_ADD | FAN_MARK_FILESYSTEM, FAN_OPEN_PERM, AT_FDCWD, argv[2])) fail("fanotify_mark");
  // As the gate does, where it may: on a busy machine it would be compared with
  // somebody who waits for a processor.
  const struct sched_param first = {.sched_priority = 1};
  sched_setscheduler(0, SCHED_FIFO, &first);
  puts("ready");
  fflush(stdout);

  const pid_t self = getpid();
  struct pollfd ready = {.fd = group, .events = POLLIN};
  _Alignas(struct fanotify_event_metadata) char buffer[4096];
  for (;;) {
    if (poll(&ready, 1, -1) < 0 && errno != EINTR) fail("poll");
    ssize_t length = read(group, buffer, sizeof buffer);
    if (length < 0) {
      if (errno == EAGAIN || errno == EINTR) continue;
      fail("read");
    }
    const struct fanotify_event_metadata *event = (const void *)buffer;
    for (; FAN_EVENT_OK(event, length); event = FAN_EVENT_NEXT(event, length)) {
      if (event->fd < 0) continue;  // queue overflow
      const struct fanotify_response answer = {.fd = event->fd, .response = event->pid == self ? FAN_ALLOW : response};
      if (write(group, &answer, sizeof answer) < 0) fail("write");
      close(event->fd);
    }
  }
}
