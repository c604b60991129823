#include "identity_scanner.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <chrono>
#include <limits>
#include <memory>
#include <string_view>
#include <vector>

#include "path_resolver.h"

namespace janus {
namespace {

// Entries that CreateGuard itself waits for: some 6 us each. A guarded place is
// mostly small, and is then complete in every respect when CreateGuard returns.
constexpr std::size_t kAtOnce = 512;
// Directories that are held open on the way; more are found again by path.
constexpr std::size_t kHeldOpen = 1024;

struct CloseDirectory {
  void operator()(DIR* directory) const { closedir(directory); }
};

}  // namespace

void IdentityScanner::scan(const ScanJob& job) {
  if (walk(job, kAtOnce, nullptr)) {
    parts_.planner.scanned(job.device, true);
    return;
  }
  queue({job});
}

void IdentityScanner::queue(const MarkPlanner::ScanJobs& jobs) {
  if (jobs.empty()) return;
  {
    const std::lock_guard lock(queue_mutex_);
    queue_.insert(queue_.end(), jobs.begin(), jobs.end());
  }
  ready_.notify_one();
}

void IdentityScanner::sweep(const MarkPlanner::Before& before) {
  {
    const std::lock_guard lock(queue_mutex_);
    for (const Sweep& sweep : before) queue_.push_back(sweep);
  }
  ready_.notify_one();
}

void IdentityScanner::wake() { ready_.notify_all(); }

void IdentityScanner::run(const std::atomic<bool>& stop) {
  for (;;) {
    std::variant<ScanJob, Sweep> next;
    {
      std::unique_lock lock(queue_mutex_);
      ready_.wait(lock, [&] { return stop.load() || !queue_.empty(); });
      if (stop.load()) return;
      next = std::move(queue_.front());
      queue_.pop_front();
    }
    if (const auto* sweep = std::get_if<Sweep>(&next)) {
      sweep_now(*sweep);
      continue;
    }
    const auto& job = std::get<ScanJob>(next);
    const bool complete = walk(job, std::numeric_limits<std::size_t>::max(), &stop);
    if (!complete && !stop.load()) parts_.counters.exposed_identity.add();
    parts_.planner.scanned(job.device, complete);
  }
}

bool IdentityScanner::walk(const ScanJob& job, std::size_t budget, const std::atomic<bool>* stop) {
  const std::lock_guard lock(walk_mutex_);
  const auto policy = parts_.policy.get();
  const Superblock* superblock = policy->find(job.device);
  if (superblock == nullptr) return true;
  const Base* base = superblock->base_for(job.path);
  if (base == nullptr) return false;
  // By descriptor where possible: a tree may be deeper than any path can say.
  struct Directory {
    UniqueFd fd;
    std::string path;
  };
  std::vector<Directory> todo;
  todo.push_back({UniqueFd(), job.path});
  while (!todo.empty()) {
    Directory here = std::move(todo.back());
    todo.pop_back();
    const UniqueFd at = here.fd ? std::move(here.fd) : open_exact(base->mount->get(), here.path.substr(base->root.size()));
    // Gone, moved, or covered by a mount: whatever is there now is guarded by
    // its path and will be pinned when it is first opened.
    if (!at) continue;
    const int readable = openat(at.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOATIME);
    if (readable < 0) continue;
    const std::unique_ptr<DIR, CloseDirectory> directory(fdopendir(readable));  // owns it from here
    if (!directory) {
      ::close(readable);
      return false;
    }
    while (const dirent* entry = readdir(directory.get())) {
      const std::string_view name = entry->d_name;
      if (name == "." || name == ".." || entry->d_type == DT_LNK) continue;
      if (budget-- == 0 || (stop != nullptr && stop->load(std::memory_order_relaxed))) return false;
      UniqueFd object = open_exact(at.get(), entry->d_name);
      if (!object) continue;
      const Location location = locator_.locate(object.get(), 0, true);
      if (!location.found() || !location.has_path() || location.raw->dev != job.device) continue;
      const bool is_directory = location.directory();
      const std::string where(location.path);
      if (superblock->table->deniable(where, is_directory)) {
        const auto pinned = parts_.identities.pin(object.get(), location, where, superblock->deny_mask);
        if (pinned == IdentityTable::Pinned::limit) return false;
        if (pinned == IdentityTable::Pinned::now) parts_.learner.leave_to_identity(object.get(), job.device, is_directory);
      }
      if (job.deep && is_directory) todo.push_back({todo.size() < kHeldOpen ? std::move(object) : UniqueFd(), where});
    }
  }
  return true;
}

void IdentityScanner::sweep_now(const Sweep& sweep) {
  const std::lock_guard lock(walk_mutex_);
  const auto& [device, before] = sweep;
  // Looked up once the table is locked: a guard that is made meanwhile pins
  // after it publishes, so whatever we unpin by an older policy it pins again.
  std::shared_ptr<const Policy> policy;
  parts_.identities.sweep(
      device,
      [&](const std::string& path, bool directory) {
        if (!policy) policy = parts_.policy.get();
        const Superblock* now = policy->find(device);
        return now != nullptr && now->table->deniable(path, directory);
      },
      [&](const std::string& path) {
        const Base* base = before->base_for(path);
        return base == nullptr ? UniqueFd() : open_exact(base->mount->get(), path.substr(base->root.size()));
      },
      locator_);
  // What was left to the identity group is the gate's to ask about again.
  parts_.learner.forget({device});
}

}  // namespace janus
