// What the fuzzing harnesses share: an input taken apart, and a claim that ends the run.
//
// Owns: nothing; what it returns points into the input.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>

namespace fuzz {

class Input {
 public:
  Input(const std::uint8_t* data, std::size_t size) : rest_(reinterpret_cast<const char*>(data), size) {}

  bool empty() const { return rest_.empty(); }
  std::string_view rest() const { return rest_; }

  // 0 when nothing is left.
  std::uint8_t byte() {
    if (rest_.empty()) return 0;
    const auto value = static_cast<std::uint8_t>(rest_.front());
    rest_.remove_prefix(1);
    return value;
  }
  std::uint8_t below(unsigned limit) { return static_cast<std::uint8_t>(byte() % limit); }
  bool flag() { return byte() & 1; }

  // Up to and without the next newline.
  std::string_view line() {
    const auto end = rest_.find('\n');
    const std::string_view taken = rest_.substr(0, end);
    rest_.remove_prefix(end == std::string_view::npos ? rest_.size() : end + 1);
    return taken;
  }

 private:
  std::string_view rest_;
};

inline void claim(bool holds, const char* what, const std::string& about = {}) {
  if (holds) return;
  std::fprintf(stderr, "claim broken: %s %s\n", what, about.c_str());
  std::abort();
}

}  // namespace fuzz

#define CLAIM(expression, ...) fuzz::claim(static_cast<bool>(expression), #expression __VA_OPT__(, ) __VA_ARGS__)
