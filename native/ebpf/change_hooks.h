// The hooks of bpf/changes.h: each denies some change where the kernel has it as we know it. (Opens for writing are
// decide_open's.)
//
// Owns: which of them a kernel may lack. With another one missing none is attached: a change would go unseen.
#pragma once

#include <string>
#include <vector>

#include "bpf/event.h"

#include "bpf/build/decide.skel.h"

namespace janus {

using DecidePrograms = decltype(decide_bpf::progs);
using DecideLinks = decltype(decide_bpf::links);

struct ChangeHook {
  const char* name;  // of the program
  bpf_program* DecidePrograms::*program;
  bpf_link* DecideLinks::*link;
  const char* function;    // of the kernel, that it is attached to
  unsigned parameters;     // of that
  bool optional = false;   // older kernels do the same by another
};

#define CHANGE_HOOK(name, ...) \
  { #name, &DecidePrograms::name, &DecideLinks::name, __VA_ARGS__ }
inline constexpr ChangeHook kChangeHooks[] = {
    CHANGE_HOOK(deny_create, "security_inode_create", 3),
    CHANGE_HOOK(deny_mkdir, "security_inode_mkdir", 3),
    CHANGE_HOOK(deny_mknod, "security_inode_mknod", 4),
    CHANGE_HOOK(deny_symlink, "security_inode_symlink", 3),
    CHANGE_HOOK(deny_link, "security_inode_link", 3),
    CHANGE_HOOK(deny_unlink, "security_inode_unlink", 2),
    CHANGE_HOOK(deny_rmdir, "security_inode_rmdir", 2),
    CHANGE_HOOK(deny_rename, "security_inode_rename", 5),
    CHANGE_HOOK(deny_setattr, "security_inode_setattr", 3),
    CHANGE_HOOK(deny_setxattr, "security_inode_setxattr", 6),
    CHANGE_HOOK(deny_removexattr, "security_inode_removexattr", 3),
    CHANGE_HOOK(deny_set_acl, "security_inode_set_acl", 4, true),
    CHANGE_HOOK(deny_remove_acl, "security_inode_remove_acl", 3, true),
};
#undef CHANGE_HOOK

// Those that this kernel has, with as many parameters, as far as its BTF says.
struct ChangeHooks {
  std::vector<const ChangeHook*> present;
  std::string refusal;  // empty: nothing is missing
};
ChangeHooks find_change_hooks();

}  // namespace janus
