// Makes one thread of a process jump to address 0, as a fault of its own would: crash PID NAME [overflow]. With
// `overflow` it has no stack left.
#define _GNU_SOURCE
#include <elf.h>
#include <stdio.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>

#include "thread.h"

int main(int argc, char **argv) {
  if (argc < 3) return 2;
  const pid_t thread = find_thread(argv[1], argv[2]);
  struct user_regs_struct registers;
  struct iovec io = {&registers, sizeof registers};
  if (thread == 0 || ptrace(PTRACE_SEIZE, thread, 0, 0) < 0 || ptrace(PTRACE_INTERRUPT, thread, 0, 0) < 0 ||
      waitpid(thread, NULL, __WALL) != thread || ptrace(PTRACE_GETREGSET, thread, NT_PRSTATUS, &io) < 0) {
    perror("crash");
    return 1;
  }
#ifdef __x86_64__
  registers.rip = 0;
  registers.orig_rax = -1;  // no system call is to be restarted
  if (argc > 3) registers.rsp = 0;
#else
  registers.pc = 0;
  if (argc > 3) registers.sp = 0;
#endif
  return ptrace(PTRACE_SETREGSET, thread, NT_PRSTATUS, &io) < 0 || ptrace(PTRACE_DETACH, thread, 0, 0) < 0;
}
