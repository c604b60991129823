// The fanotify events that ask, or tell, about a subject's events (mask_of()).
//
// Owns: nothing.
#pragma once

#include <cstdint>

#include "os/fanotify_group.h"
#include "policy/rule.h"

namespace janus {

inline std::uint64_t permission_mask(std::uint32_t events) {
  return ((events & mask_of(FileEventKind::open)) ? FAN_OPEN_PERM : 0) |
         ((events & mask_of(FileEventKind::access)) ? FAN_ACCESS_PERM : 0) |
         ((events & mask_of(FileEventKind::exec)) ? FAN_OPEN_EXEC_PERM : 0);
}

inline std::uint64_t notification_mask(std::uint32_t events) {
  return ((events & mask_of(FileEventKind::open)) ? FAN_OPEN : 0) |
         ((events & mask_of(FileEventKind::access)) ? FAN_ACCESS : 0) |
         ((events & mask_of(FileEventKind::exec)) ? FAN_OPEN_EXEC : 0) |
         ((events & mask_of(FileEventKind::modify)) ? FAN_MODIFY : 0) |
         ((events & mask_of(FileEventKind::closewrite)) ? FAN_CLOSE_WRITE : 0) |
         ((events & mask_of(FileEventKind::closenowrite)) ? FAN_CLOSE_NOWRITE : 0);
}

// What a pinned inode is asked about. Its mark holds it there, also where that is not for a question: then for the one
// that is asked least.
inline std::uint64_t pin_mask(std::uint32_t denied) {
  const std::uint64_t mask = permission_mask(denied);
  return mask != 0 ? mask : FAN_OPEN_EXEC_PERM;
}

// Events on directories and attributes.
inline constexpr std::uint32_t kDirentKinds =
    mask_of(FileEventKind::attrib) | mask_of(FileEventKind::create) | mask_of(FileEventKind::remove) |
    mask_of(FileEventKind::deleteself) | mask_of(FileEventKind::movedfrom) | mask_of(FileEventKind::movedto) |
    mask_of(FileEventKind::moveself);

// What tells of them.
inline constexpr std::uint64_t kDirentMask = FAN_CREATE | FAN_DELETE | FAN_RENAME | FAN_ATTRIB | FAN_ONDIR;

}  // namespace janus
