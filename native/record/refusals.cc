#include "record/refusals.h"

namespace janus {

using std::chrono::steady_clock;

void Refusals::follow(std::uint64_t container, const std::string& id) {
  const std::lock_guard lock(mutex_);
  Container& known = containers_[container];
  known.id = id;
  known.until = steady_clock::time_point::max();
}

void Refusals::ended(std::uint64_t container) {
  const std::lock_guard lock(mutex_);
  const auto known = containers_.find(container);
  if (known == containers_.end()) return;
  if (known->second.counts.empty()) containers_.erase(known);
  else known->second.until = steady_clock::now() + kRetired;
}

void Refusals::add(std::uint64_t container, const char* resource, std::uint64_t count) {
  const std::lock_guard lock(mutex_);
  const auto known = containers_.find(container);
  if (known != containers_.end()) known->second.counts[resource] += count;
}

std::vector<Refusals::Refused> Refusals::all() {
  std::vector<Refused> refused;
  const std::lock_guard lock(mutex_);
  const auto now = steady_clock::now();
  std::erase_if(containers_, [&](const auto& item) { return item.second.until < now; });
  for (const auto& [container, known] : containers_)
    for (const auto& [resource, count] : known.counts) refused.push_back({known.id, resource, count});
  return refused;
}

}  // namespace janus
