// Which inodes are guarded, for janusd.bpf.c and hold.bpf.c.
//
// Owns: the index of them, which user space makes one map for both.
#pragma once

#include "kernel.h"

#include <bpf/bpf_helpers.h>

// Kernel address of a guarded inode -> identity. The fanotify mark that pins
// the inode is the truth, this only its index: an entry whose inode carries no
// mark of ours (deleted, and its memory used again) does not count. Full:
// reported to the caller, which falls back on paths.
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, __u64);
  __type(value, __u32);
} identities SEC(".maps");
