// Runs a program as on a kernel without IPv6 (ipv6.disable=1): no-ipv6 PROGRAM ARGUMENT...
// socket(2) of that family ends with EAFNOSUPPORT, for the program and all that it starts.
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FIELD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define SKIP_UNLESS(value, count) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, count)

int main(int argc, char **argv) {
  struct sock_filter filter[] = {
      FIELD(nr), SKIP_UNLESS(SYS_socket, 3),
      FIELD(args[0]), SKIP_UNLESS(AF_INET6, 1),  // its lower half: little endian
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EAFNOSUPPORT),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
  if (argc < 2) return 2;
  if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0) execvp(argv[1], argv + 1);
  perror("no-ipv6");
  return 1;
}
