// How much of the gate's time each container takes, and who has to wait for others.
//
// Owns: the account. Not thread-safe.
//
// An answer wakes everyone who waits in the group: the kernel has one queue of waiters for
// it. With 1,500 threads it takes ten times as long. A container that asks so would take
// all of the gate's time, which then had to run among ordinary threads (Urgency), and all
// others would wait for a processor with it. So a third of each slice is for whoever asks
// first, the rest for those that have taken little of it; but only if more than one
// container asks at all.
#pragma once

#include <array>
#include <cstdint>
#include <map>

namespace janus {

class Spending {
 public:
  static constexpr std::uint64_t kSliceNs = 10'000'000;
  static constexpr std::uint64_t kFreeNs = kSliceNs / 3;
  static constexpr std::uint64_t kLittleNs = kSliceNs / 5;
  // Who has asked within so long is one who asks.
  static constexpr std::uint64_t kRecentNs = 200'000'000;

  // The container asks.
  void ask(std::uint64_t container, std::uint64_t now_ns) {
    if (asked_[0].container != container || asked_[0].at_ns == 0) {
      asked_[1] = asked_[0];
      asked_[0].container = container;
    }
    asked_[0].at_ns = now_ns;
  }
  // More than one does.
  bool contended(std::uint64_t now_ns) const { return asked_[1].at_ns != 0 && now_ns - asked_[1].at_ns < kRecentNs; }

  void add(std::uint64_t container, std::uint64_t from_ns, std::uint64_t to_ns) {
    begin(to_ns);
    all_ns_ += to_ns - from_ns;
    ns_[container] += to_ns - from_ns;
  }

  // The container has to wait for the next slice.
  bool over(std::uint64_t container, std::uint64_t now_ns) {
    begin(now_ns);
    if (all_ns_ <= kFreeNs || !contended(now_ns)) return false;
    const auto spent = ns_.find(container);
    const bool over = spent != ns_.end() && spent->second > kLittleNs;
    if (over) over_slice_ = slice_;
    return over;
  }
  // Some container has had to, in this slice or the last.
  bool any_over(std::uint64_t now_ns) const { return over_slice_ != 0 && now_ns / kSliceNs <= over_slice_ + 1; }

  static std::uint64_t left_of_slice(std::uint64_t now_ns) { return kSliceNs - now_ns % kSliceNs; }

 private:
  struct Asked {
    std::uint64_t container = 0, at_ns = 0;
  };
  void begin(std::uint64_t now_ns) {
    if (now_ns / kSliceNs == slice_) return;
    slice_ = now_ns / kSliceNs;
    all_ns_ = 0;
    ns_.clear();
  }

  std::array<Asked, 2> asked_;  // the last two that are not the same, the last first
  std::uint64_t slice_ = 0, over_slice_ = 0, all_ns_ = 0;
  std::map<std::uint64_t, std::uint64_t> ns_;  // in this slice, by container
};

}  // namespace janus
