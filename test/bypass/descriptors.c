// The same file by something that isn't its path: descriptors, handles,
// io_uring, execution; and what is left of descriptors that are older than the
// guard. A guard on `open` says nothing about those: they were opened. A guard
// on `access` is asked at every read, whatever the descriptor's age.
#include "attempt.h"

#include <linux/io_uring.h>
#include <linux/openat2.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>

static const char *reopened(int fd) { return format("/proc/self/fd/%d", fd); }

static void path_only(void) {
  GUARD_TREE("in");
  int fd = step("open-path", open("in/secret", O_PATH | O_CLOEXEC));
  secret(reopened(fd));
  int dir = step("open-path", open("in/deep", O_PATH | O_CLOEXEC));
  secret_at("dirfd", dir, "er/secret");
  secret(format("/proc/self/fd/%d/er/secret", dir));
  secret(format("/proc/self/fd/%d/../secret", dir));
  control(format("/proc/self/fd/%d/../../out/neighbour", dir));
}

static void path_only_before(void) {
  int fd = step("open-path", open("in/secret", O_PATH | O_CLOEXEC));
  int dir = step("open-path", open("in/deep", O_PATH | O_CLOEXEC));
  GUARD_TREE("in");
  secret(reopened(fd));
  secret_at("dirfd", dir, "er/secret");
  control("out/neighbour");
}

static void path_only_moved(void) {
  GUARD_TREE("in");
  int fd = step("open-path", open("in/deep/er/secret", O_PATH | O_CLOEXEC));
  step("rename", rename("in/deep/er/secret", "out/moved"));
  secret(reopened(fd));
  control("out/neighbour");
}

static void unlinked(void) {
  GUARD_TREE("in");
  int fd = step("open-path", open("in/deep/er/secret", O_PATH | O_CLOEXEC));
  step("unlink", unlink("in/deep/er/secret"));
  secret(reopened(fd));
  step("rmdir", rmdir("in/deep/er"));
  step("rmdir", rmdir("in/deep"));
  secret(reopened(fd));
  control("out/neighbour");
}

static void unlinked_file_guard(void) {
  GUARD_FILE("in/secret");
  int fd = step("open-path", open("in/secret", O_PATH | O_CLOEXEC));
  step("unlink", unlink("in/secret"));
  secret(reopened(fd));
  appear("in/secret");
  secret(reopened(fd));
  secret("in/secret");
  control("out/neighbour");
}

static void unlinked_before(void) {
  int fd = step("open", open("in/secret", O_RDONLY | O_CLOEXEC));
  int dir = step("open-path", open("in", O_PATH | O_CLOEXEC));
  GUARD_TREE("in");
  step("unlink", unlinkat(dir, "secret", 0));
  secret(reopened(fd));
  control("out/neighbour");
}

static void opened_before(void) {
  int fd = step("open", open("in/secret", O_RDONLY | O_CLOEXEC));
  int mapped = step("open", open("in/deep/er/secret", O_RDONLY | O_CLOEXEC));
  GUARD_TREE("in");
  secret_fd("read", fd);
  char *text = mmap(NULL, 64, PROT_READ, MAP_PRIVATE, mapped, 0);
  if (text == MAP_FAILED) secret_text("mmap", NULL, -1);
  else secret_text("mmap", text, 7);
  control("out/neighbour");
}

static void opened_before_reopened(void) {
  int fd = step("open", open("in/secret", O_RDONLY | O_CLOEXEC));
  GUARD_TREE("in");
  secret(reopened(fd));
  secret_fd("duplicate-mode", open(reopened(fd), O_RDWR | O_CLOEXEC));
  control("out/neighbour");
}

static void mapped_before(void) {
  int fd = step("open", open("in/secret", O_RDONLY | O_CLOEXEC));
  if (mmap((void *)0x10000000, 4096, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd, 0) == MAP_FAILED) broken("mmap");
  GUARD_TREE("in");
  int again = open("/proc/self/map_files/10000000-10001000", O_RDONLY | O_CLOEXEC);
  step("map_files", again < 0 && errno == EPERM ? -1 : 0);
  secret_fd("map_files", again);
  control("out/neighbour");
}

static void directory_before(void) {
  int dir = step("open", open("in", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  GUARD_TREE("in");
  secret_at("dirfd", dir, "secret");
  secret_at("dirfd-deep", dir, "deep/er/secret");
  control_at("dirfd", dir, "../out/neighbour");
}

static int openat2_(int dir, const char *path, unsigned long long resolve) {
  struct open_how how = {.flags = O_RDONLY | O_CLOEXEC, .resolve = resolve};
  return (int)syscall(SYS_openat2, dir, path, &how, sizeof how);
}

static void openat2s(void) {
  GUARD_TREE("in");
  int dir = step("open-path", open("in", O_PATH | O_CLOEXEC));
  int out = step("open-path", open("out", O_PATH | O_CLOEXEC));
  secret_fd("beneath", openat2_(dir, "secret", RESOLVE_BENEATH));
  secret_fd("in-root", openat2_(dir, "/deep/er/secret", RESOLVE_IN_ROOT));
  secret_fd("no-xdev", openat2_(dir, "secret", RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS));
  struct stat info;
  step("stat", fstatat(dir, "secret", &info, 0));
  secret_fd("cached", openat2_(dir, "secret", RESOLVE_CACHED));
  control_fd("in-root", openat2_(out, "/neighbour", RESOLVE_IN_ROOT));
}

// ---- open_by_handle_at

static void handle_of(const char *path, struct file_handle *handle) {
  int mount_id;
  handle->handle_bytes = MAX_HANDLE_SZ;
  step("name_to_handle_at", name_to_handle_at(AT_FDCWD, path, handle, &mount_id, 0));
}

static void by_handle(void) {
  char room[2][sizeof(struct file_handle) + MAX_HANDLE_SZ] __attribute__((aligned(8)));
  struct file_handle *handle = (struct file_handle *)room[0], *deep = (struct file_handle *)room[1];
  GUARD_TREE("in");
  if (who == ADMIN) own_mounts();
  handle_of("in/secret", handle);
  handle_of("in/deep/er/secret", deep);
  int base = step("open", open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  int fd = open_by_handle_at(base, handle, O_PATH | O_CLOEXEC);
  step("open_by_handle_at", fd);
  secret_fd("handle", open_by_handle_at(base, handle, O_RDONLY | O_CLOEXEC));
  secret_fd("handle-deep", open_by_handle_at(base, deep, O_RDONLY | O_CLOEXEC));
  secret_fd("path-handle", open(reopened(fd), O_RDONLY | O_CLOEXEC));
  handle_of("in/deep", handle);
  int dir = open_by_handle_at(base, handle, O_PATH | O_CLOEXEC);
  step("open_by_handle_at", dir);
  secret_at("directory-handle", dir, "er/secret");
  step("unlink", unlink("in/secret"));
  secret_fd("unlinked", open(reopened(fd), O_RDONLY | O_CLOEXEC));
  handle_of("out/neighbour", handle);
  control_fd("handle", open_by_handle_at(base, handle, O_RDONLY | O_CLOEXEC));
}

// What a user namespace may decode is directories, below a mount of its own.
static void by_directory_handle(void) {
  char room[sizeof(struct file_handle) + MAX_HANDLE_SZ] __attribute__((aligned(8)));
  struct file_handle *handle = (struct file_handle *)room;
  GUARD_TREE("in");
  own_mounts();
  step("bind", mount(".", "out", NULL, MS_BIND, NULL));
  handle_of("out/in/deep", handle);
  int base = step("open", open("out", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  int dir = step("open_by_handle_at", open_by_handle_at(base, handle, O_PATH | O_DIRECTORY | O_CLOEXEC));
  secret_at("directory-handle", dir, "er/secret");
  control_at("out/neighbour", base, "out/neighbour");
}

// ---- io_uring, by its system calls

struct ring {
  int fd;
  char *sq, *cq;
  struct io_uring_sqe *entries;
  struct io_uring_params params;
};

static struct ring new_ring(unsigned flags) {
  struct ring ring = {.params = {.flags = flags, .sq_thread_idle = 10}};
  ring.fd = (int)step("io_uring_setup", syscall(SYS_io_uring_setup, 4, &ring.params));
  size_t sq = ring.params.sq_off.array + ring.params.sq_entries * sizeof(unsigned);
  size_t cq = ring.params.cq_off.cqes + ring.params.cq_entries * sizeof(struct io_uring_cqe);
  ring.sq = mmap(NULL, sq, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring.fd, IORING_OFF_SQ_RING);
  ring.cq = mmap(NULL, cq, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring.fd, IORING_OFF_CQ_RING);
  ring.entries = mmap(NULL, ring.params.sq_entries * sizeof *ring.entries, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring.fd, IORING_OFF_SQES);
  if (ring.sq == MAP_FAILED || ring.cq == MAP_FAILED || ring.entries == MAP_FAILED) broken("mmap-ring");
  return ring;
}

static unsigned *word(char *base, unsigned offset) { return (unsigned *)(base + offset); }

// Its result; or -1 and errno.
static int submit(struct ring *ring, struct io_uring_sqe entry) {
  const struct io_uring_params *p = &ring->params;
  unsigned tail = *word(ring->sq, p->sq_off.tail), index = tail & *word(ring->sq, p->sq_off.ring_mask);
  ring->entries[index] = entry;
  word(ring->sq, p->sq_off.array)[index] = index;
  __atomic_store_n(word(ring->sq, p->sq_off.tail), tail + 1, __ATOMIC_RELEASE);
  unsigned flags = IORING_ENTER_GETEVENTS | (p->flags & IORING_SETUP_SQPOLL ? IORING_ENTER_SQ_WAKEUP : 0);
  unsigned head = *word(ring->cq, p->cq_off.head);
  while (head == __atomic_load_n(word(ring->cq, p->cq_off.tail), __ATOMIC_ACQUIRE))
    if (syscall(SYS_io_uring_enter, ring->fd, 1, 1, flags, NULL, 0) < 0 && errno != EINTR) broken("io_uring_enter");
  struct io_uring_cqe *done = (struct io_uring_cqe *)(ring->cq + p->cq_off.cqes) + (head & *word(ring->cq, p->cq_off.ring_mask));
  int result = done->res;
  __atomic_store_n(word(ring->cq, p->cq_off.head), head + 1, __ATOMIC_RELEASE);
  if (result >= 0) return result;
  errno = -result;
  return -1;
}

static int ring_open(struct ring *ring, const char *path, unsigned char flags) {
  return submit(ring, (struct io_uring_sqe){.opcode = IORING_OP_OPENAT, .flags = flags, .fd = AT_FDCWD, .addr = (unsigned long)path, .open_flags = O_RDONLY});
}

static int ring_open2(struct ring *ring, const char *path) {
  static struct open_how how = {.flags = O_RDONLY};
  return submit(ring, (struct io_uring_sqe){.opcode = IORING_OP_OPENAT2, .fd = AT_FDCWD, .addr = (unsigned long)path, .len = sizeof how, .off = (unsigned long)&how});
}

static void uring(unsigned setup, unsigned char flags) {
  GUARD_TREE("in");
  struct ring ring = new_ring(setup);
  secret_fd("openat", ring_open(&ring, "in/secret", flags));
  secret_fd("openat-deep", ring_open(&ring, "in/deep/er/secret", flags));
  secret_fd("openat2", ring_open2(&ring, "in/secret"));
  control_fd("openat", ring_open(&ring, "out/neighbour", flags));
}

static void uring_plain(void) { uring(0, 0); }
static void uring_worker(void) { uring(0, IOSQE_ASYNC); }
static void uring_polled(void) { uring(IORING_SETUP_SQPOLL, 0); }

static long ring_read_at(struct ring *ring, int fd, char *into, unsigned length, unsigned char flags) {
  return submit(ring, (struct io_uring_sqe){.opcode = IORING_OP_READ, .flags = flags, .fd = fd, .addr = (unsigned long)into, .len = length});
}

// Opened into the ring's own table: there never is a descriptor.
static void uring_direct(void) {
  char text[64];
  int none[2] = {-1, -1};
  GUARD_TREE("in");
  struct ring ring = new_ring(0);
  step("register", syscall(SYS_io_uring_register, ring.fd, IORING_REGISTER_FILES, none, 2));
  struct io_uring_sqe entry = {.opcode = IORING_OP_OPENAT, .fd = AT_FDCWD, .addr = (unsigned long)"in/secret", .open_flags = O_RDONLY, .file_index = 1};
  if (submit(&ring, entry) < 0) secret_text("direct", NULL, -1);
  else secret_text("direct", text, ring_read_at(&ring, 0, text, sizeof text, IOSQE_FIXED_FILE));
  control_fd("openat", ring_open(&ring, "out/neighbour", 0));
}

// A ring that was made before the guard, by another process.
static struct ring inherited;
static void use_inherited(void) {
  secret_fd("openat", ring_open(&inherited, "in/secret", 0));
  control_fd("openat", ring_open(&inherited, "out/neighbour", 0));
}
static void uring_inherited(void) {
  inherited = new_ring(0);
  GUARD_TREE("in");
  in_child(use_inherited);
}

// ---- execution

static void program_setup(void) {
  layout();
  char buffer[65536];
  int from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC), to = open("in/program", O_WRONLY | O_CREAT | O_CLOEXEC, 0777);
  for (long n; (n = read(from, buffer, sizeof buffer)) > 0;)
    if (write(to, buffer, n) != n) broken("copy");
  if (from < 0 || to < 0) broken("copy");
  close(from);
  close(to);
  if (link("in/program", "out/program") != 0) broken("link");
  put("out/script", format("#!%s say\n", absolute("in/program")));
  if (chmod("out/script", 0777) != 0) broken("chmod");
}

// What `file` prints when it's executed: by path, or by descriptor if that is given.
static void execute(const char *label, const char *path, int fd) {
  static const char *const arguments[] = {"program", "say", NULL}, *const none[] = {NULL};
  char text[64];
  int ends[2], errors[2], error = 0;
  if (pipe2(ends, O_CLOEXEC) != 0 || pipe2(errors, O_CLOEXEC) != 0) broken("pipe");
  pid_t child = fork();
  if (child == 0) {
    dup2(ends[1], 1);
    if (path) syscall(SYS_execve, path, arguments, none);
    else syscall(SYS_execveat, fd, "", arguments, none, AT_EMPTY_PATH);
    error = errno;
    if (write(errors[1], &error, sizeof error) < 0) _exit(4);
    _exit(3);
  }
  close(ends[1]);
  close(errors[1]);
  long n = read(ends[0], text, sizeof text);
  if (read(errors[0], &error, sizeof error) > 0) n = -1, errno = error;
  int saved = errno;
  waitpid(child, NULL, 0);
  close(ends[0]);
  close(errors[0]);
  errno = saved;
  secret_text(label, text, n);
}

static void executed(const char *fields) {
  int before = step("open", open("in/program", O_PATH | O_CLOEXEC));
  int read_before = step("open", open("in/program", O_RDONLY));
  guard("deny", "in/program", fields);
  execute("execve", "in/program", -1);
  execute("execve-link", "out/program", -1);
  execute("execveat-path", NULL, before);
  execute("execveat-opened", NULL, read_before);
  execute("proc-fd", reopened(before), -1);
  execute("interpreter", "out/script", -1);
  control("out/neighbour");
}

static void executed_open(void) { executed("\"event\":[\"open\"]"); }
static void executed_exec(void) { executed("\"event\":[\"exec\"]"); }

// ---- access: every way to read what is open

static void readers(const char *kind, int fd, struct ring *ring) {
  char text[64];
  struct iovec part = {text, sizeof text};
  int ends[2];
  off_t offset = 0;
#define READ(how, call) secret_text(format("%s-%s", kind, how), text, call)
  READ("pread", pread(fd, text, sizeof text, 0));
  lseek(fd, 0, SEEK_SET);
  READ("read", read(fd, text, sizeof text));
  lseek(fd, 0, SEEK_SET);
  READ("readv", readv(fd, &part, 1));
  READ("preadv2", preadv2(fd, &part, 1, 0, 0));
  READ("io_uring", ring_read_at(ring, fd, text, sizeof text, 0));
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) broken("socketpair");
  long n = sendfile(ends[0], fd, &offset, sizeof text);
  READ("sendfile", n > 0 ? read(ends[1], text, sizeof text) : n);
  if (pipe2(ends, O_CLOEXEC) != 0) broken("pipe");
  offset = 0;
  n = splice(fd, &offset, ends[1], NULL, sizeof text, 0);
  READ("splice", n > 0 ? read(ends[0], text, sizeof text) : n);
  int copy = open("out", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (copy < 0) broken("tmpfile");
  offset = 0;
  n = copy_file_range(fd, &offset, copy, NULL, 7, 0);
  READ("copy_file_range", n > 0 ? pread(copy, text, sizeof text, 0) : n);
  close(copy);
#undef READ
}

static void access_after(void) {
  struct ring ring = new_ring(0);
  GUARD_ACCESS("in");
  readers("after", (int)step("open", open("in/secret", O_RDONLY | O_CLOEXEC)), &ring);
  readers("deep", (int)step("open", open("in/deep/er/secret", O_RDONLY | O_CLOEXEC)), &ring);
  control("out/neighbour");
}

static void access_before(void) {
  struct ring ring = new_ring(0);
  int fd = step("open", open("in/secret", O_RDONLY | O_CLOEXEC));
  GUARD_ACCESS("in");
  readers("before", fd, &ring);
  control("out/neighbour");
}

static void access_moved(void) {
  struct ring ring = new_ring(0);
  GUARD_ACCESS("in");
  int fd = step("open", open("in/secret", O_RDONLY | O_CLOEXEC));
  step("rename", rename("in/secret", "out/moved"));
  readers("moved", fd, &ring);
  step("unlink", unlink("out/moved"));
  readers("unlinked", fd, &ring);
  control("out/neighbour");
}

static void access_listing(void) {
  char text[1024];
  GUARD_ACCESS("in");
  int dir = step("open", open("in/deep", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  long n = syscall(SYS_getdents64, dir, text, sizeof text);
  secret_text("getdents", "SECRET", n < 0 ? -1 : 6);
  control("out/neighbour");
}

static void access_mapped(void) {
  GUARD_ACCESS("in");
  int fd = step("open", open("in/secret", O_RDONLY | O_CLOEXEC));
  char *text = mmap(NULL, 64, PROT_READ, MAP_PRIVATE, fd, 0);
  secret_text("mmap", text == MAP_FAILED ? NULL : text, text == MAP_FAILED ? -1 : 7);
  control("out/neighbour");
}

static void all_mapped(void) {
  guard("deny", "in", "\"recursive\":true,\"event\":[\"all\"]");
  int fd = open("in/secret", O_RDONLY | O_CLOEXEC);
  char *text = mmap(NULL, 64, PROT_READ, MAP_PRIVATE, fd, 0);
  if (fd < 0) errno = EPERM;
  secret_text("mmap", text == MAP_FAILED ? NULL : text, text == MAP_FAILED ? -1 : 7);
  control("out/neighbour");
}

static const struct attempt list[] = {
    TRY("path-only", "Re-opens O_PATH descriptors through /proc/self/fd; opens relative to them", EVERYBODY, ANYWHERE, NULL, path_only),
    TRY("path-only-before", "The same with descriptors older than the guard", EVERYBODY, ANYWHERE, NULL, path_only_before),
    TRY("path-only-moved", "Re-opens an O_PATH descriptor of a file that was moved out since", EVERYBODY, ANYWHERE, NULL, path_only_moved),
    TRY("unlinked", "Re-opens an O_PATH descriptor of a deleted file, then without its directories", EVERYBODY, WRITTEN, NULL, unlinked),
    TRY("unlinked-file-guard", "The same with one guarded file, which then appears again", EVERYBODY, ANYWHERE, NULL, unlinked_file_guard),
    TRY("unlinked-before", "Re-opens a deleted file by a descriptor older than the guard", EVERYBODY, ANYWHERE, NULL, unlinked_before),
    {.name = "opened-before", .summary = "Reads and maps what was open before the guard: an open that is past", .who = EVERYBODY, .places = ANYWHERE, .expected = PAST, .run = opened_before},
    TRY("opened-before-reopened", "Opens that once more, through /proc/self/fd", EVERYBODY, ANYWHERE, NULL, opened_before_reopened),
    TRY("map-files", "Re-opens a mapping through /proc/self/map_files (the kernel asks for a capability of the node)", 0, ANYWHERE, NULL, mapped_before),
    TRY("directory-before", "Opens relative to a directory opened before the guard", EVERYBODY, ANYWHERE, NULL, directory_before),
    TRY("openat2", "openat2 with RESOLVE_BENEATH, IN_ROOT, NO_XDEV and CACHED", EVERYBODY, ANYWHERE, NULL, openat2s),
    TRY("handle", "open_by_handle_at (the kernel asks for a capability of the node)", 0, VOLUMES, NULL, by_handle),
    TRY("handle-directory", "open_by_handle_at of a directory, by a mount of its own", ADMIN, VOLUMES, NULL, by_directory_handle),
    {.name = "handle-capable", .summary = "open_by_handle_at as root with CAP_DAC_READ_SEARCH", .who = ROOT, .places = VOLUMES, .run = by_handle, .extra_capability = 1},
    TRY("io_uring", "io_uring: openat and openat2", EVERYBODY, ANYWHERE, NULL, uring_plain),
    TRY("io_uring-worker", "io_uring: opened by a kernel worker", EVERYBODY, ANYWHERE, NULL, uring_worker),
    TRY("io_uring-polled", "io_uring: opened by a polling kernel thread", EVERYBODY, ANYWHERE, NULL, uring_polled),
    TRY("io_uring-direct", "io_uring: opened into the ring's own table, and read there", EVERYBODY, ANYWHERE, NULL, uring_direct),
    TRY("io_uring-inherited", "io_uring: a ring older than the guard, of another process", EVERYBODY, ANYWHERE, NULL, uring_inherited),
    TRY("executed", "Executes a program that is guarded on open: execve, execveat, as an interpreter, by a link", EVERYBODY, ANYWHERE, program_setup, executed_open),
    TRY("executed-exec", "The same with a guard on exec alone", EVERYBODY, ANYWHERE, program_setup, executed_exec),
    TRY("access", "Guard on access: read, pread, readv, preadv2, io_uring, sendfile, splice, copy_file_range", EVERYBODY, ANYWHERE, NULL, access_after),
    {.name = "access-before", .summary = "The same with a descriptor older than the guard (denied before Linux 6.14)", .who = EVERYBODY, .places = ANYWHERE, .expected = PAST_SINCE_6_14, .run = access_before},
    TRY("access-moved", "The same once the open file was moved out, and deleted", EVERYBODY, ANYWHERE, NULL, access_moved),
    TRY("access-listing", "Guard on access: lists a directory of the tree", EVERYBODY, ANYWHERE, NULL, access_listing),
    {.name = "access-mapped", .summary = "Guard on access alone: maps the file. The kernel asks nobody; guard open as well", .who = EVERYBODY, .places = ANYWHERE, .expected = PAST, .run = access_mapped},
    TRY("all-mapped", "Guard on all: maps the file", EVERYBODY, ANYWHERE, NULL, all_mapped),
};
FAMILY(descriptors, list);
