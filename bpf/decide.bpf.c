// Denies opens and execs of guarded containers in the kernel.
//
// Owns: the decision about what user space has said is certain (native/identity/
// kernel_rules.h): which inodes and paths, to which container. Nothing is allowed here. Whatever
// is not denied goes on to fanotify: so what is missing here costs time only, but in directories
// that are ignored since all is certain (docs/tiers.md).
//
// What is denied for where it is, is told to user space, which pins it: from then on it is
// denied wherever it goes. Until then it is kept in mind here. While the daemon is away
// nobody is told, and what happens is counted.
#include "kernel.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "denials.h"
#include "event.h"
#include "file.h"
#include "rules.h"
#include "tracked.h"

char LICENSE[] SEC("license") = "GPL";

#define EPERM 1
#define FMODE_READ 0x1   // of f_mode
#define FMODE_EXEC 0x20  // of f_flags: __FMODE_EXEC

// A map of its own, so that it can be pinned.
struct janus_presence presence SEC(".data.presence") = {.layout = JANUS_KEPT_LAYOUT};

struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, JANUS_AWAY_COUNTS);
  __type(key, __u32);
  __type(value, __u64);
} away_counts SEC(".maps");

static __always_inline void count_away(__u32 which) {
  if (!presence.settled) return;
  __u64 *count = bpf_map_lookup_elem(&away_counts, &which);
  if (count) ++*count;
}

// ---- hooks -------------------------------------------------------------------

// Nobody is there to be told, or asked.
static __always_inline int decide_away(struct opening *opening, struct file *file, struct dentry *dentry, struct inode *inode) {
  // Before 6.5 what an overlay opens in its layer has the overlay's path: it was judged as the overlay's own.
  bool counts = BPF_CORE_READ(file, f_inode) == inode;
  bool itself = opening->denied;
  if (!itself) look_far_above(opening, dentry, inode, 1);
  if (opening->denied) {
    if (!itself) keep_in_mind(opening, (__u64)inode);
    count_away(JANUS_AWAY_DENIED);
    if (opening->deep) count_away(JANUS_AWAY_DEEP);
    return -EPERM;
  }
  if (!opening->asked) return 0;
  if (counts) count_away(presence.denies ? JANUS_AWAY_REFUSED : JANUS_AWAY_UNJUDGED);
  return presence.denies ? -EPERM : 0;
}

SEC("fmod_ret/security_file_open")
int BPF_PROG(decide_open, struct file *file, int result) {
  if (result) return result;
  bool away = presence.away;
  if (away && (presence.heir || presence.ended)) return 0;
  struct task_struct *task = bpf_get_current_task_btf();
  struct janus_task *entry = known(task);
  if (!entry) return 0;
  struct dentry *dentry = BPF_CORE_READ(file, f_path.dentry);
  struct inode *inode = BPF_CORE_READ(dentry, d_inode);
  // Of other things fanotify asks nobody either.
  __u32 type = BPF_CORE_READ(inode, i_mode) & S_IFMT;
  if (type != S_IFREG && type != S_IFDIR) return 0;
  struct opening opening = {
      .container = entry->container,
      .exec = (BPF_CORE_READ(file, f_flags) & FMODE_EXEC) != 0,
      .owner = (entry->flags & (JANUS_TASK_INIT | JANUS_TASK_CHILD)) != 0,
      .reads = (BPF_CORE_READ(file, f_mode) & FMODE_READ) != 0,
      .asks = away,
  };
  bool pinned = look_up_inode(&opening, (__u64)inode, JANUS_REACH_ITSELF);
  if (!pinned) was_found(&opening, (__u64)inode);
  if (away) return decide_away(&opening, file, dentry, inode);
  // It has a mark that nothing silences: the gate tells a path that is too long.
  if (pinned) return record(&opening, task, entry, file, inode, 0) ? -EPERM : 0;
  if (!opening.denied) look_far_above(&opening, dentry, inode, 0);
  if (!opening.denied) return 0;
  keep_in_mind(&opening, (__u64)inode);
  if (!record(&opening, task, entry, file, inode, 1)) count_lost(&opening);
  return -EPERM;
}

// Before its fanotify groups go: they are let go after.
SEC("tp_btf/sched_process_exit")
int BPF_PROG(daemon_exit, struct task_struct *task) {
  if (!presence.pid || BPF_CORE_READ(task, tgid) != presence.pid || BPF_CORE_READ(task, signal, live.counter) != 0) return 0;
  if (presence.away) return 0;
  presence.left_ns = bpf_ktime_get_boot_ns();
  presence.away = 1;
  return 0;
}

// Run by the daemon: it is there.
SEC("syscall")
int attend(void *context) {
  presence.pid = BPF_CORE_READ(bpf_get_current_task_btf(), tgid);
  return 0;
}

// By what a descriptor's inode is known here.
SEC("syscall")
int real_inodes(struct janus_real_inodes_args *ctx) {
  struct file *file = file_at(own_files(), ctx->fd);
  ctx->count = 0;
  if (!file) return 0;
  struct janus_rule_key first = {}, second = {};
  int count = real_keys((__u64)BPF_CORE_READ(file, f_path.dentry, d_inode), &first, &second);
  ctx->keys[0] = first;
  ctx->keys[1] = second;
  ctx->count = count;
  return 0;
}
