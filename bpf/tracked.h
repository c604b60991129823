// What all three objects, janusd.bpf.c, hold.bpf.c and decide.bpf.c, know of a process.
//
// Owns: the process table, which user space makes one map for all.
#pragma once

#include "kernel.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "event.h"
#include "load.h"
#include "task.h"

// Process table, of the machine's size (native/ebpf/map_sizes.h). Full: the process is not attributed (counted), so
// autoAllowOwner does not exempt it: errs to the strict side.
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, __u32);
  __type(value, struct janus_task);
} tasks SEC(".maps");

// Set before an entry is written, taken back when the process ends: most of the node's processes have none, and need
// not be looked for at each open.
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(map_flags, BPF_F_MMAPABLE);
  __uint(max_entries, JANUS_TASK_WORDS);
  __type(key, __u32);
  __type(value, __u64);
} task_bits SEC(".maps");

static __always_inline __u64 *word_of(__u32 tgid) {
  __u32 word = tgid / 64;
  return bpf_map_lookup_elem(&task_bits, &word);
}

static __always_inline bool may_be_known(__u32 tgid) {
  __u64 *bits = word_of(tgid);
  return !bits || ((*bits >> (tgid % 64)) & 1);
}

// The entry of this very process; null if its container isn't tracked.
static __always_inline struct janus_task *known(struct task_struct *task) {
  __u32 tgid = BPF_CORE_READ(task, tgid);
  if (!may_be_known(tgid)) return 0;
  struct janus_task *entry = bpf_map_lookup_elem(&tasks, &tgid);
  return entry && entry->start_ns == start_of(task) ? entry : 0;
}

// ... of whoever runs now: `self` is what bpf_get_current_task_btf() gave, whose fields are loaded without a helper.
static __always_inline struct janus_task *own_entry(struct task_struct *self) {
  __u32 tgid = self->tgid;
  if (!may_be_known(tgid)) return 0;
  struct janus_task *entry = bpf_map_lookup_elem(&tasks, &tgid);
  return entry && entry->start_ns == self->group_leader->start_boottime ? entry : 0;
}

// Unique since boot; the number in /proc/PID/ns is used again. 0: none, or an
// anonymous one.
static __always_inline __u64 namespace_id(struct mnt_namespace *mnt_ns) {
  if (!mnt_ns) return 0;
  if (bpf_core_field_exists(mnt_ns->ns.ns_id)) return LOAD(struct mnt_namespace, mnt_ns, ns.ns_id);
  return LOAD(struct mnt_namespace, mnt_ns, seq);
}

static __always_inline __u64 mount_namespace(struct task_struct *task) {
  return namespace_id(BPF_CORE_READ(task, nsproxy, mnt_ns));
}
