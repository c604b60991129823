#include "os/descriptors.h"

#include <sys/resource.h>

#include <algorithm>
#include <cerrno>

#include "os/error.h"

namespace janus {
namespace {

constexpr rlim_t kReserve = 256;

// Node has raised the soft limit to the hard one by now. Of a small one an eighth.
rlim_t first_reserved() {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  return limit.rlim_cur - std::min(kReserve, limit.rlim_cur / 8);
}

}  // namespace

UniqueFd outside_reserve(UniqueFd fd, const std::string& what) {
  static const rlim_t first = first_reserved();
  if (fd && static_cast<rlim_t>(fd.get()) >= first) throw Error::system(EMFILE, "hold", what);
  return fd;
}

}  // namespace janus
