// Wakes JavaScript from a native thread.
//
// Owns: one thread-safe function of one Node environment. call() may come from
// any thread; release() from the JavaScript thread only, after which call()
// does nothing.
#pragma once

#include <napi.h>

#include <mutex>

namespace janus {

class Wake {
 public:
  Wake(Napi::Env env, Napi::Function callback)
      : function_(Napi::ThreadSafeFunction::New(env, callback, "janusd wake", 1, 1)) {
    // Waiting for events must not keep a process alive that is otherwise done.
    function_.Unref(env);
  }
  ~Wake() { release(); }
  Wake(const Wake&) = delete;
  Wake& operator=(const Wake&) = delete;

  void call() {
    const std::lock_guard lock(mutex_);
    // A queue of one: a wake-up that waits already is as good as another.
    if (!released_) function_.NonBlockingCall();
  }
  void release() {
    const std::lock_guard lock(mutex_);
    if (!released_) function_.Release();
    released_ = true;
  }

 private:
  std::mutex mutex_;
  bool released_ = false;
  Napi::ThreadSafeFunction function_;
};

}  // namespace janus
