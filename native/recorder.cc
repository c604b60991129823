#include "recorder.h"

#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cstring>
#include <limits>

namespace janus {
namespace {

// A process that is in no guarded container: it was blocked until a moment ago,
// so it is most likely still there.
std::string exe_from_proc(std::int32_t pid) {
  char target[PATH_MAX];
  const ssize_t size = readlink(("/proc/" + std::to_string(pid) + "/exe").c_str(), target, sizeof(target));
  return size > 0 ? std::string(target, static_cast<std::size_t>(size)) : std::string();
}

}  // namespace

void Recorder::record(const SuperblockPolicy& table, const Entry& entry, const Location& location, const What& what) {
  const Subject& subject = *entry.subject;
  const bool answered = what.flags & kFlagAnswered;
  subject.stats->count(what.kind, what.response, answered);
  if (answered) subject.stats->block(what.response, what.blocked_ns);

  FileEvent event{};
  event.time_ns = what.time_ns;
  event.subject_id = subject.id;
  event.blocked_ns =
      static_cast<std::uint32_t>(std::min<std::uint64_t>(what.blocked_ns, std::numeric_limits<std::uint32_t>::max()));
  event.pid = what.pid;
  event.kind = what.kind;
  event.response = what.response;
  event.flags = what.flags;
  const janus_locate& raw = *location.raw;
  // What is in the ring happened before: the program that it runs is known then.
  tracker_.drain();
  auto process = tracker_.process(static_cast<std::uint32_t>(what.pid));
  if (process) {
    event.cgroup_id = process->container;
    event.ppid = static_cast<std::int32_t>(process->ppid);
    event.uid = process->uid;
    std::memcpy(event.comm, process->comm.data(), std::min(process->comm.size(), sizeof(event.comm)));
  }
  if (raw.flags & JANUS_LOCATE_ACTOR) {  // it was there when we looked
    event.ppid = static_cast<std::int32_t>(raw.ppid);
    event.uid = raw.uid;
    std::memcpy(event.comm, raw.comm, sizeof(event.comm));
  }
  const std::string exe = process ? std::move(process->exe) : exe_from_proc(what.pid);
  if (location.directory()) event.flags |= kFlagDirectory;
  if (ring_.push(event, table.seen_by(subject.container, location.path), exe)) wake_();
}

}  // namespace janus
