#include "track/inspector.h"

#include <algorithm>
#include <cstring>
#include <ctime>
#include <map>
#include <set>
#include <span>
#include <string_view>
#include <tuple>
#include <unordered_map>

#include "os/clock.h"

namespace janus {
namespace {

template <typename Summary>
void sort_by_start(std::vector<Summary>& summaries) {
  std::stable_sort(summaries.begin(), summaries.end(),
                   [](const Summary& a, const Summary& b) { return a.started_ns < b.started_ns; });
}

}  // namespace

std::vector<ContainerSummary> Inspector::containers(bool all) const {
  const std::uint64_t offset = boot_epoch_ns();
  std::map<std::string, ContainerSummary, std::less<>> found;
  std::unordered_map<std::uint32_t, ContainerSummary*> firsts;
  for (Tracker::Tracked& info : tracker_.tracked()) {
    ContainerSummary& summary = found[info.id];
    summary = {.id = info.id,
               .cgroup_path = std::move(info.cgroup_path),
               .hierarchy = static_cast<std::uint32_t>(info.cgroup >> 56),
               .first_pid = info.init_pid,
               .processes = info.processes,
               .tracked = true};
    firsts[info.init_pid] = &summary;
  }
  // Of those that are not tracked, as ContainerSearch has it: not a runtime's
  // process that is still at the node's root, and the oldest of the others.
  using Rank = std::tuple<bool, std::uint64_t>;
  std::map<std::string_view, Rank> ranks;
  const auto count = [&](ContainerSummary& summary, const janus_iter_record& record) {
    if (summary.tracked) return;
    ++summary.processes;
    const Rank rank(record.node_root != 0, record.start_ns);
    const auto [best, first] = ranks.try_emplace(summary.id, rank);
    if (!first && best->second <= rank) return;
    best->second = rank;
    summary.first_pid = record.tgid;
    summary.started_ns = record.start_ns + offset;
  };
  programs_.each_task([&](const janus_iter_record& record, std::span<const TaskCgroup> cgroups,
                          std::string_view) {
    if (const auto it = firsts.find(record.tgid); it != firsts.end()) it->second->started_ns = record.start_ns + offset;
    if (!all) return;
    std::set<std::string_view> seen;  // the same in another hierarchy is the same
    for (const auto& cgroup : cgroups) {
      for (std::string_view path = cgroup.path; !path.empty(); path = path.substr(0, path.rfind('/'))) {
        const std::string_view name = container_id_of(path.substr(path.rfind('/') + 1));
        if (!is_full_id(name) || !seen.insert(name).second) continue;
        auto it = found.find(name);
        if (it == found.end())
          it = found.emplace(name, ContainerSummary{.id = std::string(name),
                                                    .cgroup_path = std::string(path),
                                                    .hierarchy = cgroup.raw->hierarchy}).first;
        count(it->second, record);
      }
    }
  });
  std::vector<ContainerSummary> out;
  for (auto& [id, summary] : found) out.push_back(std::move(summary));
  sort_by_start(out);
  return out;
}

std::vector<ProcessSummary> Inspector::processes(const std::string& id) const {
  const ContainerInfo container = tracker_.find(id);
  const std::uint64_t offset = boot_epoch_ns();
  std::vector<ProcessSummary> out;
  programs_.each_task([&](const janus_iter_record& record, auto, std::string_view exe) {
    if (!std::binary_search(container.pids.begin(), container.pids.end(), record.tgid)) return;
    ProcessSummary& process = out.emplace_back();
    process = {.pid = record.tgid,
               .ppid = record.ppid,
               .uid = record.uid,
               .started_ns = record.start_ns + offset,
               .mnt_ns = record.mnt_ns,
               .comm = comm_of(record.comm),
               .exe = std::string(exe)};
    if (const auto actor = tracker_.actor({record.tgid, record.start_ns}))
      process.flags = actor->flags;
    else if (record.tgid == container.init_pid)
      process.flags = JANUS_TASK_INIT;
    else if (record.ppid == container.init_pid)
      process.flags = JANUS_TASK_CHILD;
  });
  sort_by_start(out);
  return out;
}

}  // namespace janus
