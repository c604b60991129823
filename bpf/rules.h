// What is denied of an object to a container, for what it is or for where it is.
//
// Owns: the maps that user space writes the rules to, what an inode is known by, and how far
// above an object is looked. Must not decide what happens then.
//
// An object is denied by its own rule, by one of a directory above it (by what these *are*,
// wherever they were moved), or by its path, whatever stands there by now.
#pragma once

#include "kernel.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "event.h"
#include "file.h"
#include "overlay.h"

#define LEVELS 4096  // above an object that are looked at
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
  __type(value, __u8);
} guarded SEC(".maps");

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

// The way from an object up, of one open. (A program that runs on a processor isn't begun there again.)
struct ways {
  __u64 dentries[JANUS_LEVELS];  // those nearest to the root
  __u32 levels;                  // from the object to where a look has come
  struct janus_name_key key;
};
struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct ways);
} ways SEC(".maps");

// ---- what an inode is --------------------------------------------------------
// Functions that are not static are verified by themselves, once. They take no kernel pointer, but its address.

static __always_inline bool add_key(struct inode *inode, struct janus_rule_key *key) {
  if (!inode) return 0;
  unsigned long magic = BPF_CORE_READ(inode, i_sb, s_magic);
  if (magic != EXT4_SUPER_MAGIC && magic != XFS_SUPER_MAGIC && magic != TMPFS_MAGIC) return 0;
  key->ino = BPF_CORE_READ(inode, i_ino);
  key->generation = BPF_CORE_READ(inode, i_generation);
  key->dev = BPF_CORE_READ(inode, i_sb, s_dev);
  return 1;
}

// The inode itself; of an overlay's, those of its layers: a directory may be in both, and what is
// copied up keeps its lower one (unless that has other names, which have nothing to do with the copy).
__noinline int real_keys(__u64 address, struct janus_rule_key *first, struct janus_rule_key *second) {
  struct inode *inode = (struct inode *)address;
  if (!inode || !first || !second) return 0;
  first->superblock = second->superblock = (__u64)BPF_CORE_READ(inode, i_sb);
  if (BPF_CORE_READ(inode, i_sb, s_magic) != OVERLAYFS_SUPER_MAGIC) return add_key(inode, first);
  struct inode *upper = upper_inode(inode), *lower = lower_inode(inode);
  if (!upper) return add_key(lower, first);
  if (!add_key(upper, first)) return 0;
  bool same = lower && ((BPF_CORE_READ(inode, i_mode) & S_IFMT) == S_IFDIR || BPF_CORE_READ(lower, i_nlink) == 1);
  return same && add_key(lower, second) ? 2 : 1;
}

// ---- what is denied ----------------------------------------------------------

struct opening {
  __u64 container;
  bool exec, owner, reads;
  // Found: who denies it.
  bool denied;
  bool deep;  // since not all above it was looked at
  __u32 subject;
  __u32 kind;
  // ... by which rule, and how far that one reaches it. No version: by no directory's.
  struct janus_rule_key by;
  __u32 version;
  __u32 reach;
  // While the daemon is away. What is nearest to the object says whether anybody else could deny it.
  bool asks;   // nothing was found yet
  bool asked;  // somebody could
};

static __always_inline bool rules_out(struct opening *opening, const struct janus_rule *rule, __u32 kind, __u32 reach) {
  const struct janus_ruling *anybody = &rule->of[kind][JANUS_TO_ANYBODY], *others = &rule->of[kind][JANUS_TO_OTHERS];
  if (anybody->reach & reach) opening->subject = anybody->subject;
  else if (!opening->owner && (others->reach & reach)) opening->subject = others->subject;
  else return 0;
  opening->kind = kind;
  opening->denied = 1;
  return 1;
}

// In the order in which fanotify asks.
static __always_inline bool rules_any_out(struct opening *opening, const struct janus_rule *rule, __u32 reach) {
  if (opening->exec && rules_out(opening, rule, JANUS_DENIED_EXEC, reach)) return 1;
  return rules_out(opening, rule, JANUS_DENIED_OPEN, reach);
}

static __always_inline bool may_be_denied(const struct opening *opening, const struct janus_rule *rule, __u32 kind, __u32 reach) {
  return ((rule->asked[kind][JANUS_TO_ANYBODY] | (opening->owner ? 0 : rule->asked[kind][JANUS_TO_OTHERS])) & reach) != 0;
}

static __always_inline bool look_up_rule(struct opening *opening, struct janus_rule_key *key, __u32 reach) {
  key->container = opening->container;
  struct janus_rule *rule = bpf_map_lookup_elem(&rules, key);
  if (!rule) return 0;
  if (opening->asks) {
    opening->asks = 0;
    opening->asked = may_be_denied(opening, rule, JANUS_DENIED_OPEN, reach) ||
                     (opening->exec && may_be_denied(opening, rule, JANUS_DENIED_EXEC, reach)) ||
                     (opening->reads && may_be_denied(opening, rule, JANUS_ASKED_ACCESS, reach));
  }
  if (!rules_any_out(opening, rule, reach)) return 0;
  opening->by = *key;
  opening->version = rule->version;
  opening->reach = reach;
  return 1;
}

__noinline int look_up_inode(struct opening *opening, __u64 inode, __u32 reach) {
  if (!opening) return 0;
  struct janus_rule_key first = {}, second = {};
  int count = real_keys(inode, &first, &second);
  if (count > 0 && look_up_rule(opening, &first, reach)) return 1;
  return count > 1 && look_up_rule(opening, &second, reach);
}

static __always_inline bool look_up_found(struct opening *opening, struct janus_rule_key *key) {
  key->container = opening->container;
  struct found *found = bpf_map_lookup_elem(&founds, key);
  if (!found) return 0;
  struct janus_rule *rule = bpf_map_lookup_elem(&rules, &found->below);
  return rule && rule->version == found->version && rules_any_out(opening, rule, found->reach);
}

// Whether it was denied for where it was.
__noinline int was_found(struct opening *opening, __u64 inode) {
  if (!opening || !founds_used) return 0;
  struct janus_rule_key first = {}, second = {};
  int count = real_keys(inode, &first, &second);
  if (count > 0 && look_up_found(opening, &first)) return 1;
  return count > 1 && look_up_found(opening, &second);
}

// It stays denied, wherever it goes.
__noinline int keep_in_mind(struct opening *opening, __u64 inode) {
  if (!opening || !opening->version) return 0;
  struct janus_rule_key first = {}, second = {};
  if (real_keys(inode, &first, &second) == 0) return 0;
  first.container = opening->container;
  struct found found = {.below = opening->by, .version = opening->version, .reach = opening->reach};
  bpf_map_update_elem(&founds, &first, &found, BPF_ANY);
  founds_used = 1;
  return 0;
}

// ---- what lies above it ------------------------------------------------------

struct ascent {
  struct dentry *dentry;  // where it has come to
  struct dentry *from;
  struct opening *opening;
  struct ways *ways;
  __u64 superblock;
  bool all;      // directories are looked up whether they are in `directories` or not
  bool whole;    // it has come to the root
};

static __always_inline __u32 reach_of(__u32 levels) {
  return levels == 0 ? JANUS_REACH_ITSELF : levels == 1 ? JANUS_REACH_ENTRIES : JANUS_REACH_DEEPER;
}

static long look_above(__u32 index, struct ascent *ascent) {
  struct dentry *dentry = ascent->dentry;
  struct dentry *parent = BPF_CORE_READ(dentry, d_parent);
  if (parent == dentry) {
    ascent->whole = 1;
    return 1;
  }
  ascent->ways->dentries[ascent->ways->levels % JANUS_LEVELS] = (__u64)dentry;
  ascent->dentry = parent;
  ++ascent->ways->levels;
  __u64 inode = (__u64)BPF_CORE_READ(parent, d_inode);
  if (!ascent->all && !bpf_map_lookup_elem(&directories, &inode)) return 0;
  return look_up_inode(ascent->opening, inode, reach_of(ascent->ways->levels)) != 0;
}

struct descent {
  struct opening *opening;
  struct ways *ways;
};

static long look_below(__u32 index, struct descent *descent) {
  if (descent->ways->levels == 0) return 1;
  __u32 levels = --descent->ways->levels;
  struct janus_name_key *key = &descent->ways->key;
  struct dentry *dentry = (struct dentry *)descent->ways->dentries[levels % JANUS_LEVELS];
  __builtin_memset(key->name, 0, JANUS_NAME);
  bpf_probe_read_kernel_str(key->name, JANUS_NAME, BPF_CORE_READ(dentry, d_name.name));
  struct janus_name *name = bpf_map_lookup_elem(&names, key);
  if (!name || rules_any_out(descent->opening, &name->rule, reach_of(levels))) return 1;
  key->above = name->number;
  return 0;
}

// Once more, if something was renamed meanwhile.
static long look_around(__u32 index, struct ascent *ascent) {
  __u32 sequence = rename_sequence();
  ascent->dentry = ascent->from;
  ascent->ways->levels = 0;
  ascent->whole = 0;
  bpf_loop(LEVELS, look_above, ascent, 0);
  struct opening *opening = ascent->opening;
  if (opening->denied) return 1;
  if (!ascent->whole) {
    // What lies above is not all known: it is denied if anything deeper is, there.
    struct janus_rule_key anywhere = {.superblock = ascent->superblock};
    opening->deep = look_up_rule(opening, &anywhere, JANUS_REACH_DEEPER);
    return 1;
  }
  ascent->ways->key.above = 0;
  struct descent descent = {.opening = opening, .ways = ascent->ways};
  bpf_loop(JANUS_LEVELS, look_below, &descent, 0);
  return opening->denied || (!(sequence & 1) && sequence == rename_sequence());
}

// What is denied of it for where it is. `all`: no mark holds a directory any more.
static __always_inline void look_far_above(struct opening *opening, struct dentry *dentry, struct inode *inode, bool all) {
  __u32 zero = 0;
  struct ways *way = bpf_map_lookup_elem(&ways, &zero);
  struct janus_guarded_key here = {.container = opening->container, .device = BPF_CORE_READ(inode, i_sb, s_dev)};
  if (!way || !bpf_map_lookup_elem(&guarded, &here)) return;
  way->key.container = here.container;
  way->key.device = here.device;
  struct ascent ascent = {
      .from = dentry, .opening = opening, .ways = way, .superblock = (__u64)BPF_CORE_READ(inode, i_sb), .all = all};
  bpf_loop(TRIES, look_around, &ascent, 0);
}
