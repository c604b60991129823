#include "decide/recorder.h"

#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cstring>
#include <fstream>
#include <limits>
#include <sstream>
#include <utility>

#include "os/clock.h"

namespace janus {
namespace {

// Bytes of ancestry that a record takes at most: a deep tree of long names must
// not fill the ring.
constexpr std::size_t kAncestryBytes = 4096;

// Field 22 of /proc/PID/stat, in ticks; -1: no such process.
std::int64_t start_ticks(std::uint32_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  std::string stat;
  std::getline(file, stat);
  // A name may contain anything: the fields go on after its last parenthesis.
  const auto name_end = stat.rfind(')');
  if (name_end == std::string::npos) return -1;
  std::istringstream fields(stat.substr(name_end + 1));
  std::string skipped;
  for (int field = 3; field < 22; ++field) fields >> skipped;
  std::int64_t ticks = -1;
  fields >> ticks;
  return ticks;
}

// A process that is in no guarded container: it was there a moment ago, so it
// most likely still is. Its start tells whether it is the one.
std::string exe_from_proc(const ProcessKey& key) {
  char target[PATH_MAX];
  const ssize_t size = readlink(("/proc/" + std::to_string(key.tgid) + "/exe").c_str(), target, sizeof(target));
  const std::uint64_t tick_ns = 1'000'000'000 / static_cast<std::uint64_t>(sysconf(_SC_CLK_TCK));
  if (size <= 0 || start_ticks(key.tgid) != static_cast<std::int64_t>(key.start_ns / tick_ns)) return {};
  return {target, static_cast<std::size_t>(size)};
}

// Returns false if not all had room.
bool add_ancestors(const std::vector<Tracker::Ancestor>& ancestors, std::string& to) {
  for (const Tracker::Ancestor& one : ancestors) {
    const FileEventAncestor head{.pid = one.tgid,
                                 .comm_len = static_cast<std::uint8_t>(one.comm.size()),
                                 .exe_len = static_cast<std::uint16_t>(one.exe.size())};
    if (to.size() + sizeof(head) + one.comm.size() + one.exe.size() > kAncestryBytes) return false;
    to.append(reinterpret_cast<const char*>(&head), sizeof(head)).append(one.comm).append(one.exe);
  }
  return true;
}

// As the subject's container sees it. No whole path begins as one does whose end only is known.
std::string seen_path(const SuperblockPolicy& table, const Subject& subject, const Location& location) {
  if (location.headless()) return "..." + std::string(location.path);
  return table.seen_by(subject.container, location.path);
}

// Who waits for its answer is still looking the path up. Who doesn't has gone on.
std::string_view asked_by(const Location& location, const Recorder::What& what) {
  return what.flags & kFlagAnswered ? location.asked : std::string_view();
}

}  // namespace

Recorder::Recorder(EventRing& ring, Tracker& tracker, std::function<void()> wake)
    : ring_(ring),
      tracker_(tracker),
      wake_(std::move(wake)),
      epoch_ns_(boot_epoch_ns()) {}

void Recorder::record(const SuperblockPolicy& table, const Subject& subject, const Location& location, const What& what) {
  const bool answered = what.flags & kFlagAnswered;
  subject.stats->count(what.kind, what.response, answered);
  if (answered) subject.stats->block(what.response, what.blocked_ns);

  FileEvent event{};
  event.time_ns = what.time_ns;
  event.subject_id = subject.id;
  event.blocked_ns =
      static_cast<std::uint32_t>(std::min<std::uint64_t>(what.blocked_ns, std::numeric_limits<std::uint32_t>::max()));
  event.pid = static_cast<std::int32_t>(what.actor.key.tgid);
  event.cgroup_id = what.actor.container;
  event.kind = what.kind;
  event.response = what.response;
  event.flags = what.flags;
  if (what.actor.key.start_ns != 0) event.start_ns = what.actor.key.start_ns + epoch_ns_;
  const janus_locate& raw = *location.raw;
  const auto process = tracker_.process(what.actor.key);
  std::string exe;
  std::string ancestry;
  if (process) {
    event.ppid = static_cast<std::int32_t>(process->ppid);
    event.uid = process->uid;
    std::memcpy(event.comm, process->comm.data(), std::min(process->comm.size(), sizeof(event.comm)));
    exe = process->exe;
    if (!add_ancestors(process->ancestors, ancestry) || process->cut) event.flags |= kFlagCut;
  }
  if ((raw.flags & JANUS_LOCATE_ACTOR) && raw.start_ns == what.actor.key.start_ns) {  // it was there when we looked
    event.ppid = static_cast<std::int32_t>(raw.ppid);
    event.uid = raw.uid;
    std::memcpy(event.comm, raw.comm, sizeof(event.comm));
    if (exe.empty()) exe = exe_from_proc(what.actor.key);
  }
  if (event.cgroup_id == subject.container) event.flags |= kFlagInside;
  if (location.directory()) event.flags |= kFlagDirectory;
  if (what.deniers.size() > kDeniers) event.flags |= kFlagDeniersCut;
  const std::string path = seen_path(table, subject, location);
  const std::string other = what.other.empty() ? std::string() : table.seen_by(subject.container, what.other);
  const FileEventTexts texts{.path = path,
                             .exe = exe,
                             .ancestry = ancestry,
                             .asked = asked_by(location, what),
                             .argv0 = process ? process->argv0 : std::string_view(),
                             .other = other};
  if (ring_.push(event, texts, what.deniers)) wake_();
}

}  // namespace janus
