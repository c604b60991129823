#include "ebpf/probe.h"

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/capability.h>
#include <sys/fanotify.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <span>

#include "os/fanotify_group.h"
#include "os/unique_fd.h"

namespace janus {
namespace {

Trial outcome(bool worked) { return {worked ? 0 : errno}; }

// ---- eBPF -------------------------------------------------------------------

using Btf = std::unique_ptr<btf, decltype(&btf__free)>;

bpf_insn set(std::uint8_t to, std::int32_t value) {
  return {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = to, .src_reg = 0, .off = 0, .imm = value};
}
bpf_insn copy(std::uint8_t to, std::uint8_t from) {
  return {.code = BPF_ALU64 | BPF_MOV | BPF_X, .dst_reg = to, .src_reg = from, .off = 0, .imm = 0};
}
bpf_insn skip_if_zero(std::uint8_t which, std::int16_t count) {
  return {.code = BPF_JMP | BPF_JEQ | BPF_K, .dst_reg = which, .src_reg = 0, .off = count, .imm = 0};
}
bpf_insn call(std::int32_t function) {
  return {.code = BPF_JMP | BPF_CALL, .dst_reg = 0, .src_reg = BPF_PSEUDO_KFUNC_CALL, .off = 0, .imm = function};
}
constexpr bpf_insn kExit{.code = BPF_JMP | BPF_EXIT, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 0};

class Programs {
 public:
  explicit Programs(const btf* kernel) : kernel_(kernel) {}

  // A tracing program on what BTF calls `target`.
  Trial trace(bpf_prog_type type, bpf_attach_type attach, const char* target, std::uint32_t kind) const {
    const int id = kernel_ == nullptr ? -ENOENT : btf__find_by_name_kind(kernel_, target, kind);
    if (id < 0) return {ENOENT};
    const UniqueFd program = load(type, std::initializer_list<bpf_insn>{set(0, 0), kExit}, attach, id);
    if (!program || attach == BPF_TRACE_ITER) return outcome(static_cast<bool>(program));
    return outcome(static_cast<bool>(UniqueFd(bpf_raw_tracepoint_open(nullptr, program.get()))));
  }

  // A program that is called, of these instructions.
  Trial call_program(std::span<const bpf_insn> instructions) const {
    return outcome(static_cast<bool>(load(BPF_PROG_TYPE_SYSCALL, instructions)));
  }

  Trial syscall_tracepoints() const {
    if (!load(BPF_PROG_TYPE_TRACEPOINT, std::initializer_list<bpf_insn>{set(0, 0), kExit})) return {errno};
    for (const char* events : {"/sys/kernel/tracing/events/syscalls/sys_exit_unshare/id",
                               "/sys/kernel/debug/tracing/events/syscalls/sys_exit_unshare/id"})
      if (access(events, R_OK) == 0) return {0};
    return {errno};
  }

  Trial send_signal_task() const {
    const int find = function("bpf_task_from_pid"), release = function("bpf_task_release");
    const int send = function("bpf_send_signal_task");
    if (find < 0 || release < 0 || send < 0) return {ENOENT};
    return call_program(std::initializer_list<bpf_insn>{
        set(1, 1), call(find), skip_if_zero(0, 8), copy(6, 0), copy(1, 6), set(2, 0), set(3, 1), set(4, 0), call(send),
        copy(1, 6), call(release), set(0, 0), kExit});
  }

 private:
  static UniqueFd load(bpf_prog_type type, std::span<const bpf_insn> instructions,
                       bpf_attach_type attach = BPF_CGROUP_INET_INGRESS, int target = 0) {
    LIBBPF_OPTS(bpf_prog_load_opts, options, .expected_attach_type = attach,
                .prog_flags = type == BPF_PROG_TYPE_SYSCALL ? static_cast<__u32>(BPF_F_SLEEPABLE) : 0u,
                .attach_btf_id = static_cast<__u32>(target));
    return UniqueFd(bpf_prog_load(type, "janusd_probe", "GPL", instructions.data(), instructions.size(), &options));
  }

  int function(const char* name) const {
    return kernel_ == nullptr ? -ENOENT : btf__find_by_name_kind(kernel_, name, BTF_KIND_FUNC);
  }

  const btf* kernel_;
};

void try_programs(Probe& probe) {
  const Btf kernel(btf__load_vmlinux_btf(), &btf__free);
  probe.btf = kernel != nullptr;
  probe.overlay_btf = access("/sys/kernel/btf/overlay", R_OK) == 0 ||
                      (kernel && btf__find_by_name_kind(kernel.get(), "ovl_inode", BTF_KIND_STRUCT) >= 0);
  probe.asks_below_overlays = kernel && btf__find_by_name_kind(kernel.get(), "backing_file", BTF_KIND_STRUCT) >= 0;
  const Programs programs(kernel.get());
  probe.tp_btf = programs.trace(BPF_PROG_TYPE_TRACING, BPF_TRACE_RAW_TP, "btf_trace_sched_process_exec", BTF_KIND_TYPEDEF);
  probe.task_iterator = programs.trace(BPF_PROG_TYPE_TRACING, BPF_TRACE_ITER, "bpf_iter_task", BTF_KIND_FUNC);
  // A function of the kernel's that is there for this, and that nobody calls.
  probe.fentry = programs.trace(BPF_PROG_TYPE_TRACING, BPF_TRACE_FENTRY, "bpf_fentry_test1", BTF_KIND_FUNC);
  probe.lsm = programs.trace(BPF_PROG_TYPE_LSM, BPF_LSM_MAC, "bpf_lsm_task_getpgid", BTF_KIND_FUNC);
  probe.syscall_program = programs.call_program(std::initializer_list<bpf_insn>{set(0, 0), kExit});
  probe.syscall_tracepoints = programs.syscall_tracepoints();
  probe.send_signal_task = programs.send_signal_task();
  const UniqueFd ring(bpf_map_create(BPF_MAP_TYPE_RINGBUF, "janusd_probe", 0, 0, static_cast<__u32>(getpagesize()), nullptr));
  probe.ring_buffer = outcome(static_cast<bool>(ring));
  // libbpf asks the verifier; where no program may be loaded it can't tell.
  if (!probe.syscall_program.works()) probe.loop = probe.syscall_program;
  else probe.loop = {libbpf_probe_bpf_helper(BPF_PROG_TYPE_SYSCALL, BPF_FUNC_loop, nullptr) == 1 ? 0 : EINVAL};
}

// ---- fanotify -----------------------------------------------------------------

// A file system that nobody else sees. Null with errno if it cannot be had.
UniqueFd detached(const char* type, const char* lower) {
  const UniqueFd context(fsopen(type, FSOPEN_CLOEXEC));
  if (!context || (lower != nullptr && fsconfig(context.get(), FSCONFIG_SET_STRING, "lowerdir", lower, 0) != 0) ||
      fsconfig(context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0)
    return {};
  return UniqueFd(fsmount(context.get(), FSMOUNT_CLOEXEC, 0));
}

UniqueFd group_of(unsigned flags) { return UniqueFd(fanotify_init(flags | FAN_CLOEXEC | FAN_NONBLOCK, O_RDONLY | O_CLOEXEC)); }

Trial try_mark(const UniqueFd& group, const UniqueFd& on, unsigned flags, std::uint64_t mask) {
  return outcome(fanotify_mark(group.get(), FAN_MARK_ADD | flags, mask, on.get(), ".") == 0);
}

void try_fanotify(Probe& probe) {
  // Few groups: the kernel takes milliseconds to end one that had a mark.
  probe.audit = outcome(static_cast<bool>(group_of(FAN_CLASS_CONTENT | FAN_ENABLE_AUDIT)));
  probe.pidfd = outcome(static_cast<bool>(group_of(FAN_CLASS_NOTIF | FAN_REPORT_PIDFD)));
  if (const UniqueFd group = group_of(FAN_CLASS_CONTENT), place = detached("tmpfs", nullptr); group && place) {
    // In this order: an evictable mark may become a lasting one, not the reverse.
    probe.evictable_marks = try_mark(group, place, FAN_MARK_EVICTABLE, FAN_OPEN | FAN_ONDIR);
    probe.directory_ignore_marks = try_mark(group, place, FAN_MARK_IGNORE | FAN_MARK_IGNORED_SURV_MODIFY,
                                            FAN_OPEN_PERM | FAN_ONDIR | FAN_EVENT_ON_CHILD);
    probe.permission_events = try_mark(group, place, 0, FAN_OPEN_PERM | FAN_ONDIR);
  } else {
    probe.permission_events = probe.directory_ignore_marks = probe.evictable_marks = {errno};
  }
  // Any two directories will do: they are only looked at.
  if (const UniqueFd group = group_of(FAN_CLASS_NOTIF | FAN_REPORT_DFID_NAME), place = detached("overlay", "/usr:/etc");
      group && place)
    probe.overlay_file_handles = try_mark(group, place, 0, FAN_CREATE | FAN_DELETE | FAN_MOVE | FAN_ONDIR);
  else
    probe.overlay_file_handles = {errno};
}

// ---- what follows -------------------------------------------------------------

bool in_first_pid_namespace() {
  struct stat here {};
  return stat("/proc/self/ns/pid", &here) == 0 && here.st_ino == 0xEFFFFFFC;  // PROC_PID_INIT_INO, since Linux 3.8
}

void find_missing(Probe& probe) {
  std::string lacking;
  for (const Capability& capability : used_capabilities())
    if (capability.needed && !has_capability(capability.number))
      lacking += (lacking.empty() ? "" : ", ") + std::string(capability.name) + " (" + capability.what + ")";
  if (!lacking.empty()) probe.missing.push_back("must run as root in the initial user namespace, or at least with " + lacking);
  if (!probe.btf) probe.missing.emplace_back("this kernel has no BTF (/sys/kernel/btf/vmlinux; CONFIG_DEBUG_INFO_BTF)");
  if (!in_first_pid_namespace())
    probe.missing.emplace_back("must run in the node's own pid namespace (Kubernetes: hostPID): eBPF tells processes by their numbers there");
  // Everything else is refused for the same reasons.
  if (!probe.missing.empty()) return;
  for (const auto& [name, trial, needed] : kFeatures)
    if (needed != nullptr && !(probe.*trial).works())
      probe.missing.push_back(std::string("this kernel has no ") + needed + ": " + std::strerror((probe.*trial).error));
}

Probe try_all() {
  Probe probe;
  utsname names{};
  uname(&names);
  probe.kernel = names.release;
  probe.version = names.version;
  probe.architecture = names.machine;
  const libbpf_print_fn_t print = libbpf_set_print(nullptr);  // refusals are what we are here for
  try_fanotify(probe);  // first: it may load the overlay module, whose BTF is looked for
  try_programs(probe);
  libbpf_set_print(print);
  find_missing(probe);
  return probe;
}

}  // namespace

const std::vector<Capability>& used_capabilities() {
  static const std::vector<Capability> used = {
      {CAP_SYS_ADMIN, "CAP_SYS_ADMIN", "fanotify, eBPF, mount namespaces", true},
      {CAP_SYS_PTRACE, "CAP_SYS_PTRACE", "the roots of containers", true},
      {CAP_SYS_CHROOT, "CAP_SYS_CHROOT", "entering mount namespaces", true},
      {CAP_DAC_READ_SEARCH, "CAP_DAC_READ_SEARCH", "directories that are closed to others", true},
      {CAP_FOWNER, "CAP_FOWNER", "reading directories of others and leaving their times alone", true},
      {CAP_KILL, "CAP_KILL", "letting go whom it held", true},
      {CAP_SYSLOG, "CAP_SYSLOG", "the kernel's address of rename_lock", true},
      {CAP_AUDIT_WRITE, "CAP_AUDIT_WRITE", "subjects with audit", false},
      {CAP_SYS_NICE, "CAP_SYS_NICE", "answering before other threads get the processor", false},
  };
  return used;
}

bool has_capability(int number) {
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {};
  return syscall(SYS_capget, &header, data) == 0 && (data[number / 32].effective >> (number % 32) & 1) != 0;
}

const Probe& probe_kernel() {
  static const Probe probe = try_all();
  return probe;
}

}  // namespace janus
