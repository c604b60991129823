#include "ebpf/preemption.h"

#include "tap.h"

using namespace janus;

// As uname -v says it: Debian 12, Debian 13, Ubuntu, a kernel without a choice, real time.
int main() {
  CHECK(!interrupts_programs("#1 SMP PREEMPT_DYNAMIC Debian 6.1.170-1 (2026-04-30)", 1));
  CHECK(!interrupts_programs("#1 SMP PREEMPT_DYNAMIC Debian 6.12.85-1 (2026-04-30)", 0));
  CHECK(interrupts_programs("#1 SMP PREEMPT_DYNAMIC Debian 6.12.85-1 (2026-04-30)", 2));
  CHECK(interrupts_programs("#1 SMP PREEMPT_DYNAMIC Debian 7.0.1-1", 3));  // lazy
  CHECK(interrupts_programs("#1 SMP PREEMPT_DYNAMIC", -1));
  CHECK(!interrupts_programs("#62-Ubuntu SMP Tue Nov 22 19:54:14 UTC 2022", -1));
  CHECK(interrupts_programs("#1 SMP PREEMPT Debian 5.10", -1));
  CHECK(interrupts_programs("#1 SMP PREEMPT_RT Debian 6.12", 0));
  return tap::done();
}
