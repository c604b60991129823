// The same path from somewhere else: another mount, user or pid namespace,
// another root, another process's view in /proc. What a mark on the
// container's own mounts cannot see unless something notices the namespace.
#include "attempt.h"

#include <linux/sched.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>

// in/ and out/ of the attempt, from a root that is not the container's.
static void read_both(const char *root) {
  secret(format("%s%s/in/secret", root, home));
  secret(format("%s%s/in/deep/er/secret", root, home));
  control(format("%s%s/out/neighbour", root, home));
}

static void read_here(void) {
  secret("in/secret");
  secret("in/deep/er/secret");
  control("out/neighbour");
}

static void unshare_mounts(void) {
  GUARD_TREE("in");
  step("unshare-mounts", unshare(CLONE_NEWNS));
  read_here();
  read_both("");
}

static void unshare_user_and_mounts(void) {
  GUARD_TREE("in");
  user_and_mounts();
  read_here();
  read_both("");
}

static void unshare_twice(void) {
  GUARD_TREE("in");
  user_and_mounts();
  user_and_mounts();
  step("unshare-mounts", unshare(CLONE_NEWNS));
  read_here();
}

static void unshared_before_child(void) {
  user_and_mounts();
  meet();
  read_here();
  read_both("");
}

static void unshared_before(void) {
  pid_t child = beside(unshared_before_child);
  GUARD_TREE("in");
  let_go(child);
}

static void unshared_before_file_guard(void) {
  pid_t child = beside(unshared_before_child);
  GUARD_FILE("in/secret");
  GUARD_FILE("in/deep/er/secret");
  let_go(child);
}

static void unshared_bind_child(void) {
  user_and_mounts();
  meet();
  step("bind", mount("in", "out", NULL, MS_BIND, NULL));
  secret("out/secret");
  secret("in/secret");
}

static void unshared_bind(void) {
  pid_t child = beside(unshared_bind_child);
  GUARD_TREE("in");
  let_go(child);
  control("out/neighbour");
}

static pid_t raw_clone(unsigned long flags) {
  struct clone_args arguments = {.flags = flags, .exit_signal = SIGCHLD};
  return (pid_t)step("clone3", syscall(SYS_clone3, &arguments, sizeof arguments));
}

static void finish(pid_t child) {
  int status;
  waitpid(child, &status, 0);
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 3);
}

static void cloned(unsigned long flags) {
  GUARD_TREE("in");
  pid_t child = raw_clone(flags);
  if (child == 0) {
    read_here();
    read_both("");
    _exit(0);
  }
  finish(child);
}

static void clone_mounts(void) { cloned(CLONE_NEWNS); }
static void clone_user_and_mounts(void) { cloned(CLONE_NEWUSER | CLONE_NEWNS); }
static void clone_everything(void) {
  cloned(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNET | CLONE_NEWCGROUP);
}

static void new_pid_namespace(void) {
  GUARD_TREE("in");
  step("unshare-pids", unshare(who == ADMIN ? CLONE_NEWPID : CLONE_NEWUSER | CLONE_NEWPID));
  in_child(read_here);
}

static void orphan(void) {
  GUARD_TREE("in");
  int ends[2];
  char c;
  if (pipe2(ends, O_CLOEXEC) != 0) broken("pipe");
  if (fork() == 0) {
    if (fork() == 0) {
      setsid();
      if (fork() == 0) read_here();
      else wait(NULL);
    }
    _exit(0);
  }
  close(ends[1]);
  wait(NULL);
  if (read(ends[0], &c, 1) != 0) broken("orphan");
}

static void wait_in_namespace(void) {
  user_and_mounts();
  meet();
}

// Opening a path below /proc/PID/root walks that process's mounts, while the
// mount namespace of the one that opens is the container's.
static void foreign_root(void) {
  pid_t child = beside(wait_in_namespace);
  GUARD_TREE("in");
  read_both(format("/proc/%d/root", child));
  read_both(format("/proc/%d/cwd/../../../../../..", child));
  let_go(child);
}

static void foreign_root_after(void) {
  GUARD_TREE("in");
  pid_t child = beside(wait_in_namespace);
  read_both(format("/proc/%d/root", child));
  let_go(child);
}

static void enter(bool before, bool by_pidfd) {
  pid_t child = 0;
  if (before) child = beside(wait_in_namespace);
  GUARD_TREE("in");
  if (!before) child = beside(wait_in_namespace);
  int user = by_pidfd ? -1 : (int)step("user-namespace", open(format("/proc/%d/ns/user", child), O_RDONLY | O_CLOEXEC));
  int mnt = by_pidfd ? -1 : (int)step("mount-namespace", open(format("/proc/%d/ns/mnt", child), O_RDONLY | O_CLOEXEC));
  if (by_pidfd) {
    int fd = (int)step("pidfd", syscall(SYS_pidfd_open, child, 0));
    step("setns", setns(fd, CLONE_NEWUSER | CLONE_NEWNS));
  } else {
    step("setns-user", setns(user, CLONE_NEWUSER));
    step("setns-mounts", setns(mnt, CLONE_NEWNS));
  }
  read_both("");
  let_go(child);
}

static void setns_before(void) { enter(true, false); }
static void setns_after(void) { enter(false, false); }
static void setns_pidfd(void) { enter(true, true); }

static void *thread_body(void *unshares) {
  if (unshares) {
    step("unshare-fs", unshare(CLONE_FS));
    step("unshare-mounts", unshare(CLONE_NEWNS));
  }
  read_here();
  return NULL;
}

static void in_thread(bool unshares) {
  GUARD_TREE("in");
  pthread_t thread;
  if (pthread_create(&thread, NULL, thread_body, unshares ? home : NULL) != 0) broken("thread");
  pthread_join(thread, NULL);
}

static void thread(void) { in_thread(false); }
static void thread_unshares(void) { in_thread(true); }

static void chrooted(void) {
  GUARD_TREE("in");
  step("chroot", chroot("."));
  secret("/in/secret");
  secret("/in/deep/er/secret");
  control("/out/neighbour");
  step("chroot", chroot("/in"));
  secret("/secret");
  secret("/deep/er/secret");
}

static void chrooted_before_child(void) {
  step("chroot", chroot("in"));
  meet();
  secret("/secret");
  secret("/deep/er/secret");
  control("out/neighbour");
}

static void chrooted_before(void) {
  pid_t child = beside(chrooted_before_child);
  GUARD_TREE("in");
  let_go(child);
}

static void pivot_setup(void) {
  layout();
  make_dir("root");
  make_dir("point");
}

static void pivoted(void) {
  GUARD_TREE("in");
  own_mounts();
  step("tmpfs", mount("tmpfs", "root", "tmpfs", 0, NULL));
  make_dir("root/old");
  step("pivot_root", syscall(SYS_pivot_root, "root", "root/old"));
  step("chdir", chdir("/"));
  read_both("/old");
}

static void pivoted_clone(void) {
  GUARD_TREE("in");
  own_mounts();
  step("bind", mount("/", "point", NULL, MS_BIND | MS_REC, NULL));
  step("chdir", chdir("point"));
  step("pivot_root", syscall(SYS_pivot_root, ".", "."));
  step("umount", umount2(".", MNT_DETACH));
  step("chdir", chdir("/"));
  read_both("");
}

static void pivoted_in(void) {
  GUARD_TREE("in");
  own_mounts();
  int out = step("open-path", open("out", O_PATH | O_CLOEXEC));
  step("bind", mount("in", "point", NULL, MS_BIND, NULL));
  step("chdir", chdir("point"));
  step("pivot_root", syscall(SYS_pivot_root, ".", "."));
  step("umount", umount2(".", MNT_DETACH));
  step("chdir", chdir("/"));
  secret("/secret");
  secret("/deep/er/secret");
  control_at("out/neighbour", out, "neighbour");
}

static void proc_self_root(void) {
  GUARD_TREE("in");
  read_both("/proc/self/root");
  read_both("/proc/thread-self/root");
  read_both(format("/proc/self/task/%d/root", getpid()));
}

static void proc_init_root(void) {
  GUARD_TREE("in");
  step("/proc/1/root", faccessat(AT_FDCWD, "/proc/1/root/.", F_OK, 0));
  read_both("/proc/1/root");
}

static void sit_inside(void) {
  step("chdir", chdir("in/deep"));
  meet();
}

static void proc_cwd(void) {
  pid_t child = beside(sit_inside);
  GUARD_TREE("in");
  secret(format("/proc/%d/cwd/er/secret", child));
  secret(format("/proc/%d/cwd/../secret", child));
  control(format("/proc/%d/cwd/../../out/neighbour", child));
  let_go(child);
}

static void cwd_inside(void) {
  int out = step("open-path", open("out", O_PATH | O_CLOEXEC));
  step("chdir", chdir("in/deep"));
  GUARD_TREE("in");
  secret("er/secret");
  secret("../secret");
  control_at("out/neighbour", out, "neighbour");
}

static int sent_between[2];

static void send_directory(void) {
  user_and_mounts();
  int dir = open("in", O_PATH | O_CLOEXEC);
  char room[CMSG_SPACE(sizeof dir)] = {0}, c = 0;
  struct iovec data = {&c, 1};
  struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
  struct cmsghdr *header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof dir);
  memcpy(CMSG_DATA(header), &dir, sizeof dir);
  if (dir < 0 || sendmsg(sent_between[0], &message, 0) < 0) broken("sendmsg");
  meet();
}

// The directory's mount is of a namespace that ends before the file is opened.
static void passed_directory(void) {
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sent_between) != 0) broken("socketpair");
  pid_t child = beside(send_directory);
  int dir;
  char room[CMSG_SPACE(sizeof dir)], c;
  struct iovec data = {&c, 1};
  struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
  if (recvmsg(sent_between[1], &message, 0) != 1) broken("recvmsg");
  memcpy(&dir, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof dir);
  GUARD_TREE("in");
  secret_at("passed", dir, "secret");
  let_go(child);
  secret_at("orphaned", dir, "secret");
  secret_at("orphaned-deep", dir, "deep/er/secret");
  control("out/neighbour");
}

// A device node for the volume's disk, read instead of the file. The device
// cgroup has to refuse it; if it doesn't, no file guard can help.
static void device_node(void) {
  struct stat info;
  GUARD_TREE("in");
  step("stat", stat("in", &info));
  step("mknod", mknod("out/disk", S_IFBLK | 0666, info.st_dev));
  step("open-disk", open("out/disk", O_RDONLY | O_CLOEXEC));
  broken("the device cgroup let a container read the node's disk");
}

static const struct attempt list[] = {
    TRY("unshare-mounts", "unshare -m, then opens", ADMIN, ANYWHERE, NULL, unshare_mounts),
    TRY("unshare-user-and-mounts", "unshare -Urm, without any privilege, then opens", EVERYBODY, ANYWHERE, NULL, unshare_user_and_mounts),
    TRY("unshare-again", "Three mount namespaces, one inside the other", EVERYBODY, ANYWHERE, NULL, unshare_twice),
    TRY("unshared-before", "A process in a mount namespace of its own, older than the guard", EVERYBODY, ANYWHERE, NULL, unshared_before),
    TRY("unshared-before-file-guard", "The same with guards on single files", EVERYBODY, ANYWHERE, NULL, unshared_before_file_guard),
    TRY("unshared-before-bind", "The same, which bind-mounts after the guard", EVERYBODY, ANYWHERE, NULL, unshared_bind),
    TRY("clone-mounts", "clone3 with CLONE_NEWNS", ADMIN, ANYWHERE, NULL, clone_mounts),
    TRY("clone-user-and-mounts", "clone3 with CLONE_NEWUSER and CLONE_NEWNS", EVERYBODY, ANYWHERE, NULL, clone_user_and_mounts),
    TRY("clone-everything", "clone3 with all namespaces new", EVERYBODY, ANYWHERE, NULL, clone_everything),
    TRY("pid-namespace", "A child in a pid namespace of its own", EVERYBODY, ANYWHERE, NULL, new_pid_namespace),
    TRY("orphan", "A process that left its session, its parent and its group", EVERYBODY, ANYWHERE, NULL, orphan),
    TRY("foreign-root", "Through /proc/PID/root and cwd of a process in another mount namespace, older than the guard", EVERYBODY, ANYWHERE, NULL, foreign_root),
    TRY("foreign-root-after", "The same, younger than the guard", EVERYBODY, ANYWHERE, NULL, foreign_root_after),
    TRY("setns", "setns into a mount namespace older than the guard", EVERYBODY, ANYWHERE, NULL, setns_before),
    TRY("setns-after", "setns into one younger than the guard", EVERYBODY, ANYWHERE, NULL, setns_after),
    TRY("setns-pidfd", "setns by a pidfd", EVERYBODY, ANYWHERE, NULL, setns_pidfd),
    TRY("thread", "Opens in a thread", EVERYBODY, ANYWHERE, NULL, thread),
    TRY("thread-unshares", "A thread with a mount namespace of its own; its process keeps the old one", ADMIN, ANYWHERE, NULL, thread_unshares),
    TRY("chroot", "chroot to the parent of a guarded directory, and into it", ROOT | ADMIN, ANYWHERE, NULL, chrooted),
    TRY("chroot-before", "A process that has the guarded directory as its root, older than the guard", ROOT | ADMIN, ANYWHERE, NULL, chrooted_before),
    TRY("pivot-root", "pivot_root to a tmpfs", ADMIN, ANYWHERE, pivot_setup, pivoted),
    TRY("pivot-root-clone", "pivot_root to a clone of everything, and the old root unmounted", ADMIN, ANYWHERE, pivot_setup, pivoted_clone),
    TRY("pivot-root-inside", "pivot_root to the guarded directory, and the rest unmounted", ADMIN, ANYWHERE, pivot_setup, pivoted_in),
    TRY("proc-self-root", "Through /proc/self/root and its like", EVERYBODY, ANYWHERE, NULL, proc_self_root),
    TRY("proc-1-root", "Through /proc/1/root", ROOT, ANYWHERE, NULL, proc_init_root),
    TRY("proc-pid-cwd", "Through /proc/PID/cwd of a process that sits in the guarded directory", EVERYBODY, ANYWHERE, NULL, proc_cwd),
    TRY("cwd-inside", "A process that sat in the guarded directory before the guard", EVERYBODY, ANYWHERE, NULL, cwd_inside),
    TRY("passed-directory", "A directory descriptor passed from another mount namespace, which then ends", EVERYBODY, ANYWHERE, NULL, passed_directory),
    TRY("device-node", "Reads the disk itself by a device node of its own (the container's device cgroup refuses)", 0, DISK, NULL, device_node),
};
FAMILY(namespaces, list);
