// What an overlay's inode is made of: the inode of the upper layer, and of the topmost lower one.
//
// Owns: where each kernel has them. No maps.
#pragma once

#include "kernel.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "load.h"

#define OVERLAYFS_SUPER_MAGIC 0x794c7630

static __noinline struct dentry *overlay_lower(struct inode *inode) {
  struct ovl_inode *overlay = (void *)inode - bpf_core_field_offset(struct ovl_inode, vfs_inode);
  struct ovl_entry *entry = LOAD_POINTER((void *)overlay + bpf_core_field_offset(struct ovl_inode, oe));
  if (!entry || (__u32)LOAD_NUMBER((void *)entry + bpf_core_field_offset(struct ovl_entry, __numlower)) == 0) return 0;
  return LOAD_POINTER((void *)entry + bpf_core_field_offset(struct ovl_entry, __lowerstack) +
                      bpf_core_field_offset(struct ovl_path, dentry));
}
static __noinline struct dentry *overlay_lower_old(struct inode *inode) {
  struct ovl_inode___old *overlay = (void *)inode - bpf_core_field_offset(struct ovl_inode___old, vfs_inode);
  return BPF_CORE_READ(overlay, lowerpath.dentry);
}

static __always_inline bool is_overlay(struct super_block *superblock) {
  return LOAD(struct super_block, superblock, s_magic) == OVERLAYFS_SUPER_MAGIC;
}

// What the topmost image layer has below an inode of an overlay; 0: nothing.
static __always_inline struct dentry *lower_dentry(struct inode *inode) {
  if (bpf_core_field_exists(struct ovl_inode, oe)) return overlay_lower(inode);
  if (bpf_core_field_exists(struct ovl_inode___old, lowerpath)) return overlay_lower_old(inode);
  return 0;
}

static __always_inline struct inode *lower_inode(struct inode *inode) {
  struct dentry *lower = lower_dentry(inode);
  return lower ? LOAD(struct dentry, lower, d_inode) : 0;
}

// What the upper layer has there; 0: nothing.
static __always_inline struct inode *upper_inode(struct inode *inode) {
  if (!bpf_core_field_exists(struct ovl_inode___upper, __upperdentry)) return 0;
  struct ovl_inode___upper *overlay = (void *)inode - bpf_core_field_offset(struct ovl_inode___upper, vfs_inode);
  struct dentry *upper = LOAD_POINTER((void *)overlay + bpf_core_field_offset(struct ovl_inode___upper, __upperdentry));
  return upper ? LOAD(struct dentry, upper, d_inode) : 0;
}
