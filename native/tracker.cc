#include "tracker.h"

#include <algorithm>
#include <cstring>
#include <set>
#include <tuple>
#include <utility>

#include "error.h"

namespace janus {
namespace {

std::string comm_of(const char (&comm)[16]) { return {comm, strnlen(comm, sizeof(comm))}; }

// How many ended processes are remembered.
constexpr std::size_t kPast = 4096;

}  // namespace

Tracker::Tracker(BpfPrograms& programs, Listener listener) : programs_(programs), listener_(std::move(listener)) {}

ContainerInfo Tracker::find(const std::string& id) {
  drain();
  if (auto info = known(id)) return *info;
  return search(id).info;
}

std::optional<ContainerInfo> Tracker::known(const std::string& id) const {
  const std::lock_guard lock(mutex_);
  for (const auto& [cgroup, container] : containers_) {
    if (container.id != id) continue;
    ContainerInfo info{id, cgroup, container.cgroup_path, container.init_pid, {}};
    for (const auto& [tgid, process] : processes_)
      if (process.container == cgroup) info.pids.push_back(tgid);
    std::sort(info.pids.begin(), info.pids.end());
    return info;
  }
  return std::nullopt;
}

FoundContainer Tracker::search(const std::string& id) {
  ContainerSearch search(id);
  programs_.each_task([&](const janus_iter_record& record, std::span<const BpfPrograms::TaskCgroup> cgroups,
                          std::string_view exe) { search.see(record, cgroups, exe); });
  return search.result();
}

std::vector<std::string> Tracker::missing(const std::vector<std::string>& ids) {
  drain();
  std::vector<ContainerSearch> searches;
  for (const std::string& id : ids)
    if (!known(id)) searches.emplace_back(id);
  if (searches.empty()) return {};
  programs_.each_task([&](const janus_iter_record& record, std::span<const BpfPrograms::TaskCgroup> cgroups,
                          std::string_view exe) {
    for (ContainerSearch& search : searches) search.see(record, cgroups, exe);
  });
  std::vector<std::string> missing;
  for (const ContainerSearch& search : searches) {
    try {
      search.result();
    } catch (const Error& error) {
      if (error.code == ErrorCode::not_found) missing.push_back(search.id());
    }
  }
  return missing;
}

ContainerInfo Tracker::track(const std::string& id) {
  drain();
  if (auto info = known(id)) return *info;
  const FoundContainer found = search(id);
  const auto init = std::find_if(found.tasks.begin(), found.tasks.end(),
                                 [&](const auto& task) { return task.tgid == found.info.init_pid; });
  // In this order no process falls between: first who is the owner, then the
  // tracepoints (which know forks from then on), then those that were there.
  const janus_task owner = {
      .container = found.info.cgroup, .start_ns = init->start_ns, .forker = init->ppid, .flags = JANUS_TASK_INIT};
  if (!programs_.add_task(init->tgid, owner, false)) throw Error(ErrorCode::exhausted, "eBPF map tasks is full");
  for (const janus_cgroup_key& key : found.keys) programs_.add_cgroup(key, found.info.cgroup);
  {
    const std::lock_guard lock(mutex_);
    Container& container = containers_[found.info.cgroup];
    container.id = found.info.id;
    container.cgroup_path = found.info.cgroup_path;
    container.keys = found.keys;
    container.init_pid = found.info.init_pid;
  }
  adopt(found.info.cgroup, search(found.info.id));
  drain();
  auto info = known(found.info.id);
  if (!info) throw Error(ErrorCode::not_found, "container " + id + " ended meanwhile");
  return *info;
}

void Tracker::adopt(std::uint64_t cgroup, const FoundContainer& found) {
  std::uint32_t init = 0;
  {
    const std::lock_guard lock(mutex_);
    const auto it = containers_.find(cgroup);
    if (it == containers_.end()) return;
    init = it->second.init_pid;
    for (const auto& task : found.tasks) add_process(task.tgid, {cgroup, task.ppid, task.uid, task.comm, task.exe});
  }
  for (const auto& task : found.tasks) {
    if (task.tgid == init) continue;
    // Whoever forked it is past; its parent is the best that is known.
    programs_.add_task(task.tgid,
                       {.container = cgroup,
                        .start_ns = task.start_ns,
                        .forker = task.ppid,
                        .flags = task.ppid == init ? static_cast<std::uint32_t>(JANUS_TASK_CHILD) : 0u},
                       true);
  }
  for (const auto& task : found.tasks) see_namespace(cgroup, task.tgid, task.mnt_ns);
}

void Tracker::forget(std::uint64_t container) {
  const std::lock_guard lock(mutex_);
  const auto it = containers_.find(container);
  if (it == containers_.end()) return;
  for (const janus_cgroup_key& key : it->second.keys) programs_.remove_cgroup(key);
  std::erase_if(processes_, [&](const auto& item) { return item.second.container == container; });
  containers_.erase(it);
}

void Tracker::add_process(std::uint32_t tgid, Process process) {
  const auto it = containers_.find(process.container);
  if (it == containers_.end()) return;
  const auto [held, added] = processes_.try_emplace(tgid);
  if (added) ++it->second.processes;
  held->second = std::move(process);
}

void Tracker::drop_process(std::uint32_t tgid) {
  const auto process = processes_.find(tgid);
  if (process == processes_.end()) return;
  const auto container = containers_.find(process->second.container);
  past_.emplace_back(tgid, std::move(process->second));
  if (past_.size() > kPast) past_.pop_front();
  processes_.erase(process);
  if (container == containers_.end()) return;
  --container->second.processes;
  std::erase_if(container->second.namespaces, [&](const auto& seen) { return seen.second == tgid; });
  if (container->second.init_pid == tgid || container->second.processes == 0) ended_.push_back(container->first);
}

void Tracker::take(const janus_record& record, std::string_view exe) {
  switch (record.type) {
    case JANUS_RECORD_EXEC:
      seen_.emplace_back(record.container, record.tgid, record.mnt_ns);
      [[fallthrough]];
    case JANUS_RECORD_TASK:
      add_process(record.tgid, {record.container, record.forker, record.uid, comm_of(record.comm), std::string(exe)});
      break;
    case JANUS_RECORD_NAMESPACE:
      seen_.emplace_back(record.container, record.tgid, record.mnt_ns);
      break;
    case JANUS_RECORD_EXIT:
      drop_process(record.tgid);
      break;
    case JANUS_RECORD_RMDIR:
      // One of several may go while the container lives in the others.
      if (const auto it = containers_.find(record.container); it != containers_.end() && it->second.keys.size() == 1)
        ended_.push_back(record.container);
      break;
  }
}

void Tracker::see_namespace(std::uint64_t container, std::uint32_t tgid, std::uint64_t mnt_ns) {
  {
    const std::lock_guard lock(mutex_);
    const auto it = containers_.find(container);
    if (it == containers_.end() || mnt_ns == 0) return;
    auto& known = it->second.namespaces;
    if (std::any_of(known.begin(), known.end(), [&](const auto& seen) { return seen.first == mnt_ns; })) return;
    known.emplace_back(mnt_ns, tgid);
  }
  if (listener_.namespace_seen) listener_.namespace_seen(container, tgid, mnt_ns);
}

void Tracker::drain() {
  std::vector<std::uint64_t> ended;
  std::vector<std::tuple<std::uint64_t, std::uint32_t, std::uint64_t>> seen;
  programs_.consume([&](const janus_record& record, std::string_view exe) {
    const std::lock_guard lock(mutex_);
    take(record, exe);
  });
  {
    const std::lock_guard lock(mutex_);
    ended.swap(ended_);
    seen.swap(seen_);
  }
  for (const auto& [container, tgid, mnt_ns] : seen) see_namespace(container, tgid, mnt_ns);
  for (const std::uint64_t container : ended) {
    forget(container);
    if (listener_.ended) listener_.ended(container);
  }
}

void Tracker::look_for_namespaces() {
  if (containers() == 0) return;
  std::vector<std::tuple<std::uint64_t, std::uint32_t, std::uint64_t>> found;
  std::unordered_map<std::uint64_t, std::set<std::uint32_t>> there;  // by namespace
  programs_.each_namespaced([&](const janus_iter_record& record, std::span<const BpfPrograms::TaskCgroup>, std::string_view) {
    const std::lock_guard lock(mutex_);
    const auto it = processes_.find(record.tgid);
    if (it == processes_.end()) return;
    found.emplace_back(it->second.container, record.pid, record.mnt_ns);
    there[record.mnt_ns].insert(record.pid);
  });
  {
    // One that is known by a thread that has ended or gone elsewhere needs another.
    const std::lock_guard lock(mutex_);
    for (auto& [cgroup, container] : containers_)
      std::erase_if(container.namespaces, [&](const auto& seen) { return !there[seen.first].contains(seen.second); });
  }
  for (const auto& [container, pid, mnt_ns] : found) see_namespace(container, pid, mnt_ns);
}

void Tracker::check_losses() {
  const std::uint64_t lost = programs_.counter(JANUS_COUNT_RING_FULL);
  std::vector<std::pair<std::uint64_t, std::string>> tracked;
  {
    const std::lock_guard lock(mutex_);
    if (lost == lost_) return;
    lost_ = lost;
    for (const auto& [cgroup, container] : containers_) tracked.emplace_back(cgroup, container.id);
  }
  for (const auto& [cgroup, id] : tracked) {
    try {
      const FoundContainer found = search(id);
      {
        const std::lock_guard lock(mutex_);
        for (auto it = processes_.begin(); it != processes_.end();) {
          const bool gone = it->second.container == cgroup &&
                            std::none_of(found.tasks.begin(), found.tasks.end(),
                                         [&](const auto& task) { return task.tgid == it->first; });
          const std::uint32_t tgid = it->first;
          ++it;
          if (gone) drop_process(tgid);
        }
      }
      adopt(cgroup, found);
    } catch (const Error&) {  // not found: it ended, and its record was the lost one
      const std::lock_guard lock(mutex_);
      ended_.push_back(cgroup);
    }
  }
  drain();
}

std::optional<Tracker::Process> Tracker::process(std::uint32_t tgid) const {
  const std::lock_guard lock(mutex_);
  if (const auto it = processes_.find(tgid); it != processes_.end()) return it->second;
  for (auto it = past_.rbegin(); it != past_.rend(); ++it)
    if (it->first == tgid) return it->second;
  return std::nullopt;
}

std::size_t Tracker::containers() const {
  const std::lock_guard lock(mutex_);
  return containers_.size();
}

std::size_t Tracker::processes() const {
  const std::lock_guard lock(mutex_);
  return processes_.size();
}

}  // namespace janus
