// Denies opens and execs of guarded containers in the kernel.
//
// Owns: the decision about what user space has said is certain (native/identity/
// kernel_rules.h): which inodes, to which container. Nothing is allowed here. Whatever
// is not denied goes on to fanotify, so what is missing here costs time only.
//
// While the daemon is there it is only the object itself that is looked at. What is
// denied since it lies below something that is denied is asked about once, so that the
// gate sees it, and pins it: from then on it is denied here, wherever it goes. When the
// daemon is away, the directories above are looked at, too, and what happens is counted.
#include "kernel.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "event.h"
#include "file.h"
#include "overlay.h"
#include "tracked.h"

char LICENSE[] SEC("license") = "GPL";

#define EPERM 1
#define FMODE_READ 0x1   // of f_mode
#define FMODE_EXEC 0x20  // of f_flags: __FMODE_EXEC
#define LEVELS 4096      // above an object that are looked at
#define GATHER_NS 4000000  // the reader looks for so long after it was woken

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

struct {
  __uint(type, BPF_MAP_TYPE_RINGBUF);
  __uint(max_entries, 1 << 20);
} denials SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 4096);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, struct janus_lost_key);
  __type(value, __u64);
} lost SEC(".maps");

struct denial_scratch {
  struct {
    struct janus_denial head;
    char text[2 * JANUS_DENIAL_PATH];
  } record;
  char path[JANUS_DENIAL_PATH + NAME_MASK + 1];  // written backwards; the end is slack, for the verifier
};
// A program that runs on a processor isn't begun there again (see docs/tiers.md).
struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct denial_scratch);
} scratches SEC(".maps");

// A map of its own, so that it can be pinned.
struct janus_presence presence SEC(".data.presence") = {.layout = JANUS_KEPT_LAYOUT};

struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, JANUS_AWAY_COUNTS);
  __type(key, __u32);
  __type(value, __u64);
} away_counts SEC(".maps");

__u64 lost_total;      // what map `lost` holds, and what it had no room for
__u64 last_wake_ns;

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

// ---- records -----------------------------------------------------------------

static long denied_step(__u32 index, struct name_walk *walk) { return add_name(walk, JANUS_DENIAL_PATH); }

static __always_inline void count_lost(struct opening *opening) {
  struct janus_lost_key key = {.subject = opening->subject, .kind = opening->kind};
  __u64 none = 0;
  bpf_map_update_elem(&lost, &key, &none, BPF_NOEXIST);
  __u64 *count = bpf_map_lookup_elem(&lost, &key);
  if (count) __sync_fetch_and_add(count, 1);
  __sync_fetch_and_add(&lost_total, 1);
}

// By what path the caller asks for it: the lookup that it is in.
static __always_inline __u64 add_asked(char *to, struct task_struct *task, struct file *file) {
  struct nameidata *lookup = BPF_CORE_READ(task, nameidata);
  if (!leads_to(lookup, BPF_CORE_READ(file, f_path.dentry), BPF_CORE_READ(file, f_path.mnt))) return 0;
  long size = bpf_probe_read_kernel_str(to, JANUS_DENIAL_PATH, BPF_CORE_READ(lookup, name, name));
  return size > 1 && size <= JANUS_DENIAL_PATH ? size - 1 : 0;
}

static __always_inline void count_away(__u32 which) {
  if (!presence.settled) return;
  __u64 *count = bpf_map_lookup_elem(&away_counts, &which);
  if (count) ++*count;
}

// False: its path is too long to be told here, so that the gate tells it.
static __always_inline bool record(struct opening *opening, struct task_struct *task, struct janus_task *entry,
                                   struct file *file, struct inode *inode) {
  __u32 zero = 0;
  struct denial_scratch *scratch = bpf_map_lookup_elem(&scratches, &zero);
  if (!scratch) return 0;
  struct name_walk walk = {
      .dentry = BPF_CORE_READ(file, f_path.dentry), .buffer = scratch->path, .off = JANUS_DENIAL_PATH, .whole = 0};
  bpf_loop(LEVELS, denied_step, &walk, 0);
  if (!walk.whole) return 0;
  struct janus_denial *head = &scratch->record.head;
  __u64 now_ns = bpf_ktime_get_ns();
  head->container = opening->container;
  head->start_ns = entry->start_ns;
  head->time_ns = bpf_ktime_get_boot_ns();
  head->inode = (__u64)inode;
  head->device = BPF_CORE_READ(inode, i_sb, s_dev);
  head->mode = BPF_CORE_READ(inode, i_mode);
  head->subject = opening->subject;
  head->kind = opening->kind;
  head->task_flags = entry->flags;
  head->tgid = BPF_CORE_READ(task, tgid);
  head->ppid = BPF_CORE_READ(task, real_parent, tgid);
  head->uid = BPF_CORE_READ(task, real_cred, uid.val);
  bpf_probe_read_kernel(head->comm, sizeof(head->comm), &task->comm);
  __u64 off = walk.off;
  __u64 len = JANUS_DENIAL_PATH - off;
  asm volatile("" : "+r"(off), "+r"(len));
  if (off > JANUS_DENIAL_PATH || len > JANUS_DENIAL_PATH) return 1;
  if (len) bpf_probe_read_kernel(scratch->record.text, len, scratch->path + off);
  head->path_len = len;
  head->asked_len = add_asked(scratch->record.text + len, task, file);
  __u64 size = len + head->asked_len;
  asm volatile("" : "+r"(size));
  if (size > sizeof(scratch->record.text)) return 1;
  // One wake-up costs several times what the denial does.
  bool wakes = now_ns - last_wake_ns > GATHER_NS;
  if (wakes) last_wake_ns = now_ns;
  if (bpf_ringbuf_output(&denials, &scratch->record, sizeof(*head) + size, wakes ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP))
    count_lost(opening);
  return 1;
}

// ---- hooks -------------------------------------------------------------------

// Nobody is there to be told, or asked.
static __always_inline int decide_away(struct opening *opening, struct file *file, struct dentry *dentry, struct inode *inode) {
  // Before 6.5 what an overlay opens in its layer has the overlay's path: it was judged as the overlay's own.
  bool counts = BPF_CORE_READ(file, f_inode) == inode;
  if (!opening->denied) look_far_above(opening, dentry, inode);
  if (opening->denied) {
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
  look_up_inode(&opening, inode, JANUS_REACH_ITSELF);
  if (away) return decide_away(&opening, file, dentry, inode);
  return opening.denied && record(&opening, task, entry, file, inode) ? -EPERM : 0;
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
  int count = real_keys(BPF_CORE_READ(file, f_path.dentry, d_inode), &first, &second);
  ctx->keys[0] = first;
  ctx->keys[1] = second;
  ctx->count = count;
  return 0;
}
