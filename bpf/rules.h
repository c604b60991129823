// What is denied of an object or a name to a container, for what it is or for where it is.
//
// Owns: the maps that user space writes the rules to, what an inode is known by, and how far
// above an object is looked. Must not decide what happens then.
//
// It is denied by the object's own rule, by one of a directory above it (by what these *are*,
// wherever they were moved), or by its path, whatever stands there by now.
#pragma once

#include "kernel.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "event.h"
#include "file.h"
#include "overlay.h"

#define LEVELS 4096  // above an object that are looked at
#define NEAR 16      // ... most objects lie no deeper
#define TRIES 4      // looks around it, as long as each is crossed by a rename, which could hide what is above

// File systems on which a number and a generation say which inode it is, as long as the superblock lives.
#define EXT4_SUPER_MAGIC 0xef53
#define XFS_SUPER_MAGIC 0x58465342
#define TMPFS_MAGIC 0x01021994

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, struct janus_rule_key);
  __type(value, struct janus_rule);
} rules SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __uint(max_entries, 16384);
  __type(key, struct janus_guarded_key);
  __type(value, __u32);  // number in `filters`
} guarded SEC(".maps");

// Written by user space, before rules are and after they have gone.
struct janus_filter filters[JANUS_FILTERS];
// Which devices are in `guarded`, whoever's: on most that a container opens files on nothing is denied to anybody.
struct janus_filter guarded_devices;

// Directories that may have a rule, by kernel address: as long as their marks hold them there,
// which is as long as the daemon is. Others need not be looked up.
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, __u64);
  __type(value, __u8);
} directories SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __uint(max_entries, 65536);
  __type(key, struct janus_name_key);
  __type(value, struct janus_name);
} names SEC(".maps");

// What was denied since it was below a directory, and is not known by itself yet: it stays denied when it is
// moved out. User space pins it soon; until then the oldest make room.
struct found {
  struct janus_rule_key below;
  __u32 version;  // of that directory's rule
  __u32 reach;
};
struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __uint(max_entries, 16384);
  __type(key, struct janus_rule_key);
  __type(value, struct found);
} founds SEC(".maps");

__u32 founds_used;  // 1: there may be some

// Changes have rules of their own: most guards deny none.
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, struct janus_rule_key);
  __type(value, struct janus_change_rule);
} change_rules SEC(".maps");

// ... of what stands at a path, or leads to one, by its number in `names`.
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __uint(max_entries, 65536);
  __type(key, __u32);
  __type(value, struct janus_change_rule);
} change_paths SEC(".maps");

// Where a container is denied any change, and of what is so deep that not all above it is looked at.
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __uint(max_entries, 16384);
  __type(key, struct janus_guarded_key);
  __type(value, struct janus_change_rule);
} change_places SEC(".maps");

// Each has its own slots: one that runs on a processor isn't begun there again, but another may be (PREEMPT).
enum program {
  PROGRAM_OPEN,
  PROGRAM_WRITE,
  PROGRAM_CREATE,
  PROGRAM_MKDIR,
  PROGRAM_MKNOD,
  PROGRAM_SYMLINK,
  PROGRAM_LINK,
  PROGRAM_UNLINK,
  PROGRAM_RMDIR,
  PROGRAM_RENAME,
  PROGRAM_SETATTR,
  PROGRAM_SETXATTR,
  PROGRAM_REMOVEXATTR,
  PROGRAM_SET_ACL,
  PROGRAM_REMOVE_ACL,
  PROGRAMS,
};

// The way from an object up, of one attempt. (A program has 512 bytes of stack.)
struct ways {
  __u64 dentries[JANUS_LEVELS];  // those nearest to the root
  __u32 levels;                  // from the object to where a look has come
  __u64 inode;                   // there
  struct janus_name_key key;
  struct janus_rule_key first, second;
};
struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, PROGRAMS);
  __type(key, __u32);
  __type(value, struct ways);
} ways SEC(".maps");

// ---- what an inode is --------------------------------------------------------
// Functions that are not static are verified by themselves, once. They take no kernel pointer, but its address.
// What one has written, its caller doesn't know: so to the verifier of 6.12 (loop.h) a loop that calls it is soon the
// same in each round. Inlined, each outcome is another one: decide_open took 203,233 instructions, and takes 30,160.

static __always_inline bool add_key(struct inode *inode, struct janus_rule_key *key) {
  if (!inode) return 0;
  struct super_block *superblock = LOAD(struct inode, inode, i_sb);
  unsigned long magic = LOAD(struct super_block, superblock, s_magic);
  if (magic != EXT4_SUPER_MAGIC && magic != XFS_SUPER_MAGIC && magic != TMPFS_MAGIC) return 0;
  key->ino = LOAD(struct inode, inode, i_ino);
  key->generation = LOAD(struct inode, inode, i_generation);
  key->dev = LOAD(struct super_block, superblock, s_dev);
  return 1;
}

// The inode itself; of an overlay's, those of its layers: a directory may be in both, and what is
// copied up keeps its lower one (unless that has other names, which have nothing to do with the copy).
__noinline int real_keys(__u64 address, struct janus_rule_key *first, struct janus_rule_key *second) {
  struct inode *inode = (struct inode *)address;
  if (!inode || !first || !second) return 0;
  struct super_block *superblock = LOAD(struct inode, inode, i_sb);
  first->superblock = second->superblock = (__u64)superblock;
  if (!is_overlay(superblock)) return add_key(inode, first);
  struct inode *upper = upper_inode(inode), *lower = lower_inode(inode);
  if (!upper) return add_key(lower, first);
  if (!add_key(upper, first)) return 0;
  bool same = lower && ((LOAD(struct inode, inode, i_mode) & S_IFMT) == S_IFDIR || LOAD(struct inode, lower, i_nlink) == 1);
  return same && add_key(lower, second) ? 2 : 1;
}

// ---- what is denied ----------------------------------------------------------

// An open, or a change.
struct attempt {
  __u64 container;
  __u32 program;  // enum program
  __u32 changes;  // what would be changed: JANUS_CHANGE(kind); 0: it is an open
  __u32 device;   // s_dev of the superblock through which it is
  bool exec, owner, reads;
  // Found: who denies it.
  bool denied;
  bool deep;  // since not all above it was looked at
  __u32 subject;
  __u32 kind;
  // ... an open: by which rule, and how far that one reaches it. No version: by no directory's.
  struct janus_rule_key by;
  __u32 version;
  __u32 reach;
  // While the daemon is away. What is nearest to the object says whether anybody else could deny it.
  bool asks;   // nothing was found yet
  bool asked;  // somebody could
};

static __always_inline bool rules_out(struct attempt *attempt, const struct janus_ruling *to, __u32 kind, __u32 reach) {
  if (to[JANUS_TO_ANYBODY].reach & reach) attempt->subject = to[JANUS_TO_ANYBODY].subject;
  else if (!attempt->owner && (to[JANUS_TO_OTHERS].reach & reach)) attempt->subject = to[JANUS_TO_OTHERS].subject;
  else return 0;
  attempt->kind = kind;
  attempt->denied = 1;
  return 1;
}

// In the order in which fanotify asks.
__noinline int rules_open_out(struct attempt *attempt, struct janus_rule *rule, __u32 reach) {
  if (!attempt || !rule) return 0;
  if (attempt->exec && rules_out(attempt, rule->of[JANUS_DENIED_EXEC], JANUS_DENIED_EXEC, reach)) return 1;
  return rules_out(attempt, rule->of[JANUS_DENIED_OPEN], JANUS_DENIED_OPEN, reach);
}

__noinline int rules_change_out(struct attempt *attempt, struct janus_change_rule *rule, __u32 reach) {
  if (!attempt || !rule) return 0;
#pragma unroll
  for (__u32 change = 0; change < JANUS_CHANGES; ++change) {
    __u32 kind = JANUS_DENIED_CREATE + change;
    if ((attempt->changes & JANUS_CHANGE(kind)) && rules_out(attempt, rule->of[change], kind, reach)) return 1;
  }
  return 0;
}

static __always_inline bool may_be_denied(const struct attempt *attempt, const struct janus_rule *rule, __u32 kind, __u32 reach) {
  return ((rule->asked[kind][JANUS_TO_ANYBODY] | (attempt->owner ? 0 : rule->asked[kind][JANUS_TO_OTHERS])) & reach) != 0;
}

static __always_inline bool look_up_rule(struct attempt *attempt, struct janus_rule_key *key, __u32 reach) {
  key->container = attempt->container;
  if (attempt->changes) return rules_change_out(attempt, bpf_map_lookup_elem(&change_rules, key), reach);
  struct janus_rule *rule = bpf_map_lookup_elem(&rules, key);
  if (!rule) return 0;
  if (attempt->asks) {
    attempt->asks = 0;
    attempt->asked = may_be_denied(attempt, rule, JANUS_DENIED_OPEN, reach) ||
                     (attempt->exec && may_be_denied(attempt, rule, JANUS_DENIED_EXEC, reach)) ||
                     (attempt->reads && may_be_denied(attempt, rule, JANUS_ASKED_ACCESS, reach));
  }
  if (!rules_open_out(attempt, rule, reach)) return 0;
  attempt->by = *key;
  attempt->version = rule->version;
  attempt->reach = reach;
  return 1;
}

// Whether anything with this sign may have a rule there.
static __always_inline bool has_sign(struct janus_filter *filter, __u64 sign) {
  __u32 bit = janus_filter_bit(sign);
  return (filter->bits[bit / 64] >> (bit % 64)) & 1;
}

// ... an inode of this superblock, by any of its keys.
static __always_inline bool may_have_rule(struct janus_filter *filter, struct super_block *superblock, struct inode *inode) {
  if (!is_overlay(superblock)) return has_sign(filter, LOAD(struct inode, inode, i_ino));
  struct inode *upper = upper_inode(inode), *lower = lower_inode(inode);
  return (upper && has_sign(filter, LOAD(struct inode, upper, i_ino))) || (lower && has_sign(filter, LOAD(struct inode, lower, i_ino)));
}

static __always_inline bool may_begin_path(struct janus_filter *filter, struct dentry *dentry) {
  const unsigned char *name = LOAD(struct dentry, dentry, d_name.name);
  __u64 first = LOAD_NUMBER(name);
  return has_sign(filter, janus_name_sign(first, LOAD(struct dentry, dentry, d_name.len)));
}

static __always_inline struct ways *own_ways(struct attempt *attempt) {
  __u32 program = attempt->program;
  return bpf_map_lookup_elem(&ways, &program);
}

// What it is known by, in first and second. Returns how many.
static __always_inline int find_keys(struct ways *way, __u64 inode) {
  __builtin_memset(&way->first, 0, sizeof(way->first));
  __builtin_memset(&way->second, 0, sizeof(way->second));
  return real_keys(inode, &way->first, &way->second);
}

__noinline int look_up_inode(struct attempt *attempt, __u64 inode, __u32 reach) {
  struct ways *way = attempt ? own_ways(attempt) : 0;
  if (!way) return 0;
  int count = find_keys(way, inode);
  if (count > 0 && look_up_rule(attempt, &way->first, reach)) return 1;
  return count > 1 && look_up_rule(attempt, &way->second, reach);
}

static __always_inline bool look_up_found(struct attempt *attempt, struct janus_rule_key *key) {
  key->container = attempt->container;
  struct found *found = bpf_map_lookup_elem(&founds, key);
  if (!found) return 0;
  struct janus_rule *rule = bpf_map_lookup_elem(&rules, &found->below);
  return rule && rule->version == found->version && rules_open_out(attempt, rule, found->reach);
}

// Whether it was denied for where it was.
__noinline int was_found(struct attempt *attempt, __u64 inode) {
  struct ways *way = attempt && founds_used ? own_ways(attempt) : 0;
  if (!way) return 0;
  int count = find_keys(way, inode);
  if (count > 0 && look_up_found(attempt, &way->first)) return 1;
  return count > 1 && look_up_found(attempt, &way->second);
}

// It stays denied, wherever it goes.
__noinline int keep_in_mind(struct attempt *attempt, __u64 inode) {
  struct ways *way = attempt && attempt->version ? own_ways(attempt) : 0;
  if (!way || find_keys(way, inode) == 0) return 0;
  way->first.container = attempt->container;
  struct found found = {.below = attempt->by, .version = attempt->version, .reach = attempt->reach};
  bpf_map_update_elem(&founds, &way->first, &found, BPF_ANY);
  founds_used = 1;
  return 0;
}

// ---- what lies above it ------------------------------------------------------

struct ascent {
  struct dentry *dentry;  // where it has come to
  struct dentry *from;
  struct attempt *attempt;
  struct ways *ways;
  struct janus_filter *filter;  // null: of changes there is none
  __u64 superblock;
  bool all;      // directories are looked up whether they are in `directories` or not
  bool whole;    // it has come to the root
};

static __always_inline __u32 reach_of(__u32 levels) {
  return levels == 0 ? JANUS_REACH_ITSELF : levels == 1 ? JANUS_REACH_ENTRIES : JANUS_REACH_DEEPER;
}

static long look_above(__u32 index, struct ascent *ascent) {
  struct dentry *dentry = ascent->dentry;
  struct dentry *parent = LOAD(struct dentry, dentry, d_parent);
  if (parent == dentry) {
    ascent->whole = 1;
    return 1;
  }
  ascent->ways->dentries[ascent->ways->levels % JANUS_LEVELS] = (__u64)dentry;
  ascent->dentry = parent;
  ++ascent->ways->levels;
  struct inode *above = LOAD(struct dentry, parent, d_inode);
  if (ascent->filter && ascent->all && !may_have_rule(ascent->filter, LOAD(struct inode, above, i_sb), above)) return 0;
  __u64 inode = ADDRESS(above, ascent->ways->inode);
  if (ascent->filter && !ascent->all && !has_sign(ascent->filter, inode)) return 0;
  if (!ascent->all && !bpf_map_lookup_elem(&directories, &inode)) return 0;
  return look_up_inode(ascent->attempt, inode, reach_of(ascent->ways->levels)) != 0;
}

// ... and down again the same way, by the names.
static long look_below(__u32 index, struct ascent *ascent) {
  if (ascent->ways->levels == 0) return 1;
  __u32 levels = --ascent->ways->levels;
  struct janus_name_key *key = &ascent->ways->key;
  struct dentry *dentry = (struct dentry *)ascent->ways->dentries[levels % JANUS_LEVELS];
  if (key->above == 0 && ascent->filter && !may_begin_path(ascent->filter, dentry)) return 1;
  __builtin_memset(key->name, 0, JANUS_NAME);
  bpf_probe_read_kernel_str(key->name, JANUS_NAME, LOAD(struct dentry, dentry, d_name.name));
  struct janus_name *name = bpf_map_lookup_elem(&names, key);
  if (!name) return 1;
  struct attempt *attempt = ascent->attempt;
  key->above = name->number;
  if (attempt->changes) return rules_change_out(attempt, bpf_map_lookup_elem(&change_paths, &key->above), reach_of(levels)) != 0;
  return rules_open_out(attempt, &name->rule, reach_of(levels)) != 0;
}

static __always_inline struct janus_change_rule *place_of(struct attempt *attempt) {
  struct janus_guarded_key here = {.container = attempt->container, .device = attempt->device};
  return bpf_map_lookup_elem(&change_places, &here);
}

__noinline int look_up_anywhere(struct attempt *attempt, __u64 superblock) {
  struct ways *way = attempt ? own_ways(attempt) : 0;
  if (!way) return 0;
  __builtin_memset(&way->first, 0, sizeof(way->first));
  way->first.superblock = superblock;
  return look_up_rule(attempt, &way->first, JANUS_REACH_DEEPER);
}

// Once more, if something was renamed meanwhile.
static long look_around(__u32 index, struct ascent *ascent) {
  __u32 sequence = rename_sequence();
  ascent->dentry = ascent->from;
  ascent->ways->levels = 0;
  ascent->whole = 0;
  bpf_loop(LEVELS, look_above, ascent, 0);
  struct attempt *attempt = ascent->attempt;
  if (attempt->denied) return 1;
  if (!ascent->whole) {
    // What lies above is not all known: it is denied if anything deeper is, there.
    attempt->deep = attempt->changes ? rules_change_out(attempt, place_of(attempt), JANUS_REACH_DEEPER)
                                     : look_up_anywhere(attempt, ascent->superblock);
    return 1;
  }
  ascent->ways->key.above = 0;
  bpf_loop(JANUS_LEVELS, look_below, ascent, 0);
  return attempt->denied || (!(sequence & 1) && sequence == rename_sequence());
}

// Of opens on its superblock; null: none is denied to the container there.
static __always_inline struct janus_filter *filter_of(__u64 container, __u32 device) {
  __u64 place = janus_filter_place(container, device);
  struct janus_filter *own = &filters[janus_filter_number(place)];
  if (place && own->place == place) return own;
  struct janus_guarded_key here = {.container = container, .device = device};
  __u32 *number = bpf_map_lookup_elem(&guarded, &here);
  return number ? &filters[*number % JANUS_FILTERS] : 0;
}

// Whether nothing is denied of it for where it is, as far as the filter alone can tell: nearly all that nobody guards.
static __always_inline bool lies_clear(struct dentry *dentry, struct janus_filter *filter) {
  __u32 sequence = rename_sequence();
  if (sequence & 1) return 0;
  struct dentry *below = 0;
  for (int level = 0; level < NEAR; ++level) {
    struct dentry *parent = LOAD(struct dentry, dentry, d_parent);
    if (parent == dentry) return (!below || !may_begin_path(filter, below)) && sequence == rename_sequence();
    if (has_sign(filter, LOAD_NUMBER((void *)parent + bpf_core_field_offset(struct dentry, d_inode)))) return 0;
    below = dentry;
    dentry = parent;
  }
  return 0;
}

// What is denied of it for where it is: it is guarded there. `all`: no mark holds a directory any more.
static __always_inline void look_far_above(struct attempt *attempt, struct dentry *dentry, struct janus_filter *filter, bool all) {
  struct ways *way = own_ways(attempt);
  if (!way) return;
  way->key.container = attempt->container;
  way->key.device = attempt->device;
  struct ascent ascent = {.from = dentry, .attempt = attempt, .ways = way, .filter = filter, .all = all};
  ascent.superblock = ADDRESS(LOAD(struct dentry, dentry, d_sb), way->inode);
  bpf_loop(TRIES, look_around, &ascent, 0);
}
