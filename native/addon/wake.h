// Wakes JavaScript from a native thread.
//
// Owns: one thread-safe function of one Node environment. call() may come from
// any thread; release() from the JavaScript thread only, after which call()
// does nothing. Node's own interface rather than the C++ wrapper's: a wake-up
// that is delivered while the environment goes down cannot run any more, and
// must then be nothing, not an exception (which would end the process).
#pragma once

#include <napi.h>

#include <mutex>

namespace janus {

class Wake {
 public:
  Wake(Napi::Env env, Napi::Function callback) {
    const Napi::String name = Napi::String::New(env, "janusd wake");
    // A queue of one: a wake-up that waits already is as good as another.
    if (napi_create_threadsafe_function(env, callback, nullptr, name, 1, 1, nullptr, nullptr, nullptr, &Wake::deliver,
                                        &function_) != napi_ok)
      throw Napi::Error::New(env);
    // Waiting for events must not keep a process alive that is otherwise done.
    napi_unref_threadsafe_function(env, function_);
  }
  ~Wake() { release(); }
  Wake(const Wake&) = delete;
  Wake& operator=(const Wake&) = delete;

  void call() {
    const std::lock_guard lock(mutex_);
    if (!released_) napi_call_threadsafe_function(function_, nullptr, napi_tsfn_nonblocking);
  }
  void release() {
    const std::lock_guard lock(mutex_);
    if (!released_) napi_release_threadsafe_function(function_, napi_tsfn_abort);
    released_ = true;
  }

 private:
  // On the JavaScript thread; `env` is null once that is going.
  static void deliver(napi_env env, napi_value callback, void*, void*) {
    napi_value undefined = nullptr;
    if (env == nullptr || callback == nullptr || napi_get_undefined(env, &undefined) != napi_ok) return;
    if (napi_call_function(env, undefined, callback, 0, nullptr, nullptr) != napi_pending_exception) return;
    napi_value thrown = nullptr;
    if (napi_get_and_clear_last_exception(env, &thrown) == napi_ok) napi_fatal_exception(env, thrown);
  }

  std::mutex mutex_;
  bool released_ = false;
  napi_threadsafe_function function_ = nullptr;
};

}  // namespace janus
