#include "os/fault.h"

#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cstring>
#include <initializer_list>

namespace janus {
namespace {

const char* name_of(int signal) {
  switch (signal) {
    case SIGSEGV: return "SIGSEGV";
    case SIGBUS: return "SIGBUS";
    case SIGILL: return "SIGILL";
    case SIGFPE: return "SIGFPE";
    case SIGTRAP: return "SIGTRAP";
    default: return "SIGABRT";
  }
}

// Only what is safe in a signal handler (signal-safety(7)).
void on_fault(int signal) {
  char thread[16] = {};
  prctl(PR_GET_NAME, thread);
  char line[96] = "janusd: ";
  for (const char* part : {name_of(signal), " in thread \"", static_cast<const char*>(thread), "\": ending\n"})
    strncat(line, part, sizeof(line) - strlen(line) - 1);
  [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, line, strlen(line));
  // SA_RESETHAND: a fault that is repeated, or this, has the default action. A
  // signal that was sent would not come again by itself.
  raise(signal);
}

}  // namespace

void report_faults() {
  struct sigaction action {};
  action.sa_handler = on_fault;
  action.sa_flags = SA_RESETHAND | SA_NODEFER;
  for (const int signal : {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGABRT}) sigaction(signal, &action, nullptr);
}

}  // namespace janus
