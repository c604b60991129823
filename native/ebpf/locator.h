// Says what an open descriptor is, and who a process is, by asking eBPF.
//
// Owns: one of the shared slots; so one Locator per thread, used by that thread
// only. One system call answers both questions (about 1.5 us), for an actor
// that is blocked while we look: nothing can have changed.
#pragma once

#include <string>
#include <string_view>

#include "ebpf/bpf_programs.h"

namespace janus {

// Slot numbers, one a thread.
enum class LocatorSlot : std::uint32_t { gate = 0, observer = 1, planner = 2, scanner = 3, creator = 4, watchdog = 5, explainer = 6, dirents = 7 };

struct Location {
  const janus_locate* raw = nullptr;
  // As the superblock names it: "" is its root. Valid until the next locate().
  std::string_view path;
  bool found() const { return !(raw->flags & JANUS_LOCATE_NO_FILE); }
  // False: the object is there but has no path (unreachable, absurdly deep, or
  // renamed at each try to read it).
  bool has_path() const { return !(raw->flags & (JANUS_LOCATE_TOO_DEEP | JANUS_LOCATE_NO_ROOT)); }
  // False: renamed at each try. It has no path, and its ancestors are not certain.
  bool stable() const { return !(raw->flags & JANUS_LOCATE_UNSTABLE); }
  // The object itself is a guarded inode, whatever its name.
  bool pinned() const { return (raw->flags & JANUS_LOCATE_PINNED) != 0; }
  // The path's end is lost; what is there ends with a whole component.
  bool cut() const { return (raw->flags & JANUS_LOCATE_TAIL_LOST) != 0; }
  // Only the path's end is there; it begins with a whole component.
  bool headless() const { return (raw->flags & JANUS_LOCATE_HEAD_LOST) != 0; }
  // How many guarded inodes are among the object and its ancestors.
  std::uint32_t hits() const { return raw->hits; }
  // There are more than are reported.
  bool hits_full() const { return (raw->flags & JANUS_LOCATE_HITS_FULL) != 0; }
  // What follows a guarded inode that was hit, as far as it is there: "" or "/a/b".
  std::string_view after(std::uint32_t hit) const {
    const std::size_t begin = raw->full_len - raw->hit_tail[hit];
    return begin < path.size() ? path.substr(begin) : std::string_view();
  }
  // By what path the actor asks for it, as it wrote it: a claim, by which nothing is
  // decided. Empty: not known. Valid until the next locate().
  std::string_view asked;
  bool directory() const { return (raw->mode & 0170000) == 0040000; }
};

class Locator {
 public:
  Locator(const BpfPrograms& programs, LocatorSlot slot)
      : programs_(programs), slot_(static_cast<std::uint32_t>(slot)), memory_(programs.slot(slot_)) {}

  // `pid`: the actor's thread group id, 0 to leave it out. `identities`: report
  // guarded inodes among the object and its ancestors.
  Location locate(int fd, std::int32_t pid = 0, bool identities = false);

  // The same of an entry of a directory, at the price of one level: its path is "/" and its
  // name there, its identities are its own. `raw->parent_inode` says whose entry it is.
  Location locate_entry(int fd);

 private:
  Location ask(int fd, std::int32_t pid, bool identities, std::uint32_t levels);

  const BpfPrograms& programs_;
  const std::uint32_t slot_;
  janus_slot& memory_;
  std::string joined_;
};

}  // namespace janus
