// Letting a held process go. Used by the daemon and by its keeper.
//
// Owns: the list `held`'s meaning. No threads, no state.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "bpf/event.h"

namespace janus {

// Continues the process, unless it has ended or somebody else has stopped it
// meanwhile: the stop is theirs then. `process` is a pidfd of it.
void continue_process(int process, std::uint32_t tgid);

// Takes this hold off the list, and returns it as it was by then. Nothing: it isn't on it.
std::optional<janus_held> strike(int held_map, std::uint32_t tgid, const janus_held& held);

// Ends a hold that was struck. Where another daemon holds the process too, the stop is that one's
// from now on: whoever lets it go last continues it.
void end_hold(int held_map, int process, std::uint32_t tgid, const janus_held& struck);

// Ends all holds that are on the list.
void continue_all(int held_map);

// Ends holds of those that arrived: of one container, or (0) of all.
struct ContinuedArrivals {
  std::size_t listed = 0;
  bool ran = false;  // somebody else has continued one of them before
};
ContinuedArrivals continue_arrivals(int held_map, std::uint64_t container);

// Says that the daemon answers, so that others wait for it; see bpf/event.h. Thread-safe.
class HoldSwitch {
 public:
  // Throws Error(system).
  explicit HoldSwitch(int guardians_map);
  ~HoldSwitch();
  HoldSwitch(const HoldSwitch&) = delete;
  HoldSwitch& operator=(const HoldSwitch&) = delete;

  // The daemon answers now.
  void answering() const;

 private:
  janus_guardians* guardians_;
};

}  // namespace janus
