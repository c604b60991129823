// Patterns of `exclude` on paths of a container's choosing: never a read beyond either, and one pass over the path.
// sources: policy/glob.cc
#include "policy/glob.h"
#include "test/fuzz/input.h"

using janus::glob_covers;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::Input input(data, size);
  const std::string pattern(input.line());
  const std::string text(input.rest());
  const bool covers = glob_covers(pattern, text);
  // What is excluded is excluded with all that is below it.
  if (covers && !text.empty()) CLAIM(glob_covers(pattern, text + "/below"), pattern + " on " + text);
  // Taken by its letters, it covers itself.
  std::string quoted;
  for (const char c : text) (quoted += '\\') += c;
  if (!text.empty()) CLAIM(glob_covers(quoted, text), quoted + " on " + text);
  return 0;
}
