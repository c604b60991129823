#include "os/descriptors.h"

#include <sys/resource.h>

#include <algorithm>
#include <cerrno>

#include "os/error.h"

namespace janus {
namespace {

constexpr std::size_t kReserve = 2048;

}  // namespace

// Node has raised the soft limit to the hard one by now.
std::size_t descriptor_limit() {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  return limit.rlim_cur;
}

std::size_t descriptor_reserve() { return std::min<std::size_t>(kReserve, descriptor_limit() / 8); }

bool in_reserve(int fd) {
  static const std::size_t first = descriptor_limit() - descriptor_reserve();
  return fd >= 0 && static_cast<std::size_t>(fd) >= first;
}

UniqueFd outside_reserve(UniqueFd fd, const std::string& what) {
  if (in_reserve(fd.get())) throw Error::system(EMFILE, "hold", what);
  return fd;
}

}  // namespace janus
