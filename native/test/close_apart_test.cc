// Who closes a group whose release waits doesn't wait. The kernel makes it wait: a group
// that is asked first does not answer, and so pins our mark.
#include "os/close_apart.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/fanotify.h>
#include <unistd.h>

#include <atomic>
#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>

#include "os/fanotify_group.h"
#include "tap.h"

namespace fs = std::filesystem;
using namespace janus;

int main() {
  char name[] = "/tmp/janusd-close.XXXXXX";
  const fs::path base = mkdtemp(name);
  const fs::path file = base / "file";
  std::ofstream(file) << "x";

  // What others share isn't closed for them, and the number stays taken.
  std::array<int, 2> ends;
  CHECK(pipe(ends.data()) == 0);
  const UniqueFd reader(ends[0]), writer(ends[1]);
  const int fd = writer.get();
  close_apart({&fd, 1});
  char byte = 0;
  CHECK(read(reader.get(), &byte, 1) == 0);
  CHECK(fcntl(fd, F_GETFD) >= 0 && write(fd, "x", 1) < 0);

  constexpr unsigned flags = FAN_CLOEXEC | FAN_NONBLOCK;
  const FanotifyGroup silent("silent", flags | FAN_CLASS_PRE_CONTENT, O_RDONLY);
  const FanotifyGroup ours("ours", flags | FAN_CLASS_CONTENT, O_RDONLY);
  const UniqueFd at(open(file.c_str(), O_PATH | O_CLOEXEC));
  const UniqueFd directory(open(base.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  silent.mark(FAN_MARK_ADD, FAN_OPEN_PERM, at.get(), file);
  ours.mark(FAN_MARK_ADD, FAN_OPEN_PERM | FAN_EVENT_ON_CHILD, directory.get(), base);
  std::atomic<bool> opened{false};
  std::thread opener([&] {
    const UniqueFd object(open(file.c_str(), O_RDONLY | O_CLOEXEC));
    opened.store(true);
  });
  pollfd asked{silent.fd(), POLLIN, 0};
  CHECK(poll(&asked, 1, 10'000) == 1);
  ours.release();  // returns
  CHECK(!opened.load());
  silent.release();
  opener.join();
  CHECK(opened.load());

  fs::remove_all(base);
  return tap::done();
}
