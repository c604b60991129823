// The record that the native side hands to TypeScript for each file event.
//
// Owns: the layout, nothing else. `src/event/layout.ts` holds the same numbers
// and a test compares the two through the addon's `layout()`.
// Little endian (the only kind of machine we build for), 8-byte aligned,
// `size` bytes long with its strings, so that a reader can step from record to
// record without looking inside.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace janus {

enum class FileEventKind : std::uint8_t {
  open = 0,
  access = 1,
  exec = 2,
  modify = 3,
  closewrite = 4,
  closenowrite = 5,
  attrib = 6,
  create = 7,
  remove = 8,  // "delete" on the wire
  deleteself = 9,
  movedfrom = 10,
  movedto = 11,
  moveself = 12,
  move = 13,  // of one who watches both names: movedfrom and movedto in one
  // These are only denied: nothing tells of them.
  link = 14,      // a further name for what is there
  truncate = 15,
  write = 16,     // opened for writing
};
inline constexpr int kFileEventKinds = 17;

// The canary's (native/cover/canary.h). No guard's subject has it: those are below.
inline constexpr std::uint32_t kCanarySubject = 1u << 31;

// What became of it, or would have.
enum class Response : std::uint8_t {
  allow = 0,
  deny = 1,
  audit = 2,  // allowed: only guards that audit would have denied it
};
inline constexpr std::size_t kResponses = 3;

enum FileEventFlag : std::uint16_t {
  kFlagDirectory = 1,  // the object is a directory
  kFlagAnswered = 2,   // a permission event: the actor waited for our answer
  kFlagAudited = 4,    // the kernel was asked for an audit record
  kFlagOwner = 8,      // allowed because autoAllowOwner exempts the actor
  kFlagLate = 16,      // allowed by the watchdog, past the answer deadline
  kFlagWatched = 32,   // seen for a `watch` path: nothing was to be answered
  kFlagInside = 64,    // the actor is a process of the subject's container
  kFlagCut = 128,      // there are more ancestors than the record has
  kFlagDeniersCut = 256,  // more guards deny it, or would, than the record has
  kFlagMerged = 512,  // the kernel told of several events on the object at once
  kFlagFound = 1024,  // it was there when its new directory was looked at: nothing told of it
};

struct FileEvent {
  std::uint32_t size;        // of the whole record, strings included
  std::uint16_t path_len;    // bytes, no NUL
  std::uint16_t exe_len;     // bytes, no NUL
  std::uint64_t seq;         // gap = records lost
  std::uint64_t time_ns;     // CLOCK_REALTIME when decided (or read, if only seen)
  std::uint64_t cgroup_id;   // the actor's guarded container; 0 = none
  std::uint32_t subject_id;  // the native subject that decided
  std::uint32_t blocked_ns;  // read to answer; saturates; 0 if not answered
  std::int32_t pid;          // thread group id in the daemon's pid namespace
  std::int32_t ppid;         // 0 = not known
  std::uint32_t uid;         // real uid in the initial user namespace
  FileEventKind kind;
  Response response;
  std::uint16_t flags;    // FileEventFlag
  char comm[16];  // NUL padded
  std::uint64_t start_ns;      // the process's start, CLOCK_REALTIME; 0 = not known
  std::uint16_t ancestry_len;  // bytes
  std::uint16_t deniers;       // how many other guards deny it, or only audit and would
  std::uint16_t asked_len;     // bytes, no NUL; 0: not known
  std::uint16_t argv0_len;     // bytes, no NUL; 0: not known
  std::uint16_t other_len;     // bytes, no NUL; 0: not known
  std::uint16_t reserved[3];
  // FileEventTexts, one after the other, then deniers, then padding to 8.
  // A denier is a subject_id, one for each guard. Not aligned.
};

// What follows a record.
struct FileEventTexts {
  std::string_view path = {};
  std::string_view exe = {};
  std::string_view ancestry = {};
  std::string_view asked = {};  // the path by which the actor asked, as it wrote it
  std::string_view argv0 = {};  // the first argument of the program that the actor runs
  std::string_view other = {};  // of a rename, the other name: the new one, or where `path` is that, the old one
};

// The ancestry: one after the other, the parent first. Not aligned. After it
// come comm_len, then exe_len bytes.
struct [[gnu::packed]] FileEventAncestor {
  std::uint32_t pid;
  std::uint8_t comm_len;
  std::uint16_t exe_len;
};
static_assert(sizeof(FileEventAncestor) == 7);

// Other guards that one record names at most.
inline constexpr std::size_t kDeniers = 15;

static_assert(sizeof(FileEvent) == 96);
static_assert(offsetof(FileEvent, seq) == 8);
static_assert(offsetof(FileEvent, subject_id) == 32);
static_assert(offsetof(FileEvent, pid) == 40);
static_assert(offsetof(FileEvent, kind) == 52);
static_assert(offsetof(FileEvent, comm) == 56);
static_assert(offsetof(FileEvent, start_ns) == 72);
static_assert(offsetof(FileEvent, asked_len) == 84);
static_assert(offsetof(FileEvent, other_len) == 88);

}  // namespace janus
