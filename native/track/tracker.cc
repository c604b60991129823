#include "track/tracker.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <set>
#include <tuple>
#include <utility>

#include "os/clock.h"
#include "os/error.h"

namespace janus {
namespace {

// How soon it is tried again to take in those for whom there was no room.
constexpr std::uint64_t kRetryNs = 400'000'000;

ProcessTable::News news_of(const janus_task& task, std::uint32_t ppid, std::uint32_t uid, std::string comm,
                           std::string_view exe) {
  return {.container = task.container,
          .forker = {task.forker, task.forker_start_ns},
          .ppid = ppid,
          .uid = uid,
          .flags = task.flags,
          .comm = std::move(comm),
          .exe = std::string(exe),
          .argv0 = {}};
}

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
    for (const ProcessKey& key : table_.of(cgroup)) info.pids.push_back(key.tgid);
    return info;
  }
  return std::nullopt;
}

FoundContainer Tracker::search(const std::string& id) {
  ContainerSearch search(id);
  programs_.each_task([&](const janus_iter_record& record, std::span<const TaskCgroup> cgroups,
                          std::string_view) { search.see(record, cgroups); });
  return search.result();
}

std::vector<std::string> Tracker::missing(const std::vector<std::string>& ids) {
  drain();
  std::vector<ContainerSearch> searches;
  for (const std::string& id : ids)
    if (!known(id)) searches.emplace_back(id);
  if (searches.empty()) return {};
  programs_.each_task([&](const janus_iter_record& record, std::span<const TaskCgroup> cgroups,
                          std::string_view) {
    for (ContainerSearch& search : searches) search.see(record, cgroups);
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

ContainerInfo Tracker::track(const std::string& id, bool* is_new) {
  drain();
  if (auto info = known(id)) return *info;
  if (is_new != nullptr) *is_new = true;
  const FoundContainer found = search(id);
  const ProcessKey first{found.info.init_pid, found.start_ns};
  const std::uint64_t cgroup = found.info.cgroup;
  {
    const std::lock_guard lock(mutex_);
    Container& container = containers_[cgroup];
    container.id = found.info.id;
    container.cgroup_path = found.info.cgroup_path;
    container.keys = found.keys;
    container.init_pid = first.tgid;
  }
  // In this order no process falls between: first who is the owner, then the
  // tracepoints (which know forks from then on), then those that were there.
  try {
    const janus_task owner = {.container = cgroup,
                              .start_ns = first.start_ns,
                              .forker_start_ns = 0,
                              .forker = found.ppid,
                              .flags = JANUS_TASK_INIT};
    if (!programs_.add_task(first.tgid, owner)) throw Error(ErrorCode::exhausted, "eBPF map tasks is full");
    for (const janus_cgroup_key& key : found.keys) programs_.add_cgroup(key, cgroup);
    refresh();
    look_for_namespaces();  // of threads, too: what is guarded is marked there when the guard is made
  } catch (...) {
    leave(cgroup);
    throw;
  }
  drain();
  auto info = known(found.info.id);
  if (info && std::binary_search(info->pids.begin(), info->pids.end(), first.tgid)) return *info;
  // It ended before its entry was there, so that nothing has taken it away.
  programs_.remove_task(first.tgid);
  forget(cgroup);
  throw Error(ErrorCode::not_found, "container " + id + " ended meanwhile");
}

// The walk itself takes in, on the kernel's side, what it finds in a tracked
// cgroup. A process with an entry in the kernel's table has yet to end for us,
// too: its last record is read after this (both under the lock).
void Tracker::refresh() {
  struct Seen {
    ProcessKey key;
    ProcessTable::News news;
    std::uint64_t mnt_ns;
  };
  std::vector<Seen> seen;
  programs_.each_task([&](const janus_iter_record& record, std::span<const TaskCgroup>, std::string_view exe) {
    if (record.task.container == 0) return;
    seen.push_back({{record.tgid, record.start_ns},
                    news_of(record.task, record.ppid, record.uid, comm_of(record.comm), exe),
                    record.mnt_ns});
  });
  {
    const std::lock_guard lock(mutex_);
    refreshed_ns_ = boot_ns();
    const auto has_entry = [&](const ProcessKey& key) {
      const auto task = programs_.task(key.tgid);
      return task && task->start_ns == key.start_ns;
    };
    for (const ProcessKey& key : table_.living())
      if (!has_entry(key)) end(key, nullptr);
    missing_ = false;
    std::set<std::uint64_t> changed;
    for (const Seen& one : seen) {
      if (!containers_.contains(one.news.container)) continue;
      if (has_entry(one.key)) {
        put(one.key, one.news);
        changed.insert(one.news.container);
      } else {
        missing_ = true;
      }
    }
    for (const std::uint64_t container : changed) table_.relink(container);
  }
  for (const Seen& one : seen) see_namespace(one.news.container, one.key.tgid, one.mnt_ns);
}

void Tracker::forget(std::uint64_t container) {
  const std::lock_guard lock(mutex_);
  const auto it = containers_.find(container);
  if (it == containers_.end()) return;
  for (const janus_cgroup_key& key : it->second.keys) programs_.remove_cgroup(key);
  table_.end_container(container, boot_ns());
  containers_.erase(it);
}

void Tracker::leave(std::uint64_t container) {
  // Who forks meanwhile hands its entry on. What is left after some rounds goes with its process.
  constexpr int kRounds = 16;
  {
    const std::lock_guard lock(mutex_);
    const auto it = containers_.find(container);
    if (it == containers_.end()) return;
    for (const janus_cgroup_key& key : it->second.keys) programs_.remove_cgroup(key);
    table_.forget_container(container);
    containers_.erase(it);
  }
  for (int round = 0; round < kRounds && programs_.remove_tasks_of(container) > 0; ++round) {
  }
}

void Tracker::put(const ProcessKey& key, const ProcessTable::News& news) {
  if (!containers_.contains(news.container)) return;
  const auto emptied = table_.put(key, news, boot_ns());
  emptied_.insert(emptied_.end(), emptied.begin(), emptied.end());
}

void Tracker::end(const ProcessKey& key, const ProcessTable::News* last) {
  const ProcessTable::Process* process = table_.find(key);
  if (process == nullptr || process->ended_ns != 0) return;
  if (const auto container = containers_.find(process->container); container != containers_.end())
    std::erase_if(container->second.namespaces, [&](const auto& seen) { return seen.second == key.tgid; });
  const auto emptied = last != nullptr ? table_.end(key, *last, boot_ns()) : table_.end(key, boot_ns());
  if (emptied) emptied_.push_back(*emptied);
}

void Tracker::take(const janus_record& record, const RecordTexts& texts) {
  const ProcessKey key{record.tgid, record.task.start_ns};
  const auto news = [&] { return news_of(record.task, record.ppid, record.uid, comm_of(record.comm), texts.exe); };
  switch (record.type) {
    case JANUS_RECORD_EXEC: {
      seen_.emplace_back(record.task.container, record.tgid, record.mnt_ns);
      auto executed = news();
      executed.argv0 = std::string(texts.argv0);
      put(key, executed);
      break;
    }
    case JANUS_RECORD_TASK:
      put(key, news());
      break;
    case JANUS_RECORD_NAMESPACE:
      seen_.emplace_back(record.task.container, record.tgid, record.mnt_ns);
      break;
    case JANUS_RECORD_EXIT: {
      const auto last = news();
      end(key, &last);
      break;
    }
    case JANUS_RECORD_RMDIR:
      // One of several may go while the container lives in the others.
      if (const auto it = containers_.find(record.task.container); it != containers_.end() && it->second.keys.size() == 1)
        removed_.push_back(record.task.container);
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
  programs_.consume([&](const janus_record& record, const RecordTexts& texts) {
    const std::lock_guard lock(mutex_);
    take(record, texts);
  });
  tell();
}

void Tracker::tell() {
  std::vector<std::uint64_t> ended;
  std::vector<std::tuple<std::uint64_t, std::uint32_t, std::uint64_t>> seen;
  {
    const std::lock_guard lock(mutex_);
    ended.swap(removed_);
    // Meanwhile somebody may have come in. And one for whom there was no room
    // isn't in the table: then it ends with its cgroup.
    for (const std::uint64_t container : std::exchange(emptied_, {}))
      if (table_.of(container).empty() && programs_.counter(JANUS_COUNT_TASKS_FULL) == 0) ended.push_back(container);
    seen.swap(seen_);
  }
  for (const auto& [container, tgid, mnt_ns] : seen) see_namespace(container, tgid, mnt_ns);
  for (const std::uint64_t container : ended) {
    forget(container);
    if (listener_.ended) listener_.ended(container);
  }
}

std::vector<std::pair<std::uint64_t, std::uint32_t>> Tracker::namespaces(std::uint64_t container) const {
  const std::lock_guard lock(mutex_);
  const auto it = containers_.find(container);
  if (it == containers_.end()) return {};
  return it->second.namespaces;
}

std::set<std::pair<std::uint64_t, std::uint32_t>> Tracker::known_namespaces() const {
  const std::lock_guard lock(mutex_);
  std::set<std::pair<std::uint64_t, std::uint32_t>> known;
  for (const auto& [cgroup, container] : containers_) known.insert(container.namespaces.begin(), container.namespaces.end());
  return known;
}

std::vector<Tracker::Namespace> Tracker::look_for_namespaces() {
  if (containers() == 0) return {};
  std::map<std::uint64_t, Namespace> namespaces;
  std::vector<janus_thread> threads;
  std::set<std::pair<std::uint64_t, std::uint32_t>> there;
  const auto before = known_namespaces();
  // Not by the clock: on a busy processor, which a container can see to, it would look ever more rarely.
  const std::uint64_t begun = clock_ns(CLOCK_THREAD_CPUTIME_ID);
  programs_.each_thread([&](const janus_thread& thread) {
    threads.push_back(thread);
    there.emplace(thread.mnt_ns, thread.pid);
    namespaces.try_emplace(thread.mnt_ns, Namespace{thread.container, thread.mnt_ns, thread.mnt_event});
  });
  walk_ns_.store(clock_ns(CLOCK_THREAD_CPUTIME_ID) - begun, std::memory_order_relaxed);
  {
    // One that is known by a thread that has ended or gone elsewhere needs another.
    // What became known during the walk may be of a thread that it had passed.
    const std::lock_guard lock(mutex_);
    for (auto& [cgroup, container] : containers_)
      std::erase_if(container.namespaces, [&](const auto& seen) { return before.contains(seen) && !there.contains(seen); });
  }
  for (const janus_thread& thread : threads) see_namespace(thread.container, thread.pid, thread.mnt_ns);
  std::vector<Namespace> result;
  for (const auto& [id, each] : namespaces) result.push_back(each);
  return result;
}

void Tracker::check_losses() {
  const std::uint64_t lost = programs_.counter(JANUS_COUNT_RING_FULL) + programs_.counter(JANUS_COUNT_TASKS_FULL);
  if (lost == lost_ && !(missing_ && boot_ns() - refreshed_ns_ > kRetryNs)) return;
  lost_ = lost;
  drain();  // what was written before the loss belongs before what is read now
  refresh();
  tell();
}

std::optional<Tracker::Process> Tracker::process(const ProcessKey& key) const {
  const std::lock_guard lock(mutex_);
  const ProcessTable::Process* found = table_.find(key);
  if (found == nullptr) return std::nullopt;
  Process process{.container = found->container,
                  .start_ns = key.start_ns,
                  .ppid = found->ppid,
                  .uid = found->uid,
                  .comm = found->image->comm,
                  .exe = found->image->exe,
                  .argv0 = found->argv0,
                  .ancestors = {},
                  .cut = found->cut};
  for (const auto& image : found->ancestors) process.ancestors.push_back({image->key.tgid, image->comm, image->exe});
  return process;
}

std::optional<Tracker::Actor> Tracker::actor(const ProcessKey& key) const {
  const std::lock_guard lock(mutex_);
  const ProcessTable::Process* process = table_.find(key);
  if (process == nullptr) return std::nullopt;
  return Actor{.key = key, .container = process->container, .flags = process->flags};
}

Tracker::Actor Tracker::actor(std::uint32_t tgid, std::uint64_t since_ns, std::uint64_t read_ns, bool alive) const {
  const std::lock_guard lock(mutex_);
  const auto [process, container] = table_.actor(tgid, since_ns, read_ns, alive);
  if (process == nullptr) return {.key = {tgid, 0}, .container = container};
  return {.key = process->image->key, .container = container, .flags = process->flags};
}

void Tracker::settle(Reader reader, std::uint64_t read_ns) {
  const std::lock_guard lock(mutex_);
  settled_ns_[static_cast<std::size_t>(reader)] = read_ns;
  table_.settle(*std::ranges::min_element(settled_ns_));
}

std::vector<Tracker::Tracked> Tracker::tracked() const {
  const std::lock_guard lock(mutex_);
  std::vector<Tracked> all;
  for (const auto& [cgroup, container] : containers_)
    all.push_back({container.id, cgroup, container.cgroup_path, container.init_pid, table_.of(cgroup).size()});
  return all;
}

bool Tracker::follows(std::uint64_t container) const {
  const std::lock_guard lock(mutex_);
  return containers_.contains(container);
}

std::size_t Tracker::containers() const {
  const std::lock_guard lock(mutex_);
  return containers_.size();
}

std::size_t Tracker::processes() const {
  const std::lock_guard lock(mutex_);
  return table_.living_count();
}

}  // namespace janus
