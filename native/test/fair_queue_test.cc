// Containers are answered in turn, and no question is answered twice or forgotten, by
// whichever thread.
#include "decide/fair_queue.h"

#include <unistd.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "os/clock.h"
#include "tap.h"

using namespace janus;

namespace {

Question question(std::uint64_t container, std::int32_t pid, std::uint64_t asked_ns = 0) {
  Question made;
  made.container = container;
  made.event.pid = pid;
  made.asked_ns = asked_ns;
  return made;
}

void in_turn() {
  FairQueue queue;
  CHECK(queue.empty() && !queue.take() && !queue.take_older(UINT64_MAX));
  for (int i = 0; i < 1500; ++i) queue.add(question(1, i));
  queue.add(question(2, 5000));
  queue.add(question(2, 5001));
  CHECK(queue.size() == 1502 && queue.containers() == 2);
  std::string order;
  for (int i = 0; i < 6; ++i) order += std::to_string(queue.take()->event.pid) + " ";
  CHECK(order == "0 5000 1 5001 2 3 ");
  // Who comes later has its turn soon.
  queue.add(question(3, 6000));
  CHECK(queue.take()->event.pid == 4 && queue.take()->event.pid == 6000);
  int left = 0;
  while (queue.take()) ++left;
  CHECK(left == 1495 && queue.empty() && queue.containers() == 0);
}

// While some have to wait, all others are answered.
void some() {
  FairQueue queue;
  for (int i = 0; i < 10; ++i) queue.add(question(1, 1));
  const auto others = [](std::uint64_t container) { return container != 1; };
  CHECK(!queue.take_of(others));
  queue.add(question(2, 2));
  queue.add(question(3, 3));
  CHECK(queue.take_of(others)->event.pid == 2 && queue.take_of(others)->event.pid == 3 && !queue.take_of(others));
  CHECK(queue.take()->event.pid == 1 && queue.size() == 9);
}

void late() {
  FairQueue queue;
  queue.add(question(1, 1, 100));
  queue.add(question(1, 2, 300));
  queue.add(question(2, 3, 200));
  CHECK(!queue.take_older(99));
  CHECK(queue.take_older(200)->event.pid == 1);
  CHECK(queue.take_older(200)->event.pid == 3);
  CHECK(!queue.take_older(200) && queue.size() == 1);
  CHECK(queue.take_older(300)->event.pid == 2 && queue.empty());
}

// The gate adds and takes, the watchdog takes: each question is one's.
void shared() {
  constexpr int kEach = 20'000;
  FairQueue queue;
  std::vector<std::atomic<int>> taken(kEach);
  std::atomic<bool> stop{false};
  std::thread watchdog([&] {
    while (!stop.load())
      if (const auto one = queue.take_older(UINT64_MAX)) ++taken[static_cast<std::size_t>(one->event.pid)];
  });
  for (int i = 0; i < kEach; ++i) {
    queue.add(question(static_cast<std::uint64_t>(i % 3), i));
    if (i % 2 == 0)
      if (const auto one = queue.take()) ++taken[static_cast<std::size_t>(one->event.pid)];
  }
  while (const auto one = queue.take()) ++taken[static_cast<std::size_t>(one->event.pid)];
  stop.store(true);
  watchdog.join();
  bool once = true;
  for (const auto& count : taken) once = once && count.load() == 1;
  CHECK(once && queue.empty());
}

}  // namespace

int main() {
  in_turn();
  some();
  late();
  shared();
  return tap::done();
}
