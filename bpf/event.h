// What crosses the border between the eBPF programs and the C++ side.
//
// Owns: the layout of ring records, map values and the arguments of `locate`.
// Fixed width, asserted on both sides; the kernel side and the C++ side are
// always built together, so there is no version field.
#pragma once

#ifndef __bpf__
#include <linux/types.h>
#endif

#define JANUS_PATH_HALF 16384  // bytes; the head of a path that is always kept
#define JANUS_PATH_SLOTS 8     // one per thread that locates
#define JANUS_EXE_MAX 512      // bytes of an executable's path that are kept
#define JANUS_ASKED_MAX 4096   // bytes of the path that a process asked by, with its NUL (PATH_MAX)
#define JANUS_ARGV0_MAX 256    // bytes of an exec's first argument, with its NUL, that are kept
#define JANUS_CGROUP_LEVELS 16 // of a cgroup's path that are kept, from the root: runtimes' are on top
#define JANUS_CGROUP_MAX (JANUS_CGROUP_LEVELS * 256)  // bytes of such a path at most
#define JANUS_TASK_CGROUPS 4   // different paths of one process, in all hierarchies, that are reported
#define JANUS_HITS 64          // identities reported for one path, nearest first; a power of two

// A cgroup: v2 ids are unique in the v2 hierarchy (0), v1 ids in theirs.
struct janus_cgroup_key {
  __u64 id;
  __u32 hierarchy;
  __u32 pad;
};

// An inode of an image layer. Layers do not change while a container runs, so
// the number is its identity.
struct janus_lower_key {
  __u64 ino;
  __u64 dev;
};

enum janus_task_flag {
  JANUS_TASK_INIT = 1,   // the container's first process
  JANUS_TASK_CHILD = 2,  // forked by the first process itself
};

// Map `task_bits`: what is 0 there has no entry in `tasks`. A bit for each thread group id (PID_MAX_LIMIT in
// include/linux/threads.h).
#define JANUS_TASK_WORDS ((4 << 20) / 64)

// Map `tasks`: thread group id -> what container it belongs to, for ever:
// leaving the cgroup does not leave the container. A process is its thread group
// id and its start: an entry with another start is of a process that is gone.
struct janus_task {
  __u64 container;        // the container's cgroup id
  __u64 start_ns;         // boot time
  __u64 forker_start_ns;
  __u32 forker;           // thread group id of who forked it (not who adopted it)
  __u32 flags;            // janus_task_flag
};

enum janus_record_type {
  JANUS_RECORD_TASK = 1,    // a process joined a tracked container
  JANUS_RECORD_EXEC = 2,    // ... has a new executable
  JANUS_RECORD_EXIT = 3,    // ... ended
  JANUS_RECORD_RMDIR = 4,   // a tracked container's cgroup was removed
  JANUS_RECORD_NAMESPACE = 5,  // a process was forked into a mount namespace of its own
};

// Ring buffer record. Of `text` only so much is sent as there is: the executable,
// and of an exec its first argument.
struct janus_record {
  __u32 type;
  __u32 tgid;
  struct janus_task task;
  __u64 mnt_ns;       // of its mount namespace, unique since boot
  __u32 ppid;         // whose child it is now
  __u32 uid;
  __u32 argv0_len;    // no NUL
  __u32 exe_len;
  char comm[16];
  char text[JANUS_EXE_MAX + JANUS_ARGV0_MAX];
};

// One per process from iter/task. After it come `exe_len` bytes of executable,
// then its cgroups: v2's, v1's of the `pids` controller, other v1's. Roots are
// left out, and so is a path that came before.
struct janus_iter_record {
  __u32 tgid;
  __u32 ppid;
  __u32 uid;
  __u32 cgroups;
  char comm[16];
  struct janus_task task;  // of a tracked container, or container is 0
  __u64 start_ns;
  __u64 mnt_ns;
  __u32 node_root;    // 1: its root directory is that of the node's pid 1
  __u32 exe_len;
};

// After it come `path_len` bytes: "/a/b/c".
struct janus_iter_cgroup {
  __u32 hierarchy;    // 0: v2
  __u32 levels;       // how many of ids are there, and components in the path
  __u32 path_len;
  __u32 pad;
  __u64 ids[JANUS_CGROUP_LEVELS];  // the deepest first
};

// The first thread of each tracked process, and those whose mount namespace is
// not their process's.
struct janus_thread {
  __u64 container;
  __u64 mnt_ns;
  __u64 mnt_event;  // which state of its mounts
  __u32 pid;
  __u32 pad;
};

enum janus_locate_flag {
  JANUS_LOCATE_UNSTABLE = 1,   // a rename went on meanwhile: ask again
  JANUS_LOCATE_TAIL_LOST = 2,  // longer than the buffer: only the head is there, some whole components
  JANUS_LOCATE_TOO_DEEP = 4,   // more levels than we walk: no path
  JANUS_LOCATE_ACTOR = 8,      // start_ns, ppid, uid, mnt_ns, comm are filled in
  JANUS_LOCATE_TRACKED = 16,   // the actor is in a tracked container: container, task_flags are, too
  JANUS_LOCATE_NO_FILE = 32,   // no such descriptor
  JANUS_LOCATE_SETTLED = 128,  // its directory can never be renamed; see settled()
  JANUS_LOCATE_PINNED = 256,   // the object itself is a guarded inode: the first hit
  JANUS_LOCATE_HITS_FULL = 512,  // there were more than JANUS_HITS identities
  JANUS_LOCATE_NO_ROOT = 64,   // not connected to its file system's root: no path
  JANUS_LOCATE_MARKED = 1024,  // asked without an actor: its mount has marks; whose, isn't known
  JANUS_LOCATE_HEAD_LOST = 2048,  // user space's, of a denial that is cut: only the tail is there, some whole components
};

// Argument and result of the `locate` program; lives in a shared slot.
struct janus_locate {
  // in
  __s32 fd;
  __s32 pid;              // thread group id of the actor; 0: don't look
  __u32 match_identities; // look each of `levels` up in `identities`
  __u32 levels;           // of names, from the object up; 0: all, to the root
  // out: the object
  __u64 inode;            // kernel address: identity as long as something pins it
  __u64 lower_ino;        // overlay: the image's inode below it, if it has several
  __u64 lower_dev;        // names; 0 = none
  __u64 parent_inode;
  __u64 ino;
  __u32 dev;              // kernel encoding: major << 20 | minor
  __u32 nlink;
  __u32 mode;
  __u32 mount_id;
  __u32 flags;            // janus_locate_flag
  __u32 head_off;         // the path is [head_off, head_end) of the slot,
  __u32 head_end;
  __u32 cont_off;         // then [cont_off, cont_end) (empty for all but huge paths)
  __u32 cont_end;
  __u32 full_len;         // of the whole path, with what was lost of it
  __u32 hits;             // identities found. By the image's inode comes last
  __u32 pad2;
  __u32 hit_id[JANUS_HITS];
  __u32 hit_tail[JANUS_HITS];  // bytes of the whole path that follow it
  // out: the actor
  __u32 ppid;
  __u32 uid;
  __u64 container;
  __u32 task_flags;
  __u32 pad1;
  __u64 start_ns;
  __u64 mnt_ns;
  char comm[16];
  __u32 asked_len;        // of the slot's `asked`, no NUL; 0: not known
  __u32 pad3;
};

#define JANUS_SLOT_BYTES (2 * JANUS_PATH_HALF)

// One element of the mapped array `slots`. The slack is never written: it lets
// the verifier believe that a name of 255 bytes fits wherever one starts.
struct janus_slot {
  struct janus_locate locate;
  struct {  // the walk's own state: in a map, so that the verifier forgets it
    __u64 dentry;
    __u64 group;  // the fanotify group whose marks are identities
    __u64 off;
    __u32 half;   // where the half that is being written starts
    __u32 total;  // bytes of the path so far, kept or not
    __u32 done;
    __u32 pad;
  } walk;
  char bytes[JANUS_SLOT_BYTES];
  char slack[256];
  char asked[JANUS_ASKED_MAX];  // by what path the actor asks, as it wrote it
};

// The context that `locate` is run with.
struct janus_locate_args {
  __u32 slot;
};

// The context that `marked` is run with.
struct janus_marked_args {
  __u64 inode;  // kernel address
};

// The context that `file_system` is run with. A layer is a file system that an
// overlay is made of: 1 is the first, 0 the overlay itself.
struct janus_file_system_args {
  // in
  __s32 fd;
  __u32 layer;
  __u32 below;    // the layer's own layer, since overlays may be stacked twice
  __u32 pad;
  // out
  __u64 type[2];  // its name, cut to 15 bytes; empty: the overlay has no upper layer
};

// The context that `find_mounts` is run with.
struct janus_find_mounts_args {
  // in
  __u32 pid;       // a thread
  __u32 pad;
  // out; 0: there is no such thread
  __u64 mnt_ns;
  __u64 mnt_event;  // changes with every change of its mounts
};

// The context that `find_descriptor` is run with.
struct janus_find_descriptor_args {
  // in
  __u32 pid;       // a thread
  __u32 mount_id;
  // out: where it holds something of that mount
  __s32 fd;        // a descriptor, or
  __u32 pad;
};
#define JANUS_FD_NONE (-1)
#define JANUS_FD_CWD (-2)
#define JANUS_FD_ROOT (-3)

// Counters kept in the kernel, index into map `counters`.
enum janus_counter {
  JANUS_COUNT_RING_FULL = 0,
  JANUS_COUNT_TASKS_FULL = 1,
  JANUS_COUNT_RECORDS = 2,  // written into the ring
  JANUS_COUNTERS = 3,
};

// ---- holding (bpf/hold.bpf.c) ----------------------------------------------

enum janus_hold_cause {
  JANUS_HOLD_NAMESPACE = 1,  // it is in a mount namespace that nobody has looked at
  JANUS_HOLD_MOUNT = 2,      // it has changed what is mounted
  JANUS_HOLD_OPEN = 3,       // it opens something through a mount that nobody has looked at
  JANUS_HOLD_ARRIVAL = 4,    // it is the first program of a container that nobody has admitted (bpf/arrivals.bpf.c)
};

enum janus_watch_flag {
  JANUS_WATCH_MOUNTS = 1,      // hold whoever changes the container's mounts
  JANUS_WATCH_SHUT = 4,        // deny opens through mounts that nobody has looked at: it has more than its share
  JANUS_WATCH_NAMESPACES = 2,  // ... and whoever is in a namespace not looked at
  JANUS_WATCH_DENIED = 8,      // something is denied to it
};

// Map `held`: thread group id -> why it is stopped by us.
struct janus_held {
  __u64 container;
  __u64 start_ns;  // boot time: with the id, which process
  __u64 since_ns;  // monotonic: which hold of it; 0 = it was not stopped
  __u64 limit_ns;  // after which the keeper lets it go
  __u64 mnt_ns;    // its own; of an open: the mount's, 0 = it is in none
  __u64 mnt_event; // which state of that namespace's mounts
  __u64 loose;     // of an open: kernel address of a mount in no namespace
  __u32 mount_id;  // of an open: the mount's number
  __u32 pid;       // the thread: its namespace may be its own
  __u32 cause;     // janus_hold_cause
  __u32 waits;     // it was not stopped by us, but does not get on either
};

// An open that is tried again and again. Map `waits`: by thread.
struct janus_waiting {
  __u64 since_ns;  // 0: user space lets it through
  __u64 last_ns;
  __u64 mnt_ns;
  __u64 mnt_event;
  __u64 loose;
  __u64 told;  // 1: the daemon knows
};

// What the daemon was told of a container. Map `shares`: by container; user space makes the entries.
struct janus_hold_share {
  __u64 told;      // records
  __u64 left_out;  // of it were not held, since so many wait for the daemon
};
enum { JANUS_HOLD_SHARE = 64 };  // that may wait for the daemon at once

// Ring record, to the daemon and to the keeper.
struct janus_hold {
  __u32 tgid;
  __u32 pad;
  struct janus_held held;
};

// Who lets held processes go. Mapped into both.
struct janus_guardians {
  __u64 keeper_task;  // kernel address
  __u32 keeper;       // thread group ids
  __u32 daemon;
  __u32 enabled;      // holding: on by the daemon while it has a keeper; off by the end of either
  __u32 pad;
  __u64 answered_ns;  // when the daemon last said that it answers; monotonic
};

enum janus_hold_counter {
  JANUS_HOLD_COUNT_HELD = 0,
  JANUS_HOLD_COUNT_SKIPPED = 1,  // stopped or traced by somebody else, or holding is off
  JANUS_HOLD_COUNT_EXPIRED = 2,  // of those held: the daemon was too slow
  JANUS_HOLD_COUNT_DENIED = 3,   // opens: by JANUS_WATCH_SHUT, or in the layer of an overlay (deny_below)
  JANUS_HOLD_COUNT_UNKNOWN = 4,  // containers that were not admitted in time
  JANUS_HOLD_COUNT_UNTOLD = 5,   // containers that user space could not be told of
  JANUS_HOLD_COUNTERS = 6,
};

// ---- arrivals (bpf/arrivals.bpf.c) -------------------------------------------

#define JANUS_ARRIVAL_PATH 1024  // bytes of a cgroup's path that are kept, with the NUL: as the kernel tells it

// Map `arrivals`: container (its cgroup) -> what is known of it, until it is admitted. Also
// the ring record, when its first program is executed. The path's bytes are those of the kernel.
struct janus_arrival {
  __u64 container;
  __u64 since_ns;  // monotonic: the first exec; 0: there was none yet
  __u32 tgid;      // who executes it
  __u32 told;      // 1: the record was written
  __u32 held;      // 1: it waits
  __u32 pad;
  char path[JANUS_ARRIVAL_PATH];
};

// ---- deciding (bpf/decide.bpf.c) ---------------------------------------------

// What is denied to a container's processes, as the kernel has it: the inode that holds the
// contents (of an overlay, its layer's), and the superblock through which it is reached.
struct janus_rule_key {
  __u64 container;
  __u64 superblock;  // kernel address
  __u64 ino;         // 0: whatever is so deep that not all above it is looked at
  __u32 generation;
  __u32 dev;
};

// How far it is denied.
enum janus_reach {
  JANUS_REACH_ITSELF = 1,
  JANUS_REACH_ENTRIES = 2,  // what a directory holds directly
  JANUS_REACH_DEEPER = 4,   // ... and what is below that
};

struct janus_ruling {
  __u32 subject;
  __u32 reach;  // janus_reach; 0: nothing is denied
};

enum janus_denied {
  JANUS_DENIED_OPEN = 0,
  JANUS_DENIED_EXEC = 1,
  JANUS_OPENS = 2,
  // Changes.
  JANUS_DENIED_CREATE = JANUS_OPENS,
  JANUS_DENIED_DELETE = 3,
  JANUS_DENIED_MOVEDFROM = 4,
  JANUS_DENIED_MOVEDTO = 5,
  JANUS_DENIED_ATTRIB = 6,
  JANUS_DENIED_LINK = 7,
  JANUS_DENIED_TRUNCATE = 8,
  JANUS_DENIED_WRITE = 9,
  JANUS_DENIED_KINDS = 10,
};
enum { JANUS_CHANGES = JANUS_DENIED_KINDS - JANUS_OPENS };
#define JANUS_CHANGE(denied) (1u << (denied))
enum { JANUS_ASKED_ACCESS = JANUS_OPENS, JANUS_ASKED_KINDS };  // after opens
enum { JANUS_TO_ANYBODY = 0, JANUS_TO_OTHERS = 1, JANUS_TO_WHOM = 2 };  // others: all but owners

// Map `rules`. What is certain, and what only user space can judge.
struct janus_rule {
  struct janus_ruling of[JANUS_OPENS][JANUS_TO_WHOM];
  __u8 asked[JANUS_ASKED_KINDS][JANUS_TO_WHOM];  // janus_reach: how far somebody may be denied
  __u16 pad;
  __u32 version;  // another one each time that the key comes anew
};

// Maps `change_rules`, `change_paths`, `change_places`.
struct janus_change_rule {
  struct janus_ruling of[JANUS_CHANGES][JANUS_TO_WHOM];
};

// Maps `guarded` and `change_places`: where a container is denied anything for where it is.
struct janus_guarded_key {
  __u64 container;
  __u32 device;  // s_dev of the superblock
  __u32 pad;
};

// Signs of what may have a rule: of the number of each inode that has one, of the address of each directory, of the
// first component of each path. What has no sign there has no rule. Map `guarded` says which of `filters` is a
// container's on a superblock; all of number 0 are set. (native/ebpf/rule_filters.h)
#define JANUS_FILTERS 4096      // a power of two
#define JANUS_FILTER_BITS 2048  // a power of two
struct janus_filter {
  __u64 place;  // janus_filter_place() of whose it is; 0: map `guarded` says whose, or it is nobody's
  __u64 bits[JANUS_FILTER_BITS / 64];
};
// A container on a superblock. 0: its cgroup's id has more than 32 bits, which takes four thousand million cgroups.
static inline __attribute__((always_inline)) __u64 janus_filter_place(__u64 container, __u32 device) {
  return container >> 32 ? 0 : container << 32 | device;
}
// The number of the filter of a place, unless another one has it: then the place is written nowhere.
static inline __attribute__((always_inline)) __u32 janus_filter_number(__u64 place) {
  return (__u32)((place * 0x9e3779b97f4a7c15ull) >> 32) % JANUS_FILTERS;
}
static inline __attribute__((always_inline)) __u32 janus_filter_bit(__u64 sign) {
  return (__u32)((sign * 0x9e3779b97f4a7c15ull) >> 32) % JANUS_FILTER_BITS;
}
// `first`: its first 8 bytes, or more of what comes after.
static inline __attribute__((always_inline)) __u64 janus_name_sign(__u64 first, __u32 len) {
  if (len < 8) first &= (1ull << 8 * len) - 1;
  return first ^ (__u64)len << 56;
}

// Map `names`: what is denied of whatever stands at a path, from the superblock's root down.
#define JANUS_NAME 64    // bytes of a component, with the NUL: a rule's path has shorter ones only
#define JANUS_LEVELS 32  // components of a rule's path at most
struct janus_name_key {
  __u64 container;
  __u32 device;  // s_dev of the superblock
  __u32 above;   // the directory's number, 0: the root
  char name[JANUS_NAME];  // all after the NUL is 0
};
struct janus_name {
  __u32 number;
  struct janus_rule rule;  // of what is there, and below it
};

#define JANUS_DENIAL_PATH 4096  // bytes of a path that are kept: of a longer one some whole components, its last

// Ring record. After it come `path_len` bytes, as the superblock names it, then `asked_len`, then `other_len`.
struct janus_denial {
  __u64 container;
  __u64 start_ns;   // boot time: the process's start
  __u64 time_ns;    // boot time
  __u64 inode;      // kernel address: what was opened, or would be changed; 0: it was not there yet
  __u32 device;     // s_dev of the superblock through which it was
  __u32 mode;       // 0: it was not there yet
  __u32 subject;
  __u32 kind;       // janus_denied
  __u32 task_flags; // janus_task_flag
  __u32 tgid;
  __u32 ppid;
  __u32 uid;
  __u32 path_len;
  __u32 asked_len;
  __u32 other_len;  // of a rename: its other name; 0: it is longer than what is kept of a path
  __u32 pad;
  char comm[16];
  __u32 unpinned;   // 1: it was denied for where it is, and isn't known by itself
  __u32 cut;        // 1: the path was longer
};

// Map `lost`: denials that found no room in the ring.
struct janus_lost_key {
  __u32 subject;
  __u32 kind;  // janus_denied
};

// Of another number: what is pinned of that daemon is not read, only removed.
#define JANUS_KEPT_LAYOUT 1

// Whether the daemon is there; the only value of the map that is pinned as `presence`. The layout comes
// first in every version.
struct janus_presence {
  __u32 layout;   // JANUS_KEPT_LAYOUT
  __u32 pid;      // the daemon's, in the node's own pid namespace; 0: none was there yet
  __u32 away;     // 1: it has gone
  __u32 heir;     // 1: another one goes on then
  __u32 ended;    // 1: another one has gone on
  __u32 settled;  // 1: all guards of before are in place; until then what was before counts
  __u32 denies;   // 1: while it is away, what only user space could judge is denied
  __u32 pad;
  __u64 left_ns;  // when it went; boot time
  __u64 beat_ns;  // when it last said that it is there, twice a second; boot time
  __u64 generation;  // of its policy then
  char version[32];  // no NUL if it is that long
};

// The map that is pinned as `away_counts`, per processor: opens while it was away.
enum janus_away_count {
  JANUS_AWAY_DENIED = 0,
  JANUS_AWAY_DEEP = 1,      // of those, since not all above it was looked at
  JANUS_AWAY_UNJUDGED = 2,  // only user space could have judged it: allowed
  JANUS_AWAY_REFUSED = 3,   // ... denied
  JANUS_AWAY_COUNTS = 4,
};

// The context that `real_inodes` is run with.
struct janus_real_inodes_args {
  // in
  __s32 fd;
  __u32 count;  // out: of keys
  // out; without their container
  struct janus_rule_key keys[2];
};

// The context that `preemption` is run with.
struct janus_preemption_args {
  __s32 mode;  // out: PREEMPT_DYNAMIC's; -1: not known
};
