#include "ebpf/rule_filters.h"

#include <algorithm>
#include <atomic>

namespace janus {
namespace {

constexpr std::size_t kWordBits = 64;

// The programs read while this is written to.
std::atomic_ref<__u64> word_of(janus_filter& filter, std::uint32_t bit) {
  return std::atomic_ref(filter.bits[bit / kWordBits]);
}

std::atomic_ref<__u64> place_of(janus_filter& filter) { return std::atomic_ref(filter.place); }

__u64 in_word(std::uint32_t bit) { return 1ull << bit % kWordBits; }

}  // namespace

void RuleFilters::Signs::open(janus_filter& filter) {
  filter_ = &filter;
  given_.resize(JANUS_FILTER_BITS);
}

void RuleFilters::Signs::give(std::uint64_t sign) {
  const std::uint32_t bit = janus_filter_bit(sign);
  if (given_[bit]++ == 0) word_of(*filter_, bit).fetch_or(in_word(bit));
}

void RuleFilters::Signs::take_back(std::uint64_t sign) {
  const std::uint32_t bit = janus_filter_bit(sign);
  if (--given_[bit] == 0) word_of(*filter_, bit).fetch_and(~in_word(bit));
}

void RuleFilters::open(std::span<janus_filter> filters, janus_filter& devices) {
  filters_ = filters;
  devices_.open(devices);
  std::ranges::fill(filters_.front().bits, ~0ull);
  for (std::uint32_t number = static_cast<std::uint32_t>(filters_.size()); --number > 0;) free_.insert(free_.begin(), number);
}

RuleFilters::Filter& RuleFilters::filter(const Place& place) {
  const auto [at, is_new] = by_place_.try_emplace(place);
  Filter& filter = at->second;
  if (is_new && !free_.empty()) {
    const std::uint64_t here = janus_filter_place(place.first, place.second);
    const bool own = free_.contains(janus_filter_number(here));
    filter.number = own ? janus_filter_number(here) : *free_.begin();
    free_.erase(filter.number);
    filter.signs.open(filters_[filter.number]);
    if (own) place_of(filters_[filter.number]).store(here);
  }
  ++filter.uses;
  return filter;
}

// All its signs were taken back.
void RuleFilters::let_go(std::map<Place, Filter>::iterator at) {
  if (--at->second.uses > 0) return;
  if (const std::uint32_t number = at->second.number; number != 0) {
    place_of(filters_[number]).store(0);
    free_.insert(number);
  }
  by_place_.erase(at);
}

std::uint32_t RuleFilters::use(std::uint64_t container, std::uint32_t device) {
  if (filters_.empty()) return 0;
  devices_.give(device);
  return filter({container, device}).number;
}

void RuleFilters::leave(std::uint64_t container, std::uint32_t device) {
  const auto at = by_place_.find({container, device});
  if (at == by_place_.end()) return;
  devices_.take_back(device);
  let_go(at);
}

void RuleFilters::give(std::uint64_t container, std::uint32_t device, std::uint64_t sign) {
  if (filters_.empty()) return;
  if (Filter& filter = this->filter({container, device}); filter.signs.works()) filter.signs.give(sign);
}

void RuleFilters::take_back(std::uint64_t container, std::uint32_t device, std::uint64_t sign) {
  const auto at = by_place_.find({container, device});
  if (at == by_place_.end()) return;
  if (Filter& filter = at->second; filter.signs.works()) filter.signs.take_back(sign);
  let_go(at);
}

bool RuleFilters::has(std::uint64_t container, std::uint32_t device, std::uint64_t sign) const {
  const auto at = by_place_.find({container, device});
  const std::uint32_t bit = janus_filter_bit(sign);
  return at != by_place_.end() && (filters_[at->second.number].bits[bit / kWordBits] & in_word(bit)) != 0;
}

std::uint64_t RuleFilters::sign_of(std::string_view name) {
  std::uint64_t first = 0;
  name.copy(reinterpret_cast<char*>(&first), sizeof(first));
  return janus_name_sign(first, static_cast<std::uint32_t>(name.size()));
}

}  // namespace janus
