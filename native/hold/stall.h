// Tells a daemon that stands still from one that is slow, or that stood still
// together with whoever looks.
//
// Owns: how long nothing has moved, as far as was seen. Pure: no clock of its own.
#pragma once

#include <algorithm>
#include <cstdint>

namespace janus {

class Stall {
 public:
  // Look every `tick_ns`. Of a pause between two looks that is longer, only twice
  // that counts: the watcher itself did not run (a frozen cgroup with both in it,
  // a machine that was paused), and neither did the daemon.
  explicit Stall(std::uint64_t tick_ns) : tick_ns_(tick_ns) {}

  // Returns for how long there has been no other beat than this.
  std::uint64_t look(std::uint64_t beat, std::uint64_t now_ns, bool rests) {
    const std::uint64_t passed = std::min(now_ns - looked_ns_, 2 * tick_ns_);
    stood_ns_ = rests || beat != beat_ ? 0 : stood_ns_ + passed;
    beat_ = beat;
    looked_ns_ = now_ns;
    return stood_ns_;
  }

 private:
  const std::uint64_t tick_ns_;
  std::uint64_t beat_ = 0, looked_ns_ = 0, stood_ns_ = 0;
};

}  // namespace janus
