// Work that waits, by container: each has its turn, however much another has left.
//
// Owns: the queues. Not thread-safe. References to work that waits stay valid, but for push_second().
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <iterator>
#include <map>
#include <utility>

namespace janus {

template <typename Work>
class Turns {
 public:
  void push_back(std::uint64_t container, Work work) { queue_of(container).push_back(std::move(work)); }
  // Before what the container has waiting.
  void push_front(std::uint64_t container, Work work) { queue_of(container).push_front(std::move(work)); }

  // After the first that the container has waiting: that one goes on.
  void push_second(std::uint64_t container, Work work) {
    std::deque<Work>& queue = queue_of(container);
    queue.insert(queue.empty() ? queue.end() : std::next(queue.begin()), std::move(work));
  }
  bool has(std::uint64_t container) const { return queues_.contains(container); }

  // Whose turn it is; null: there is nothing.
  Work* first() { return order_.empty() ? nullptr : &queues_.at(order_.front()).front(); }
  // It is another container's turn. `done`: what was first is.
  void next(bool done) {
    const std::uint64_t container = order_.front();
    order_.pop_front();
    std::deque<Work>& queue = queues_.at(container);
    if (done) queue.pop_front();
    if (queue.empty()) queues_.erase(container);
    else order_.push_back(container);
  }

  std::size_t containers() const { return queues_.size(); }
  std::size_t size() const {
    std::size_t all = 0;
    for (const auto& [container, queue] : queues_) all += queue.size();
    return all;
  }
  template <typename Is>
  bool any_of(Is is) const {
    return std::ranges::any_of(queues_, [&](const auto& item) { return std::ranges::any_of(item.second, is); });
  }

 private:
  std::deque<Work>& queue_of(std::uint64_t container) {
    std::deque<Work>& queue = queues_[container];
    if (queue.empty()) order_.push_back(container);
    return queue;
  }

  std::map<std::uint64_t, std::deque<Work>> queues_;  // none of them empty
  std::deque<std::uint64_t> order_;
};

}  // namespace janus
