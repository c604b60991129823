// One program of each type that a higher tier is made of, to see whether a kernel
// loads and attaches it. They do nothing.
#include "../../bpf/kernel.h"

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "GPL";

SEC("fentry/ksys_unshare")
int BPF_PROG(type_fentry) { return 0; }

SEC("fexit/ksys_unshare")
int BPF_PROG(type_fexit) { return 0; }

SEC("lsm/file_open")
int BPF_PROG(type_lsm) { return 0; }
