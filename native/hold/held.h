// Letting a held process go. Used by the daemon and by its keeper.
//
// Owns: the list `held`'s meaning. No threads, no state.
#pragma once

#include <cstddef>
#include <cstdint>

#include "bpf/event.h"

namespace janus {

// Continues the process, unless it has ended or somebody else has stopped it
// meanwhile: the stop is theirs then. `process` is a pidfd of it.
void continue_process(int process, std::uint32_t tgid);

// Takes this hold off the list. False: it isn't on it.
bool strike(int held_map, std::uint32_t tgid, const janus_held& held);

// Continues all that are on the list.
void continue_all(int held_map);

// Continues those that arrived: of one container, or (0) of all. Returns how many were on the list.
std::size_t continue_arrivals(int held_map, std::uint64_t container);

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
