// What containers were refused since they had used up their share, for metrics
// and the log.
//
// Owns: the counts. Thread-safe.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace janus {

class Refusals {
 public:
  // How long those of a container that has ended are still told, so that the last
  // of them reach a scrape and the log.
  static constexpr std::chrono::minutes kRetired{10};

  // Has the container known by its id.
  void follow(std::uint64_t container, const std::string& id);
  void ended(std::uint64_t container);

  // `resource`: a string literal.
  void add(std::uint64_t container, const char* resource, std::uint64_t count = 1);

  struct Refused {
    std::string container;  // id
    std::string resource;
    std::uint64_t count = 0;
  };
  std::vector<Refused> all();

 private:
  struct Container {
    std::string id;
    std::map<std::string, std::uint64_t> counts;  // by resource
    std::chrono::steady_clock::time_point until = std::chrono::steady_clock::time_point::max();
  };
  std::mutex mutex_;
  std::map<std::uint64_t, Container> containers_;
};

}  // namespace janus
