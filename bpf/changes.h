// Denies changes of files and of names to guarded containers: what a deny of opens doesn't hold, since rename(2),
// unlink(2), truncate(2) or chmod(2) by a path opens nothing.
//
// Owns: which operation is which change of what. fanotify asks nobody about these: what is not denied here is allowed.
// By the hooks of the inode, which every way to an operation passes, by path or descriptor, also of an overlay in its
// layers (fs/namei.c, fs/attr.c, fs/xattr.c).
#pragma once

#include "kernel.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "containers.h"
#include "denials.h"
#include "event.h"
#include "file.h"
#include "presence.h"
#include "rules.h"

#define FMODE_WRITE 0x2  // of f_mode
#define ATTR_SIZE 8      // of ia_valid (include/linux/fs.h)
#define ATTR_FORCE 512   // what a write takes away by itself, as the set-user-ID bit
#define RENAME_EXCHANGE 2

volatile __u32 changes_denied;  // 0: to nobody

// -EPERM: one of these changes of the object or name is denied. `other`: of a rename, the other name; else 0.
__noinline int judge_change(__u64 address, __u32 changes, __u32 program, __u64 other) {
  if (!changes_denied || is_over()) return 0;
  struct task_struct *task = bpf_get_current_task_btf();
  struct janus_task who;
  if (!find_caller(task, &who)) return 0;
  bool away = presence.away;
  struct dentry *dentry = (struct dentry *)address;
  struct inode *inode = BPF_CORE_READ(dentry, d_inode);
  struct attempt attempt = {
      .container = who.container,
      .program = program,
      .changes = changes,
      .device = BPF_CORE_READ(dentry, d_sb, s_dev),
      .owner = (who.flags & (JANUS_TASK_INIT | JANUS_TASK_CHILD)) != 0,
  };
  if (!place_of(&attempt)) return 0;
  if (!inode || !look_up_inode(&attempt, (__u64)inode, JANUS_REACH_ITSELF)) look_far_above(&attempt, dentry, 0, away);
  if (!attempt.denied) return 0;
  if (away) return deny_away(attempt.deep);
  struct denial denial = {.attempt = &attempt, .task = task, .entry = &who, .dentry = dentry, .other = other, .inode = inode};
  if (inode) denial.mode = BPF_CORE_READ(inode, i_mode);
  record(&denial);
  return -EPERM;
}

// An argument of the hook, as a number: a function that is verified by itself takes no kernel pointer.
static __always_inline __u64 argument(void *ctx, __u32 number) {
  __u64 value = 0;
  bpf_get_func_arg(ctx, number, &value);
  return value;
}

// Of an open that decide_open lets pass. (A hook of its own would cost each open on the node one more program.)
static __always_inline int judge_write(struct file *file) {
  if (!changes_denied || !(file->f_mode & FMODE_WRITE)) return 0;
  struct dentry *dentry = BPF_CORE_READ(file, f_path.dentry);  // a number, as judge_change() takes it
  if ((BPF_CORE_READ(dentry, d_inode, i_mode) & S_IFMT) != S_IFREG) return 0;
  return judge_change((__u64)dentry, JANUS_CHANGE(JANUS_DENIED_WRITE), PROGRAM_WRITE, 0);
}

SEC("fmod_ret/security_inode_create")
int BPF_PROG(deny_create, struct inode *dir, struct dentry *dentry, __u16 mode, int result) {
  return result ? result : judge_change(argument(ctx, 1), JANUS_CHANGE(JANUS_DENIED_CREATE), PROGRAM_CREATE, 0);
}

SEC("fmod_ret/security_inode_mkdir")
int BPF_PROG(deny_mkdir, struct inode *dir, struct dentry *dentry, __u16 mode, int result) {
  return result ? result : judge_change(argument(ctx, 1), JANUS_CHANGE(JANUS_DENIED_CREATE), PROGRAM_MKDIR, 0);
}

SEC("fmod_ret/security_inode_mknod")
int BPF_PROG(deny_mknod, struct inode *dir, struct dentry *dentry, __u16 mode, __u32 device, int result) {
  return result ? result : judge_change(argument(ctx, 1), JANUS_CHANGE(JANUS_DENIED_CREATE), PROGRAM_MKNOD, 0);
}

SEC("fmod_ret/security_inode_symlink")
int BPF_PROG(deny_symlink, struct inode *dir, struct dentry *dentry, const char *to, int result) {
  return result ? result : judge_change(argument(ctx, 1), JANUS_CHANGE(JANUS_DENIED_CREATE), PROGRAM_SYMLINK, 0);
}

SEC("fmod_ret/security_inode_link")
int BPF_PROG(deny_link, struct dentry *old, struct inode *dir, struct dentry *new, int result) {
  if (result) return result;
  if (judge_change(argument(ctx, 0), JANUS_CHANGE(JANUS_DENIED_LINK), PROGRAM_LINK, 0)) return -EPERM;
  return judge_change(argument(ctx, 2), JANUS_CHANGE(JANUS_DENIED_CREATE), PROGRAM_LINK, 0);
}

SEC("fmod_ret/security_inode_unlink")
int BPF_PROG(deny_unlink, struct inode *dir, struct dentry *dentry, int result) {
  return result ? result : judge_change(argument(ctx, 1), JANUS_CHANGE(JANUS_DENIED_DELETE), PROGRAM_UNLINK, 0);
}

SEC("fmod_ret/security_inode_rmdir")
int BPF_PROG(deny_rmdir, struct inode *dir, struct dentry *dentry, int result) {
  return result ? result : judge_change(argument(ctx, 1), JANUS_CHANGE(JANUS_DENIED_DELETE), PROGRAM_RMDIR, 0);
}

// What is replaced is deleted; what is exchanged goes both ways.
SEC("fmod_ret/security_inode_rename")
int BPF_PROG(deny_rename, struct inode *old_dir, struct dentry *old, struct inode *new_dir, struct dentry *new, unsigned int flags,
             int result) {
  if (result) return result;
  __u32 from = JANUS_CHANGE(JANUS_DENIED_MOVEDFROM), to = JANUS_CHANGE(JANUS_DENIED_MOVEDTO);
  bool exchange = (flags & RENAME_EXCHANGE) != 0;
  if (judge_change(argument(ctx, 1), exchange ? from | to : from, PROGRAM_RENAME, argument(ctx, 3))) return -EPERM;
  if (exchange) to |= from;
  else if (BPF_CORE_READ(new, d_inode)) to |= JANUS_CHANGE(JANUS_DENIED_DELETE);
  return judge_change(argument(ctx, 3), to, PROGRAM_RENAME, argument(ctx, 1));
}

SEC("fmod_ret/security_inode_setattr")
int BPF_PROG(deny_setattr, void *idmap, struct dentry *dentry, struct iattr *attributes, int result) {
  if (result) return result;
  unsigned int valid = BPF_CORE_READ(attributes, ia_valid);
  if (valid & ATTR_SIZE) return judge_change(argument(ctx, 1), JANUS_CHANGE(JANUS_DENIED_TRUNCATE), PROGRAM_SETATTR, 0);
  return valid & ATTR_FORCE ? 0 : judge_change(argument(ctx, 1), JANUS_CHANGE(JANUS_DENIED_ATTRIB), PROGRAM_SETATTR, 0);
}

SEC("fmod_ret/security_inode_setxattr")
int BPF_PROG(deny_setxattr, void *idmap, struct dentry *dentry, const char *name, const void *value, unsigned long size, int flags,
             int result) {
  return result ? result : judge_change(argument(ctx, 1), JANUS_CHANGE(JANUS_DENIED_ATTRIB), PROGRAM_SETXATTR, 0);
}

SEC("fmod_ret/security_inode_removexattr")
int BPF_PROG(deny_removexattr, void *idmap, struct dentry *dentry, const char *name, int result) {
  return result ? result : judge_change(argument(ctx, 1), JANUS_CHANGE(JANUS_DENIED_ATTRIB), PROGRAM_REMOVEXATTR, 0);
}

// Before these came (Linux 6.2), ACLs were extended attributes.
SEC("fmod_ret/security_inode_set_acl")
int BPF_PROG(deny_set_acl, void *idmap, struct dentry *dentry, const char *name, void *acl, int result) {
  return result ? result : judge_change(argument(ctx, 1), JANUS_CHANGE(JANUS_DENIED_ATTRIB), PROGRAM_SET_ACL, 0);
}

SEC("fmod_ret/security_inode_remove_acl")
int BPF_PROG(deny_remove_acl, void *idmap, struct dentry *dentry, const char *name, int result) {
  return result ? result : judge_change(argument(ctx, 1), JANUS_CHANGE(JANUS_DENIED_ATTRIB), PROGRAM_REMOVE_ACL, 0);
}
