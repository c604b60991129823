// What the kernel has denied by itself, as records and in the counters like the gate's.
//
// Owns: what is recorded already. run() is a thread's; record() may be called from any.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <string_view>
#include <utility>

#include "decide/recorder.h"
#include "ebpf/decider.h"
#include "identity/kernel_rules.h"
#include "os/clock.h"
#include "policy/policy.h"
#include "record/event_ring.h"
#include "track/tracker.h"

namespace janus {

class KernelDenials {
 public:
  struct Parts {
    Decider& decider;
    KernelRules& rules;
    const PolicyBox& policy;
    Tracker& tracker;
    Recorder& recorder;
    EventRing& ring;
  };
  // Is told of what was denied for where it is, and isn't pinned: whose guard denies it, and its path.
  using Unpinned = std::function<void(std::uint64_t container, Device device, std::string_view path)>;
  KernelDenials(Parts parts, Unpinned unpinned) : parts_(parts), unpinned_(std::move(unpinned)), epoch_ns_(boot_epoch_ns()) {}

  // `beat` is called twice a second or more.
  void run(const std::atomic<bool>& stop, int stop_fd, const std::function<void()>& beat);
  // All that there are now. Returns how many there were.
  std::size_t record();

  const Heartbeat& heartbeat() const { return heartbeat_; }

 private:
  void record(const KernelDenial& denial);
  void count_lost();

  const Parts parts_;
  const Unpinned unpinned_;
  const std::uint64_t epoch_ns_;  // from CLOCK_BOOTTIME to CLOCK_REALTIME
  Heartbeat heartbeat_;
  std::mutex mutex_;
  std::uint64_t lost_ = 0;
  std::map<std::pair<std::uint32_t, std::uint32_t>, std::uint64_t> lost_of_;  // by subject and kind
};

}  // namespace janus
