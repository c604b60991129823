#include "track/container_search.h"

#include <algorithm>
#include <tuple>

#include "os/error.h"

namespace janus {
namespace {

constexpr std::size_t kFullId = 64;
constexpr std::size_t kShortId = 12;

bool is_hex(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

}  // namespace

bool is_full_id(std::string_view text) { return text.size() == kFullId && is_hex(text); }

std::string_view container_id_of(std::string_view component) {
  if (component.ends_with(".slice") || component.ends_with(".service")) return {};
  const bool scope = component.ends_with(".scope");
  if (scope) component.remove_suffix(6);
  // The systemd driver's notation, taken by a runtime without that driver for a path.
  if (const auto colon = component.rfind(':'); colon != std::string_view::npos) component.remove_prefix(colon + 1);
  if (const auto dash = component.rfind('-'); dash != std::string_view::npos) {
    const std::string_view prefix = component.substr(0, dash), id = component.substr(dash + 1);
    if (is_full_id(id)) return prefix.ends_with("conmon") ? std::string_view() : id;
  }
  if (scope) {
    for (const std::string_view runtime : {"runc-", "crun-"})
      if (component.starts_with(runtime)) return component.substr(runtime.size());
  }
  return component;
}

bool ContainerSearch::fits(std::string_view name) const {
  return name == id_ || (id_.size() == kShortId && is_hex(id_) && is_full_id(name) && name.starts_with(id_));
}

bool ContainerSearch::match(const TaskCgroup& cgroup, Match& into) const {
  std::size_t end = 0;
  // From the root on; the deepest id is the first.
  for (std::uint32_t level = cgroup.raw->levels; level-- > 0 && end < cgroup.path.size();) {
    const std::size_t begin = end + 1;
    end = std::min(cgroup.path.find('/', begin), cgroup.path.size());
    const std::string_view name = container_id_of(cgroup.path.substr(begin, end - begin));
    if (into.id.empty() && fits(name)) {
      into.id = name;
      into.path = cgroup.path.substr(0, end);
      into.key = {.id = cgroup.raw->ids[level], .hierarchy = cgroup.raw->hierarchy, .pad = 0};
    } else if (is_full_id(name) && name != into.id) {
      ++(into.id.empty() ? into.above : into.below);
    }
  }
  return !into.id.empty();
}

void ContainerSearch::see(const janus_iter_record& record, std::span<const TaskCgroup> cgroups) {
  ++processes_;
  for (const auto& cgroup : cgroups) cgroups_.emplace(cgroup.raw->hierarchy, cgroup.raw->ids[0]);
  for (const auto& cgroup : cgroups) {
    Match found;
    if (!match(cgroup, found)) continue;
    found.node_root = record.node_root != 0;
    found.tgid = record.tgid;
    found.ppid = record.ppid;
    found.start_ns = record.start_ns;
    matches_.push_back(std::move(found));
    return;
  }
}

std::vector<const ContainerSearch::Match*> ContainerSearch::chosen() const {
  // What a container calls the cgroups that it makes itself is its own affair:
  // one that is inside of another only counts where there is none outside.
  int above = matches_.empty() ? 0 : matches_.front().above;
  for (const Match& match : matches_) above = std::min(above, match.above);
  std::vector<const Match*> chosen;
  std::set<std::pair<std::string_view, std::string_view>> fitting;
  for (const Match& match : matches_) {
    if (match.above != above) continue;
    chosen.push_back(&match);
    fitting.emplace(match.id, match.path);
  }
  if (fitting.size() > 1) {
    std::string list;
    for (const auto& [id, path] : fitting)
      list.append(list.empty() ? "" : ", ").append(id).append(" (cgroup ").append(path).append(")");
    Error error(ErrorCode::ambiguous, "container id " + id_ + " fits several: " + list);
    error.target = id_;
    throw error;
  }
  return chosen;
}

// A runtime starts it from outside, before whatever else it puts in. The number
// in the pid namespace says nothing: any process can make a namespace and be pid
// 1 of it, and where pods share theirs, the pause container adopts its orphans.
const ContainerSearch::Match& ContainerSearch::first_of(const std::vector<const Match*>& matches) const {
  std::vector<const Match*> started;  // those that live in the container's own root
  std::set<std::uint32_t> tgids;
  for (const Match* match : matches) {
    if (match->node_root) continue;
    started.push_back(match);
    tgids.insert(match->tgid);
  }
  if (started.empty())
    not_found("its runtime is still setting it up, or it lives in the node's own root directory (" +
              matches.front()->path + ")");
  const auto rank = [&](const Match* match) {
    return std::tuple(match->below > 0, tgids.contains(match->ppid), match->start_ns, match->tgid);
  };
  const Match& first = **std::min_element(
      started.begin(), started.end(), [&](const Match* a, const Match* b) { return rank(a) < rank(b); });
  if (first.below > 0) not_found("the cgroup " + first.path + " only holds other containers");
  return first;
}

void ContainerSearch::not_found(const std::string& why) const {
  std::set<std::uint32_t> hierarchies;
  for (const auto& [hierarchy, id] : cgroups_) hierarchies.insert(hierarchy);
  std::string where;
  for (const std::uint32_t hierarchy : hierarchies)
    where.append(where.empty() ? "" : ", ").append(hierarchy == 0 ? "v2" : "v1 hierarchy " + std::to_string(hierarchy));
  Error error(ErrorCode::not_found, why + "; searched " + std::to_string(processes_) + " processes in " +
                                        std::to_string(cgroups_.size()) + " cgroups (" +
                                        (where.empty() ? "all of them roots" : where) + ")");
  error.target = id_;
  throw error;
}

FoundContainer ContainerSearch::result() const {
  const std::vector<const Match*> matches = chosen();
  if (matches.empty()) not_found("no process is in a cgroup of that name");
  const Match& first = first_of(matches);
  FoundContainer found;
  found.info.id = first.id;
  found.info.cgroup_path = first.path;
  found.info.init_pid = first.tgid;
  found.start_ns = first.start_ns;
  found.ppid = first.ppid;
  std::set<std::pair<std::uint32_t, std::uint64_t>> keys;
  for (const Match* match : matches) {
    keys.emplace(match->key.hierarchy, match->key.id);
    found.info.pids.push_back(match->tgid);
  }
  for (const auto& [hierarchy, id] : keys) found.keys.push_back({.id = id, .hierarchy = hierarchy, .pad = 0});
  found.info.cgroup = found.keys.front().id | (static_cast<std::uint64_t>(found.keys.front().hierarchy) << 56);
  std::sort(found.info.pids.begin(), found.info.pids.end());
  return found;
}

}  // namespace janus
