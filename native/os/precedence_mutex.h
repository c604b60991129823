// A mutex that goes to whoever asks by lock_first() before all others that wait.
//
// For work that somebody waits for, beside work that another can have done again and
// again: std::mutex lets a thread that has just let go take it once more, any number of times.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <mutex>

namespace janus {

class PrecedenceMutex {
 public:
  void lock() {
    std::unique_lock guard(mutex_);
    changed_.wait(guard, [this] { return !held_ && first_ == 0; });
    held_ = true;
  }
  void lock_first() {
    std::unique_lock guard(mutex_);
    ++first_;
    changed_.wait(guard, [this] { return !held_; });
    --first_;
    held_ = true;
  }
  // Whether anybody waits by lock_first().
  bool first_waits() {
    const std::lock_guard guard(mutex_);
    return first_ > 0;
  }
  void unlock() {
    {
      const std::lock_guard guard(mutex_);
      held_ = false;
    }
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::size_t first_ = 0;  // that wait by lock_first()
  bool held_ = false;
};

class FirstLock {
 public:
  explicit FirstLock(PrecedenceMutex& mutex) : mutex_(mutex) { mutex_.lock_first(); }
  ~FirstLock() { mutex_.unlock(); }
  FirstLock(const FirstLock&) = delete;
  FirstLock& operator=(const FirstLock&) = delete;

 private:
  PrecedenceMutex& mutex_;
};

}  // namespace janus
