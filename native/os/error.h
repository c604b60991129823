// What the native side throws: what was tried, on what, and errno.
//
// Owns: the error's data. addon.cc turns it into a JavaScript error with the
// same fields (`NativeError` in src/native.ts).
#pragma once

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <utility>

namespace janus {

enum class ErrorCode { not_found, ambiguous, invalid, unsupported, exhausted, system };

// Whether errno says that we lack something, and nothing of what was asked for.
inline bool is_exhausted(int number) { return number == ENOSPC || number == EMFILE || number == ENFILE || number == ENOMEM; }

class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code(code) {}

  // A failed system call; `number` is errno at that moment.
  static Error system(int number, const std::string& operation, const std::string& target) {
    Error error(code_of(number), operation + " " + target + ": " + std::strerror(number));
    error.number = number;
    error.operation = operation;
    error.target = target;
    return error;
  }

  Error&& on_path(int subject, std::string which) && {
    subject_index = subject;
    path = std::move(which);
    return std::move(*this);
  }

  Error&& of_guard(std::uint32_t key) && {
    guard = key;
    return std::move(*this);
  }

  ErrorCode code;
  int number = 0;
  std::string operation;
  std::string target;
  std::uint32_t guard = 0;  // its key; 0: not about one
  int subject_index = -1;
  std::string path;

 private:
  static ErrorCode code_of(int number) {
    if (is_exhausted(number)) return ErrorCode::exhausted;
    switch (number) {
      case EOPNOTSUPP:
      case ENOSYS:
        return ErrorCode::unsupported;
      default:
        return ErrorCode::system;
    }
  }
};

}  // namespace janus
