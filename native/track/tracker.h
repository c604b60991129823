// Which processes belong to which guarded container.
//
// Owns: the table of tracked containers and their processes, fed by the eBPF
// programs. Thread-safe. Must not know policy: it tells its listener what
// happened and answers questions.
//
// A container is tracked from its first guard until it ends; before that it is
// found by a walk over all processes (iter/task; `make bench` prints search_us_per_process).
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

#include "ebpf/bpf_programs.h"
#include "track/container_search.h"
#include "track/process_table.h"

namespace janus {

class Tracker {
 public:
  struct Listener {
    // No process of it is left, or the cgroup was removed. (Not yet when the
    // first process ends: it may take its time, and the others go on meanwhile.)
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
  // The same as find, and follows its processes from now on. `is_new`: it didn't before.
  ContainerInfo track(const std::string& id, bool* is_new = nullptr);
  void forget(std::uint64_t container);
  // Undoes track() while the container lives: its processes are nobody's again.
  void leave(std::uint64_t container);

  // Takes what the eBPF ring holds. Called by the tracker thread, and by
  // whoever needs the table to be true now.
  void drain();
  // Reads everything again if records were lost, or processes had no room.
  // Called by the tracker thread only.
  void check_losses();

  // What is known of a process of a guarded container, also when it has ended,
  // for as long as events of it may be unread.
  struct Ancestor {
    std::uint32_t tgid = 0;
    std::string comm;
    std::string exe;
  };
  struct Process {
    std::uint64_t container = 0;
    std::uint64_t start_ns = 0;  // CLOCK_BOOTTIME
    std::uint32_t ppid = 0;
    std::uint32_t uid = 0;
    std::string comm;
    std::string exe;
    std::string argv0;  // see ProcessTable::Process
    // Its forker, its forker's forker, ..., up to the container's first process
    // (or to one that was put into the container: it has none in there).
    std::vector<Ancestor> ancestors;
    bool cut = false;  // there are more
  };
  std::optional<Process> process(const ProcessKey& key) const;

  struct Actor {
    ProcessKey key;
    std::uint64_t container = 0;
    std::uint32_t flags = 0;  // janus_task_flag
  };
  std::optional<Actor> actor(const ProcessKey& key) const;
  // Who raised an asynchronous event; see ProcessTable::actor(). A start of 0:
  // not known; a container of 0: none, as far as is known.
  Actor actor(std::uint32_t tgid, std::uint64_t since_ns, std::uint64_t read_ns, bool alive) const;
  // All events that happened before `read_ns` (CLOCK_BOOTTIME) have been read, by this reader of events.
  enum class Reader : std::size_t { observer, dirents };
  void settle(Reader reader, std::uint64_t read_ns);

  // The process asked about was in this namespace. Cheap when it is known.
  void see_namespace(std::uint64_t container, std::uint32_t tgid, std::uint64_t mnt_ns);
  // The mount namespaces seen so far, each with a thread that was seen in it.
  std::vector<std::pair<std::uint64_t, std::uint32_t>> namespaces(std::uint64_t container) const;
  // Looks at every thread of tracked containers: a namespace that is entered without a
  // fork, an exec or a question is told by nothing. Returns those of the tracked
  // containers, and which state their mounts were in before (it changes with them).
  struct Namespace {
    std::uint64_t container = 0, id = 0, event = 0;
  };
  std::vector<Namespace> look_for_namespaces();
  // The processor time of the last look's walk over all threads, without what it led to.
  std::uint64_t walk_ns() const { return walk_ns_.load(std::memory_order_relaxed); }

  struct Tracked {
    std::string id;
    std::uint64_t cgroup = 0;
    std::string cgroup_path;
    std::uint32_t init_pid = 0;
    std::size_t processes = 0;
  };
  std::vector<Tracked> tracked() const;
  bool follows(std::uint64_t container) const;
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
  };

  std::optional<ContainerInfo> known(const std::string& id) const;
  FoundContainer search(const std::string& id);
  void refresh();
  void put(const ProcessKey& key, const ProcessTable::News& news);
  void end(const ProcessKey& key, const ProcessTable::News* last);
  void take(const janus_record& record, const RecordTexts& texts);
  void tell();
  // Of all containers, as namespaces() has them.
  std::set<std::pair<std::uint64_t, std::uint32_t>> known_namespaces() const;

  BpfPrograms& programs_;
  const Listener listener_;
  mutable std::mutex mutex_;
  std::unordered_map<std::uint64_t, Container> containers_;
  ProcessTable table_;
  std::array<std::uint64_t, 2> settled_ns_{};  // by reader
  std::atomic<std::uint64_t> walk_ns_{0};
  std::uint64_t lost_ = 0;
  // At the last refresh there was no room for a process of a tracked container.
  std::atomic<bool> missing_ = false;
  std::atomic<std::uint64_t> refreshed_ns_ = 0;
  // Filled under the lock, told to the listener after it.
  std::vector<std::uint64_t> emptied_;
  std::vector<std::uint64_t> removed_;
  std::vector<std::tuple<std::uint64_t, std::uint32_t, std::uint64_t>> seen_;
};

}  // namespace janus
