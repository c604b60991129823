#include "ebpf/libbpf_log.h"

#include <bpf/libbpf.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>

namespace janus {
namespace {

thread_local std::string said;

int keep(libbpf_print_level level, const char* format, va_list args) {
  if (level != LIBBPF_WARN) return 0;
  char line[512];
  const int size = vsnprintf(line, sizeof(line), format, args);
  if (said.size() < 4096) said.append(line, std::min<std::size_t>(static_cast<std::size_t>(std::max(size, 0)), sizeof(line) - 1));
  return size;
}

}  // namespace

void listen_to_libbpf() {
  said.clear();
  libbpf_set_print(keep);
}

Error refused_by_libbpf(const std::string& what, const std::string& object) {
  const int number = errno;
  Error error(ErrorCode::unsupported,
              "eBPF: cannot " + what + ": " + std::strerror(number) + (said.empty() ? "" : " (" + said + ")"));
  error.number = number;
  error.operation = what;
  error.target = object;
  return error;
}

}  // namespace janus
