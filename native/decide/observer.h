// The observer: records what nobody has to wait for.
//
// Owns: its thread and the events of the observer group. An event carries only
// the number of its process, which may be another's by the time it is read: see
// identify().
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "os/clock.h"
#include "decide/answerer.h"

namespace janus {

class Observer {
 public:
  explicit Observer(DecideParts parts);

  void run(const std::atomic<bool>& stop, int stop_fd);
  const Heartbeat& heartbeat() const { return heartbeat_; }

 private:
  void take(const fanotify_event_metadata& event, std::uint64_t read_ns);
  Tracker::Actor identify(std::uint32_t tgid, bool alive, const janus_locate& raw, std::uint64_t read_ns) const;
  void bound(bool emptied, std::uint64_t asked_ns);

  const DecideParts parts_;
  const int self_;
  Locator locator_;
  Heartbeat heartbeat_;
  // What is unread happened after this (CLOCK_BOOTTIME).
  std::uint64_t since_ns_ = 0;
  // ... and will have after `counted_ns_`, when so many more have been read.
  std::uint64_t counted_ns_ = 0;
  std::size_t uncounted_ = 0;
};

}  // namespace janus
