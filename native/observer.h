// The observer: records what nobody has to wait for.
//
// Owns: its thread and the events of the observer group.
#pragma once

#include <atomic>

#include "clock.h"
#include "gate.h"

namespace janus {

class Observer {
 public:
  explicit Observer(Gate::Parts parts);

  void run(const std::atomic<bool>& stop, int stop_fd);
  const Heartbeat& heartbeat() const { return heartbeat_; }

 private:
  void take(const fanotify_event_metadata& event);

  const Gate::Parts parts_;
  const int self_;
  Locator locator_;
  Heartbeat heartbeat_;
};

}  // namespace janus
