// Denies opens, execs and changes (changes.h) of guarded containers in the kernel.
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

#include "changes.h"
#include "containers.h"
#include "denials.h"
#include "event.h"
#include "file.h"
#include "presence.h"
#include "rules.h"

char LICENSE[] SEC("license") = "GPL";

#define FMODE_READ 0x1   // of f_mode
#define FMODE_EXEC 0x20  // of f_flags: __FMODE_EXEC

// ---- hooks -------------------------------------------------------------------

// Of the inode, as functions take it that are verified by themselves.
static __always_inline __u64 number_of(struct dentry *dentry) { return (__u64)BPF_CORE_READ(dentry, d_inode); }

// Nobody is there to be told, or asked.
static __always_inline int decide_away(struct attempt *attempt, struct file *file, struct dentry *dentry, struct inode *inode,
                                       struct janus_filter *filter) {
  // Before 6.5 what an overlay opens in its layer has the overlay's path: it was judged as the overlay's own.
  bool counts = BPF_CORE_READ(file, f_inode) == inode;
  bool itself = attempt->denied;
  if (!itself) look_far_above(attempt, dentry, filter, 1);
  if (attempt->denied) {
    if (!itself) keep_in_mind(attempt, number_of(dentry));
    return deny_away(attempt->deep);
  }
  if (!attempt->asked) return 0;
  if (counts) count_away(presence.denies ? JANUS_AWAY_REFUSED : JANUS_AWAY_UNJUDGED);
  return presence.denies ? -EPERM : 0;
}

// A function of its own: the stack holds what it needs, or what judge_write() does.
static __noinline int judge_open(struct file *file) {
  // In the order of what they cost. Loaded without a helper, as all that each open of a tracked container costs.
  struct dentry *dentry = file->f_path.dentry;
  struct super_block *superblock = dentry->d_sb;
  __u32 device = superblock->s_dev;
  if (is_over() || !has_sign(&guarded_devices, device)) return 0;
  bool away = presence.away;
  struct task_struct *task = bpf_get_current_task_btf();
  struct janus_task who;
  if (!find_caller(task, &who)) return 0;
  struct inode *inode = dentry->d_inode;
  __u32 mode = inode->i_mode;
  // Of other things fanotify asks nobody either.
  if ((mode & S_IFMT) != S_IFREG && (mode & S_IFMT) != S_IFDIR) return 0;
  struct janus_filter *filter = filter_of(who.container, device);
  if (!filter) return 0;
  bool may_be_pinned = may_have_rule(filter, superblock, inode);
  bool clear = !away && lies_clear(dentry, filter);
  if (clear && !may_be_pinned && !founds_used) return 0;
  struct attempt attempt = {
      .container = who.container,
      .program = PROGRAM_OPEN,
      .device = device,
      .exec = (file->f_flags & FMODE_EXEC) != 0,
      .owner = (who.flags & (JANUS_TASK_INIT | JANUS_TASK_CHILD)) != 0,
      .reads = (file->f_mode & FMODE_READ) != 0,
      .asks = away,
  };
  bool pinned = may_be_pinned && look_up_inode(&attempt, number_of(dentry), JANUS_REACH_ITSELF);
  if (!pinned && founds_used) was_found(&attempt, number_of(dentry));
  if (away) return decide_away(&attempt, file, dentry, inode, filter);
  struct denial denial = {.attempt = &attempt, .task = task, .entry = &who, .dentry = dentry, .inode = inode, .mode = mode, .file = file};
  if (pinned) {
    denial.asks = 1;  // it has a mark that nothing silences
    return record(&denial) ? -EPERM : 0;
  }
  if (!attempt.denied && !clear) look_far_above(&attempt, dentry, filter, 0);
  if (!attempt.denied) return 0;
  keep_in_mind(&attempt, number_of(dentry));
  denial.unpinned = 1;
  record(&denial);
  return -EPERM;
}

SEC("fmod_ret/security_file_open")
int BPF_PROG(decide_open, struct file *file, int result) {
  if (!result) result = judge_open(file);
  return result ? result : judge_write(file);
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

// The kernel's way of preemption, where that can be chosen; -1 where it says nothing of it.
extern const void preempt_dynamic_mode __ksym __weak;

SEC("syscall")
int preemption(struct janus_preemption_args *ctx) {
  int mode = -1;
  if (&preempt_dynamic_mode) bpf_probe_read_kernel(&mode, sizeof(mode), &preempt_dynamic_mode);
  ctx->mode = mode;
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
