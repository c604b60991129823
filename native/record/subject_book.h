// The counts of all subjects, and for some time of those that are gone: so the last of
// them reach a metrics scrape.
//
// Owns: which subject's counts are which. Thread-safe. Its lock is held for a look at
// the list only, so that no scrape waits for whoever plans.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "record/stats.h"

namespace janus {

class SubjectBook {
 public:
  // Null: there is no such subject.
  std::shared_ptr<SubjectStats> find(std::uint32_t subject) const {
    const std::lock_guard lock(mutex_);
    const auto it = held_.find(subject);
    return it == held_.end() ? nullptr : it->second;
  }

  // One that is there already keeps its counts.
  void hold(std::uint32_t subject, std::shared_ptr<SubjectStats> stats) {
    const std::lock_guard lock(mutex_);
    held_.emplace(subject, std::move(stats));
  }

  void retire(std::uint32_t subject) {
    const std::lock_guard lock(mutex_);
    const auto it = held_.find(subject);
    if (it == held_.end()) return;
    if (it->second->counted() != nullptr) retired_.push_back({subject, std::move(it->second), Clock::now() + kRetired});
    held_.erase(it);
  }

  // Of those that have counted anything. `visit(subject, SubjectCounts)` is called without the lock.
  template <typename Visit>
  void each(Visit visit) {
    std::vector<std::pair<std::uint32_t, std::shared_ptr<const SubjectStats>>> all;
    {
      const std::lock_guard lock(mutex_);
      std::erase_if(retired_, [now = Clock::now()](const Retired& retired) { return retired.until < now; });
      for (const auto& [subject, stats] : held_)
        if (stats->counted() != nullptr) all.emplace_back(subject, stats);
      for (const Retired& retired : retired_) all.emplace_back(retired.subject, retired.stats);
    }
    for (const auto& [subject, stats] : all) visit(subject, *stats->counted());
  }

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::minutes kRetired{10};

  struct Retired {
    std::uint32_t subject = 0;
    std::shared_ptr<const SubjectStats> stats;
    Clock::time_point until;
  };

  mutable std::mutex mutex_;
  std::map<std::uint32_t, std::shared_ptr<SubjectStats>> held_;
  std::vector<Retired> retired_;
};

}  // namespace janus
