// A line on standard error, from a thread that may not wait.
//
// Owns: nothing.
#pragma once

#include <poll.h>
#include <unistd.h>

#include <string_view>

namespace janus {

// Nothing is written if it would have to wait: whoever reads a pipe may have
// stopped. A pipe that can be written to takes a line of 4,096 bytes whole
// (pipe(7)). Safe in a signal handler.
inline void say(std::string_view line) {
  pollfd error{STDERR_FILENO, POLLOUT, 0};
  if (poll(&error, 1, 0) != 1 || (error.revents & POLLOUT) == 0) return;
  [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace janus
