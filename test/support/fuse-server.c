// A FUSE file system straight on /dev/fuse, whose server misbehaves. Files f0 to
// f99, and the directory "secrets" with a "key" in it.
//   fuse-server MOUNTPOINT ok           answers everything
//   fuse-server MOUNTPOINT silent       answers nothing
//   fuse-server MOUNTPOINT hang         answers all but opens
//   fuse-server MOUNTPOINT dead         ends at once, and leaves the mount
//   fuse-server MOUNTPOINT opens FILE   opens FILE before it answers an open, and says what came of it
// "mounted" on standard output when it is. MOUNTPOINT may be a file, as subPath volumes are.
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

enum { ROOT = 1, FIRST = 2, FILES = 100, SECRETS = 200, KEY = 201, ANSWER_BYTES = 4096, REQUEST_BYTES = 1 << 17 };

static int device;
static mode_t root_type = S_IFDIR;

static void reply(uint64_t unique, int error, const void *data, size_t size) {
  char answer[ANSWER_BYTES];
  const struct fuse_out_header header = {.len = sizeof(header) + size, .error = -error, .unique = unique};
  memcpy(answer, &header, sizeof(header));
  if (size > 0) memcpy(answer + sizeof(header), data, size);
  if (write(device, answer, header.len) < 0 && errno != ENOENT) perror("write");  // ENOENT: nobody waits any more
}

static struct fuse_attr attributes(uint64_t node) {
  const mode_t type = node == ROOT ? root_type : node == SECRETS ? S_IFDIR : S_IFREG;
  return (struct fuse_attr){.ino = node, .nlink = 1, .blksize = 4096, .mode = type | 0755, .size = type == S_IFREG ? 5 : 0};
}

static uint64_t find(uint64_t parent, const char *name) {
  if (parent == ROOT && name[0] == 'f' && name[1] != '\0') return FIRST + (uint64_t)(atoi(name + 1) % FILES);
  if (parent == ROOT && strcmp(name, "secrets") == 0) return SECRETS;
  if (parent == SECRETS && strcmp(name, "key") == 0) return KEY;
  return 0;
}

static void open_other(const char *file) {
  const int fd = open(file, O_RDONLY | O_CLOEXEC);
  printf("%s\n", fd >= 0 ? "OPENED" : strerror(errno));
  if (fd >= 0) close(fd);
}

static void answer(const struct fuse_in_header *request, const char *body, const char *mode, const char *file) {
  switch (request->opcode) {
    case FUSE_LOOKUP: {
      const uint64_t node = find(request->nodeid, body);
      if (node == 0) return reply(request->unique, ENOENT, NULL, 0);
      const struct fuse_entry_out entry = {.nodeid = node, .attr = attributes(node)};
      return reply(request->unique, 0, &entry, sizeof(entry));
    }
    case FUSE_GETATTR: {
      const struct fuse_attr_out attr = {.attr = attributes(request->nodeid)};
      return reply(request->unique, 0, &attr, sizeof(attr));
    }
    case FUSE_OPEN:
      if (strcmp(mode, "opens") == 0) open_other(file);
      // fall through
    case FUSE_OPENDIR: {
      if (strcmp(mode, "hang") == 0) return;
      const struct fuse_open_out opened = {.fh = 1};
      return reply(request->unique, 0, &opened, sizeof(opened));
    }
    case FUSE_READ:
      return reply(request->unique, 0, "fuse\n", 5);
    case FUSE_STATFS: {
      const struct fuse_statfs_out status = {.st = {.bsize = 4096, .namelen = 255}};
      return reply(request->unique, 0, &status, sizeof(status));
    }
    case FUSE_READDIR:
    case FUSE_ACCESS:
    case FUSE_FLUSH:
    case FUSE_RELEASE:
    case FUSE_RELEASEDIR:
      return reply(request->unique, 0, NULL, 0);
    case FUSE_FORGET:
    case FUSE_BATCH_FORGET:
    case FUSE_INTERRUPT:
      return;
    default:
      reply(request->unique, ENOSYS, NULL, 0);
  }
}

int main(int argc, char **argv) {
  if (argc < 3 || (strcmp(argv[2], "opens") == 0 && argc < 4)) {
    fprintf(stderr, "usage: fuse-server MOUNTPOINT ok|silent|hang|dead|opens [FILE]\n");
    return 2;
  }
  const char *point = argv[1], *mode = argv[2];
  setvbuf(stdout, NULL, _IOLBF, 0);
  struct stat status;
  if (stat(point, &status) == 0) root_type = status.st_mode & S_IFMT;
  device = open("/dev/fuse", O_RDWR | O_CLOEXEC);
  if (device < 0) return perror("/dev/fuse"), 1;
  char options[128];
  snprintf(options, sizeof(options), "fd=%d,rootmode=%o,user_id=0,group_id=0,allow_other", device, root_type);
  if (mount("test", point, "fuse", MS_NOSUID | MS_NODEV, options) != 0) return perror("mount"), 1;
  puts("mounted");
  if (strcmp(mode, "dead") == 0) return 0;
  static char request[REQUEST_BYTES];
  for (;;) {
    const ssize_t got = read(device, request, sizeof(request));
    if (got < 0 && errno == ENODEV) return 0;
    if (got < (ssize_t)sizeof(struct fuse_in_header)) continue;
    const struct fuse_in_header *header = (const void *)request;
    if (header->opcode == FUSE_INIT) {
      const struct fuse_init_out init = {.major = 7, .minor = 31, .max_readahead = 65536, .max_write = 65536,
                                         .max_background = 16, .congestion_threshold = 12};
      reply(header->unique, 0, &init, sizeof(init));
    } else if (strcmp(mode, "silent") != 0) {
      answer(header, request + sizeof(*header), mode, argv[3]);
    }
  }
}
