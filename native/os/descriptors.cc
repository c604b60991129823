#include "os/descriptors.h"

#include <sys/resource.h>

#include <algorithm>
#include <cerrno>

#include "os/error.h"

namespace janus {
namespace {

constexpr rlim_t kReserve = 2048;

// Node has raised the soft limit to the hard one by now. Of a small one an eighth.
rlim_t limit_now() {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  return limit.rlim_cur;
}

}  // namespace

std::size_t descriptor_reserve() { return std::min(kReserve, limit_now() / 8); }

bool in_reserve(int fd) {
  static const rlim_t first = limit_now() - descriptor_reserve();
  return fd >= 0 && static_cast<rlim_t>(fd) >= first;
}

UniqueFd outside_reserve(UniqueFd fd, const std::string& what) {
  if (in_reserve(fd.get())) throw Error::system(EMFILE, "hold", what);
  return fd;
}

}  // namespace janus
