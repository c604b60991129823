// What is denied of an object to a container: the lookup of map `rules`.
//
// Owns: what an inode is known by, and how far above an object is looked. Must not decide
// what happens then.
#pragma once

#include "kernel.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "event.h"
#include "overlay.h"

#define LEVELS 4096  // above an object that are looked at

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

// ---- what an inode is --------------------------------------------------------

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
static __noinline int real_keys(struct inode *inode, struct janus_rule_key *first, struct janus_rule_key *second) {
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
  // In the order in which fanotify asks.
  if (opening->exec && rules_out(opening, rule, JANUS_DENIED_EXEC, reach)) return 1;
  return rules_out(opening, rule, JANUS_DENIED_OPEN, reach);
}

static __noinline int look_up_inode(struct opening *opening, struct inode *inode, __u32 reach) {
  if (!opening) return 0;
  struct janus_rule_key first = {}, second = {};
  int count = real_keys(inode, &first, &second);
  if (count > 0 && look_up_rule(opening, &first, reach)) return 1;
  return count > 1 && look_up_rule(opening, &second, reach);
}

struct ascent {
  struct dentry *dentry;
  struct opening *opening;
  bool whole;  // it has come to the root
};

static long look_above(__u32 index, struct ascent *ascent) {
  struct dentry *dentry = ascent->dentry;
  struct dentry *parent = BPF_CORE_READ(dentry, d_parent);
  if (parent == dentry) {
    ascent->whole = 1;
    return 1;
  }
  ascent->dentry = parent;
  return look_up_inode(ascent->opening, BPF_CORE_READ(parent, d_inode), index == 0 ? JANUS_REACH_ENTRIES : JANUS_REACH_DEEPER);
}

// What lies above is not all known: it is denied if anything deeper is, there.
static __always_inline void look_far_above(struct opening *opening, struct dentry *dentry, struct inode *inode) {
  struct ascent ascent = {.dentry = dentry, .opening = opening, .whole = 0};
  bpf_loop(LEVELS, look_above, &ascent, 0);
  if (opening->denied || ascent.whole) return;
  struct janus_rule_key anywhere = {.superblock = (__u64)BPF_CORE_READ(inode, i_sb)};
  opening->deep = look_up_rule(opening, &anywhere, JANUS_REACH_DEEPER);
}
