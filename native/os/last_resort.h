// Ends the process when it has been asked to end and does not in time.
//
// Owns: a thread that waits for nothing but its own clock, and the part of the
// handlers of SIGTERM and SIGINT that starts it. JavaScript may be blocked then,
// and any thread may be in a file system that does not answer. The thread first
// lets go of whoever waits for an answer: the kernel does not, while a thread
// that cannot be killed keeps the process's descriptors.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <mutex>
#include <thread>

#include "os/clock.h"

namespace janus {

class LastResort {
 public:
  // Where SIGTERM or SIGINT have a handler (Node's), that is called as before, and
  // the process has `limit` from then on. Those signals are blocked in the calling
  // thread and in those that it starts: one that a file system holds would never
  // take them. One object at a time. Throws std::system_error if there is no
  // thread to be had.
  explicit LastResort(std::chrono::milliseconds limit);
  ~LastResort();
  LastResort(const LastResort&) = delete;
  LastResort& operator=(const LastResort&) = delete;

  // What to do first, on the thread of its own; nullptr: nobody waits for an
  // answer. May wait for a `let_go` that is being done.
  void on_end(std::function<void()> let_go);
  // The process has `limit` from now, until done(), or what it has already if
  // that is less.
  void within(std::chrono::milliseconds limit);
  void done();

  const Heartbeat& heartbeat() const { return heartbeat_; }

 private:
  void watch();

  std::atomic<bool> over_{false};
  Heartbeat heartbeat_;
  std::mutex mutex_;  // let_go_
  std::function<void()> let_go_;
  std::thread thread_;
};

}  // namespace janus
