#include "cover/mount_cloner.h"

#include <fcntl.h>
#include <linux/mount.h>
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <exception>

#include "os/error.h"
#include "cover/border.h"

namespace janus {

MountCloner::MountCloner() : home_(static_cast<int>(syscall(SYS_pidfd_open, getpid(), 0))), thread_([this] { run(); }) {}

MountCloner::~MountCloner() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

UniqueFd MountCloner::clone(const BpfPrograms& programs, const ProcessDir& process, const MountPoints& served,
                            const std::string& point) {
  Job job{.programs = programs, .process = process, .served = served, .point = point};
  std::unique_lock lock(mutex_);
  job_ = &job;
  changed_.notify_all();
  changed_.wait(lock, [&] { return job.done; });
  return std::move(job.result);
}

// open_tree(2) clones only mounts of the caller's own mount namespace. A thread can
// go to another: setns(2) needs a file system context of its own, which
// unshare(CLONE_FS) gives it. It comes back after each, since where it is stays busy.
void MountCloner::run() {
  pthread_setname_np(pthread_self(), "mounts");
  const bool apart = unshare(CLONE_FS) == 0;
  std::unique_lock lock(mutex_);
  for (;;) {
    heartbeat_.beat();
    changed_.wait_for(lock, std::chrono::milliseconds(kBeatMs), [this] { return stop_ || job_ != nullptr; });
    if (job_ == nullptr && stop_) return;
    if (job_ == nullptr) continue;
    Job& job = *job_;
    job_ = nullptr;
    lock.unlock();
    if (apart) take(job);
    lock.lock();
    job.done = true;
    changed_.notify_all();
  }
}

void MountCloner::take(Job& job) const {
  try {
    const UniqueFd there = job.process.namespaces();
    if (setns(there.get(), CLONE_NEWNS) != 0) return;
    const UniqueFd at = resolve_local(job.programs, job.process, job.served, job.point).object;
    job.result.reset(static_cast<int>(
        syscall(SYS_open_tree, at.get(), "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC)));
  } catch (const std::exception&) {
    // The mount has gone meanwhile, or there are no resources: there is no clone.
  }
  setns(home_.get(), CLONE_NEWNS);
}

}  // namespace janus
