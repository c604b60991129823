// What was denied, for user space: the records of ring `denials`, and what it had no room for.
#pragma once

#include "kernel.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "event.h"
#include "file.h"
#include "rules.h"

#define GATHER_NS 4000000  // the reader looks for so long after it was woken

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
  __u64 dentry;
  __u32 taken;
};
// One for opens, one for changes. A program that runs on a processor isn't begun there again (see docs/tiers.md),
// but another one that denies a change may be.
struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, 2);
  __type(key, __u32);
  __type(value, struct denial_scratch);
} scratches SEC(".maps");

__u64 lost_total;      // what map `lost` holds, and what it had no room for
__u64 last_wake_ns;

static long denied_step(__u32 index, struct name_walk *walk) { return add_name(walk, JANUS_DENIAL_PATH); }

// Puts the path of a dentry into the record's text, from there on. Returns its length, with PATH_WHOLE if that is all of
// it. A function that is verified by itself (rules.h).
#define PATH_WHOLE 0x10000
__noinline int put_path(__u32 slot, __u64 dentry, __u32 at) {
  struct denial_scratch *scratch = bpf_map_lookup_elem(&scratches, &slot);
  if (!scratch || at > JANUS_DENIAL_PATH) return 0;
  struct name_walk walk = {.dentry = (struct dentry *)dentry, .buffer = scratch->path, .off = UNKNOWN(JANUS_DENIAL_PATH), .whole = 0};
  bpf_loop(LEVELS, denied_step, &walk, 0);
  __u64 off = walk.off;
  __u64 len = JANUS_DENIAL_PATH - off;
  asm volatile("" : "+r"(off), "+r"(len));
  if (off > JANUS_DENIAL_PATH || len > JANUS_DENIAL_PATH) return 0;
  if (len) bpf_probe_read_kernel(scratch->record.text + at, len, scratch->path + off);
  return (__u32)len | (walk.whole ? PATH_WHOLE : 0);
}

static __always_inline void count_lost(struct attempt *attempt) {
  struct janus_lost_key key = {.subject = attempt->subject, .kind = attempt->kind};
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

// Who is denied what.
struct denial {
  struct attempt *attempt;
  struct task_struct *task;
  struct janus_task *entry;
  struct dentry *dentry;
  __u64 other;          // of a rename: its other name's; 0: it is none
  struct inode *inode;  // null: nothing is there yet
  __u32 mode;           // its own
  struct file *file;    // null: it is no open
  bool unpinned;
  bool asks;            // fanotify asks about it, and its path is told by who answers, however long it is
};

// False: its path is too long to be told here as a whole, and will be told.
static __always_inline bool write_record(__u32 slot, struct denial_scratch *scratch, struct denial *denial) {
  struct attempt *attempt = denial->attempt;
  struct task_struct *task = denial->task;
  struct janus_task *entry = denial->entry;
  __u32 path = put_path(slot, ADDRESS(denial->dentry, scratch->dentry), 0);
  if (!(path & PATH_WHOLE) && denial->asks) return 0;
  struct janus_denial *head = &scratch->record.head;
  __u64 now_ns = bpf_ktime_get_ns();
  head->container = attempt->container;
  head->start_ns = entry->start_ns;
  head->time_ns = bpf_ktime_get_boot_ns();
  head->inode = (__u64)denial->inode;
  head->device = attempt->device;
  head->mode = denial->mode;
  head->subject = attempt->subject;
  head->kind = attempt->kind;
  head->task_flags = entry->flags;
  head->tgid = task->tgid;
  head->ppid = task->real_parent->tgid;
  head->uid = task->real_cred->uid.val;
  head->unpinned = denial->unpinned;
  head->cut = !(path & PATH_WHOLE);
  bpf_probe_read_kernel(head->comm, sizeof(head->comm), &task->comm);
  __u64 len = path & ~PATH_WHOLE;
  asm volatile("" : "+r"(len));
  if (len > JANUS_DENIAL_PATH) return 1;
  head->path_len = len;
  head->asked_len = denial->file ? add_asked(scratch->record.text + len, task, denial->file) : 0;
  __u32 other = denial->other ? put_path(slot, denial->other, len) : 0;
  head->other_len = other & PATH_WHOLE ? other & ~PATH_WHOLE : 0;
  __u64 size = len + head->asked_len + head->other_len;
  asm volatile("" : "+r"(size));
  if (size > sizeof(scratch->record.text)) return 1;
  // One wake-up costs several times what the denial does.
  bool wakes = now_ns - last_wake_ns > GATHER_NS;
  if (wakes) last_wake_ns = now_ns;
  if (bpf_ringbuf_output(&denials, &scratch->record, sizeof(*head) + size, wakes ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP))
    count_lost(attempt);
  return 1;
}

static __always_inline bool record(struct denial *denial) {
  __u32 slot = denial->attempt->changes ? 1 : 0;
  struct denial_scratch *scratch = bpf_map_lookup_elem(&scratches, &slot);
  if (!scratch || __sync_val_compare_and_swap(&scratch->taken, 0, 1) != 0) {
    count_lost(denial->attempt);
    return 1;
  }
  bool told = write_record(slot, scratch, denial);
  scratch->taken = 0;
  return told;
}
