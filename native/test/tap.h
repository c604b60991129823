// The little of TAP (Test Anything Protocol) that the C++ tests print.
//
// Owns: the count of one test program. `check` goes on after a failure.
#pragma once

#include <cstdio>
#include <cstdlib>

namespace tap {

inline int count = 0;
inline int failures = 0;

inline void check(bool ok, const char* expression, const char* file, int line) {
  ++count;
  if (!ok) ++failures;
  std::printf("%sok %d - %s\n", ok ? "" : "not ", count, expression);
  if (!ok) std::printf("  ---\n  at: %s:%d\n  ...\n", file, line);
  std::fflush(stdout);  // what waits to be written would be written by forked processes, too
}

inline int done() {
  std::printf("1..%d\n", count);
  return failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

}  // namespace tap

#define CHECK(expression) tap::check(static_cast<bool>(expression), #expression, __FILE__, __LINE__)
