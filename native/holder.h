// Drives the marks from eBPF: a process of a guarded container that is in a
// mount namespace nobody has looked at, or that has changed what is mounted,
// stands still until the planner has marked what is new.
//
// Owns: the programs of bpf/hold.bpf.c and the keeper, a small process of its
// own (native/keeper.cc) that continues whoever is held for longer than the
// limit: also when this process is stopped, killed, or slow. Nobody is held
// unless the keeper runs; that is checked in the kernel, at each hold. What the
// programs are, and why there are three tiers, is said there.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "../bpf/event.h"
#include "bpf_programs.h"
#include "unique_fd.h"

struct hold_bpf;
struct ring_buffer;

namespace janus {

// What may be used. `automatic`: fentry where it loads, else the scheduler's
// tracepoints. `syscalls`: fentry, else syscall tracepoints.
enum class HoldMode { off, automatic, syscalls };

class Holder {
 public:
  // Throws Error(unsupported) if `syscalls` is wanted and cannot be had, or no
  // tier loads, and Error(system) if the keeper cannot be started. Nobody is held
  // for longer than `limit`; marking takes some hundred microseconds.
  Holder(const BpfPrograms& programs, HoldMode mode, std::chrono::milliseconds limit);
  ~Holder();  // lets everybody go
  Holder(const Holder&) = delete;
  Holder& operator=(const Holder&) = delete;

  const char* tier() const { return tier_; }  // "fentry", "syscalls", "scheduler", "off"

  // Whose processes are held, and for what: container -> janus_watch_flag.
  void watch(const std::map<std::uint64_t, std::uint32_t>& containers);
  // This mount namespace has been looked at.
  void know(std::uint64_t mnt_ns);

  // Whether a process stands still, or is about to.
  bool holds(std::uint32_t tgid) const;

  // Readable when somebody is held or the keeper has ended; -1 if off.
  // This and the following: tracker thread only.
  int fd() const { return wake_.get(); }
  // Calls `mark` for each who is held, and continues it after.
  void serve(const std::function<void(const janus_hold&)>& mark);
  // Starts the keeper again if it has ended.
  void mind_keeper();

  std::uint64_t counter(janus_hold_counter which) const;
  std::vector<MapUse> maps() const;  // its own

 private:
  void load(HoldMode mode, const BpfPrograms& programs);
  bool try_tier(const char* tier, const BpfPrograms& programs);
  void start_keeper();
  void release(std::uint32_t tgid, const janus_held& held) const;
  void close();

  const std::chrono::milliseconds limit_;
  const char* tier_ = "off";
  hold_bpf* skeleton_ = nullptr;
  ring_buffer* ring_ = nullptr;
  UniqueFd wake_;         // epoll: the ring and the keeper
  UniqueFd keeper_;       // pidfd
  UniqueFd keeper_life_;  // the keeper ends when this does
  std::function<void(const janus_hold&)> visit_;  // during serve()
  std::mutex watched_mutex_;
  std::map<std::uint64_t, std::uint32_t> watched_;
};

}  // namespace janus
