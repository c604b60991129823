// Signs of what may have a rule, by container and superblock. The kernel doesn't look up what has none.
//
// Owns: the filters, which the programs of bpf/decide.bpf.c read, and how often each sign was given. A sign is to be
// given before the rule that it tells of, and taken back after that has gone: a filter never denies a rule that is
// there. Not thread-safe.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "bpf/event.h"

namespace janus {

class RuleFilters {
 public:
  // Mapped memory that the programs read, all 0: of each place, and of the devices where any is used. Without it there
  // are no filters, and nothing is done.
  void open(std::span<janus_filter> filters, janus_filter& devices);

  // The filter of a container on a superblock, for as long as it is used or has signs. If there is no other any more,
  // the one that says of everything that it may have a rule: 0.
  std::uint32_t use(std::uint64_t container, std::uint32_t device);
  void leave(std::uint64_t container, std::uint32_t device);

  void give(std::uint64_t container, std::uint32_t device, std::uint64_t sign);
  void take_back(std::uint64_t container, std::uint32_t device, std::uint64_t sign);

  // As the programs see it.
  bool has(std::uint64_t container, std::uint32_t device, std::uint64_t sign) const;

  // Of the first component of a path.
  static std::uint64_t sign_of(std::string_view name);

 private:
  using Place = std::pair<std::uint64_t, std::uint32_t>;  // container, device
  // How often each bit of a filter was given.
  class Signs {
   public:
    void open(janus_filter& filter);
    bool works() const { return filter_ != nullptr; }
    void give(std::uint64_t sign);
    void take_back(std::uint64_t sign);

   private:
    janus_filter* filter_ = nullptr;
    std::vector<std::uint32_t> given_;
  };
  struct Filter {
    std::uint32_t number = 0;
    std::size_t uses = 0;  // signs, too
    Signs signs;           // none: it says of everything that it may have a rule
  };
  Filter& filter(const Place& place);
  void let_go(std::map<Place, Filter>::iterator at);

  std::span<janus_filter> filters_;
  Signs devices_;
  std::set<std::uint32_t> free_;
  std::map<Place, Filter> by_place_;
};

}  // namespace janus
