#include "os/fault.h"

#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cstddef>
#include <cstring>
#include <initializer_list>
#include <vector>

#include "os/say.h"

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
  say(line);
  // SA_RESETHAND: a fault that is repeated, or this, has the default action. A
  // signal that was sent would not come again by itself.
  raise(signal);
}

// The kernel's frame (all registers: kilobytes, sysconf(3)), and the handler's.
class FaultStack {
 public:
  FaultStack() : bytes_(static_cast<std::size_t>(sysconf(_SC_MINSIGSTKSZ)) + kHandlerBytes) {
    const stack_t stack{.ss_sp = bytes_.data(), .ss_flags = 0, .ss_size = bytes_.size()};
    sigaltstack(&stack, nullptr);
  }
  ~FaultStack() {
    const stack_t none{.ss_sp = nullptr, .ss_flags = SS_DISABLE, .ss_size = 0};
    sigaltstack(&none, nullptr);
  }
  FaultStack(const FaultStack&) = delete;
  FaultStack& operator=(const FaultStack&) = delete;

 private:
  static constexpr std::size_t kHandlerBytes = 8192;
  std::vector<std::byte> bytes_;
};

}  // namespace

void report_stack_overflow() { thread_local const FaultStack stack; }

void report_faults() {
  report_stack_overflow();
  struct sigaction action {};
  action.sa_handler = on_fault;
  action.sa_flags = SA_RESETHAND | SA_NODEFER | SA_ONSTACK;
  for (const int signal : {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGABRT}) sigaction(signal, &action, nullptr);
}

}  // namespace janus
