#include "cover/border.h"

#include "os/error.h"

namespace janus {
namespace {

// Different file systems that an overlay may be made of, those of its layers'
// own layers included. Mostly there are one or two.
constexpr std::uint32_t kMaxLayers = 64;

Error refused(const std::string& type) {
  return Error(ErrorCode::unsupported,
               "is on a file system whose server may never answer (" + type + "): nothing can be guarded there");
}

}  // namespace

std::optional<std::string> served_by(const BpfPrograms& programs, int fd) {
  const auto served = [](const std::string& type) {
    return !type.empty() && !is_local_file_system(type) && !is_kernel_file_system(type);
  };
  const auto own = programs.file_system(fd);
  if (!own) return std::nullopt;  // no such descriptor
  if (served(*own)) return own;
  std::uint32_t looked_at = 0;
  for (std::uint32_t layer = 1; const auto type = programs.file_system(fd, layer); ++layer) {
    if (served(*type)) return "overlay of " + *type;
    for (std::uint32_t below = 1; const auto deep = programs.file_system(fd, layer, below); ++below) {
      if (served(*deep)) return "overlay of " + *deep;
      if (++looked_at > kMaxLayers) return "overlay of too many file systems";
    }
    if (++looked_at > kMaxLayers) return "overlay of too many file systems";
  }
  return std::nullopt;
}

void LocalBorder::approach(const std::string& seen) {
  if (const auto point = points_.find(seen); point != points_.end()) throw refused(point->second);
}

void LocalBorder::enter(int fd, const std::string&) {
  if (const auto type = served_by(programs_, fd)) throw refused(*type);
}

Resolved resolve_local(const BpfPrograms& programs, const ProcessDir& process, const MountPoints& points,
                       const std::string& path, LastSymlink last) {
  LocalBorder border(programs, points);
  border.approach("");
  const UniqueFd root = process.root();
  return resolve_in(root.get(), path, &border, last);
}

}  // namespace janus
