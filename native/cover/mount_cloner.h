// Private clones of mounts in other mount namespaces.
//
// Owns: the thread that goes there. It is made at the start and kept: when a
// container fills the table of processes, no thread can be made any more, and that
// is no moment to leave new mounts unmarked.
#pragma once

#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>

#include "cover/mounts.h"
#include "ebpf/bpf_programs.h"
#include "os/clock.h"
#include "os/process_dir.h"
#include "os/unique_fd.h"

namespace janus {

class MountCloner {
 public:
  MountCloner();
  ~MountCloner();
  MountCloner(const MountCloner&) = delete;
  MountCloner& operator=(const MountCloner&) = delete;

  // The mount at `point` in the process's namespace and root, attached nowhere;
  // empty if it cannot be had. One caller at a time.
  // Never of a file system that isn't local, nor by way of one.
  UniqueFd clone(const BpfPrograms& programs, const ProcessDir& process, const MountPoints& served,
                 const std::string& point);

  const Heartbeat& heartbeat() const { return heartbeat_; }

 private:
  struct Job {
    const BpfPrograms& programs;
    const ProcessDir& process;
    const MountPoints& served;
    const std::string& point;
    UniqueFd result = {};
    bool done = false;
  };

  void run();
  void take(Job& job) const;

  const UniqueFd home_;  // pidfd of this process: our own mount namespace
  std::mutex mutex_;
  std::condition_variable changed_;
  Job* job_ = nullptr;
  bool stop_ = false;
  Heartbeat heartbeat_;
  std::thread thread_;
};

}  // namespace janus
