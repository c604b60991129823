// Questions whose answer waits until changed names are planned for.
//
// Owns: the descriptors of these questions; each is a process that waits. Who
// takes a question answers it. Thread-safe: the gate parks and takes; while the
// gate stands still, the watchdog takes.
//
// A container decides how many of its processes ask at once. So each has its
// share: one of which too many wait is answered without waiting; see Gate.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <utility>
#include <vector>

#include "cover/replanner.h"
#include "os/fanotify_group.h"
#include "os/unique_fd.h"

namespace janus {

struct Question {
  const FanotifyGroup* group = nullptr;
  fanotify_event_metadata event{};
  UniqueFd object;              // event.fd
  std::uint64_t asked_ns = 0;   // when it was read, CLOCK_MONOTONIC
  std::uint64_t container = 0;  // of who asks; 0: none
  std::vector<Replanner::Ticket> waits_for;
};

class Parked {
 public:
  // As many may wait in all, and a quarter of them of one container.
  explicit Parked(std::size_t limit) : limit_(limit) {}

  // False, and `question` is as it was: too many wait.
  bool add(Question& question) {
    const std::lock_guard lock(mutex_);
    const auto theirs = std::count_if(questions_.begin(), questions_.end(),
                                      [&](const Question& other) { return other.container == question.container; });
    if (questions_.size() >= limit_ || static_cast<std::size_t>(theirs) >= limit_ / 4) return false;
    questions_.push_back(std::move(question));
    size_.store(questions_.size(), std::memory_order_relaxed);
    return true;
  }

  // Those for which `ready` is true, in the order in which they were asked.
  template <typename Ready>
  std::vector<Question> take(Ready ready) {
    std::vector<Question> taken;
    if (size_.load(std::memory_order_relaxed) == 0) return taken;
    const std::lock_guard lock(mutex_);
    std::erase_if(questions_, [&](Question& question) {
      if (!ready(question)) return false;
      taken.push_back(std::move(question));
      return true;
    });
    size_.store(questions_.size(), std::memory_order_relaxed);
    return taken;
  }

  bool empty() const { return size_.load(std::memory_order_relaxed) == 0; }

 private:
  const std::size_t limit_;
  std::mutex mutex_;
  std::vector<Question> questions_;
  std::atomic<std::size_t> size_{0};
};

}  // namespace janus
