#include "ebpf/preemption.h"

namespace janus {
namespace {

// preempt_dynamic_none and preempt_dynamic_voluntary: those after them, full and lazy, interrupt.
constexpr int kVoluntary = 1;

}  // namespace

bool interrupts_programs(std::string_view version, int mode) {
  if (version.find("PREEMPT_DYNAMIC") != std::string_view::npos) return mode < 0 || mode > kVoluntary;
  return version.find("PREEMPT") != std::string_view::npos;  // PREEMPT, PREEMPT_RT, PREEMPT_LAZY
}

}  // namespace janus
