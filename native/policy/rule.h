// What a guard says about one path of a superblock.
//
// Owns: nothing. Immutable once made, and shared by all policies that it is in.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "record/file_event.h"
#include "record/stats.h"

namespace janus {

using Device = std::uint32_t;  // s_dev in the kernel's encoding: major << 20 | minor

inline constexpr std::uint32_t mask_of(FileEventKind kind) { return 1u << static_cast<unsigned>(kind); }

// What a `deny` can be of besides opens, execs and reads. Only the kernel can decide these (bpf/changes.h).
inline constexpr std::uint32_t kChanges =
    mask_of(FileEventKind::create) | mask_of(FileEventKind::remove) | mask_of(FileEventKind::movedfrom) |
    mask_of(FileEventKind::movedto) | mask_of(FileEventKind::attrib) | mask_of(FileEventKind::link) |
    mask_of(FileEventKind::truncate) | mask_of(FileEventKind::write);

constexpr bool is_change(FileEventKind kind) { return (mask_of(kind) & kChanges) != 0; }
// A denied one: a watched one may be one event of both names (FileEventKind::move).
constexpr bool is_rename(FileEventKind kind) { return kind == FileEventKind::movedfrom || kind == FileEventKind::movedto; }

enum class Action : std::uint8_t { allow, deny, watch };

// One subject of a guard on one container, as the gate needs it.
struct Subject {
  std::uint32_t id = 0;
  std::uint32_t guard = 0;      // the key of its guard
  std::uint64_t container = 0;  // cgroup id
  std::uint32_t events = 0;     // mask_of()
  std::uint32_t max_depth = 0;  // 0 = no limit
  bool only_dir = false;
  bool auto_allow_owner = false;
  bool audit = false;
  bool recursive = false;
  bool only_container = false;
  bool exact = false;
  bool enforced = true;  // false: its guard only audits, and denies nobody anything
  std::vector<std::string> exclude;
  std::shared_ptr<SubjectStats> stats;
};

// A guarded path of a superblock.
struct Entry {
  Action action = Action::deny;
  std::uint32_t depth = 0;   // levels between the subject's path and this one (a mount below it)
  std::string path;          // as the superblock names it; "" is its root
  std::string relative;      // from the subject's path, for `exclude`; "" at the path itself
  std::shared_ptr<const Subject> subject;
};

// An entry as one policy takes it: entries are shared between generations.
struct Rule {
  std::shared_ptr<const Entry> entry;
  bool answered = true;  // a permission event decides; else it is only observed
};

}  // namespace janus
