// A process, as the kernel has it: its start, its root, and the way up its cgroups.
//
// Owns: which hierarchies count, and how far down a path is looked at. No maps.
#pragma once

#include "kernel.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "event.h"

static __always_inline __u64 start_of(struct task_struct *task) {
  return BPF_CORE_READ(task, group_leader, start_boottime);
}

// A field that this kernel hasn't got must not be reached by the verifier. Where
// the layout differs between kernels each has a function of its own: inlined, the
// compiler moves the field's offset out of loops and in front of the question
// whether there is one.
static __noinline struct kernfs_node *kernfs_parent_rcu(struct kernfs_node___rcu *kn) {
  return BPF_CORE_READ(kn, __parent);
}
static __noinline struct kernfs_node *kernfs_parent_old(struct kernfs_node *kn) { return BPF_CORE_READ(kn, parent); }

static __always_inline struct kernfs_node *kernfs_parent(struct kernfs_node *kn) {
  if (bpf_core_field_exists(struct kernfs_node___rcu, __parent)) return kernfs_parent_rcu((void *)kn);
  return kernfs_parent_old(kn);
}

static long kernfs_step(__u32 index, struct kernfs_node **kn) {
  *kn = kernfs_parent(*kn);
  return *kn == 0;
}

// A container may nest as deep as it likes below its own cgroup: what is above
// is kept.
static __always_inline struct kernfs_node *kept_levels(struct cgroup *cgroup) {
  struct kernfs_node *kn = BPF_CORE_READ(cgroup, kn);
  int level = BPF_CORE_READ(cgroup, level);
  if (level > JANUS_CGROUP_LEVELS) bpf_loop(level - JANUS_CGROUP_LEVELS, kernfs_step, &kn, 0);
  return kn;
}

// Of the controller that v1 runtimes never go without. Where it is on v2, a v2
// cgroup.
static __always_inline struct cgroup *pids_cgroup(struct css_set *set) {
  if (bpf_core_enum_value_exists(enum cgroup_subsys_id, pids_cgrp_id)) {
    int at = bpf_core_enum_value(enum cgroup_subsys_id, pids_cgrp_id);
    struct cgroup_subsys_state *css = 0;
    bpf_probe_read_kernel(&css, sizeof(css), (void *)set + bpf_core_field_offset(set->subsys) + at * sizeof(css));
    if (css) return BPF_CORE_READ(css, cgroup);
  }
  return 0;
}

// Whether its root directory is that of the node's pid 1: a runtime's process, whatever cgroup it is in.
// Pid 1 is asked for directly: not every kernel lets an iterator see it.
static __always_inline bool in_node_root(struct task_struct *task) {
  struct task_struct *init = BPF_CORE_READ(task, thread_pid, numbers[0].ns, child_reaper);
  return BPF_CORE_READ(task, fs, root.dentry) == BPF_CORE_READ(init, fs, root.dentry);
}
