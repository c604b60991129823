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

// Entries that CreateGuard itself waits for: some 5 us each.
constexpr std::size_t kAtOnce = 64;

struct CloseDirectory {
  void operator()(DIR* directory) const { closedir(directory); }
};

}  // namespace

void IdentityScanner::scan(const ScanJob& job) {
  if (!job.deep && walk(job, kAtOnce, nullptr)) {
    parts_.planner.scanned(job.device, true);
    return;
  }
  {
    const std::lock_guard lock(queue_mutex_);
    queue_.push_back(job);
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
  std::vector<std::string> todo = {job.path};
  while (!todo.empty()) {
    const std::string path = std::move(todo.back());
    todo.pop_back();
    const UniqueFd at = open_exact(base->mount->get(), path.substr(base->root.size()));
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
      const UniqueFd object = open_exact(at.get(), entry->d_name);
      if (!object) continue;
      const Location location = locator_.locate(object.get());
      if (!location.found() || !location.has_path() || location.raw->dev != job.device) continue;
      const bool is_directory = location.directory();
      const std::string where(location.path);
      if (superblock->table->deniable(where, is_directory)) {
        const auto pinned = parts_.identities.pin(object.get(), location, superblock->deny_mask);
        if (pinned == IdentityTable::Pinned::limit) return false;
        if (pinned == IdentityTable::Pinned::now) parts_.learner.leave_to_identity(object.get(), is_directory);
      }
      if (job.deep && is_directory) todo.push_back(where);
    }
  }
  return true;
}

void IdentityScanner::sweep_now(const Sweep& sweep) {
  const std::lock_guard lock(walk_mutex_);
  const auto& [device, before] = sweep;
  const auto policy = parts_.policy.get();
  const Superblock* now = policy->find(device);
  parts_.identities.sweep(
      device,
      [&](const std::string& path, bool directory) { return now != nullptr && now->table->deniable(path, directory); },
      [&](const std::string& path) {
        const Base* base = before->base_for(path);
        return base == nullptr ? UniqueFd() : open_exact(base->mount->get(), path.substr(base->root.size()));
      },
      locator_);
}

}  // namespace janus
