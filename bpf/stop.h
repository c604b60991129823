// Making a process wait. Shared by hold.bpf.c and arrivals.bpf.c.
//
// Owns: the list of who stands still, and who lets them go. Where both objects
// are loaded, user space makes these maps one for both.
#pragma once

#include "kernel.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "event.h"

#define SIGCONT 18
#define SIGSTOP 19
#define STOP_SIGNALS (0xful << (SIGSTOP - 1))  // SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU
#define SIGNAL_STOP_STOPPED 1                  // include/linux/sched/signal.h
#define TASK_NOT_RUNNING (0x4 | 0x8 | 0x8000)  // __TASK_STOPPED, __TASK_TRACED, TASK_FROZEN
#define JOBCTL_TRAP_FREEZE (1ul << 23)         // the cgroup v2 freezer
#define ERESTARTNOINTR 513  // include/linux/errno.h: with a signal, do the system call again
#define STILL_NS 2000000000ull  // after which, and twice the limit, a daemon that doesn't answer holds nobody

// Linux 6.13; bpf_send_signal() reaches only the caller.
extern int bpf_send_signal_task(struct task_struct *task, int signal, enum pid_type type, __u64 value) __ksym __weak;
extern struct task_struct *bpf_task_from_pid(__s32 pid) __ksym __weak;
extern void bpf_task_release(struct task_struct *task) __ksym __weak;

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 4096);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, __u32);
  __type(value, struct janus_held);
} held SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_RINGBUF);
  __uint(max_entries, 1 << 18);
} to_keeper SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1);
  __uint(map_flags, BPF_F_MMAPABLE);
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

// Whether the keeper runs, who would let a stopped process go.
static __always_inline bool has_keeper(void) {
  struct janus_guardians *who = the_guardians();
  if (!who || !who->enabled) return 0;
  struct task_struct *keeper = (void *)who->keeper_task;
  return !(BPF_CORE_READ(keeper, __state) & TASK_NOT_RUNNING) && !(BPF_CORE_READ(keeper, jobctl) & JOBCTL_TRAP_FREEZE);
}

static __always_inline bool is_traced(struct task_struct *task) { return BPF_CORE_READ(task, ptrace) != 0; }

// Stopped, or about to be: that stop is not ours to end.
static __always_inline bool is_stopping(struct task_struct *task) {
  return (BPF_CORE_READ(task, signal, flags) & SIGNAL_STOP_STOPPED) || BPF_CORE_READ(task, signal, group_stop_count) ||
         ((BPF_CORE_READ(task, pending.signal.sig[0]) | BPF_CORE_READ(task, signal, shared_pending.signal.sig[0])) &
          STOP_SIGNALS);
}

// Stops it, if there is a keeper; `hold->held.since_ns` tells whether it was. With
// `hold->held.waits` it is stopped already: it is put on the list alone, unless it is there. Returns
// 0: the keeper has no room for its record.
static __always_inline bool stop_process(struct task_struct *task, struct janus_hold *hold, bool may_stop, bool is_current) {
  // Room for the keeper's record first: whoever is stopped has to be heard of.
  struct janus_hold *to_keep = bpf_ringbuf_reserve(&to_keeper, sizeof(*hold), 0);
  if (!to_keep) return 0;
  if (may_stop && has_keeper()) {
    hold->held.since_ns = bpf_ktime_get_ns();
    if (bpf_map_update_elem(&held, &hold->tgid, &hold->held, hold->held.waits ? BPF_NOEXIST : BPF_ANY)) {
      hold->held.since_ns = 0;
    } else if (hold->held.waits) {
      // Whoever stopped it lets us have the stop, or it ends before we have let it go.
    } else if (is_current ? bpf_send_signal(SIGSTOP) : bpf_send_signal_task(task, SIGSTOP, PIDTYPE_TGID, 0)) {
      bpf_map_delete_elem(&held, &hold->tgid);
      hold->held.since_ns = 0;
    }
  }
  *to_keep = *hold;
  bpf_ringbuf_submit(to_keep, 0);
  return 1;
}

// Has the system call of the calling thread done again. With a signal pending, the
// kernel does it from its start. A stop that is taken back at once leaves just
// that: the thread goes round, some microseconds a turn. It never stands still, so
// nobody has to let it go, and a parent sees nothing. (Its handler of SIGCONT, if it
// has one, runs.) Returns what the hook has to; 0: it can't be.
static __always_inline int do_again(struct task_struct *task) {
  // Somebody else's stop is as good, and must not be taken back.
  if (!is_stopping(task)) {
    if (bpf_send_signal_thread(SIGSTOP)) return 0;
    bpf_send_signal_thread(SIGCONT);
  }
  return -ERESTARTNOINTR;
}
