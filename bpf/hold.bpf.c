// Holds a process of a guarded container that is about to see the file system
// through a mount that nobody has looked at, until user space has marked it
// (DESIGN section 2).
//
// Owns: whom to stop, and the list of who is. Three sets of programs; user
// space loads the best that the kernel takes (native/hold/holder.h):
//   fentry      at each open (fmod_ret): one through a mount that is new since
//               the last look is put off, and tried again. It leaves no window.
//               (On old kernels it also answers what those ask nobody: deny_below.)
//   syscalls    after the system calls that make mounts and namespaces, by
//               syscall tracepoints, which slow every one of the node's a little
//   scheduler   at exec and fork. A process that opens files between unshare(2)
//               and its next fork or exec is not held.
//
// The latter two stop the process (SIGSTOP), before it runs one more instruction
// of its own. That can't be lost on the way: the list is written before the
// signal is sent, the records after it (so nobody continues a process before it
// was stopped). They are only for kernels on which a program can continue
// another process, so that the end of those who would do it lets everybody go.
#include "kernel.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "containers.h"
#include "event.h"
#include "identities.h"
#include "stop.h"
#include "tracked.h"

char LICENSE[] SEC("license") = "GPL";

#define PF_USER_WORKER (0x10 | 0x4000)  // PF_IO_WORKER; since 6.4 PF_USER_WORKER
#define FMODE_CREATED 0x100000
#define NR_io_uring_enter 426  // on every architecture
#define EAGAIN 11
#define MAX_ERRNO 4095
#define SIGKILL 9
#define SIGNAL_MASK 0x7f  // of an exit code: what ended it

// Containers whose processes are held -> janus_watch_flag. As large as the map
// of containers (native/ebpf/map_sizes.h).
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, __u64);
  __type(value, __u32);
} watched SEC(".maps");

// Mount namespaces that user space has looked at -> their state (`event`) before
// it did. One that falls out is looked at once more.
struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __uint(max_entries, 4096);
  __type(key, __u64);
  __type(value, __u64);
} namespaces SEC(".maps");

// Mounts that are in none (open_tree(2) makes such, and umount -l) are known by
// our marks on them. On these devices they need none. (Their addresses and
// numbers are used again, so that nothing can be remembered of them.)
struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __uint(max_entries, 1024);
  __type(key, __u32);
  __type(value, __u8);
} unguarded_devices SEC(".maps");

// Each container has a share of the rings, and of the daemon's time. Of what was
// told, `served` has been seen to by user space; only that writes there.
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, __u64);
  __type(value, struct janus_hold_share);
} shares SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, __u64);
  __type(value, __u64);
} served SEC(".maps");

// When one of the container was last held for too long.
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, __u64);
  __type(value, __u64);
} expired SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_RINGBUF);
  __uint(max_entries, 1 << 18);
} to_daemon SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __uint(max_entries, 4096);
  __type(key, __u32);
  __type(value, struct janus_waiting);
} waits SEC(".maps");

const volatile __u64 limit_ns = 1000000000;  // set by user space

// Whether the daemon answers. Not for a container of which one was held for too long since the daemon
// last said so: it has had its delay.
static __always_inline bool is_on(__u64 container) {
  struct janus_guardians *who = the_guardians();
  if (!who || !who->enabled || bpf_ktime_get_ns() - who->answered_ns > 2 * limit_ns + STILL_NS) return 0;
  __u64 *late_ns = bpf_map_lookup_elem(&expired, &container);
  return !late_ns || *late_ns < who->answered_ns;
}

// What a process is held for, if it is.
static __always_inline __u32 watched_for(struct task_struct *task, struct janus_hold *hold) {
  struct janus_task who;
  if (!find_task(task, &who)) return 0;
  hold->tgid = BPF_CORE_READ(task, tgid);
  hold->held.pid = BPF_CORE_READ(task, pid);
  hold->held.container = who.container;
  hold->held.start_ns = who.start_ns;
  __u32 *flags = bpf_map_lookup_elem(&watched, &hold->held.container);
  return flags ? *flags : 0;
}

// Whether the daemon may be told of one more of the container.
static __always_inline bool has_share(__u64 container, bool may_wait) {
  struct janus_hold_share *share = bpf_map_lookup_elem(&shares, &container);
  __u64 *seen_to = bpf_map_lookup_elem(&served, &container);
  if (!share || !seen_to || (__s64)(share->told - *seen_to) < JANUS_HOLD_SHARE) return 1;
  if (!may_wait) __sync_fetch_and_add(&share->left_out, 1);
  return 0;
}

static __always_inline long tell(struct janus_hold *hold) {
  long failed = bpf_ringbuf_output(&to_daemon, hold, sizeof(*hold), 0);
  struct janus_hold_share *share = bpf_map_lookup_elem(&shares, &hold->held.container);
  if (!failed && share) __sync_fetch_and_add(&share->told, 1);
  return failed;
}

// Not stopped, it is looked at as soon as may be.
static __always_inline void stop(struct task_struct *task, struct janus_hold *hold, bool may_stop, bool is_current) {
  if (!has_share(hold->held.container, 0)) {
    count(JANUS_HOLD_COUNT_SKIPPED);
    return;
  }
  hold->held.limit_ns = limit_ns;
  bool heard = stop_process(task, hold, may_stop && is_on(hold->held.container), is_current);
  count(hold->held.since_ns ? JANUS_HOLD_COUNT_HELD : JANUS_HOLD_COUNT_SKIPPED);
  if (heard) tell(hold);  // no room: the keeper lets it go
}

// A tracer would see the signal, and could take it away.
static __always_inline void hold(struct task_struct *task, __u32 cause, bool is_current) {
  struct janus_hold hold = {.held.cause = cause};
  __u32 flags = watched_for(task, &hold);
  hold.held.mnt_ns = mount_namespace(task);
  hold.held.mnt_event = BPF_CORE_READ(task, nsproxy, mnt_ns, event);
  if (cause == JANUS_HOLD_MOUNT ? !(flags & JANUS_WATCH_MOUNTS)
                                : !(flags & JANUS_WATCH_NAMESPACES) || bpf_map_lookup_elem(&namespaces, &hold.held.mnt_ns))
    return;
  stop(task, &hold, !is_traced(task) && !is_stopping(task), is_current);
}

// ---- opens -------------------------------------------------------------------

static __always_inline struct mount *mount_of(struct file *file) {
  return (void *)file->f_path.mnt - bpf_core_field_offset(struct mount, mnt);
}

// It is a mount of the kernel's own: of pipes, memfds, what an overlay opens in its layer.
static __always_inline bool is_internal(struct mnt_namespace *mnt_ns) { return (__u64)mnt_ns >= (__u64)-MAX_ERRNO; }

// Whether user space has looked at a mount namespace since it last changed.
static __always_inline bool has_been_seen(__u64 id, __u64 event) {
  __u64 *seen = bpf_map_lookup_elem(&namespaces, &id);
  return seen && *seen == event;
}

// Whether a mount that is in no namespace is marked, or needs no mark.
static __always_inline bool is_seen_to(struct mount *mount, __u32 pid) {
  __u32 device = BPF_CORE_READ(mount, mnt.mnt_sb, s_dev);
  if (bpf_map_lookup_elem(&unguarded_devices, &device)) return 1;
  if (!BPF_CORE_READ(mount, mnt_fsnotify_marks)) return 0;
  bpf_map_delete_elem(&waits, &pid);  // the next mount may be at the same address
  return 1;
}

// What io_uring does is not a system call that could be done again: there -EAGAIN
// means that a worker tries, and from a worker it reaches the program.
static __always_inline bool by_io_uring(struct task_struct *task) {
  struct pt_regs *registers = (void *)bpf_task_pt_regs(task);
#if defined(__TARGET_ARCH_arm64)
  long number = BPF_CORE_READ(registers, syscallno);
#else
  long number = BPF_CORE_READ(registers, orig_ax);
#endif
  return (BPF_CORE_READ(task, flags) & PF_USER_WORKER) || number == NR_io_uring_enter;
}

// Whether this open may be put off (again). The daemon is told once, when the container's share has room.
static __always_inline bool may_wait(struct janus_hold *hold) {
  __u64 now_ns = bpf_ktime_get_ns();
  struct janus_waiting now = {
      .since_ns = now_ns,
      .last_ns = now_ns,
      .mnt_ns = hold->held.mnt_ns,
      .mnt_event = hold->held.mnt_event,
      .loose = hold->held.loose,
  };
  struct janus_waiting *before = bpf_map_lookup_elem(&waits, &hold->held.pid);
  bool again = before && before->mnt_ns == now.mnt_ns && before->mnt_event == now.mnt_event &&
               before->loose == now.loose && now_ns - before->last_ns < limit_ns;
  if (again && before->since_ns == 0) {
    bpf_map_delete_elem(&waits, &hold->held.pid);
    return 0;
  }
  hold->held.waits = is_on(hold->held.container);
  if (hold->held.waits && again) {
    before->last_ns = now_ns;
    if (!before->told && has_share(hold->held.container, 1) && !tell(hold)) before->told = 1;
    if (now_ns - before->since_ns < limit_ns) return 1;
    count(JANUS_HOLD_COUNT_EXPIRED);
    bpf_map_update_elem(&expired, &hold->held.container, &now_ns, BPF_ANY);
    return 0;
  }
  now.told = has_share(hold->held.container, 1);
  if (hold->held.waits && bpf_map_update_elem(&waits, &hold->held.pid, &now, BPF_ANY)) hold->held.waits = 0;
  if (now.told && tell(hold)) hold->held.waits = 0;
  count(hold->held.waits ? JANUS_HOLD_COUNT_HELD : JANUS_HOLD_COUNT_SKIPPED);
  return hold->held.waits;
}

// Before an open is asked about, or does anything: the thread goes round until the
// mount has been looked at.
SEC("fmod_ret/security_file_open")
int BPF_PROG(hold_open, struct file *file, int result) {
  if (result) return result;
  struct task_struct *task = bpf_get_current_task_btf();
  // In the order of what they cost. Nearly all opens of a container are through mounts that have been looked at.
  if (!may_be_known(task->tgid)) return 0;
  struct mount *mount = mount_of(file);
  struct mnt_namespace *mnt_ns = LOAD(struct mount, mount, mnt_ns);
  if (is_internal(mnt_ns)) return 0;
  __u64 id = namespace_id(mnt_ns), event = id ? LOAD(struct mnt_namespace, mnt_ns, event) : 0;
  if (id ? has_been_seen(id, event) : is_seen_to(mount, task->pid)) return 0;
  struct janus_hold hold = {.held = {.cause = JANUS_HOLD_OPEN,
                                     .pid = task->pid,
                                     .mount_id = LOAD(struct mount, mount, mnt_id),
                                     .mnt_ns = id,
                                     .mnt_event = event,
                                     .loose = id ? 0 : (__u64)mount}};
  __u32 flags = watched_for(task, &hold);
  if (!(flags & JANUS_WATCH_MOUNTS)) return 0;
  // It is empty; and doing O_EXCL again would fail.
  if (BPF_CORE_READ(file, f_mode) & FMODE_CREATED) return 0;
  if (flags & JANUS_WATCH_SHUT) {
    count(JANUS_HOLD_COUNT_DENIED);
    return -EPERM;
  }
  if (!may_wait(&hold)) return 0;
  if (by_io_uring(task)) return -EAGAIN;
  return do_again(task);
}

// ---- what an overlay opens -----------------------------------------------------

#define LEVELS 4096
#define NAMES 1024

struct ascent {
  struct dentry *dentry;
  bool denied;  // until the root is reached without finding anything
};

static long look_up(__u32 index, struct ascent *ascent) {
  struct dentry *dentry = ascent->dentry;
  struct dentry *parent = BPF_CORE_READ(dentry, d_parent);
  struct inode *inode = BPF_CORE_READ(dentry, d_inode);
  __u64 key = (__u64)inode;
  // One that is gone carries no mark, nor does mostly what its memory is used for now.
  if (bpf_map_lookup_elem(&identities, &key) && BPF_CORE_READ(inode, i_fsnotify_marks)) return 1;
  ascent->denied = parent != dentry;
  ascent->dentry = parent;
  return !ascent->denied;
}

struct names {
  struct hlist_node *next;
  bool denied;
};

// Where a dentry has its place in the list of its inode's names.
static __noinline __u64 alias_offset(void) { return bpf_core_field_offset(struct dentry, d_alias); }
static __noinline __u64 alias_offset_old(void) { return bpf_core_field_offset(struct dentry___old, d_u.d_alias); }

static long look_up_name(__u32 index, struct names *names) {
  struct hlist_node *name = names->next;
  if (!name) {
    names->denied = 0;
    return 1;
  }
  __u64 offset = bpf_core_field_exists(struct dentry___old, d_u) ? alias_offset_old() : alias_offset();
  struct ascent ascent = {.dentry = (void *)name - offset, .denied = 1};
  bpf_loop(LEVELS, look_up, &ascent, 0);
  names->next = BPF_CORE_READ(name, next);
  return ascent.denied;
}

// Linux before 6.5 (bc2473c90fca) asks nobody about the file that an overlay opens in its
// layer: what is denied could be read through an overlay of one's own. So that open is
// denied here, by any name of the file, if something guarded lies on the way to it. Whose
// guard that is, and what else it says, is not looked at. Not of overlays that were mounted
// in the node's own user namespace: the container's root is one.
SEC("fmod_ret/security_file_open")
int BPF_PROG(deny_below, struct file *file, int result) {
  if (result) return result;
  struct inode *inode = BPF_CORE_READ(file, f_inode);
  struct dentry *seen = BPF_CORE_READ(file, f_path.dentry);
  if (inode == BPF_CORE_READ(seen, d_inode)) return 0;
  if (!BPF_CORE_READ(file, f_path.mnt, mnt_sb, s_user_ns, level)) return 0;
  struct janus_hold hold = {};
  if (!(watched_for(bpf_get_current_task_btf(), &hold) & JANUS_WATCH_DENIED)) return 0;
  struct names names = {.next = BPF_CORE_READ(inode, i_dentry.first), .denied = 1};
  bpf_loop(NAMES, look_up_name, &names, 0);
  if (!names.denied) return 0;
  count(JANUS_HOLD_COUNT_DENIED);
  return -EPERM;
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
  if (held_process->waits) return 0;  // somebody else's stop
  struct task_struct *task = bpf_task_from_pid(*tgid);
  if (!task) return 0;
  if (start_of(task) == held_process->start_ns)
    bpf_send_signal_task(task, SIGCONT, PIDTYPE_TGID, 0);
  bpf_task_release(task);
  return 0;
}

// The end of a held process, and of those who would let it go: with them ends
// the holding, and all are let go here.
SEC("tp_btf/sched_process_exit")
int BPF_PROG(hold_exit, struct task_struct *task) {
  if (BPF_CORE_READ(task, signal, live.counter) != 0) return 0;
  __u32 tgid = BPF_CORE_READ(task, tgid);
  struct janus_guardians *who = the_guardians();
  if (who && (tgid == who->keeper || tgid == who->daemon)) {
    who->enabled = 0;
    if (bpf_send_signal_task) bpf_for_each_map_elem(&held, continue_held, 0, 0);
    return 0;
  }
  struct janus_held *hold = bpf_map_lookup_elem(&held, &tgid);
  // Nobody has let it go, and only one signal ends a process that stands still: it has run.
  if (hold && hold->cause == JANUS_HOLD_ARRIVAL && (BPF_CORE_READ(task, exit_code) & SIGNAL_MASK) != SIGKILL)
    count(JANUS_HOLD_COUNT_UNKNOWN);
  bpf_map_delete_elem(&held, &tgid);
  return 0;
}

static __always_inline void know_namespace_of(struct task_struct *task) {
  __u64 mnt_ns = mount_namespace(task), state = 0;
  bpf_map_update_elem(&namespaces, &mnt_ns, &state, BPF_NOEXIST);
}

// Run by the keeper: from now on it is there. Runtimes bring their processes from
// the node's own mount namespace, or from where the daemon is.
SEC("syscall")
int become_keeper(void *context) {
  struct janus_guardians *who = the_guardians();
  if (!who) return 1;
  struct task_struct *self = bpf_get_current_task_btf();
  who->keeper_task = (__u64)self;
  who->keeper = BPF_CORE_READ(self, tgid);
  know_namespace_of(self);
  know_namespace_of(BPF_CORE_READ(self, thread_pid, numbers[0].ns, child_reaper));
  return 0;
}

// ---- system calls ------------------------------------------------------------

static __always_inline int changed(long result, __u32 cause) {
  if (result >= 0) hold(bpf_get_current_task_btf(), cause, 1);
  return 0;
}

#define ON_EXIT_OF(name, cause)                                  \
  SEC("tp/syscalls/sys_exit_" #name)                             \
  int after_##name(struct trace_event_raw_sys_exit *context) {   \
    return changed(context->ret, cause);                         \
  }

ON_EXIT_OF(unshare, JANUS_HOLD_NAMESPACE)
ON_EXIT_OF(setns, JANUS_HOLD_NAMESPACE)
ON_EXIT_OF(mount, JANUS_HOLD_MOUNT)
ON_EXIT_OF(move_mount, JANUS_HOLD_MOUNT)
ON_EXIT_OF(pivot_root, JANUS_HOLD_MOUNT)
