// Whoever is asked to end and does not is ended.
#include "os/last_resort.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>

#include "tap.h"

using namespace janus;
using namespace std::chrono_literals;

// ThreadSanitizer's _exit() would wait for longer than the last resort does.
extern "C" const char* __tsan_default_options() { return "atexit_sleep_ms=0"; }

namespace {

// ThreadSanitizer runs a handler some time after the signal, and on a busy machine
// has been seen not to run it at all (2 of 25 runs): there it is sent again.
void stay() {
#if __has_feature(thread_sanitizer)
  for (int i = 0; i < 60; ++i) {
    sleep(1);
    kill(getpid(), SIGTERM);
  }
#else
  sleep(60);
#endif
}

int said[2];  // a pipe: what happened, a letter each

void happened(char what) { [[maybe_unused]] const ssize_t written = write(said[1], &what, 1); }

// How a process ended that runs `body`, and what happened in it.
template <typename Body>
std::string run(Body body) {
  if (pipe(said) != 0) return "no pipe";
  const pid_t child = fork();
  if (child == 0) {
    dup2(open("/dev/null", O_WRONLY | O_CLOEXEC), STDERR_FILENO);  // kernel/ending.test.ts looks at what it says
    signal(SIGTERM, [](int) { happened('h'); });
    body();
    _exit(0);
  }
  close(said[1]);
  std::string result;
  for (char what; read(said[0], &what, 1) == 1;) result += what;
  close(said[0]);
  int status = 0;
  waitpid(child, &status, 0);
  const std::string all = result + (WIFSIGNALED(status) ? "signal " + std::to_string(WTERMSIG(status)) : std::to_string(WEXITSTATUS(status)));
  std::printf("# %s\n", all.c_str());
  return all;
}

}  // namespace

int main() {
  CHECK(run([] {
          LastResort last(50ms);
          last.on_end([] { happened('l'); });
          kill(getpid(), SIGTERM);
          sleep(60);
        }) == "hl1");
  // The signal is taken though this thread takes none any more.
  CHECK(run([] {
          const LastResort last(50ms);
          sigset_t all;
          sigfillset(&all);
          pthread_sigmask(SIG_BLOCK, &all, nullptr);
          kill(getpid(), SIGTERM);
          stay();
        }) == "h1");
  CHECK(run([] {
          LastResort last(60s);
          last.on_end([] { happened('l'); });
          last.within(50ms);
          sleep(60);
        }) == "l1");
  CHECK(run([] {
          LastResort last(50ms);
          last.within(50ms);
          last.done();
          usleep(200'000);
        }) == "0");
  // What lets go does not return.
  CHECK(run([] {
          LastResort last(60s);
          last.on_end([] { pause(); });
          last.within(50ms);
          sleep(60);
        }) == "signal " + std::to_string(SIGALRM));
  return tap::done();
}
