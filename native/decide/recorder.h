// Turns a decision into a record in the event ring, and wakes the reader.
//
// Owns: nothing that changes. Thread-safe. Always called after the answer was given: the
// actor never waits for a record.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "record/event_ring.h"
#include "ebpf/locator.h"
#include "policy/policy.h"
#include "track/tracker.h"

namespace janus {

class Recorder {
 public:
  // `wake` is called when the ring turns from empty to not empty; any thread.
  Recorder(EventRing& ring, Tracker& tracker, std::function<void()> wake);

  struct What {
    FileEventKind kind;
    Response response = Response::allow;
    std::uint16_t flags = 0;  // FileEventFlag
    std::uint64_t blocked_ns = 0;
    Tracker::Actor actor;
    std::uint64_t time_ns = 0;  // CLOCK_REALTIME
    std::vector<std::uint32_t> deniers;  // other guards that deny it, or would: a subject's id of each
    std::string_view other = {};  // of a rename: the other name, as the superblock has it
  };

  // Counts and records what `subject` decided about `location`.
  void record(const SuperblockPolicy& table, const Subject& subject, const Location& location, const What& what);

 private:
  EventRing& ring_;
  Tracker& tracker_;
  const std::function<void()> wake_;
  // From CLOCK_BOOTTIME to CLOCK_REALTIME. Once: the start of a process is the
  // same in each of its events, whatever becomes of the clock.
  const std::uint64_t epoch_ns_;
};

}  // namespace janus
