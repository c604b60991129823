#include "ebpf/locator.h"

namespace janus {

Location Locator::locate(int fd, std::int32_t pid, bool identities) { return ask(fd, pid, identities, 0); }

Location Locator::locate_entry(int fd) { return ask(fd, 0, true, 1); }

Location Locator::ask(int fd, std::int32_t pid, bool identities, std::uint32_t levels) {
  // A path that is read while directories are renamed may never have existed.
  // A container may rename all the time: after some tries the path is unknown.
  constexpr int kTries = 16;
  janus_locate& io = memory_.locate;
  for (int attempt = 0; attempt < kTries; ++attempt) {
    io.fd = fd;
    io.pid = pid;
    io.match_identities = identities ? 1 : 0;
    io.levels = levels;
    programs_.run_locate(slot_);
    if (!(io.flags & JANUS_LOCATE_UNSTABLE)) break;
  }
  if (io.flags & JANUS_LOCATE_UNSTABLE) io.flags |= JANUS_LOCATE_NO_ROOT;
  Location location{.raw = &io, .path = {}, .asked = {memory_.asked, io.asked_len}};
  if (!location.found()) return location;
  const std::string_view head(memory_.bytes + io.head_off, io.head_end - io.head_off);
  if (io.cont_end == io.cont_off) {
    location.path = head;
  } else {
    joined_.assign(head);
    joined_.append(memory_.bytes + io.cont_off, io.cont_end - io.cont_off);
    location.path = joined_;
  }
  return location;
}

}  // namespace janus
