// A file, as the kernel has it: by a descriptor, and by its names up to its file system's root.
//
// Owns: how a path is written backwards, and whether a rename went on meanwhile. No maps.
#pragma once

#include "kernel.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "load.h"
#include "loop.h"

#define NAME_MASK 0xff  // a directory entry's name has at most 255 bytes
#define S_IFMT 0170000
#define S_IFREG 0100000
#define S_IFDIR 0040000

// Bumped by every rename on the node (fs/dcache.c). Odd: one is under way.
extern const void rename_lock __ksym __weak;

static __always_inline __u32 rename_sequence(void) {
  return &rename_lock ? (__u32)LOAD_NUMBER(&rename_lock) : 0;
}

// The caller's open files, by descriptor.
static __always_inline struct file **own_files(void) {
  struct task_struct *self = bpf_get_current_task_btf();
  return BPF_CORE_READ(self, files, fdt, fd);
}

// 0: there is no such descriptor.
static __always_inline struct file *file_at(struct file **files, __s32 fd) {
  struct file *file = 0;
  if (fd < 0) return 0;  // what lies before the table is no file
  bpf_probe_read_kernel(&file, sizeof(file), files + fd);
  return file;
}

// Whether the lookup of a path has come to this.
static __always_inline bool leads_to(struct nameidata *lookup, struct dentry *dentry, struct vfsmount *mnt) {
  return lookup && BPF_CORE_READ(lookup, path.dentry) == dentry && BPF_CORE_READ(lookup, path.mnt) == mnt;
}

struct name_walk {
  struct dentry *dentry;
  char *buffer;  // written backwards from `size`; 255 bytes after that are slack, for the verifier
  __u32 off;     // begins as UNKNOWN(size)
  bool whole;    // it has come to the root
};

// One level up. Returns 1 where it ends: at the root, or since the name has no room, so that the tail is kept.
static __always_inline long add_name(struct name_walk *walk, __u64 size) {
  struct dentry *dentry = walk->dentry;
  struct dentry *parent = LOAD(struct dentry, dentry, d_parent);
  if (parent == dentry) {
    walk->whole = 1;
    return 1;
  }
  __u64 len = LOAD(struct dentry, dentry, d_name.len) & NAME_MASK;
  __u64 off = walk->off;
  if (off < len + 1) return 1;
  off -= len + 1;
  asm volatile("" : "+r"(off));
  if (off >= size) return 1;
  char *at = walk->buffer + off;
  *at = '/';
  bpf_probe_read_kernel(at + 1, len, LOAD(struct dentry, dentry, d_name.name));
  walk->off = off;
  walk->dentry = parent;
  return 0;
}
