// What a daemon keeps in the kernel, as its directory of pins tells it.
//
// Owns: descriptors of the maps that are pinned there. Of a daemon whose layout is another one
// nothing but that is read.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "bpf/event.h"
#include "os/unique_fd.h"

namespace janus {

using AwayCounts = std::array<std::uint64_t, JANUS_AWAY_COUNTS>;

class Kept {
 public:
  static constexpr const char* kPresence = "presence";
  static constexpr const char* kCounts = "away_counts";

  // Never throws: what can't be read is not known.
  explicit Kept(const std::string& directory);
  ~Kept();
  Kept(const Kept&) = delete;
  Kept& operator=(const Kept&) = delete;

  std::uint32_t layout() const { return layout_; }  // 0: not known
  // Null: of another layout.
  const janus_presence* presence() const { return presence_; }

  // When that daemon goes, another one goes on: nobody is away then.
  void name_heir();
  // It denies nothing more, and counts no more, if its daemon has gone; else from that moment on. Returns once no
  // processor is about to.
  void end();
  // What opens became while it was away.
  AwayCounts counts() const;

 private:
  std::uint32_t layout_ = 0;
  janus_presence* presence_ = nullptr;  // mapped
  UniqueFd counts_;
};

// For whoever looks at it without a daemon.
struct KeptState {
  std::string directory;  // its name
  std::uint32_t layout = 0;
  std::optional<janus_presence> presence;  // none: of another layout
  AwayCounts counts{};
  std::uint64_t seen_ns = 0;  // boot time
};

// Of all daemons, in order. Changes nothing, never throws; nothing, if it may not be looked at.
std::vector<KeptState> look_at_kept(const std::string& base);

}  // namespace janus
