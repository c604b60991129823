// The eBPF side of janusd: who is in which container, and what a file is.
//
// Owns: the hooks and the maps below. Must not decide anything: policy lives in
// native/. The hooks, and why each:
//   iter/task           what runs now: containers and their processes; the mount
//                       namespaces of tracked ones
//   sched_process_fork  a child of a container's process is the container's
//   sched_process_exec  its executable
//   sched_process_exit  it is gone
//   cgroup_attach_task  a runtime (or `kubectl exec`) puts a process in
//   cgroup_rmdir        the container is gone
//   syscall/locate      called by us: descriptor + pid -> object and actor
//   syscall/marked      called by us: is a guarded inode still there
//   syscall/file_system called by us: descriptor -> types of file system below it
//   syscall/find_descriptor  called by us: thread + mount -> what it holds of that mount
//   syscall/find_mounts      called by us: thread -> which state of which mount namespace
// Scheduler and cgroup tracepoints only: they cost nothing on the node's
// system call path, unlike syscall tracepoints, and need no function tracing.
#include "kernel.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "containers.h"
#include "event.h"
#include "file.h"
#include "identities.h"
#include "overlay.h"
#include "tracked.h"

char LICENSE[] SEC("license") = "GPL";

#define PATH_LEVELS 4096
#define PF_KTHREAD 0x00200000  // include/linux/sched.h
#define SIBLINGS 4096          // of a process that are looked at
#define THREADS 256            // of a process of which one is searched for the path that it asks by

// The image's inode of a guarded file with several names -> identity. An
// overlay without an index gives each name of a lower hard link an inode of its
// own, so the mark on one does not cover the others. Full: as above.
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, struct janus_lower_key);
  __type(value, __u32);
} lower_identities SEC(".maps");

// Records up. Full: the record is dropped and counted; user space sees the
// counter move and reads the truth again with iter/task.
struct {
  __uint(type, BPF_MAP_TYPE_RINGBUF);
} records SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, JANUS_COUNTERS);
  __type(key, __u32);
  __type(value, __u64);
} counters SEC(".maps");

// Arguments, results and path buffers of `locate`, one a calling thread, mapped
// into user space: no copy.
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, JANUS_PATH_SLOTS);
  __uint(map_flags, BPF_F_MMAPABLE);
  __type(key, __u32);
  __type(value, struct janus_slot);
} slots SEC(".maps");

struct scratch {
  char exe[2 * JANUS_EXE_MAX];
  struct janus_record record;
};
// Too large for the 512 bytes of stack.
struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct scratch);
} scratches SEC(".maps");

// iter/task may sleep and so change the CPU: it has a buffer of its own, and
// user space runs one iterator at a time.
struct janus_iter_record iter_record;
char iter_exe[2 * JANUS_EXE_MAX];
static struct iter_cgroup {
  struct janus_iter_cgroup head;
  __u32 off;   // where in `path` it starts; it ends at JANUS_CGROUP_MAX
  __u32 hash;  // of the path
  char path[2 * JANUS_CGROUP_MAX];  // the second half is slack: a name, and for the verifier
} iter_cgroups[JANUS_TASK_CGROUPS];

// Bytes of the ring that waited at once, at most.
__u64 ring_peak;

// Descriptor of the identity group in our own process; set by user space.
int identity_group_fd = -1;

static __always_inline void count(__u32 which) {
  __u64 *value = bpf_map_lookup_elem(&counters, &which);
  if (value) __sync_fetch_and_add(value, 1);
}

// ---- executables ----------------------------------------------------------

// The tail is kept, which names the program.
static long exe_step(__u32 index, struct name_walk *walk) { return add_name(walk, JANUS_EXE_MAX); }

// Writes the executable's path, as its file system names it, into `buffer` of 2 *
// JANUS_EXE_MAX bytes; returns where it starts there (it ends at JANUS_EXE_MAX).
static __always_inline __u32 exe_path(struct file *file, char *buffer) {
  struct name_walk walk = {.buffer = buffer, .off = UNKNOWN(JANUS_EXE_MAX)};
  if (!file) return JANUS_EXE_MAX;
  walk.dentry = BPF_CORE_READ(file, f_path.dentry);
  bpf_loop(64, exe_step, &walk, 0);
  return walk.off;
}

// ---- the process table ----------------------------------------------------

// The first argument of an exec. The caller is the one that did it, so its memory can be
// read: a page that isn't there is not waited for. One that is too long is left out.
static __always_inline __u64 add_argv0(struct janus_record *record, __u64 at, struct task_struct *task) {
  if (at > JANUS_EXE_MAX) return at;
  long size = bpf_probe_read_user_str(record->text + at, JANUS_ARGV0_MAX, (void *)BPF_CORE_READ(task, mm, arg_start));
  if (size > 1 && size < JANUS_ARGV0_MAX) {
    record->argv0_len = size - 1;
    at += size - 1;
  }
  return at;
}

// `task` and `exe` may be null.
static __always_inline void emit(__u32 type, __u32 tgid, const struct janus_task *entry, struct task_struct *task,
                                 struct file *exe) {
  __u32 zero = 0;
  struct scratch *scratch = bpf_map_lookup_elem(&scratches, &zero);
  if (!scratch) return;
  struct janus_record *record = &scratch->record;
  record->type = type;
  record->tgid = tgid;
  record->task = *entry;
  if (task) {
    record->ppid = BPF_CORE_READ(task, real_parent, tgid);
    record->mnt_ns = mount_namespace(task);
    record->uid = BPF_CORE_READ(task, real_cred, uid.val);
    bpf_probe_read_kernel(record->comm, sizeof(record->comm), &task->comm);
  }
  __u64 off = exe_path(exe, scratch->exe);
  __u64 len = JANUS_EXE_MAX - off;
  asm volatile("" : "+r"(off), "+r"(len));
  if (off > JANUS_EXE_MAX || len > JANUS_EXE_MAX) return;
  record->exe_len = len;
  if (len) bpf_probe_read_kernel(record->text, len, scratch->exe + off);
  record->argv0_len = 0;
  __u64 size = len;
  if (type == JANUS_RECORD_EXEC) {
    size = add_argv0(record, len, task);
    asm volatile("" : "+r"(size));
  }
  if (size > sizeof(record->text)) return;
  if (bpf_ringbuf_output(&records, record, __builtin_offsetof(struct janus_record, text) + size, 0)) {
    count(JANUS_COUNT_RING_FULL);
    return;
  }
  count(JANUS_COUNT_RECORDS);
  __u64 used = bpf_ringbuf_query(&records, BPF_RB_AVAIL_DATA);
  if (used > ring_peak) ring_peak = used;  // two at once may miss one record's bytes
}

static __always_inline void set_bit_of(__u32 tgid) {
  __u64 *bits = word_of(tgid);
  if (bits) __sync_fetch_and_or(bits, 1ull << (tgid % 64));
}

static __always_inline void take_back_bit_of(__u32 tgid) {
  __u64 *bits = word_of(tgid);
  if (bits) __sync_fetch_and_and(bits, ~(1ull << (tgid % 64)));
}

static __always_inline void join(struct task_struct *task, const struct janus_task *entry) {
  __u32 tgid = BPF_CORE_READ(task, tgid);
  set_bit_of(tgid);
  if (bpf_map_update_elem(&tasks, &tgid, entry, BPF_ANY)) {
    count(JANUS_COUNT_TASKS_FULL);
    leave_untracked();
    return;
  }
  emit(JANUS_RECORD_TASK, tgid, entry, task, BPF_CORE_READ(task, mm, exe_file));
}

SEC("tp_btf/sched_process_fork")
int BPF_PROG(on_fork, struct task_struct *parent, struct task_struct *child) {
  __u32 forker = BPF_CORE_READ(parent, tgid);
  if (BPF_CORE_READ(child, tgid) == forker) return 0;  // a thread
  struct janus_task entry = {
      .forker = forker, .forker_start_ns = start_of(parent), .start_ns = BPF_CORE_READ(child, start_boottime)};
  struct janus_task *forker_entry = known(parent);
  // Its own cgroup first: clone3(CLONE_INTO_CGROUP), also from container to container.
  entry.container = container_of_task(child);
  if (forker_entry) {
    if (!entry.container) entry.container = forker_entry->container;
    if (entry.container == forker_entry->container && (forker_entry->flags & JANUS_TASK_INIT))
      entry.flags = JANUS_TASK_CHILD;
  }
  if (!entry.container) return 0;
  join(child, &entry);
  if (forker_entry && mount_namespace(child) != mount_namespace(parent))
    emit(JANUS_RECORD_NAMESPACE, BPF_CORE_READ(child, tgid), &entry, child, 0);
  return 0;
}

SEC("tp_btf/cgroup_attach_task")
int BPF_PROG(on_attach, struct cgroup *cgroup, const char *path, struct task_struct *task) {
  __u64 container = container_of_cgroup(cgroup);
  if (!container) return 0;  // leaving the cgroup does not leave the container
  struct janus_task *before = known(task);
  if (before && before->container == container) return 0;
  struct task_struct *parent = BPF_CORE_READ(task, real_parent);
  struct janus_task entry = {
      .container = container,
      .start_ns = start_of(task),
      .forker = BPF_CORE_READ(parent, tgid),
      .forker_start_ns = start_of(parent),
  };
  join(task, &entry);
  return 0;
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(on_exec, struct task_struct *task, int old_pid, struct linux_binprm *bprm) {
  struct janus_task *entry = known(task);
  if (entry) emit(JANUS_RECORD_EXEC, BPF_CORE_READ(task, tgid), entry, task, BPF_CORE_READ(bprm, file));
  return 0;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(on_exit, struct task_struct *task) {
  __u32 tgid = BPF_CORE_READ(task, tgid);
  if (!may_be_known(tgid) || BPF_CORE_READ(task, signal, live.counter) != 0) return 0;
  struct janus_task *entry = known(task);
  if (entry) {
    struct janus_task gone = *entry;
    // The entry goes before the record comes: while there is an entry, the record
    // is yet to be read. Of two last threads, one deletes.
    if (bpf_map_delete_elem(&tasks, &tgid) == 0) emit(JANUS_RECORD_EXIT, tgid, &gone, task, 0);
  }
  // Nobody has its number yet.
  take_back_bit_of(tgid);
  return 0;
}

SEC("tp_btf/cgroup_rmdir")
int BPF_PROG(on_rmdir, struct cgroup *cgroup) {
  struct janus_cgroup_key key = {
      .id = BPF_CORE_READ(cgroup, kn, id),
      .hierarchy = BPF_CORE_READ(cgroup, root, hierarchy_id),
  };
  __u64 *container = bpf_map_lookup_elem(&cgroups, &key);
  if (!container) return 0;
  struct janus_task gone = {.container = *container};
  emit(JANUS_RECORD_RMDIR, 0, &gone, 0, 0);
  return 0;
}

// ---- what runs now --------------------------------------------------------

static __always_inline __u32 path_hash(struct kernfs_node *kn) {
  __u32 hash = 0;
  for (int level = 0; level < JANUS_CGROUP_LEVELS && kn; level++) {
    hash = hash * 31 + BPF_CORE_READ(kn, hash);
    kn = kernfs_parent(kn);
  }
  return hash;
}

// Adds the cgroup to those of the process, unless it is a root or its path is
// there already: runtimes use the same in all hierarchies.
static __noinline int add_cgroup(struct cgroup *cgroup) {
  struct janus_iter_record *record = &iter_record;
  __u64 at = record->cgroups;
  if (at >= JANUS_TASK_CGROUPS || BPF_CORE_READ(cgroup, level) == 0) return 0;
  struct kernfs_node *kn = kept_levels(cgroup);
  __u32 hash = path_hash(kn);
  for (__u32 i = 0; i < JANUS_TASK_CGROUPS && i < at; i++)
    if (iter_cgroups[i].hash == hash) return 0;
  struct iter_cgroup *to = &iter_cgroups[at];
  to->hash = hash;
  to->head.hierarchy = BPF_CORE_READ(cgroup, root, hierarchy_id);
  to->head.levels = 0;
  __u64 off = JANUS_CGROUP_MAX;
  for (int level = 0; level < JANUS_CGROUP_LEVELS && kn; level++) {
    struct kernfs_node *parent = kernfs_parent(kn);
    if (!parent) break;
    char *name = to->path + JANUS_CGROUP_MAX;  // in the slack: the stack is too small
    long size = bpf_probe_read_kernel_str(name, NAME_MASK + 1, BPF_CORE_READ(kn, name));
    if (size < 1 || off < size) break;
    __u64 len = (size - 1) & NAME_MASK;
    off -= len + 1;
    asm volatile("" : "+r"(off));
    if (off >= JANUS_CGROUP_MAX) break;
    to->path[off] = '/';
    bpf_probe_read_kernel(to->path + off + 1, len, name);
    to->head.ids[level] = BPF_CORE_READ(kn, id);
    to->head.levels = level + 1;
    kn = parent;
  }
  to->off = off;
  to->head.path_len = JANUS_CGROUP_MAX - off;
  record->cgroups = at + 1;
  return 0;
}

struct link_walk {
  struct list_head *head;
  struct list_head *at;
};

static long link_step(__u32 index, struct link_walk *walk) {
  struct list_head *at = walk->at;
  if (!at || at == walk->head) return 1;
  struct cgrp_cset_link *link = (void *)at - bpf_core_field_offset(struct cgrp_cset_link, cgrp_link);
  struct cgroup *cgroup = BPF_CORE_READ(link, cgrp);
  if (BPF_CORE_READ(cgroup, level) != 0 && BPF_CORE_READ(cgroup, root, hierarchy_id) != 0) add_cgroup(cgroup);
  walk->at = BPF_CORE_READ(at, next);
  return 0;
}

#define HIERARCHIES 32  // v2, a v1 hierarchy for each controller, and named ones

static __always_inline void add_cgroups(struct css_set *set) {
  iter_record.cgroups = 0;
  add_cgroup(BPF_CORE_READ(set, dfl_cgrp));
  struct cgroup *pids = pids_cgroup(set);
  if (pids && BPF_CORE_READ(pids, root, hierarchy_id) != 0) add_cgroup(pids);
  struct list_head *head = (void *)set + bpf_core_field_offset(set->cgrp_links);
  struct link_walk walk = {.head = head, .at = BPF_CORE_READ(head, next)};
  bpf_loop(HIERARCHIES, link_step, &walk, 0);
}

struct container_walk {
  struct link_walk links;
  __u64 container;
};

static long container_step(__u32 index, struct container_walk *walk) {
  struct list_head *at = walk->links.at;
  if (!at || at == walk->links.head) return 1;
  struct cgrp_cset_link *link = (void *)at - bpf_core_field_offset(struct cgrp_cset_link, cgrp_link);
  walk->container = container_of_cgroup(BPF_CORE_READ(link, cgrp));
  walk->links.at = BPF_CORE_READ(at, next);
  return walk->container != 0;
}

// In whatever hierarchy.
static __always_inline __u64 container_anywhere(struct task_struct *task) {
  struct css_set *set = BPF_CORE_READ(task, cgroups);
  struct list_head *head = (void *)set + bpf_core_field_offset(set->cgrp_links);
  struct container_walk walk = {.links = {.head = head, .at = BPF_CORE_READ(head, next)}, .container = container_of_task(task)};
  if (!walk.container) bpf_loop(HIERARCHIES, container_step, &walk, 0);
  return walk.container;
}

struct sibling_walk {
  struct list_head *at;
  struct list_head *end;
  __u64 start_ns;
  __u64 older;  // a sibling that became a child earlier, and was born later
};

static long sibling_step(__u32 index, struct sibling_walk *walk) {
  struct list_head *at = walk->at;
  if (at == walk->end) return 1;
  struct task_struct *sibling = (void *)at - bpf_core_field_offset(struct task_struct, sibling);
  walk->older = BPF_CORE_READ(sibling, start_boottime) > walk->start_ns;
  walk->at = BPF_CORE_READ(at, prev);
  return walk->older || walk->at == at;
}

// Whether its parent may have forked it, rather than adopted it as an orphan.
// What the kernel still tells of a fork that nobody saw; each sign is certain,
// but an orphan may bear none of them (docs/architecture/tracking.md).
static __always_inline bool forked_by_parent(struct task_struct *task, struct task_struct *parent) {
  // Its forker had been through more execs than its parent has to this day.
  if (BPF_CORE_READ(task, parent_exec_id) > BPF_CORE_READ(parent, self_exec_id)) return 0;
  // It is in a session that somebody else in the container made.
  struct pid *session = BPF_CORE_READ(task, signal, pids[PIDTYPE_SID]);
  struct pid *own = BPF_CORE_READ(task, group_leader, thread_pid);
  struct pid *theirs = BPF_CORE_READ(parent, group_leader, thread_pid);
  if (session != own && session != BPF_CORE_READ(parent, signal, pids[PIDTYPE_SID]) &&
      BPF_CORE_READ(session, level) >= BPF_CORE_READ(theirs, level))
    return 0;
  // Children are listed in the order in which they became children. (Those of a
  // thread that ended are handed to another: then the order means nothing.)
  if (BPF_CORE_READ(parent, signal, nr_threads) != 1) return 1;
  struct sibling_walk walk = {.end = (void *)parent + bpf_core_field_offset(parent->children),
                              .at = BPF_CORE_READ(task, sibling.prev),
                              .start_ns = start_of(task)};
  bpf_loop(SIBLINGS, sibling_step, &walk, 0);
  return !walk.older;
}

// Takes in a process that no hook has seen: it was there before, or `tasks` was
// full. One whose container lies in another is the inner one's, once that is
// tracked.
static __always_inline void adopt(struct task_struct *task, struct janus_task *entry) {
  __u32 tgid = BPF_CORE_READ(task, tgid);
  struct janus_task *before = known(task);
  __u64 container = container_anywhere(task);
  if (before) *entry = *before;
  if (!container || entry->container == container) return;
  struct task_struct *parent = BPF_CORE_READ(task, real_parent);
  struct janus_task *parent_entry = known(parent);
  *entry = (struct janus_task){
      .container = container,
      .start_ns = start_of(task),
      .forker = BPF_CORE_READ(parent, tgid),
      .forker_start_ns = start_of(parent),
  };
  if (parent_entry && parent_entry->container == container && (parent_entry->flags & JANUS_TASK_INIT) &&
      forked_by_parent(task, parent))
    entry->flags = JANUS_TASK_CHILD;
  set_bit_of(tgid);
  if (bpf_map_update_elem(&tasks, &tgid, entry, before ? BPF_EXIST : BPF_NOEXIST)) return;
  // It may have ended meanwhile, and on_exit() found nothing to delete.
  if (BPF_CORE_READ(task, signal, live.counter) == 0) bpf_map_delete_elem(&tasks, &tgid);
}

SEC("iter/task")
int on_task(struct bpf_iter__task *ctx) {
  struct task_struct *task = ctx->task;
  if (!task) return 0;
  if (BPF_CORE_READ(task, pid) != BPF_CORE_READ(task, tgid)) return 0;
  // Kernel threads and zombies open nothing. (A first thread that ended has no
  // memory either, but the others go on.)
  if ((BPF_CORE_READ(task, flags) & PF_KTHREAD) || BPF_CORE_READ(task, signal, live.counter) == 0) return 0;
  struct janus_iter_record *record = &iter_record;
  record->task = (struct janus_task){};
  adopt(task, &record->task);
  record->tgid = BPF_CORE_READ(task, tgid);
  record->ppid = BPF_CORE_READ(task, real_parent, tgid);
  record->start_ns = BPF_CORE_READ(task, start_boottime);
  record->uid = BPF_CORE_READ(task, real_cred, uid.val);
  bpf_probe_read_kernel(record->comm, sizeof(record->comm), &task->comm);
  record->mnt_ns = mount_namespace(task);
  record->node_root = in_node_root(task);
  // A set is not freed while the process is in it: what was read while it
  // moved to another one may be anything, and is read again.
  for (int attempt = 0; attempt < 2; attempt++) {
    struct css_set *set = BPF_CORE_READ(task, cgroups);
    add_cgroups(set);
    if (BPF_CORE_READ(task, cgroups) == set) break;
  }
  __u64 off = exe_path(BPF_CORE_READ(task, mm, exe_file), iter_exe);
  __u64 len = JANUS_EXE_MAX - off;
  asm volatile("" : "+r"(off), "+r"(len));
  if (off > JANUS_EXE_MAX || len > JANUS_EXE_MAX) return 0;
  record->exe_len = len;
  // What does not fit the kernel's buffer comes with its next one, whole.
  bpf_seq_write(ctx->meta->seq, record, sizeof(*record));
  bpf_seq_write(ctx->meta->seq, iter_exe + off, len);
  for (__u32 i = 0; i < JANUS_TASK_CGROUPS && i < record->cgroups; i++) {
    struct iter_cgroup *from = &iter_cgroups[i];
    __u64 path_off = from->off, path_len = from->head.path_len;
    asm volatile("" : "+r"(path_off), "+r"(path_len));
    if (path_off > JANUS_CGROUP_MAX || path_len > JANUS_CGROUP_MAX) return 0;
    bpf_seq_write(ctx->meta->seq, &from->head, sizeof(from->head));
    bpf_seq_write(ctx->meta->seq, from->path + path_off, path_len);
  }
  return 0;
}

// Only of tracked processes: a look that is had often.
SEC("iter/task")
int on_thread(struct bpf_iter__task *ctx) {
  struct task_struct *task = ctx->task;
  if (!task) return 0;
  struct janus_task who;
  if (!find_task(task, &who)) return 0;
  struct task_struct *leader = BPF_CORE_READ(task, group_leader);
  if (task != leader && mount_namespace(task) == mount_namespace(leader)) return 0;
  struct janus_thread thread = {
      .container = who.container,
      .mnt_ns = mount_namespace(task),
      .mnt_event = BPF_CORE_READ(task, nsproxy, mnt_ns, event),
      .pid = BPF_CORE_READ(task, pid),
  };
  if (thread.mnt_ns) bpf_seq_write(ctx->meta->seq, &thread, sizeof(thread));
  return 0;
}

// ---- what a file is -------------------------------------------------------

struct path_walk {
  struct janus_slot *slot;
};

#define OVL_REDIRECT_ON 3  // an enum without a name in fs/overlayfs/params.h

static __noinline bool redirects(struct ovl_fs *overlay) {
  return BPF_CORE_READ(overlay, config.redirect_mode) == OVL_REDIRECT_ON;
}
static __noinline bool redirects_old(struct ovl_fs___old *overlay) { return BPF_CORE_READ(overlay, config.redirect_dir); }

// Whether a directory can never be renamed: it comes from the image, and the
// overlay refuses (EXDEV) to rename those unless redirect_dir is on
// (ovl_can_move() in fs/overlayfs/dir.c). All above it come from the image, too.
static __always_inline bool settled(struct inode *inode) {
  struct super_block *superblock = BPF_CORE_READ(inode, i_sb);
  if (!is_overlay(superblock) || !lower_dentry(inode)) return 0;
  void *overlay = BPF_CORE_READ(superblock, s_fs_info);
  if (bpf_core_field_exists(struct ovl_config___old, redirect_dir)) return !redirects_old(overlay);
  if (bpf_core_field_exists(struct ovl_config, redirect_mode)) return !redirects(overlay);
  return 0;
}

#define MARKS_LOOKED_AT 16  // of one inode; other programs' marks are among them

static __always_inline bool is_pinned(struct inode *inode, void *group) {
  struct fsnotify_mark_connector *connector = BPF_CORE_READ(inode, i_fsnotify_marks);
  struct hlist_node *node = connector ? BPF_CORE_READ(connector, list.first) : 0;
  for (int i = 0; i < MARKS_LOOKED_AT && node; i++) {
    struct fsnotify_mark *mark = (void *)node - bpf_core_field_offset(struct fsnotify_mark, obj_list);
    if ((void *)BPF_CORE_READ(mark, group) == group) return 1;
    node = BPF_CORE_READ(node, next);
  }
  return 0;
}

static __always_inline void add_hit(struct janus_locate *args, __u32 identity, __u32 tail) {
  __u32 hits = args->hits;
  if (hits >= JANUS_HITS) {
    args->flags |= JANUS_LOCATE_HITS_FULL;
    return;
  }
  args->hit_id[hits & (JANUS_HITS - 1)] = identity;
  args->hit_tail[hits & (JANUS_HITS - 1)] = tail;
  args->hits = hits + 1;
}

// One level up. The path is written backwards; when a half of the slot is full
// the other one is started over, so that the head (which decides) always stays.
static long path_step(__u32 index, struct path_walk *context) {
  struct janus_slot *slot = context->slot;
  struct janus_locate *args = &slot->locate;
  struct dentry *dentry = (void *)slot->walk.dentry;
  struct dentry *parent = BPF_CORE_READ(dentry, d_parent);
  if (args->match_identities) {
    __u64 inode = (__u64)BPF_CORE_READ(dentry, d_inode);
    __u32 *identity = bpf_map_lookup_elem(&identities, &inode);
    if (identity && is_pinned((void *)inode, (void *)slot->walk.group)) {
      add_hit(args, *identity, slot->walk.total);
      if (index == 0) args->flags |= JANUS_LOCATE_PINNED;
    }
  }
  if (parent == dentry) {
    slot->walk.done = 1;
    return 1;
  }
  if (index == 0) {
    struct inode *directory = BPF_CORE_READ(parent, d_inode);
    args->parent_inode = (__u64)directory;
    if (settled(directory)) args->flags |= JANUS_LOCATE_SETTLED;
  }
  __u64 len = BPF_CORE_READ(dentry, d_name.len) & NAME_MASK;
  __u64 off = slot->walk.off;
  __u64 half = slot->walk.half;
  if (off < half + len + 1) {
    if (args->cont_end) args->flags |= JANUS_LOCATE_TAIL_LOST;
    args->cont_off = off;
    args->cont_end = half + JANUS_PATH_HALF;
    half = half ? 0 : JANUS_PATH_HALF;
    slot->walk.half = half;
    off = half + JANUS_PATH_HALF;
  }
  off -= len + 1;
  asm volatile("" : "+r"(off));
  if (off >= JANUS_SLOT_BYTES) return 1;
  char *at = slot->bytes + off;
  *at = '/';
  bpf_probe_read_kernel(at + 1, len, BPF_CORE_READ(dentry, d_name.name));
  slot->walk.off = off;
  slot->walk.total += len + 1;
  slot->walk.dentry = (__u64)parent;
  return 0;
}

static __always_inline void match_lower(struct janus_locate *args) {
  struct janus_lower_key key = {.ino = args->lower_ino, .dev = args->lower_dev};
  __u32 *identity = bpf_map_lookup_elem(&lower_identities, &key);
  if (identity) add_hit(args, *identity, 0);
}

#define XA_INTERNAL 2         // the low two bits of a pointer to a node (include/linux/xarray.h)
#define XA_RESERVED 4096      // numbers below are no pointers, but say "look again"
#define XA_LEVELS 6           // of 64 slots: more than pids have
#define LOOKUPS 4             // while others come and go

// The kernel's entry for a pid of the namespace, as find_pid_ns() finds it: the
// kernel's own function for us, bpf_task_from_pid(), is there from Linux 6.2,
// and for a program that is called from 6.10.
static __noinline struct pid *find_pid(struct pid_namespace *ns, __u32 number) {
  __u64 mask = bpf_core_field_size(struct xa_node, slots) / sizeof(void *) - 1;
  for (int lookup = 0; lookup < LOOKUPS; lookup++) {
    __u64 entry = (__u64)BPF_CORE_READ(ns, idr.idr_rt.xa_head);
    for (int level = 0; level < XA_LEVELS && (entry & 3) == XA_INTERNAL && entry > XA_RESERVED; level++) {
      struct xa_node *node = (void *)(entry - XA_INTERNAL);
      __u32 shift = BPF_CORE_READ(node, shift);
      __u64 slot = (__u64)number >> (shift & 63);
      if (level == 0 && slot > mask) return 0;
      entry = 0;
      bpf_probe_read_kernel(&entry, sizeof(entry),
                            (void *)node + bpf_core_field_offset(struct xa_node, slots) + (slot & mask) * sizeof(entry));
    }
    if ((entry & 3) == 0) return (void *)entry;
  }
  return 0;
}

// What has that number, as the caller counts (so does fanotify).
static __noinline struct pid *find_number(__u32 number) {
  struct pid *self = BPF_CORE_READ(bpf_get_current_task_btf(), thread_pid);
  struct upid own = {};
  bpf_probe_read_kernel(&own.ns, sizeof(own.ns),
                        (void *)self + bpf_core_field_offset(self->numbers) +
                            BPF_CORE_READ(self, level) * bpf_core_type_size(struct upid) +
                            bpf_core_field_offset(struct upid, ns));
  return find_pid(own.ns, number);
}

// The process of that number. Nothing holds it: what is read of it counts if it
// is found again after.
static __noinline struct task_struct *find_process(__u32 number) {
  struct pid *pid = find_number(number);
  if (!pid) return 0;
  void *link = BPF_CORE_READ(pid, tasks[PIDTYPE_TGID].first);
  return link ? link - bpf_core_field_offset(struct task_struct, pid_links[PIDTYPE_TGID]) : 0;
}

// As find_process(), of a thread.
static __always_inline struct task_struct *find_thread(__u32 number) {
  struct pid *pid = find_number(number);
  void *link = pid ? BPF_CORE_READ(pid, tasks[PIDTYPE_PID].first) : 0;
  return link ? link - bpf_core_field_offset(struct task_struct, pid_links[PIDTYPE_PID]) : 0;
}

struct asker_walk {
  struct list_head *head;
  struct list_head *at;
  struct path of;             // what is asked about
  struct task_struct *thread; // who is opening it
  struct nameidata *lookup;
  __u32 found;  // threads; begins as UNKNOWN(0)
};

static __always_inline void look_at_lookup(struct task_struct *thread, struct asker_walk *walk) {
  struct nameidata *lookup = BPF_CORE_READ(thread, nameidata);
  if (!leads_to(lookup, walk->of.dentry, walk->of.mnt)) return;
  ++walk->found;
  walk->thread = thread;
  walk->lookup = lookup;
}

static long asker_step(__u32 index, struct asker_walk *walk) {
  struct list_head *at = walk->at;
  if (!at || at == walk->head) return 1;
  look_at_lookup((void *)at - bpf_core_field_offset(struct task_struct, thread_node), walk);
  walk->at = BPF_CORE_READ(at, next);
  return walk->found > 1;
}

// By what path the actor asks for the file: the kernel's own copy, which nobody can
// change, in the lookup that its thread is still in. None of its threads, or several,
// are about to open this file: then it isn't known.
static __noinline int read_asked(struct janus_slot *slot, struct task_struct *task, struct file *file) {
  if (!slot || !task || !file) return 0;
  slot->locate.asked_len = 0;
  struct asker_walk walk = {.of = {.mnt = BPF_CORE_READ(file, f_path.mnt), .dentry = BPF_CORE_READ(file, f_path.dentry)},
                            .found = UNKNOWN(0)};
  if (BPF_CORE_READ(task, signal, nr_threads) == 1) {
    look_at_lookup(task, &walk);
  } else {
    struct list_head *head = (void *)BPF_CORE_READ(task, signal) + bpf_core_field_offset(struct signal_struct, thread_head);
    walk.head = head;
    walk.at = BPF_CORE_READ(head, next);
    bpf_loop(THREADS, asker_step, &walk, 0);
  }
  struct task_struct *thread = walk.thread;
  struct nameidata *lookup = walk.lookup;
  if (walk.found != 1) return 0;
  long size = bpf_probe_read_kernel_str(slot->asked, sizeof(slot->asked), BPF_CORE_READ(lookup, name, name));
  // Nothing holds it: it was its name if it is still looked up now.
  if (size > 1 && BPF_CORE_READ(thread, nameidata) == lookup && BPF_CORE_READ(lookup, path.dentry) == walk.of.dentry)
    slot->locate.asked_len = size - 1;
  return 0;
}

static __noinline bool read_actor(struct janus_slot *slot, struct file *file) {
  if (!slot) return 0;
  struct janus_locate *args = &slot->locate;
  struct task_struct *task = find_process(args->pid);
  if (!task) return 0;
  read_asked(slot, task, file);
  args->start_ns = start_of(task);
  args->ppid = BPF_CORE_READ(task, real_parent, tgid);
  args->uid = BPF_CORE_READ(task, real_cred, uid.val);
  args->mnt_ns = mount_namespace(task);
  bpf_probe_read_kernel(args->comm, sizeof(args->comm), &task->comm);
  struct janus_task *entry = known(task);
  // Without an entry (`tasks` is full, or it is just being moved in) its cgroup
  // still tells whose it is; but nobody's owner.
  args->container = entry ? entry->container : container_of_task(task);
  args->task_flags = entry ? entry->flags : 0;
  return find_process(args->pid) == task;
}

static __always_inline void locate_actor(struct janus_slot *slot, struct file *file) {
  struct janus_locate *args = &slot->locate;
  for (int lookup = 0; lookup < LOOKUPS; lookup++) {
    if (!read_actor(slot, file)) continue;
    args->flags |= JANUS_LOCATE_ACTOR;
    if (args->container) args->flags |= JANUS_LOCATE_TRACKED;
    return;
  }
}

static __always_inline void *identity_group(struct file **files) {
  struct file *group = file_at(files, identity_group_fd);
  return group ? BPF_CORE_READ(group, private_data) : 0;
}

// Whether a guarded inode is still there: one that is gone carries no mark,
// nor does whatever its memory is used for now.
SEC("syscall")
int marked(struct janus_marked_args *ctx) {
  void *group = identity_group(own_files());
  return group && is_pinned((void *)ctx->inode, group);
}

static __noinline struct super_block *layer_of(struct super_block *superblock, __u32 layer, bool *exists) {
  *exists = 0;
  if (!superblock || BPF_CORE_READ(superblock, s_magic) != OVERLAYFS_SUPER_MAGIC || !bpf_core_field_exists(struct ovl_fs, numfs))
    return 0;
  struct ovl_fs *overlay = BPF_CORE_READ(superblock, s_fs_info);
  if (layer > BPF_CORE_READ(overlay, numfs)) return 0;
  *exists = 1;
  struct super_block *found = 0;
  bpf_probe_read_kernel(&found, sizeof(found),
                        (void *)BPF_CORE_READ(overlay, fs) + (__u64)(layer - 1) * bpf_core_type_size(struct ovl_sb) +
                            bpf_core_field_offset(struct ovl_sb, sb));
  return found;
}

// Says the type of the file system that a descriptor is on, or of one of its
// layers. Asks no file system, so it waits for no server. Returns 1 if there is
// no such layer.
SEC("syscall")
int file_system(struct janus_file_system_args *ctx) {
  struct file *file = file_at(own_files(), ctx->fd);
  if (!file) return 1;
  struct super_block *superblock = BPF_CORE_READ(file, f_path.mnt, mnt_sb);
  __u32 layers[2] = {ctx->layer, ctx->below};
  bool exists = 1;
  for (int i = 0; i < 2 && exists; i++)
    if (layers[i]) superblock = layer_of(superblock, layers[i], &exists);
  if (!exists) return 1;
  union {
    char name[16];
    __u64 words[2];
  } type = {};
  if (superblock) bpf_probe_read_kernel_str(type.name, sizeof(type.name), BPF_CORE_READ(superblock, s_type, name));
  ctx->type[0] = type.words[0];
  ctx->type[1] = type.words[1];
  return 0;
}

// What a thread's mounts are at: without its mountinfo, which takes long to read, and
// keeps the namespace while it is open.
SEC("syscall")
int find_mounts(struct janus_find_mounts_args *ctx) {
  struct task_struct *task = find_thread(ctx->pid);
  ctx->mnt_ns = ctx->mnt_event = 0;
  if (!task) return 0;
  ctx->mnt_ns = mount_namespace(task);
  ctx->mnt_event = BPF_CORE_READ(task, nsproxy, mnt_ns, event);
  return 0;
}

struct descriptor_search {
  struct file **table;
  __u64 mount_id;
  __s64 found;
};

static __always_inline bool is_on(struct vfsmount *on, __u64 mount_id) {
  struct mount *mount = (void *)on - bpf_core_field_offset(struct mount, mnt);
  return on && (__u64)BPF_CORE_READ(mount, mnt_id) == mount_id;
}

static long try_descriptor(__u32 index, struct descriptor_search *search) {
  struct file *file = 0;
  bpf_probe_read_kernel(&file, sizeof(file), search->table + index);
  if (!file || !is_on(BPF_CORE_READ(file, f_path.mnt), search->mount_id)) return 0;
  search->found = index;
  return 1;
}

#define DESCRIPTORS (1 << 20)  // looked at; fs.nr_open is that by default

// Says by what a thread holds something of a mount, so that only that is opened:
// the rest may be of file systems whose server never answers. Nothing is held
// meanwhile: the caller looks whether it is so.
SEC("syscall")
int find_descriptor(struct janus_find_descriptor_args *ctx) {
  ctx->fd = JANUS_FD_NONE;
  struct task_struct *task = find_thread(ctx->pid);
  if (!task) return 0;
  __u32 mount_id = ctx->mount_id;
  if (is_on(BPF_CORE_READ(task, fs, pwd.mnt), mount_id)) ctx->fd = JANUS_FD_CWD;
  else if (is_on(BPF_CORE_READ(task, fs, root.mnt), mount_id)) ctx->fd = JANUS_FD_ROOT;
  if (ctx->fd != JANUS_FD_NONE) return 0;
  struct descriptor_search search = {
      .table = BPF_CORE_READ(task, files, fdt, fd), .mount_id = mount_id, .found = JANUS_FD_NONE};
  __u32 descriptors = BPF_CORE_READ(task, files, fdt, max_fds);
  bpf_loop(descriptors < DESCRIPTORS ? descriptors : DESCRIPTORS, try_descriptor, &search, 0);
  ctx->fd = search.found;
  return 0;
}

SEC("syscall")
int locate(struct janus_locate_args *ctx) {
  __u32 index = ctx->slot;
  struct janus_slot *slot = bpf_map_lookup_elem(&slots, &index);
  if (!slot) return 0;
  struct janus_locate *args = &slot->locate;
  args->flags = 0;
  struct file **files = own_files();
  struct file *file = file_at(files, args->fd);
  if (!file) {
    args->flags = JANUS_LOCATE_NO_FILE;
    return 0;
  }
  struct dentry *dentry = BPF_CORE_READ(file, f_path.dentry);
  struct inode *inode = BPF_CORE_READ(dentry, d_inode);
  struct mount *mount = (void *)BPF_CORE_READ(file, f_path.mnt) - bpf_core_field_offset(struct mount, mnt);
  args->inode = (__u64)inode;
  args->ino = BPF_CORE_READ(inode, i_ino);
  args->dev = BPF_CORE_READ(inode, i_sb, s_dev);
  args->nlink = BPF_CORE_READ(inode, i_nlink);
  args->mode = BPF_CORE_READ(inode, i_mode);
  args->mount_id = BPF_CORE_READ(mount, mnt_id);
  args->parent_inode = 0;
  args->cont_off = args->cont_end = 0;
  args->hits = 0;
  args->lower_ino = args->lower_dev = 0;
  args->start_ns = 0;
  args->asked_len = 0;
  if ((args->mode & S_IFMT) == S_IFREG) {
    // The overlay's own link count says 1 for these.
    struct inode *lower = is_overlay(BPF_CORE_READ(inode, i_sb)) ? lower_inode(inode) : 0;
    __u32 names = lower ? BPF_CORE_READ(lower, i_nlink) : 0;
    if (names > 1) {
      args->lower_ino = BPF_CORE_READ(lower, i_ino);
      args->lower_dev = BPF_CORE_READ(lower, i_sb, s_dev);
      args->nlink = names;
    }
  }
  slot->walk.dentry = (__u64)dentry;
  slot->walk.group = 0;
  if (args->match_identities) slot->walk.group = (__u64)identity_group(files);
  slot->walk.off = JANUS_SLOT_BYTES;
  slot->walk.half = JANUS_PATH_HALF;
  slot->walk.total = slot->walk.done = 0;
  struct path_walk walk = {.slot = slot};
  __u32 before = rename_sequence();
  __u32 levels = args->levels;
  bpf_loop(levels ? levels : PATH_LEVELS, path_step, &walk, 0);
  if ((before & 1) || before != rename_sequence()) args->flags |= JANUS_LOCATE_UNSTABLE;
  if (!slot->walk.done) args->flags |= levels ? 0 : JANUS_LOCATE_TOO_DEEP;
  else if ((void *)slot->walk.dentry != BPF_CORE_READ(inode, i_sb, s_root)) args->flags |= JANUS_LOCATE_NO_ROOT;
  args->head_off = slot->walk.off;
  args->head_end = slot->walk.half + JANUS_PATH_HALF;
  args->full_len = slot->walk.total;
  if (args->match_identities && args->lower_ino) match_lower(args);
  if (args->pid) locate_actor(slot, file);
  else if (BPF_CORE_READ(mount, mnt_fsnotify_marks)) args->flags |= JANUS_LOCATE_MARKED;
  return 0;
}
