#include "record/event_ring.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstring>
#include <future>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "os/unique_fd.h"
#include "tap.h"

using janus::EventRing;
using janus::FileEvent;

namespace {

struct Read {
  FileEvent header;
  std::string path, exe, ancestry, asked, argv0;
  std::vector<std::uint32_t> deniers;
};

std::vector<Read> drain(EventRing& ring, std::size_t room = 1 << 16) {
  std::vector<std::uint8_t> bytes(room);
  std::vector<Read> all;
  while (const std::size_t got = ring.drain(bytes)) {
    for (std::size_t at = 0; at < got;) {
      Read read;
      std::memcpy(&read.header, bytes.data() + at, sizeof(FileEvent));
      const auto* text = reinterpret_cast<const char*>(bytes.data()) + at + sizeof(FileEvent);
      for (const auto& [part, length] : {std::pair(&read.path, read.header.path_len),
                                         {&read.exe, read.header.exe_len},
                                         {&read.ancestry, read.header.ancestry_len},
                                         {&read.asked, read.header.asked_len},
                                         {&read.argv0, read.header.argv0_len}}) {
        part->assign(text, length);
        text += length;
      }
      for (std::uint16_t i = 0; i < read.header.deniers; ++i, text += sizeof(std::uint32_t))
        std::memcpy(&read.deniers.emplace_back(), text, sizeof(std::uint32_t));
      at += read.header.size;
      all.push_back(read);
    }
  }
  return all;
}

void keeps_order_and_strings() {
  EventRing ring(65536);
  const janus::FileEventTexts texts{.path = "/a", .exe = "/bin/sh", .ancestry = "up", .asked = "/b/a", .argv0 = "as"};
  CHECK(ring.push({}, texts, std::array{7u, 8u}));  // it was empty: wake the reader
  CHECK(!ring.push({}, {}, {}));
  const auto read = drain(ring);
  CHECK(read.size() == 2);
  CHECK(read[0].path == "/a" && read[0].exe == "/bin/sh" && read[0].ancestry == "up" && read[0].header.seq == 1);
  CHECK(read[0].asked == "/b/a" && read[0].argv0 == "as" && read[1].asked.empty());
  CHECK(read[1].path.empty() && read[1].header.seq == 2);
  CHECK(read[0].deniers == std::vector({7u, 8u}) && read[1].deniers.empty());
  CHECK(read[0].header.size % 8 == 0);
  CHECK(ring.push({}, {.path = "/b"}, {}));  // empty again
  drain(ring);
  ring.push({}, {.path = "/c"}, std::vector<std::uint32_t>(100, 9u));
  CHECK(drain(ring).at(0).deniers == std::vector<std::uint32_t>(janus::kDeniers, 9u));
}

void a_full_ring_drops_and_leaves_a_gap() {
  EventRing ring(65536);
  const std::string path(4000, 'x');
  int pushed = 0;
  while (ring.dropped() == 0) {
    ring.push({}, {.path = path}, {});
    ++pushed;
  }
  CHECK(ring.written() == static_cast<std::uint64_t>(pushed - 1));
  CHECK(ring.used() <= ring.capacity());
  CHECK(drain(ring).size() == static_cast<std::size_t>(pushed - 1));
  ring.push({}, {.path = "/after"}, {});
  const auto after = drain(ring);
  CHECK(after.size() == 1 && after[0].header.seq == static_cast<std::uint64_t>(pushed + 1));
}

void what_could_not_be_made_leaves_a_gap_as_well() {
  EventRing ring(65536);
  ring.push({}, {}, {});
  ring.lose(3);
  ring.push({}, {}, {});
  const auto read = drain(ring);
  CHECK(read.size() == 2 && read[1].header.seq == 5 && ring.dropped() == 3 && ring.written() == 2);
}

void records_cross_the_end_of_the_memory() {
  EventRing ring(65536);
  bool all_right = true;
  for (int i = 0; i < 5000; ++i) {
    const std::string path = "/" + std::string(static_cast<std::size_t>(i % 977), static_cast<char>('a' + i % 26));
    ring.push({}, {.path = path, .exe = "e"}, {});
    const auto read = drain(ring);
    all_right = all_right && read.size() == 1 && read[0].path == path && read[0].exe == "e";
  }
  CHECK(all_right);
}

void a_reader_with_little_room_gets_whole_records() {
  EventRing ring(65536);
  for (int i = 0; i < 10; ++i) ring.push({}, {.path = "/path"}, {});
  std::vector<std::uint8_t> room(200);
  const std::size_t got = ring.drain(room);
  std::uint32_t size = 0;
  std::memcpy(&size, room.data(), sizeof(size));
  CHECK(got > 0 && got % size == 0);
}

void many_writers_lose_nothing_silently() {
  EventRing ring(1 << 20);
  constexpr int kEach = 5000;
  std::vector<std::thread> writers;
  for (int w = 0; w < 4; ++w)
    writers.emplace_back([&] {
      for (int i = 0; i < kEach; ++i) ring.push({}, {.path = "/some/path", .exe = "/bin/true"}, {});
    });
  std::size_t read = 0;
  std::uint64_t last = 0;
  bool ordered = true;
  const auto take = [&] {
    for (const Read& one : drain(ring)) {
      ordered = ordered && one.header.seq > last;
      last = one.header.seq;
      ++read;
    }
  };
  for (int i = 0; i < 100; ++i) take();
  for (auto& writer : writers) writer.join();
  take();
  CHECK(ordered);
  CHECK(read + ring.dropped() == 4 * kEach);
}

// Memory in which the first write waits.
class Stuck {
 public:
  Stuck()
      : fd_(static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK))),
        page_(static_cast<std::uint8_t*>(mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))) {
    uffdio_api api{.api = UFFD_API, .features = 0, .ioctls = 0};
    uffdio_register range{.range = place(), .mode = UFFDIO_REGISTER_MODE_MISSING, .ioctls = 0};
    CHECK(ioctl(fd_.get(), UFFDIO_API, &api) == 0 && ioctl(fd_.get(), UFFDIO_REGISTER, &range) == 0);
  }
  ~Stuck() { munmap(page_, kBytes); }
  Stuck(const Stuck&) = delete;
  Stuck& operator=(const Stuck&) = delete;

  std::span<std::uint8_t> memory() const { return {page_, kBytes}; }
  // Until somebody waits.
  bool reached() const {
    pollfd fault{fd_.get(), POLLIN, 0};
    return poll(&fault, 1, 20'000) == 1 && fault.revents == POLLIN;
  }
  void let_go() const {
    uffdio_zeropage zero{.range = place(), .mode = 0, .zeropage = 0};
    CHECK(ioctl(fd_.get(), UFFDIO_ZEROPAGE, &zero) == 0);
  }

 private:
  static constexpr std::size_t kBytes = 4096;
  uffdio_range place() const { return {.start = reinterpret_cast<std::uintptr_t>(page_), .len = kBytes}; }
  const janus::UniqueFd fd_;
  std::uint8_t* const page_;
};

void nobody_waits_for_the_reader() {
  EventRing ring(65536);
  ring.push({}, {.path = "/first"}, {});
  const Stuck stuck;
  auto drained = std::async(std::launch::async, [&] { return ring.drain(stuck.memory()); });
  CHECK(stuck.reached());
  auto pushed = std::async(std::launch::async, [&] { return ring.push({}, {.path = "/second"}, {}); });
  CHECK(pushed.wait_for(std::chrono::seconds(20)) == std::future_status::ready);
  stuck.let_go();
  CHECK(!pushed.get());  // who drains is awake
  const std::size_t got = drained.get();
  FileEvent first;
  std::memcpy(&first, stuck.memory().data(), sizeof(first));
  CHECK(first.seq == 1 && got > first.size);  // what came meanwhile, too
  CHECK(ring.used() == 0);
}

}  // namespace

int main() {
  keeps_order_and_strings();
  a_full_ring_drops_and_leaves_a_gap();
  what_could_not_be_made_leaves_a_gap_as_well();
  records_cross_the_end_of_the_memory();
  a_reader_with_little_room_gets_whole_records();
  many_writers_lose_nothing_silently();
  nobody_waits_for_the_reader();
  return tap::done();
}
