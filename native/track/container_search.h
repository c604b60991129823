// Which container an id means, and which processes are its own.
//
// Owns: what the runtimes' cgroup paths look like, in all layouts. One search
// is one walk over the node's processes; it looks at nothing itself. For one
// thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ebpf/bpf_programs.h"

namespace janus {

struct ContainerInfo {
  std::string id;             // as its runtime calls it
  std::uint64_t cgroup = 0;   // key of the container everywhere in native/
  std::string cgroup_path;
  std::uint32_t init_pid = 0;
  std::vector<std::uint32_t> pids;
};

struct FoundContainer {
  ContainerInfo info;  // its pids: also those that a runtime is still putting in
  // Its cgroup in each hierarchy in which processes were found by it; v2's first.
  std::vector<janus_cgroup_key> keys;
  // Of its first process.
  std::uint64_t start_ns = 0;
  std::uint32_t ppid = 0;
};

// 64 hex characters.
bool is_full_id(std::string_view text);

// The container id in one component of a cgroup's path: "<64 hex>",
// "cri-containerd-<64 hex>.scope", "a.slice:cri-containerd:<64 hex>",
// "runc-<name>.scope", or the whole component, as a runtime's own name. Empty
// for what is never a container: units of systemd, and the monitors of CRI-O and
// podman.
std::string_view container_id_of(std::string_view component);

class ContainerSearch {
 public:
  // A full id, 12 hex characters of one, or a runtime's own full name.
  explicit ContainerSearch(std::string id) : id_(std::move(id)) {}

  const std::string& id() const { return id_; }

  // To be called for each process of the node.
  void see(const janus_iter_record& record, std::span<const TaskCgroup> cgroups);

  // After all processes were seen. Throws Error(not_found) that says what was
  // searched, Error(ambiguous) that says what fits.
  FoundContainer result() const;

 private:
  struct Match {
    std::string id;
    std::string path;  // as far as the container's own cgroup
    janus_cgroup_key key{};
    int above = 0;     // other containers that it lies in
    int below = 0;     // other containers that lie in it, around this process
    bool node_root = false;
    std::uint32_t tgid = 0, ppid = 0;
    std::uint64_t start_ns = 0;
  };

  bool fits(std::string_view name) const;
  bool match(const TaskCgroup& cgroup, Match& into) const;
  // The one container among the matches. Throws Error(ambiguous).
  std::vector<const Match*> chosen() const;
  const Match& first_of(const std::vector<const Match*>& matches) const;
  [[noreturn]] void not_found(const std::string& why) const;

  std::string id_;
  std::size_t processes_ = 0;
  std::set<std::pair<std::uint32_t, std::uint64_t>> cgroups_;  // hierarchy and id, of those looked at
  std::vector<Match> matches_;
};

}  // namespace janus
