// Closes a descriptor of another process, as a fault of its own would: close-descriptor PID THREAD FD.
// The thread has to be in a system call; it does one more.
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>

#include "thread.h"

static int registers_of(int request, pid_t thread, struct user_regs_struct *registers) {
  struct iovec io = {registers, sizeof *registers};
  return ptrace(request, thread, NT_PRSTATUS, &io) < 0;
}

int main(int argc, char **argv) {
  if (argc != 4) return 2;
  const pid_t thread = find_thread(argv[1], argv[2]);
  struct user_regs_struct before, now;
  if (thread == 0 || ptrace(PTRACE_SEIZE, thread, 0, 0) < 0 || ptrace(PTRACE_INTERRUPT, thread, 0, 0) < 0 ||
      waitpid(thread, NULL, __WALL) != thread || registers_of(PTRACE_GETREGSET, thread, &before)) {
    perror("close-descriptor");
    return 1;
  }
  now = before;
#ifdef __x86_64__
  now.rip -= 2;  // the instruction that it came by
  now.rax = SYS_close;
  now.orig_rax = -1;  // what it was in is not restarted here, but at the end
  now.rdi = strtoull(argv[3], NULL, 10);
#else
  now.pc -= 4;
  now.regs[8] = SYS_close;
  now.regs[0] = strtoull(argv[3], NULL, 10);
#endif
  if (registers_of(PTRACE_SETREGSET, thread, &now) || ptrace(PTRACE_SINGLESTEP, thread, 0, 0) < 0 ||
      waitpid(thread, NULL, __WALL) != thread || registers_of(PTRACE_GETREGSET, thread, &now)) {
    perror("close-descriptor");
    return 1;
  }
#ifdef __x86_64__
  const long result = (long)now.rax;
#else
  const long result = (long)now.regs[0];
#endif
  if (result != 0) fprintf(stderr, "close: %ld\n", result);
  return registers_of(PTRACE_SETREGSET, thread, &before) || ptrace(PTRACE_DETACH, thread, 0, 0) < 0 || result != 0;
}
