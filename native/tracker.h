// Which processes belong to which guarded container.
//
// Owns: the table of tracked containers and their processes, fed by the eBPF
// programs. Thread-safe. Must not know policy: it tells its listener what
// happened and answers questions.
//
// A container is tracked from its first guard until it ends; before that it is
// found by a walk over all processes (iter/task, about 1 us each).
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "bpf_programs.h"
#include "container_search.h"

namespace janus {

class Tracker {
 public:
  struct Listener {
    // The first process ended, or the cgroup was removed.
    std::function<void(std::uint64_t container)> ended;
    // A process of the container is in a mount namespace not seen before. (Not
    // told of processes that a runtime is still putting in: those are in the
    // node's own.)
    std::function<void(std::uint64_t container, std::uint32_t tgid, std::uint64_t mnt_ns)> namespace_seen;
  };

  Tracker(BpfPrograms& programs, Listener listener);

  // Throws as ContainerSearch does.
  ContainerInfo find(const std::string& id);
  // Those that would not be found, by one walk for all of them.
  std::vector<std::string> missing(const std::vector<std::string>& ids);
  // The same as find, and follows its processes from now on.
  ContainerInfo track(const std::string& id);
  void forget(std::uint64_t container);

  // Takes what the eBPF ring holds. Called by the tracker thread, and by
  // whoever needs the table to be true now.
  void drain();
  // Once a second: reads everything again if records were lost.
  void check_losses();

  // What is known of a process of a guarded container, also for a while after
  // it has ended.
  struct Process {
    std::uint64_t container = 0;
    std::uint32_t ppid = 0;
    std::uint32_t uid = 0;
    std::string comm;
    std::string exe;
  };
  std::optional<Process> process(std::uint32_t tgid) const;
  // The process asked about was in this namespace. Cheap when it is known.
  void see_namespace(std::uint64_t container, std::uint32_t tgid, std::uint64_t mnt_ns);
  // Looks at every thread of the node: a namespace that is entered without a
  // fork, an exec or a question is told by nothing.
  void look_for_namespaces();

  std::size_t containers() const;
  std::size_t processes() const;

 private:
  struct Container {
    std::string id;
    std::string cgroup_path;
    std::vector<janus_cgroup_key> keys;
    std::uint32_t init_pid = 0;
    // Mount namespaces seen, each with the thread it was seen of. Forgotten
    // with it: who looks at the mounts needs a living one.
    std::vector<std::pair<std::uint64_t, std::uint32_t>> namespaces;
    std::size_t processes = 0;
  };
  std::optional<ContainerInfo> known(const std::string& id) const;
  FoundContainer search(const std::string& id);
  // `container`: by which it is tracked, or is to be.
  void adopt(std::uint64_t container, const FoundContainer& found);
  void add_process(std::uint32_t tgid, Process process);
  void drop_process(std::uint32_t tgid);
  void take(const janus_record& record, std::string_view exe);

  BpfPrograms& programs_;
  const Listener listener_;
  mutable std::mutex mutex_;
  std::unordered_map<std::uint64_t, Container> containers_;
  std::unordered_map<std::uint32_t, Process> processes_;
  // Those that ended last: their asynchronous events may still be unread.
  std::deque<std::pair<std::uint32_t, Process>> past_;
  std::uint64_t lost_ = 0;
  // Filled under the lock, told to the listener after it.
  std::vector<std::uint64_t> ended_;
  std::vector<std::tuple<std::uint64_t, std::uint32_t, std::uint64_t>> seen_;
};

}  // namespace janus
