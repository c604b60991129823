#include "cover/path_note.h"

#include <fcntl.h>
#include <sys/stat.h>

namespace janus {

std::optional<PathNote> note_of(std::uint32_t subject, const std::string& path, const Resolved& resolved) {
  if (!resolved.missing.empty()) return PathNote{.subject = subject, .path = path, .missing = true, .program = "", .names = 0, .fault = ""};
  if (!S_ISREG(resolved.mode)) return std::nullopt;
  struct statx status {};
  // As the kernel remembers it: no server is asked.
  if (statx(resolved.object.get(), "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_MODE | STATX_NLINK, &status) != 0)
    return std::nullopt;
  const bool executable = (status.stx_mode & (S_IXUSR | S_IXGRP | S_IXOTH)) != 0;
  if (!executable || (resolved.seen == path && status.stx_nlink < 2)) return std::nullopt;
  return PathNote{
      .subject = subject, .path = path, .missing = false, .program = resolved.seen, .names = status.stx_nlink, .fault = ""};
}

}  // namespace janus
