// Which tracked container a process is of by its cgroup: also one that found no room in the process table.
//
// Owns: the containers' cgroups, and whether any process isn't in the table. User space makes one map of each for
// all three objects, janusd.bpf.c, hold.bpf.c and decide.bpf.c.
#pragma once

#include "kernel.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "event.h"
#include "task.h"
#include "tracked.h"

// Cgroups of the guarded containers. Filled by user space only, which reports
// a full map to the caller of CreateGuard.
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, struct janus_cgroup_key);
  __type(value, __u64);
} cgroups SEC(".maps");

// 1: a process of a container found no room in `tasks`.
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, __u32);
} untracked SEC(".maps");

static __always_inline void leave_untracked(void) {
  __u32 zero = 0, yes = 1;
  bpf_map_update_elem(&untracked, &zero, &yes, BPF_ANY);
}

// The tracked container that a cgroup is, or lies in (a container may nest
// cgroups of its own: CRI-O, systemd or docker inside). 0: none.
static __always_inline __u64 container_of_cgroup(struct cgroup *cgroup) {
  struct kernfs_node *kn = kept_levels(cgroup);
  struct janus_cgroup_key key = {.hierarchy = BPF_CORE_READ(cgroup, root, hierarchy_id)};
  for (int level = 0; level < JANUS_CGROUP_LEVELS && kn; level++) {
    key.id = BPF_CORE_READ(kn, id);
    __u64 *container = bpf_map_lookup_elem(&cgroups, &key);
    if (container) return *container;
    kn = kernfs_parent(kn);
  }
  return 0;
}

static __always_inline __u64 container_of_task(struct task_struct *task) {
  struct css_set *set = BPF_CORE_READ(task, cgroups);
  __u64 container = container_of_cgroup(BPF_CORE_READ(set, dfl_cgrp));
  if (container) return container;
  struct cgroup *pids = pids_cgroup(set);
  return pids ? container_of_cgroup(pids) : 0;
}

// Of a process that isn't in `tasks`, if there are such: as the gate knows it (read_actor()). It is nobody's owner.
static __noinline bool find_untracked(struct task_struct *task, struct janus_task *who) {
  __u32 zero = 0;
  __u32 *some = bpf_map_lookup_elem(&untracked, &zero);
  if (!who || !some || !*some) return 0;
  who->container = container_of_task(task);
  who->start_ns = start_of(task);
  who->forker_start_ns = 0;
  who->forker = who->flags = 0;
  return who->container != 0;
}

// `entry`: what `tasks` has of it, or null.
static __always_inline bool find(struct janus_task *entry, struct task_struct *task, struct janus_task *who) {
  if (!entry) return find_untracked(task, who);
  *who = *entry;
  return 1;
}

// False: of no tracked container.
static __always_inline bool find_task(struct task_struct *task, struct janus_task *who) { return find(known(task), task, who); }

// ... who runs now: `self` is what bpf_get_current_task_btf() gave.
static __always_inline bool find_caller(struct task_struct *self, struct janus_task *who) {
  return find(own_entry(self), self, who);
}
