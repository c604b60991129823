// What runs on the node, for people to read: looked up anew at each call, in
// one walk over all processes.
//
// Owns: nothing. Any thread. Nothing is decided by what it says.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "ebpf/bpf_programs.h"
#include "track/tracker.h"

namespace janus {

struct ContainerSummary {
  std::string id;
  std::string cgroup_path;
  std::uint32_t hierarchy = 0;   // that the path is of; 0: cgroup v2
  std::uint32_t first_pid = 0;
  std::uint64_t started_ns = 0;  // its first process; CLOCK_REALTIME
  std::size_t processes = 0;     // of nested containers, too
  bool tracked = false;         // guarded
};

struct ProcessSummary {
  std::uint32_t pid = 0, ppid = 0, uid = 0;
  std::uint64_t started_ns = 0;  // CLOCK_REALTIME
  std::uint64_t mnt_ns = 0;      // unique since boot
  std::string comm;
  std::string exe;          // as its file system names it
  std::uint32_t flags = 0;  // janus_task_flag: what autoAllowOwner goes by
};

class Inspector {
 public:
  Inspector(BpfPrograms& programs, Tracker& tracker) : programs_(programs), tracker_(tracker) {}

  // The tracked containers; with `all` also those that only their cgroup's name
  // tells: 64 hex characters, as all runtimes of Kubernetes have them. By start.
  std::vector<ContainerSummary> containers(bool all) const;

  // Of any container, tracked or not; by start. Throws as Tracker::find does.
  std::vector<ProcessSummary> processes(const std::string& id) const;

 private:
  BpfPrograms& programs_;
  Tracker& tracker_;
};

}  // namespace janus
