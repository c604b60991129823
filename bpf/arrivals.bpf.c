// Tells of containers of pods that start, and holds the first program of each
// until user space has admitted the container.
//
// Owns: which cgroups are containers of pods, by their names; which of them are
// not admitted yet. Decides nothing about pods. The hooks:
//   cgroup_mkdir        a runtime makes a container's cgroup: it is not admitted
//   cgroup_rmdir        it is gone
//   security_bprm_creds_for_exec (fmod_ret)  where the kernel takes it: the exec
//                       goes round, and opens its program again once admitted
//   sched_process_exec  elsewhere: the process is stopped before its first own
//                       instruction, or (tier off) only told of
// Attached only while a guard could select pods of this node. Cgroups that were
// there before are never held.
#include "kernel.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "event.h"
#include "file.h"
#include "stop.h"
#include "task.h"

char LICENSE[] SEC("license") = "GPL";

#define UID_LONG 36   // of a pod: a UUID
#define UID_SHORT 32  // of a static pod: a hash
#define TURN_NS 200000  // of an exec that waits, at most: fewer turns are fewer lines in an audit log
#define TURN_LOOKS 4096

// Full: the container is not held (JANUS_HOLD_COUNT_UNTOLD).
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 4096);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, __u64);
  __type(value, struct janus_arrival);
} arrivals SEC(".maps");

// Full: an exec that goes round is told of at its next turn; a process is not stopped.
struct {
  __uint(type, BPF_MAP_TYPE_RINGBUF);
  __uint(max_entries, 1 << 20);
} arrived SEC(".maps");

// Too large for the stack.
struct scratch {
  struct janus_arrival arrival;
  char name[2 * (NAME_MASK + 1)];  // the second half is slack, for the verifier
};
struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct scratch);
} scratches SEC(".maps");

const volatile __u64 wait_ns = 0;  // 0: nobody is held

// When user space last took what it was told; monotonic. Written there.
__u64 heard_ns;

static __always_inline struct scratch *the_scratch(void) {
  __u32 zero = 0;
  return bpf_map_lookup_elem(&scratches, &zero);
}

// ---- cgroups -----------------------------------------------------------------

static __always_inline bool ends_in_slice(const char *name, __u64 end) {
  const char suffix[6] = {'.', 's', 'l', 'i', 'c', 'e'};
  __u64 at = (end - sizeof(suffix)) & NAME_MASK;
  for (int i = 0; i < sizeof(suffix); i++)
    if (name[at + i] != suffix[i]) return 0;
  return 1;
}

static __always_inline bool says_pod(const char *name, __u64 end, __u64 uid) {
  if (end < uid + 3) return 0;
  __u64 at = (end - uid - 3) & NAME_MASK;
  if (name[at] != 'p' || name[at + 1] != 'o' || name[at + 2] != 'd') return 0;
  return at == 0 || name[(at - 1) & NAME_MASK] == '-';
}

// Whether a component of a path names a pod: "pod<uid>", "kubepods-burstable-pod<uid>.slice".
static __noinline bool is_pod(struct kernfs_node *kn) {
  struct scratch *scratch = the_scratch();
  if (!scratch || !kn) return 0;
  char *name = scratch->name;
  long size = bpf_probe_read_kernel_str(name, NAME_MASK + 1, BPF_CORE_READ(kn, name));
  if (size < 2) return 0;
  __u64 end = (size - 1) & NAME_MASK;
  if (end > 6 && ends_in_slice(name, end)) end -= 6;
  return says_pod(name, end, UID_LONG) || says_pod(name, end, UID_SHORT);
}

// The cgroup right below a pod's. What a container makes below its own, under
// whatever name, is the container's.
static __always_inline bool is_container(struct cgroup *cgroup) {
  int level = BPF_CORE_READ(cgroup, level);
  if (level < 2 || level > JANUS_CGROUP_LEVELS) return 0;
  struct kernfs_node *kn = kernfs_parent(BPF_CORE_READ(cgroup, kn));
  if (!is_pod(kn)) return 0;
  for (int above = 0; above < JANUS_CGROUP_LEVELS && kn; above++) {
    kn = kernfs_parent(kn);
    if (is_pod(kn)) return 0;
  }
  return 1;
}

// As native/ has it: ids are unique in their hierarchy.
static __always_inline __u64 number_of(__u32 hierarchy, struct kernfs_node *kn) {
  return BPF_CORE_READ(kn, id) | (__u64)hierarchy << 56;
}

// Of those in which a process is looked up: v2, or where the pids controller is.
static __always_inline bool is_looked_up(struct cgroup *cgroup) {
  if (BPF_CORE_READ(cgroup, root, hierarchy_id) == 0) return 1;
  if (!bpf_core_enum_value_exists(enum cgroup_subsys_id, pids_cgrp_id)) return 0;
  int at = bpf_core_enum_value(enum cgroup_subsys_id, pids_cgrp_id);
  void *css = 0;
  bpf_probe_read_kernel(&css, sizeof(css), (void *)cgroup + bpf_core_field_offset(cgroup->subsys) + at * sizeof(css));
  return css != 0;
}

// No process is in it yet.
SEC("tp_btf/cgroup_mkdir")
int BPF_PROG(arrival_mkdir, struct cgroup *cgroup, const char *path) {
  if (!is_looked_up(cgroup) || !is_container(cgroup)) return 0;
  struct scratch *scratch = the_scratch();
  if (!scratch) return 0;
  struct janus_arrival *arrival = &scratch->arrival;
  arrival->container = number_of(BPF_CORE_READ(cgroup, root, hierarchy_id), BPF_CORE_READ(cgroup, kn));
  arrival->since_ns = 0;
  arrival->tgid = arrival->told = arrival->held = 0;
  if (bpf_probe_read_kernel_str(arrival->path, sizeof(arrival->path), path) < 0) arrival->path[0] = 0;
  if (bpf_map_update_elem(&arrivals, &arrival->container, arrival, BPF_ANY)) count(JANUS_HOLD_COUNT_UNTOLD);
  return 0;
}

SEC("tp_btf/cgroup_rmdir")
int BPF_PROG(arrival_rmdir, struct cgroup *cgroup) {
  __u64 container = number_of(BPF_CORE_READ(cgroup, root, hierarchy_id), BPF_CORE_READ(cgroup, kn));
  bpf_map_delete_elem(&arrivals, &container);
  return 0;
}

// ---- execs -------------------------------------------------------------------

// The container that a cgroup is or lies in, if it isn't admitted; 0: it is, or there is none.
static __noinline __u64 arriving_at(struct cgroup *cgroup) {
  struct kernfs_node *kn = kept_levels(cgroup);
  __u32 hierarchy = BPF_CORE_READ(cgroup, root, hierarchy_id);
  for (int level = 0; level < JANUS_CGROUP_LEVELS && kn; level++) {
    __u64 container = number_of(hierarchy, kn);
    if (bpf_map_lookup_elem(&arrivals, &container)) return container;
    kn = kernfs_parent(kn);
  }
  return 0;
}

// The container that is not admitted and whose program this is. Runtimes execute
// programs in it, too (runc itself, hooks): those are at the node's root.
static __always_inline struct janus_arrival *arrival_of(struct task_struct *task) {
  struct css_set *set = BPF_CORE_READ(task, cgroups);
  struct cgroup *pids = pids_cgroup(set);
  __u64 container = arriving_at(BPF_CORE_READ(set, dfl_cgrp));
  __u64 in_v1 = pids && BPF_CORE_READ(pids, root, hierarchy_id) ? arriving_at(pids) : 0;
  if ((!container && !in_v1) || in_node_root(task)) return 0;
  if (!container) container = in_v1;
  else if (in_v1) bpf_map_delete_elem(&arrivals, &in_v1);  // one container, by whichever cgroup
  return bpf_map_lookup_elem(&arrivals, &container);
}

// Whether user space listens: one that doesn't costs each container one delay, and
// soon nobody any.
static __always_inline bool is_heard(__u64 now_ns) { return wait_ns && (__s64)(now_ns - heard_ns) < (__s64)(2 * wait_ns + STILL_NS); }

static __always_inline bool tell(struct janus_arrival *arrival) {
  if (!arrival->told) arrival->told = !bpf_ringbuf_output(&arrived, arrival, sizeof(*arrival), 0);
  return arrival->told;
}

// The container is on its own from here. False: somebody else has let it go.
static __always_inline bool let_go(struct janus_arrival *arrival) {
  __u64 container = arrival->container;
  return bpf_map_delete_elem(&arrivals, &container) == 0;
}

// It isn't held; user space guards it as soon as may be.
static __always_inline void only_tell(struct janus_arrival *arrival) {
  arrival->held = 0;
  if (!tell(arrival)) count(JANUS_HOLD_COUNT_UNTOLD);
  let_go(arrival);
}

static __always_inline void begin(struct janus_arrival *arrival, struct task_struct *task, __u64 now_ns) {
  if (arrival->since_ns) return;
  arrival->since_ns = now_ns;
  arrival->tgid = BPF_CORE_READ(task, tgid);
}

struct turn {
  __u64 container;
  __u64 end_ns;
};

static long look_again(__u32 index, struct turn *turn) {
  return !bpf_map_lookup_elem(&arrivals, &turn->container) || bpf_ktime_get_ns() > turn->end_ns;
}

// The program's file is open by now, maybe unguarded. So it is done again even if
// the container is admitted meanwhile.
SEC("fmod_ret/security_bprm_creds_for_exec")
int BPF_PROG(hold_arrival, struct linux_binprm *bprm, int result) {
  if (result) return result;
  struct task_struct *task = bpf_get_current_task_btf();
  struct janus_arrival *arrival = arrival_of(task);
  if (!arrival) return 0;
  __u64 now_ns = bpf_ktime_get_ns();
  begin(arrival, task, now_ns);
  if (!arrival->told && !is_heard(now_ns)) {
    only_tell(arrival);
    return 0;
  }
  if (now_ns - arrival->since_ns >= wait_ns) {
    if (let_go(arrival)) count(JANUS_HOLD_COUNT_UNKNOWN);
    return 0;
  }
  arrival->held = 1;
  tell(arrival);  // no room: at the next turn
  struct turn turn = {.container = arrival->container, .end_ns = now_ns + TURN_NS};
  bpf_loop(TURN_LOOKS, look_again, &turn, 0);
  return do_again(task);
}

// Its program is there, and hasn't run yet.
SEC("tp_btf/sched_process_exec")
int BPF_PROG(stop_arrival, struct task_struct *task) {
  struct janus_arrival *arrival = arrival_of(task);
  if (!arrival) return 0;
  __u64 now_ns = bpf_ktime_get_ns();
  begin(arrival, task, now_ns);
  __u64 waited_ns = now_ns - arrival->since_ns;
  struct janus_hold hold = {.tgid = BPF_CORE_READ(task, tgid),
                            .held = {.container = arrival->container,
                                     .start_ns = start_of(task),
                                     .limit_ns = wait_ns - waited_ns,
                                     .pid = BPF_CORE_READ(task, pid),
                                     .cause = JANUS_HOLD_ARRIVAL,
                                     .waits = is_stopping(task)}};  // perhaps another daemon's, which holds it, too
  bool may_stop = is_heard(now_ns) && waited_ns < wait_ns && !is_traced(task);
  if (!may_stop || !stop_process(task, &hold, 1, 1) || !hold.held.since_ns) {
    only_tell(arrival);
    return 0;
  }
  arrival->held = 1;
  tell(arrival);  // after the stop: nobody admits it before. No room: the keeper lets it go
  if (bpf_map_lookup_elem(&arrivals, &hold.held.container)) return 0;
  // Admitted meanwhile, by what was told of another process.
  if (bpf_map_delete_elem(&held, &hold.tgid) == 0 && !hold.held.waits) bpf_send_signal(SIGCONT);
  return 0;
}

// As stop_arrival, where nobody can be held.
SEC("tp_btf/sched_process_exec")
int BPF_PROG(see_arrival, struct task_struct *task) {
  struct janus_arrival *arrival = arrival_of(task);
  if (!arrival) return 0;
  begin(arrival, task, bpf_ktime_get_ns());
  only_tell(arrival);
  return 0;
}
