// Holds a process of a guarded container that has just changed what it sees of
// the file system, until user space has marked what is new (DESIGN section 2).
//
// Owns: whom to stop, and the list of who is. Three sets of programs; user
// space loads the best that the kernel takes (native/holder.h):
//   fentry      fexit of the system calls that make mounts and namespaces
//   syscalls    the same by syscall tracepoints, which slow every system call
//               of the node a little
//   scheduler   exec, and fork where a signal can be sent to another task:
//               always loaded. A process that opens files between unshare(2)
//               and its next fork or exec is not held.
//
// SIGSTOP takes effect before the process runs one more instruction of its own.
// It can't be lost on the way: the list is written before the signal is sent,
// the records after it (so nobody continues a process before it was stopped).
#include "kernel.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "event.h"
#include "tracked.h"

char LICENSE[] SEC("license") = "GPL";

#define SIGCONT 18
#define SIGSTOP 19
#define STOP_SIGNALS (0xful << (SIGSTOP - 1))  // SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU
#define SIGNAL_STOP_STOPPED 1                  // include/linux/sched/signal.h
#define TASK_NOT_RUNNING (0x4 | 0x8 | 0x8000)  // __TASK_STOPPED, __TASK_TRACED, TASK_FROZEN
#define JOBCTL_TRAP_FREEZE (1ul << 23)         // the cgroup v2 freezer

#if defined(__TARGET_ARCH_arm64)
#define SYSCALL(name) "__arm64_sys_" name
#else
#define SYSCALL(name) "__x64_sys_" name
#endif

// Linux 6.13; bpf_send_signal() reaches only the caller.
extern int bpf_send_signal_task(struct task_struct *task, int signal, enum pid_type type, __u64 value) __ksym __weak;
extern struct task_struct *bpf_task_from_pid(__s32 pid) __ksym __weak;
extern void bpf_task_release(struct task_struct *task) __ksym __weak;

// Containers whose processes are held -> janus_watch_flag. As large as the map
// of containers (native/map_sizes.h).
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, __u64);
  __type(value, __u32);
} watched SEC(".maps");

// Mount namespaces that user space has looked at. One that falls out is looked
// at once more.
struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __uint(max_entries, 4096);
  __type(key, __u64);
  __type(value, __u8);
} namespaces SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 4096);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, __u32);
  __type(value, struct janus_held);
} held SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_RINGBUF);
  __uint(max_entries, 1 << 17);
} to_daemon SEC(".maps"), to_keeper SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct janus_guardians);
} guardians SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, JANUS_HOLD_COUNTERS);
  __type(key, __u32);
  __type(value, __u64);
} hold_counters SEC(".maps");

static __always_inline void count(__u32 which) {
  __u64 *value = bpf_map_lookup_elem(&hold_counters, &which);
  if (value) __sync_fetch_and_add(value, 1);
}

static __always_inline struct janus_guardians *the_guardians(void) {
  __u32 zero = 0;
  return bpf_map_lookup_elem(&guardians, &zero);
}

// Whether somebody who runs would let a held process go.
static __always_inline bool kept(void) {
  struct janus_guardians *who = the_guardians();
  if (!who || !who->enabled) return 0;
  struct task_struct *keeper = (void *)who->keeper_task;
  return !(BPF_CORE_READ(keeper, __state) & TASK_NOT_RUNNING) && !(BPF_CORE_READ(keeper, jobctl) & JOBCTL_TRAP_FREEZE);
}

// A stop of somebody else's is not ours to end, and a tracer would see ours.
static __always_inline bool somebody_elses(struct task_struct *task) {
  return BPF_CORE_READ(task, ptrace) || (BPF_CORE_READ(task, signal, flags) & SIGNAL_STOP_STOPPED) ||
         BPF_CORE_READ(task, signal, group_stop_count) ||
         ((BPF_CORE_READ(task, pending.signal.sig[0]) | BPF_CORE_READ(task, signal, shared_pending.signal.sig[0])) &
          STOP_SIGNALS);
}

static __always_inline void hold(struct task_struct *task, __u32 cause, bool is_current) {
  __u32 tgid = BPF_CORE_READ(task, tgid);
  struct janus_task *known = bpf_map_lookup_elem(&tasks, &tgid);
  if (!known) return;
  __u64 container = known->container;
  __u32 *flags = bpf_map_lookup_elem(&watched, &container);
  if (!flags) return;
  struct janus_hold hold = {.tgid = tgid};
  hold.held.container = container;
  hold.held.start_ns = known->start_ns;
  hold.held.mnt_ns = mount_namespace(task);
  hold.held.pid = BPF_CORE_READ(task, pid);
  hold.held.cause = cause;
  if (cause == JANUS_HOLD_NAMESPACE) {
    if (!(*flags & JANUS_WATCH_NAMESPACES) || bpf_map_lookup_elem(&namespaces, &hold.held.mnt_ns)) return;
  } else if (!(*flags & JANUS_WATCH_MOUNTS)) {
    return;
  }
  // Room for the records first: whoever is stopped has to be heard of. (Each is
  // asked for null once: Linux 6.1 forgets the answer.)
  struct janus_hold *to_mark = bpf_ringbuf_reserve(&to_daemon, sizeof(hold), 0);
  if (!to_mark) {
    count(JANUS_HOLD_COUNT_SKIPPED);
    return;
  }
  struct janus_hold *to_keep = bpf_ringbuf_reserve(&to_keeper, sizeof(hold), 0);
  if (!to_keep) {
    count(JANUS_HOLD_COUNT_SKIPPED);
    *to_mark = hold;  // not stopped: looked at as soon as may be
    bpf_ringbuf_submit(to_mark, 0);
    return;
  }
  if (kept() && !somebody_elses(task)) {
    hold.held.since_ns = bpf_ktime_get_ns();
    if (bpf_map_update_elem(&held, &tgid, &hold.held, BPF_ANY)) {
      hold.held.since_ns = 0;
    } else if (is_current ? bpf_send_signal(SIGSTOP) : bpf_send_signal_task(task, SIGSTOP, PIDTYPE_TGID, 0)) {
      bpf_map_delete_elem(&held, &tgid);
      hold.held.since_ns = 0;
    }
  }
  count(hold.held.since_ns ? JANUS_HOLD_COUNT_HELD : JANUS_HOLD_COUNT_SKIPPED);
  *to_mark = hold;
  bpf_ringbuf_submit(to_mark, 0);
  *to_keep = hold;
  bpf_ringbuf_submit(to_keep, 0);
}

// ---- scheduler -------------------------------------------------------------

SEC("tp_btf/sched_process_exec")
int BPF_PROG(hold_exec, struct task_struct *task) {
  hold(task, JANUS_HOLD_NAMESPACE, 1);
  return 0;
}

SEC("tp_btf/sched_process_fork")
int BPF_PROG(hold_fork, struct task_struct *parent, struct task_struct *child) {
  if (!bpf_send_signal_task || mount_namespace(child) == mount_namespace(parent)) return 0;
  hold(child, JANUS_HOLD_NAMESPACE, 0);
  return 0;
}

struct bpf_map;
static long continue_held(struct bpf_map *map, __u32 *tgid, struct janus_held *held_process, void *unused) {
  struct task_struct *task = bpf_task_from_pid(*tgid);
  if (!task) return 0;
  if (BPF_CORE_READ(task, group_leader, start_boottime) == held_process->start_ns)
    bpf_send_signal_task(task, SIGCONT, PIDTYPE_TGID, 0);
  bpf_task_release(task);
  return 0;
}

// The end of a held process, and of those who would let it go: with them ends
// the holding, and where the kernel allows it, they are let go here.
SEC("tp_btf/sched_process_exit")
int BPF_PROG(hold_exit, struct task_struct *task) {
  if (BPF_CORE_READ(task, signal, live.counter) != 0) return 0;
  __u32 tgid = BPF_CORE_READ(task, tgid);
  struct janus_guardians *who = the_guardians();
  if (who && (tgid == who->keeper || tgid == who->daemon)) {
    who->enabled = 0;
    if (bpf_send_signal_task && bpf_task_from_pid && bpf_task_release) bpf_for_each_map_elem(&held, continue_held, 0, 0);
    return 0;
  }
  bpf_map_delete_elem(&held, &tgid);
  return 0;
}

// Run by the keeper: from now on it is there.
SEC("syscall")
int become_keeper(void *context) {
  struct janus_guardians *who = the_guardians();
  if (!who) return 1;
  struct task_struct *self = bpf_get_current_task_btf();
  who->keeper_task = (__u64)self;
  who->keeper = BPF_CORE_READ(self, tgid);
  who->enabled = 1;
  return 0;
}

// ---- system calls ------------------------------------------------------------

static __always_inline int changed(long result, __u32 cause) {
  if (result >= 0) hold(bpf_get_current_task_btf(), cause, 1);
  return 0;
}

#define ON_EXIT_OF(name, cause)                                          \
  SEC("fexit/" SYSCALL(#name))                                           \
  int BPF_PROG(fexit_##name, const void *registers, long result) {       \
    return changed(result, cause);                                       \
  }                                                                      \
  SEC("tp/syscalls/sys_exit_" #name)                                     \
  int tracepoint_##name(struct trace_event_raw_sys_exit *context) {      \
    return changed(context->ret, cause);                                 \
  }

ON_EXIT_OF(unshare, JANUS_HOLD_NAMESPACE)
ON_EXIT_OF(setns, JANUS_HOLD_NAMESPACE)
ON_EXIT_OF(mount, JANUS_HOLD_MOUNT)
ON_EXIT_OF(move_mount, JANUS_HOLD_MOUNT)
ON_EXIT_OF(pivot_root, JANUS_HOLD_MOUNT)
