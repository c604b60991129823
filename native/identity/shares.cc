#include "identity/shares.h"

#include <algorithm>

namespace janus {

bool Shares::take(std::uint64_t container, std::size_t count) {
  if (held(container) + count > most(container)) return false;
  add(container, count);
  return true;
}

std::size_t Shares::most(std::uint64_t container) const {
  const std::size_t others = used_ - held(container);
  const std::size_t left = others < all_ ? all_ - others : 0;
  // More than a third is more than half of what would be left.
  return std::min({limit_, left, std::max(least_, left / 3)});
}

void Shares::set(std::uint64_t container, std::size_t count) {
  used_ += count;
  used_ -= held(container);
  if (count == 0) held_.erase(container);
  else held_[container] = count;
}

void Shares::add(std::uint64_t container, std::size_t count) {
  held_[container] += count;
  used_ += count;
}

void Shares::give_back(std::uint64_t container, std::size_t count) {
  const std::size_t before = held(container);
  set(container, before - std::min(before, count));
}

std::size_t Shares::held(std::uint64_t container) const {
  const auto held = held_.find(container);
  return held == held_.end() ? 0 : held->second;
}

}  // namespace janus
