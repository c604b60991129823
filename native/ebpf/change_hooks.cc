#include "ebpf/change_hooks.h"

#include <bpf/btf.h>

#include <memory>

namespace janus {
namespace {

bool is_there(const btf* kernel, const ChangeHook& hook) {
  const int id = btf__find_by_name_kind(kernel, hook.function, BTF_KIND_FUNC);
  if (id < 0) return false;
  const btf_type* prototype = btf__type_by_id(kernel, btf__type_by_id(kernel, static_cast<__u32>(id))->type);
  return prototype != nullptr && btf_is_func_proto(prototype) && btf_vlen(prototype) == hook.parameters;
}

}  // namespace

ChangeHooks find_change_hooks() {
  ChangeHooks hooks;
  const std::unique_ptr<btf, decltype(&btf__free)> kernel(btf__load_vmlinux_btf(), &btf__free);
  for (const ChangeHook& hook : kChangeHooks) {
    if (kernel != nullptr && is_there(kernel.get(), hook)) hooks.present.push_back(&hook);
    else if (!hook.optional && hooks.refusal.empty()) hooks.refusal = std::string("this kernel has no ") + hook.function + " as it is known here";
  }
  return hooks;
}

}  // namespace janus
