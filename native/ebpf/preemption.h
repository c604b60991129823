// Whether this kernel may interrupt a BPF program for another task.
//
// A program of tracing isn't begun again on a processor on which it was interrupted
// (__bpf_prog_enter_recur() in kernel/bpf/trampoline.c): so what a task does that is let run
// meanwhile, it isn't shown. Owns: nothing.
#pragma once

#include <string_view>

namespace janus {

// `version`: uname(2)'s, like "#1 SMP PREEMPT_DYNAMIC Debian 6.12.5-1". `mode`: the kernel's
// preempt_dynamic_mode (kernel/sched/core.c); negative: not known.
bool interrupts_programs(std::string_view version, int mode);

}  // namespace janus
