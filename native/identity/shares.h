// How much of something that is scarce each container holds.
//
// Owns: the account. The one that takes too much is refused; what the others may
// take does not depend on it. Knows nothing of what is shared out. Not
// thread-safe: used under the lock of whoever hands it out.
//
// A container may hold `limit`, and as long as it holds more than the least share
// no more than half of what it leaves to all others. So one alone gets a third of
// all, the next a third of the rest, and so on. The least share is everybody's as
// long as there is anything left.
#pragma once

#include <cstddef>
#include <cstdint>
#include <unordered_map>

namespace janus {

class Shares {
 public:
  // A small directory: what CreateGuard pins before it returns.
  static constexpr std::size_t kLeast = 512;

  Shares(std::size_t all, std::size_t limit, std::size_t least = kLeast) : all_(all), limit_(limit), least_(least) {}

  // True: the container holds so many more.
  bool take(std::uint64_t container, std::size_t count = 1);
  // How many the container may hold in all.
  std::size_t most(std::uint64_t container) const;
  // It holds so many, instead of what it held.
  void set(std::uint64_t container, std::size_t count);
  // So many more in any case: of what was reserved, or of what was another's.
  void add(std::uint64_t container, std::size_t count = 1);
  // At most what it holds.
  void give_back(std::uint64_t container, std::size_t count = 1);

  std::size_t held(std::uint64_t container) const;
  std::size_t used() const { return used_; }

 private:
  const std::size_t all_;
  const std::size_t limit_;
  const std::size_t least_;
  std::size_t used_ = 0;
  std::unordered_map<std::uint64_t, std::size_t> held_;  // by container
};

}  // namespace janus
