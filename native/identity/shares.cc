#include "identity/shares.h"

namespace janus {

bool Shares::take(std::uint64_t container) {
  const std::size_t now = held(container) + 1;
  if (now > limit_ || used_ >= all_) return false;
  const std::size_t left = all_ - used_ - 1;  // to all others, and to its own next
  if (now > kLeast && now > left / 2) return false;
  add(container);
  return true;
}

void Shares::add(std::uint64_t container) {
  ++held_[container];
  ++used_;
}

void Shares::give_back(std::uint64_t container) {
  const auto held = held_.find(container);
  if (held == held_.end()) return;
  --used_;
  if (--held->second == 0) held_.erase(held);
}

std::size_t Shares::held(std::uint64_t container) const {
  const auto held = held_.find(container);
  return held == held_.end() ? 0 : held->second;
}

}  // namespace janus
