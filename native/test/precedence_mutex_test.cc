// Whoever asks first waits for no more than the one who has the mutex, however often others take it.
#include "os/precedence_mutex.h"

#include <atomic>
#include <mutex>
#include <thread>
#include <vector>

#include "tap.h"

using namespace janus;

int main() {
  PrecedenceMutex mutex;
  std::atomic<bool> stop{false}, alone{true};
  std::atomic<int> inside{0}, taken{0};
  int counted = 0;  // by whoever has the mutex
  std::vector<std::thread> others;
  for (int i = 0; i < 3; ++i)
    others.emplace_back([&] {
      while (!stop) {
        const std::lock_guard lock(mutex);
        if (inside.fetch_add(1) != 0) alone = false;
        ++counted;
        ++taken;
        inside.fetch_sub(1);
      }
    });
  bool first = true;
  for (int round = 0; round < 200; ++round) {
    // Held here until the other thread has asked for it.
    std::atomic<int> before{0};
    std::thread asks;
    {
      const std::lock_guard lock(mutex);
      asks = std::thread([&] {
        const FirstLock ahead(mutex);
        if (inside.fetch_add(1) != 0) alone = false;
        ++counted;
        first = first && taken == before;
        inside.fetch_sub(1);
      });
      while (!mutex.first_waits()) std::this_thread::yield();
      before = taken.load();
    }
    asks.join();
  }
  stop = true;
  for (std::thread& other : others) other.join();
  CHECK(alone);
  CHECK(first);
  CHECK(counted == taken + 200);
  return tap::done();
}
