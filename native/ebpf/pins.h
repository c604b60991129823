// What of this daemon stays in the kernel when it goes: links and maps pinned below /sys/fs/bpf/janusd.
//
// Owns: a directory there, which it holds locked (flock(2)) while it lives: so whose daemon is
// gone can be told. Whoever removes the files of a directory ends what they hold.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "ebpf/kept.h"
#include "os/unique_fd.h"

namespace janus {

// Of daemons that are gone.
struct TakenOver {
  std::size_t daemons = 0;
  std::uint64_t away_ns = 0;           // for how long nobody was there
  AwayCounts counts{};                 // meanwhile
  std::vector<std::uint32_t> layouts;  // other ones than ours; 0: not known

  void add(const TakenOver& more);
};

class Pins {
 public:
  static constexpr const char* kBase = "/sys/fs/bpf/janusd";

  // Links and maps by their names. Throws Error; nothing is pinned then.
  explicit Pins(const std::vector<std::pair<std::string, int>>& objects, std::string base = kBase);

  // Whether no other daemon keeps anything, or has left anything.
  bool alone() const { return others().empty(); }
  // Removes what daemons that are gone have left. Of those that live and are older, the kernel knows from
  // now on that this one is there when they go. (Two that were each other's heirs could go at once.)
  TakenOver take_over() const;

 private:
  std::vector<std::string> others() const;
  void remove() const;

  const std::string base_;
  const std::string directory_;
  UniqueFd lock_;
};

}  // namespace janus
