// The kernel types that janusd.bpf.c reads, with only the fields it reads.
//
// Owns: type shapes. Offsets here mean nothing: `preserve_access_index` makes
// libbpf rewrite every access for the running kernel (CO-RE), so a field may
// stand alone and out of order. A name with three underscores is a "flavour":
// libbpf ignores what follows them when it looks the type up.
#pragma once

typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;
typedef signed char __s8;
typedef short __s16;
typedef int __s32;
typedef long long __s64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u32 __wsum;
typedef _Bool bool;

// From include/uapi/linux/bpf.h; bpf_helpers.h needs the map types and flags.
enum {
  BPF_MAP_TYPE_HASH = 1,
  BPF_MAP_TYPE_ARRAY = 2,
  BPF_MAP_TYPE_PERCPU_ARRAY = 6,
  BPF_MAP_TYPE_LRU_HASH = 9,
  BPF_MAP_TYPE_RINGBUF = 27,
};
// From include/uapi/asm-generic/errno-base.h.
enum { EPERM = 1 };
enum { BPF_ANY = 0, BPF_NOEXIST = 1, BPF_EXIST = 2 };
enum { BPF_F_NO_PREALLOC = 1u << 0, BPF_F_MMAPABLE = 1u << 10 };
enum { BPF_RB_AVAIL_DATA = 0, BPF_RB_NO_WAKEUP = 1u << 0, BPF_RB_FORCE_WAKEUP = 1u << 1 };

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

typedef struct {
  int counter;
} atomic_t;
typedef struct {
  __u32 val;
} kuid_t;

struct qstr {
  union {
    struct {
      __u32 hash;
      __u32 len;
    };
    __u64 hash_len;
  };
  const unsigned char *name;
};

struct file_system_type {
  const char *name;
};
struct dentry;
struct user_namespace {
  int level;  // 0: the node's own
};
struct super_block {
  __u32 s_dev;
  struct file_system_type *s_type;
  unsigned long s_magic;
  void *s_fs_info;
  struct dentry *s_root;
  struct user_namespace *s_user_ns;
};
struct hlist_node {
  struct hlist_node *next;
};
struct hlist_head {
  struct hlist_node *first;
};
struct timespec64 {
  long long tv_sec;
};
struct fsnotify_group;
struct fsnotify_mark {
  struct fsnotify_group *group;
  struct hlist_node obj_list;
};
struct fsnotify_mark_connector {
  struct hlist_head list;
};
struct inode {
  struct fsnotify_mark_connector *i_fsnotify_marks;
  __u16 i_mode;
  struct super_block *i_sb;
  unsigned long i_ino;
  unsigned int i_nlink;
  unsigned int i_generation;
  struct hlist_head i_dentry;
};
struct dentry {
  struct dentry *d_parent;
  struct qstr d_name;
  struct inode *d_inode;
  struct super_block *d_sb;
  union {
    struct hlist_node d_alias;
  };
};
struct iattr {
  unsigned int ia_valid;
};
// In 6.12 and before; 7.2 has the above.
struct dentry___old {
  union {
    struct hlist_node d_alias;
  } d_u;
};

// overlayfs (fs/overlayfs/ovl_entry.h), Linux 6.5 and later; `___old`: 6.0 to 6.4.
struct ovl_path {
  struct dentry *dentry;
};
struct ovl_inode___old {
  struct inode vfs_inode;
  struct ovl_path lowerpath;
};
struct ovl_config___old {
  bool redirect_dir;
};
struct ovl_fs___old {
  struct ovl_config___old config;
};
struct ovl_entry {
  unsigned int __numlower;
  struct ovl_path __lowerstack[0];
};
struct ovl_inode {
  struct inode vfs_inode;
  struct ovl_entry *oe;
};
struct ovl_inode___upper {  // in each of these
  struct inode vfs_inode;
  struct dentry *__upperdentry;
};
struct ovl_config {
  int redirect_mode;
};
struct ovl_sb {
  struct super_block *sb;
};
struct ovl_fs {
  struct ovl_config config;
  unsigned int numfs;  // different file systems among the layers, the upper one included
  struct ovl_sb *fs;
};
struct vfsmount {
  struct dentry *mnt_root;
  struct super_block *mnt_sb;
};
struct path {
  struct vfsmount *mnt;
  struct dentry *dentry;
};
struct file {
  void *private_data;
  unsigned int f_mode;
  unsigned int f_flags;
  struct path f_path;
  struct inode *f_inode;
};
struct fdtable {
  unsigned int max_fds;
  struct file **fd;
};
struct fs_struct {
  struct path root;
  struct path pwd;
};
// fs/namei.c: a path that is being looked up, until the file is open.
struct filename {
  const char *name;
};
struct nameidata {
  struct path path;  // what it led to
  struct filename *name;
};
struct files_struct {
  struct fdtable *fdt;
};
struct mnt_namespace;
struct mount {
  struct vfsmount mnt;
  struct mnt_namespace *mnt_ns;
  struct fsnotify_mark_connector *mnt_fsnotify_marks;
  int mnt_id;
};

struct ns_common {
  __u64 ns_id;  // Linux 6.18
};
struct mnt_namespace {
  struct ns_common ns;
  __u64 seq;    // before
  __u64 event;  // changes with every change of its mounts
};
struct nsproxy {
  struct mnt_namespace *mnt_ns;
};

struct kernfs_node {
  const char *name;
  struct kernfs_node *parent;
  unsigned int hash;
  __u64 id;
};
// Linux 6.15 made the parent an RCU pointer and renamed it (741c10b096bc).
struct kernfs_node___rcu {
  struct kernfs_node *__parent;
};
struct cgroup_root {
  int hierarchy_id;
};
struct cgroup;
struct cgroup_subsys_state {
  struct cgroup *cgroup;
};
struct cgroup {
  int level;
  struct kernfs_node *kn;
  struct cgroup_root *root;
  struct cgroup_subsys_state *subsys[1];
};
struct list_head {
  struct list_head *prev;
  struct list_head *next;
};
struct cgrp_cset_link {  // kernel/cgroup/cgroup-internal.h
  struct cgroup *cgrp;
  struct list_head cgrp_link;
};
enum cgroup_subsys_id { memory_cgrp_id, pids_cgrp_id, cpu_cgrp_id };
struct css_set {
  struct cgroup_subsys_state *subsys[1];
  struct cgroup *dfl_cgrp;
  struct list_head cgrp_links;
};

// What pid numbers are looked up in (include/linux/xarray.h).
struct xarray {
  void *xa_head;
};
struct xa_node {
  unsigned char shift;
  void *slots[64];
};
struct idr {
  struct xarray idr_rt;
};
struct task_struct;
struct pid_namespace {
  struct idr idr;
  struct task_struct *child_reaper;
};
struct upid {
  int nr;
  struct pid_namespace *ns;
};
enum pid_type { PIDTYPE_PID, PIDTYPE_TGID, PIDTYPE_PGID, PIDTYPE_SID };
struct pid {
  unsigned int level;
  struct hlist_head tasks[PIDTYPE_SID + 1];
  struct upid numbers[1];
};
struct cred {
  kuid_t uid;
};
struct mm_struct {
  unsigned long arg_start;
  struct file *exe_file;
};
typedef struct {
  unsigned long sig[1];
} sigset_t;
struct sigpending {
  sigset_t signal;
};
struct signal_struct {
  atomic_t live;
  int nr_threads;
  struct list_head thread_head;
  unsigned int flags;
  int group_stop_count;
  struct sigpending shared_pending;
  struct pid *pids[PIDTYPE_SID + 1];
};
struct task_struct {
  unsigned int __state;
  unsigned int ptrace;
  unsigned long jobctl;
  int exit_code;
  struct sigpending pending;
  int pid;
  int tgid;
  unsigned int flags;
  struct task_struct *real_parent;
  struct task_struct *group_leader;
  struct list_head children;
  struct list_head sibling;
  __u64 parent_exec_id;
  __u64 self_exec_id;
  __u64 start_boottime;
  char comm[16];
  const struct cred *real_cred;
  struct mm_struct *mm;
  struct fs_struct *fs;
  struct nameidata *nameidata;
  struct list_head thread_node;
  struct files_struct *files;
  struct nsproxy *nsproxy;
  struct signal_struct *signal;
  struct css_set *cgroups;
  struct pid *thread_pid;
  struct hlist_node pid_links[PIDTYPE_SID + 1];
};
struct pt_regs {
#if defined(__TARGET_ARCH_arm64)
  int syscallno;
#else
  unsigned long orig_ax;
#endif
};
struct linux_binprm {
  struct file *file;
};

struct trace_event_raw_sys_exit {
  long ret;
};

struct seq_file;
struct bpf_iter_meta {
  struct seq_file *seq;
  __u64 session_id;
  __u64 seq_num;
};
struct bpf_iter__task {
  struct bpf_iter_meta *meta;
  struct task_struct *task;
};

#pragma clang attribute pop
