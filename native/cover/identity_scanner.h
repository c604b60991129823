// Pins the inodes below a denied directory.
//
// Owns: its thread and queues, in which containers take turns: what is below one's
// directory, or appears there, may be as much as it likes. Directories are read by the lister's threads,
// so that one that never comes back costs only its own scan. The path already guards the
// directory's contents from the moment CreateGuard returns; this makes each of them
// guarded as what it is, too, so that it stays so when it is moved, linked elsewhere, or
// reached through a mount that nobody knows of.
#pragma once

#include <atomic>
#include <cstddef>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "os/clock.h"
#include "identity/identity_table.h"
#include "identity/shares.h"
#include "ebpf/locator.h"
#include "cover/directory_lister.h"
#include "cover/mark_planner.h"
#include "policy/policy.h"
#include "cover/tree_walk.h"
#include "cover/turns.h"
#include "identity/tree_watch.h"
#include "os/unique_fd.h"
#include "record/refusals.h"

namespace janus {

class IdentityScanner {
 public:
  struct Parts {
    const BpfPrograms& programs;
    const PolicyBox& policy;
    IdentityTable& identities;
    IgnoreLearner& learner;
    TreeWatch& trees;
    MarkPlanner& planner;
    EngineCounters& counters;
    Refusals& refusals;
  };

  explicit IdentityScanner(Parts parts);

  // Scans a small directory at once and leaves the rest to the thread. One
  // thread's (the creator's).
  void scan(const ScanJob& job);
  // Leaves all of it to the thread: for whoever must not wait for an answer.
  void queue(const MarkPlanner::ScanJobs& jobs);
  // The kernel has denied what is at this path for where it is: it is to be pinned. Any thread.
  void see(std::uint64_t container, Device device, std::string_view path);
  // Unpins what nobody guards any more; `before` tells where to find it.
  void sweep(const MarkPlanner::Before& before);

  void run(const std::atomic<bool>& stop);
  void wake() const;
  const Heartbeat& heartbeat() const { return heartbeat_; }

  // Directories that are not scanned yet.
  std::size_t pending();
  // Directories that are being read, and have been for longer than anyone waits for.
  std::size_t stuck() const { return lister_.stuck(); }

 private:
  struct Scan {
    std::uint64_t container = 0;  // whose turn it is part of
    Device device = 0;
    TreeWalk walk;
    std::uint64_t token = 0;  // the planner waits for scanned() with it; 0: it doesn't
    bool promised() const { return token != 0; }
    bool begun = false;
  };
  using Sweep = std::pair<Device, std::shared_ptr<const Superblock>>;
  struct Appeared {
    std::uint64_t container = 0;  // whose guard it is in; 0: nobody knows
    TreeWatch::Entry entry;
    bool seen = false;  // not by the tree watch: where its directory is gone, nothing is missed
  };
  enum class Progress { done, more, waits, incomplete };

  Progress try_to_advance(Scan& scan, Locator& locator, std::size_t& left);
  Progress advance(Scan& scan, Locator& locator, std::size_t& left);
  Place::Step step_to(const Location& location, std::string name) const;
  void find_out(Place& place, int directory, Locator& locator) const;
  bool pin(UniqueFd object, const std::shared_ptr<const Place>& directory, const Superblock& superblock, Scan& scan, Locator& locator);
  void finish(const Scan& scan, Progress how);
  // `container`: what its guards deny; 0: what any does.
  void scan_again(Device device, std::uint64_t container = 0);
  std::uint64_t whose(TreeWatch::Entry& entry, const Policy& policy);
  UniqueFd open_directory(const Superblock& superblock, TreeWatch::Entry& entry) const;
  void take_in();
  bool grow();
  void enqueue(Appeared appeared);
  void pin_new(Appeared& appeared, std::size_t& left);
  void sweep_now(const Sweep& sweep);
  void push(Scan scan, bool first);
  // The first, which stays in the queue; null: there is none. The thread's only.
  Scan* first();
  void next(bool done);
  bool take_sweep(Sweep& sweep);
  void advance_all(const std::atomic<bool>& stop);
  UniqueFd open_by_handle(const Superblock& superblock, TreeWatch::Entry& entry) const;

  const Parts parts_;
  Locator creator_locator_;
  Locator locator_;
  Heartbeat heartbeat_;
  const UniqueFd wake_event_;
  bool apart_ = false;  // the thread has a working directory of its own
  HeldOpen held_open_;
  std::mutex queue_mutex_;
  Turns<Scan> scans_;  // the thread alone pushes to the front, and goes on
  std::deque<Sweep> sweeps_;
  std::deque<Appeared> seen_;
  // Each is tried once a second: one that can't be pinned is denied, and so seen, again and again.
  std::set<std::pair<Device, std::string>> seen_lately_;
  std::uint64_t seen_since_ns_ = 0;
  // What has appeared and was not looked at yet; the thread's.
  Turns<Appeared> appeared_;
  Shares appeared_shares_;
  // Whose guard a directory is in. Just what was asked lately.
  std::map<std::pair<Device, std::vector<unsigned>>, std::uint64_t> whose_;
  DirectoryLister lister_;
};

}  // namespace janus
