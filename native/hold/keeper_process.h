// The daemon's side of its keeper (native/hold/keeper.cc): starts it, and ends it.
//
// Owns: the process, and the socket by which it lives. The child gets the
// descriptors that it needs, and no others.
#pragma once

#include <chrono>
#include <string>

#include "hold/keeper.h"
#include "os/shared_beat.h"
#include "os/unique_fd.h"

namespace janus {

// What the keeper needs to let stopped processes go; all -1 where none are stopped.
struct KeptHolding {
  int become = -1, held = -1, ring = -1, counters = -1, expired = -1;
};

class KeeperProcess {
 public:
  struct Options {
    // The daemon is killed if nobody beats for so long. 0: never; 1 s or more.
    std::chrono::milliseconds stall_limit{0};
    std::string stall_file;  // written then; empty: nothing is
    std::string cgroup;      // that it moves to; empty: it stays in the daemon's
  };

  // Starts nothing.
  explicit KeeperProcess(Options options) : options_(std::move(options)) {}
  ~KeeperProcess();  // it continues whoever is stopped, and ends
  KeeperProcess(const KeeperProcess&) = delete;
  KeeperProcess& operator=(const KeeperProcess&) = delete;

  // Starts it, if there is something to keep. Throws Error(system). Call again
  // when it has ended. This and the following: one thread at a time.
  void start(const KeptHolding& holding);
  // Readable when it has ended; -1: there is none.
  int fd() const { return process_.get(); }
  // Starts it again if it has ended. False: it could not be; again later.
  bool keep_running(const KeptHolding& holding);

  // For those who answer: one of them has to beat, at least.
  SharedBeat& beat() { return beat_; }

 private:
  const Options options_;
  SharedBeat beat_;
  UniqueFd process_;  // pidfd
  UniqueFd life_;     // it ends when this does
};

}  // namespace janus
