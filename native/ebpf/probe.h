// What this machine lets us do, found out by trying.
//
// Owns: nothing, and leaves nothing behind: programs, marks and mounts of the
// trials have no name anywhere and go with their descriptors. Never throws.
#pragma once

#include <cerrno>
#include <string>
#include <vector>

namespace janus {

// What became of trying one thing.
struct Trial {
  int error = ENODATA;  // errno of the refusal; ENODATA: it was not tried
  bool works() const { return error == 0; }
};

struct Probe {
  std::string kernel;        // as uname -r
  std::string version;       // as uname -v
  std::string architecture;  // as uname -m
  bool btf = false;
  bool overlay_btf = false;  // overlayfs' types: built in, or of its loaded module

  // fanotify is asked about what an overlay opens in its layers, since Linux 6.5 (bc2473c90fca);
  // that has struct backing_file.
  bool asks_below_overlays = false;

  // eBPF: each loaded as a program that does nothing; fentry, lsm and tp_btf attached, too.
  Trial tp_btf, task_iterator, syscall_program, fentry, lsm;
  Trial syscall_tracepoints;  // loaded, and tracefs has them; not attached, which slows every system call
  Trial ring_buffer;
  Trial loop;                            // helper bpf_loop
  Trial send_signal_task;                // kfunc

  // fanotify: marks on file systems made for it.
  Trial permission_events;
  Trial directory_ignore_marks, evictable_marks;
  Trial overlay_file_handles;  // FAN_REPORT_DFID_NAME on overlayfs
  Trial audit, pidfd;

  std::vector<std::string> missing;  // a line each, of what the daemon cannot do without
};

// The trials by the name that operators see, and what the daemon cannot do
// without, in words; null: it does less without.
struct Feature {
  const char* name;
  Trial Probe::*trial;
  const char* needed = nullptr;
};
inline constexpr Feature kFeatures[] = {
    {"fanotify_permission_events", &Probe::permission_events,
     "fanotify permission events (CONFIG_FANOTIFY_ACCESS_PERMISSIONS)"},
    {"fanotify_directory_ignore_marks", &Probe::directory_ignore_marks},
    {"fanotify_evictable_marks", &Probe::evictable_marks},
    {"fanotify_overlay_file_handles", &Probe::overlay_file_handles},
    {"fanotify_audit", &Probe::audit},
    {"fanotify_pidfd", &Probe::pidfd},
    {"tp_btf", &Probe::tp_btf, "eBPF programs on tracepoints by BTF (Linux 5.5)"},
    {"task_iterator", &Probe::task_iterator, "eBPF iterator over tasks (Linux 5.8)"},
    {"syscall_program", &Probe::syscall_program, "eBPF programs that are called (Linux 5.14)"},
    {"ring_buffer", &Probe::ring_buffer, "eBPF ring buffer (Linux 5.8)"},
    {"bpf_loop", &Probe::loop, "bpf_loop (Linux 5.17)"},
    {"bpf_send_signal_task", &Probe::send_signal_task},
    {"fentry", &Probe::fentry},
    {"syscall_tracepoints", &Probe::syscall_tracepoints},
    {"lsm", &Probe::lsm},
};

struct Capability {
  int number;
  const char* name;
  const char* what;  // for
  bool needed;       // the daemon does not start without
};
// All that the daemon uses. (CAP_SYS_ADMIN stands for CAP_BPF and CAP_PERFMON,
// too: capabilities(7).)
const std::vector<Capability>& used_capabilities();
bool has_capability(int number);

// Tries once, and remembers: 10 to 30 ms, most of it reading the kernel's BTF. Any thread.
const Probe& probe_kernel();

}  // namespace janus
