#include "probe.h"

#include <fcntl.h>
#include <sys/fanotify.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "fanotify_group.h"
#include "unique_fd.h"

namespace janus {

Probe probe_kernel() {
  Probe probe;
  utsname names{};
  if (uname(&names) == 0) probe.kernel = names.release;
  probe.root = geteuid() == 0;
  probe.btf = access("/sys/kernel/btf/vmlinux", R_OK) == 0;
  if (!probe.root) probe.missing.emplace_back("must run as root (CAP_SYS_ADMIN, CAP_BPF and CAP_SYS_PTRACE in the initial user namespace)");
  if (!probe.btf) probe.missing.emplace_back("this kernel has no BTF (/sys/kernel/btf/vmlinux; CONFIG_DEBUG_INFO_BTF)");
  if (!probe.root) return probe;

  // A directory of our own to try marks on: nobody else's file is touched.
  char place[] = "/tmp/janusd-probe.XXXXXX";
  if (mkdtemp(place) == nullptr) {
    probe.missing.push_back(std::string("cannot make a directory in /tmp to try fanotify on: ") + std::strerror(errno));
    return probe;
  }
  const auto try_mark = [&](unsigned init, unsigned flags, std::uint64_t mask) {
    const UniqueFd group(fanotify_init(init | FAN_CLOEXEC | FAN_NONBLOCK, O_RDONLY | O_CLOEXEC));
    return group && fanotify_mark(group.get(), flags, mask, AT_FDCWD, place) == 0;
  };
  probe.permission_events = try_mark(FAN_CLASS_CONTENT, FAN_MARK_ADD, FAN_OPEN_PERM | FAN_ONDIR);
  probe.directory_ignore_marks =
      try_mark(FAN_CLASS_CONTENT, FAN_MARK_ADD | FAN_MARK_IGNORE | FAN_MARK_IGNORED_SURV_MODIFY | FAN_MARK_EVICTABLE,
               FAN_OPEN_PERM | FAN_ONDIR | FAN_EVENT_ON_CHILD);
  probe.audit = try_mark(FAN_CLASS_CONTENT | FAN_ENABLE_AUDIT, FAN_MARK_ADD, FAN_OPEN_PERM);
  probe.fid_marks = try_mark(FAN_CLASS_NOTIF | FAN_REPORT_DFID_NAME, FAN_MARK_ADD, FAN_CREATE | FAN_MOVED_TO | FAN_ONDIR);
  rmdir(place);
  if (!probe.permission_events)
    probe.missing.emplace_back("this kernel has no fanotify permission events (CONFIG_FANOTIFY_ACCESS_PERMISSIONS)");
  return probe;
}

}  // namespace janus
