// Questions that were read while many are asked, by container: each has its turn,
// however many another asks at once.
//
// Owns: the descriptors of these questions; each is a process that waits. Who takes a
// question answers it. Thread-safe: the gate adds and takes; the watchdog takes those
// that have waited for too long.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "cover/turns.h"
#include "decide/parked.h"

namespace janus {

class FairQueue {
 public:
  void add(Question question) {
    const std::lock_guard lock(mutex_);
    const std::uint64_t container = question.container;
    turns_.push_back(container, std::move(question));
    size_.fetch_add(1, std::memory_order_relaxed);
  }

  // The one whose turn it is; the next is another container's, if another asks.
  std::optional<Question> take() {
    return take_if([](const Question&) { return true; });
  }
  // The same, of the containers for which `may` is true.
  template <typename May>
  std::optional<Question> take_of(May may) {
    return take_if([&](const Question& question) { return may(question.container); });
  }
  // One that was read by then. A container's first is its oldest.
  std::optional<Question> take_older(std::uint64_t then_ns) {
    return take_if([&](const Question& question) { return question.asked_ns <= then_ns; });
  }

  std::size_t containers() {
    const std::lock_guard lock(mutex_);
    return turns_.containers();
  }
  std::size_t size() const { return size_.load(std::memory_order_relaxed); }
  bool empty() const { return size() == 0; }

 private:
  // Of the containers in turn, the first whose first question may be taken.
  template <typename May>
  std::optional<Question> take_if(May may) {
    if (empty()) return std::nullopt;
    const std::lock_guard lock(mutex_);
    for (std::size_t left = turns_.containers(); left > 0; --left) {
      Question& first = *turns_.first();
      if (!may(first)) {
        turns_.next(false);
        continue;
      }
      std::optional<Question> taken(std::move(first));
      turns_.next(true);
      size_.fetch_sub(1, std::memory_order_relaxed);
      return taken;
    }
    return std::nullopt;
  }

  std::mutex mutex_;
  Turns<Question> turns_;
  std::atomic<std::size_t> size_{0};
};

}  // namespace janus
