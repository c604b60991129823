// A field of a kernel object, by the object's address: as BPF_CORE_READ() gives it, but loaded without a helper where
// the kernel lets that be done (Linux 6.2, a35b9af4ec2c). That is for what each open of a tracked container reads.
//
// What is loaded so is a pointer to the verifier, if it is one, and stays one in variables. A function that is verified
// by itself takes numbers only: ADDRESS() makes one.
#pragma once

#include "kernel.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

// Replaced by a move (fixup_kfunc_call() in kernel/bpf/verifier.c).
extern void *bpf_rdonly_cast(const void *object, __u32 type) __ksym __weak;

#define LOAD(type, object, field)                                                                        \
  ({                                                                                                     \
    typeof(((type *)0)->field) loaded;                                                                   \
    if (bpf_rdonly_cast)                                                                                 \
      loaded = ((type *)bpf_rdonly_cast((void *)(object), bpf_core_type_id_kernel(type)))->field;        \
    else                                                                                                 \
      loaded = BPF_CORE_READ((type *)(object), field);                                                   \
    loaded;                                                                                              \
  })

// A pointer, and 8 bytes, that lie at an address: also in an object of a module, whose types bpf_rdonly_cast() doesn't
// take. To the verifier it is the first member of the structure here.
#define LOAD_POINTER(address) ((void *)LOAD(struct hlist_head, address, first))
#define LOAD_NUMBER(address) ((__u64)LOAD(struct timespec64, address, tv_sec))

// `through`: a __u64 in a map. What is read from there is a number.
#define ADDRESS(pointer, through)                     \
  ({                                                  \
    *(volatile __u64 *)&(through) = (__u64)(pointer); \
    *(volatile __u64 *)&(through);                    \
  })
