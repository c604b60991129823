// Drives the marks from eBPF: a process of a guarded container that is about to
// see the file system through mounts that nobody has looked at waits until the
// planner has marked what is new.
//
// Owns: the programs of bpf/hold.bpf.c, and which of their tiers is used; see
// there. Where processes are stopped, the keeper (hold/keeper.cc) continues whoever
// is held for longer than the limit: also when this process is stopped, killed, or
// slow. Nobody is stopped unless the keeper runs; that is checked in the kernel, at
// each hold.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bpf/event.h"
#include "ebpf/attachments.h"
#include "ebpf/bpf_programs.h"
#include "hold/held.h"
#include "hold/keeper_process.h"

struct hold_bpf;
struct ring_buffer;

namespace janus {

// What may be used. `automatic`: fentry where it loads, else the scheduler's
// tracepoints. `syscalls`: fentry, else syscall tracepoints. The last two of the
// tiers need bpf_send_signal_task (Linux 6.13).
enum class HoldMode { off, scheduler, syscalls, automatic };

class Holder {
 public:
  // Throws Error(unsupported) if what is wanted cannot be had (`automatic` is then
  // off). Nobody is held for longer than `limit`; marking takes some hundred
  // microseconds.
  Holder(const BpfPrograms& programs, HoldMode mode, std::chrono::milliseconds limit);
  ~Holder();  // lets everybody go
  Holder(const Holder&) = delete;
  Holder& operator=(const Holder&) = delete;

  const char* tier() const { return tier_; }  // "fentry", "syscalls", "scheduler", "off"

  // Whose processes are held, and for what: container -> janus_watch_flag. Call
  // whenever guards or marks have changed.
  void watch(const std::map<std::uint64_t, std::uint32_t>& containers);
  // This mount namespace has been looked at, after it was in the state `event`;
  // without: after it was made.
  void know(std::uint64_t mnt_ns, std::optional<std::uint64_t> event = std::nullopt);
  // Mounts in no namespace need no mark on this device, until watch() is called.
  void spare(std::uint32_t device);
  // The open that this thread waits with goes on as it is.
  void let_through(std::uint32_t pid);
  // Whether know() needs the states: opens wait for a look after each change.
  bool holds_opens() const { return std::string_view(tier_) == "fentry"; }

  // Whether a process stands still, or is about to.
  bool holds(std::uint32_t tgid) const;

  // For the keeper, while this object lives.
  KeptHolding kept() const;
  // Maps of other programs that hold processes; all -1 if off.
  struct Shared {
    int held = -1, to_keeper = -1, guardians = -1, counters = -1;
  };
  Shared shared() const;

  // Readable when somebody is held; -1 if off. This and the following: tracker
  // thread only.
  int fd() const;
  // Those of one container that are held.
  struct Held {
    std::uint64_t container = 0;
    std::vector<janus_hold> holds;
    std::uint64_t left_out = 0;  // more were not, since the container has used up its share
  };
  // Calls `mark` for each container of which somebody is held, and continues them after.
  void serve(const std::function<void(const Held&)>& mark);
  // Twice a second or more: whoever is held is served soon. Not without a keeper:
  // nobody is stopped while there is none, and those who were have been let go.
  void answering();

  std::uint64_t counter(janus_hold_counter which) const;
  std::vector<MapUse> maps() const;  // its own
  // Those of its programs that are there now.
  std::vector<std::string> attached() const { return attachments_.present(); }

 private:
  bool load(HoldMode mode, const BpfPrograms& programs);
  bool try_tier(const char* tier, const BpfPrograms& programs);
  void release(std::uint32_t tgid, const janus_held& held) const;
  void close();

  const std::chrono::milliseconds limit_;
  const char* tier_ = "off";
  hold_bpf* skeleton_ = nullptr;
  ring_buffer* ring_ = nullptr;
  Attachments attachments_;
  std::optional<HoldSwitch> holding_;
  std::vector<janus_hold> told_;  // during serve()
  std::mutex watched_mutex_;
  std::map<std::uint64_t, std::uint32_t> watched_;
  std::map<std::uint64_t, std::uint64_t> left_out_;  // of each container, so far; the tracker's
};

}  // namespace janus
