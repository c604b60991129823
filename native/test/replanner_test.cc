// Who waits for what is planned again, and for how long.
#include "cover/replanner.h"

#include <array>
#include <condition_variable>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <vector>

#include "tap.h"

using namespace janus;

namespace {

// Plans when it is told to.
struct Plan {
  std::mutex mutex;
  std::condition_variable changed;
  int allowed = 0;
  std::vector<std::pair<std::uint64_t, Replanner::Change>> done;
  bool fails = false;

  void operator()(std::uint64_t container, const Replanner::Change& change) {
    std::unique_lock lock(mutex);
    changed.wait(lock, [this] { return allowed > 0; });
    --allowed;
    done.emplace_back(container, change);
    if (fails) throw std::runtime_error("cannot be planned");
  }
  void allow(int times) {
    {
      const std::lock_guard lock(mutex);
      allowed += times;
    }
    changed.notify_all();
  }
};

}  // namespace

int main() {
  Plan plan;
  Replanner replanner([&](std::uint64_t container, const Replanner::Change& change) { plan(container, change); });
  std::atomic<bool> stop{false};
  std::thread thread([&] {
    while (!stop.load()) {
      try {
        replanner.run(stop);
      } catch (const std::runtime_error&) {
      }
    }
  });
  const std::array<std::uint64_t, 2> one{1, 9}, two{2, 9};

  CHECK(replanner.is_settled() && replanner.concerns(one).empty());
  replanner.names_changed({{.container = 1, .guard = 10}});
  CHECK(!replanner.is_settled());
  const auto first = replanner.concerns(one);
  CHECK(first.size() == 1 && replanner.concerns(two).empty());  // another's question doesn't depend on it
  CHECK(!replanner.is_planned(first));
  // What comes after the question is not waited for: it would never end.
  while (replanner.concerns(one).empty()) std::this_thread::yield();
  std::this_thread::sleep_for(std::chrono::milliseconds(20));  // it is being planned by now
  replanner.names_changed({{.container = 1, .guard = 10}, {.container = 1, .guard = 11}, {.container = 2, .guard = 10}});
  plan.allow(1);
  while (!replanner.is_planned(first)) std::this_thread::yield();
  const auto second = replanner.concerns(one);
  CHECK(second.size() == 1 && !replanner.is_planned(second));
  // In turns: 1 asks again, 2 comes first.
  plan.allow(1);
  while (!replanner.is_planned(second)) std::this_thread::yield();
  replanner.names_changed({{.container = 1, .guard = 10}});
  plan.allow(2);
  replanner.finish();
  CHECK(replanner.is_settled());
  CHECK(plan.done.size() == 4);
  CHECK(plan.done[0].first == 1 && plan.done[1].first == 1 && plan.done[2].first == 2 && plan.done[3].first == 1);
  CHECK((plan.done[1].second.guards == std::set<std::uint32_t>{10, 11}));

  // Namespaces delay nobody's answer; an end comes with what else there was.
  replanner.namespace_seen(3, 33, 333);
  replanner.ended(3);
  const std::array<std::uint64_t, 1> three{3};
  CHECK(replanner.is_settled() && replanner.concerns(three).empty());
  plan.allow(2);
  replanner.finish();

  // What cannot be planned is over as well.
  plan.fails = true;
  replanner.names_changed({{.container = 4, .guard = 1}});
  plan.allow(1);
  replanner.finish();
  CHECK(replanner.is_settled());

  stop.store(true);
  replanner.wake();
  thread.join();
  replanner.names_changed({{.container = 5, .guard = 1}});
  replanner.finish();  // nobody plans any more, so nobody waits
  return tap::done();
}
