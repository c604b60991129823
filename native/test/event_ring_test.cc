#include "record/event_ring.h"

#include <array>
#include <cstring>
#include <string>
#include <thread>
#include <utility>
#include <vector>

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

}  // namespace

int main() {
  keeps_order_and_strings();
  a_full_ring_drops_and_leaves_a_gap();
  records_cross_the_end_of_the_memory();
  a_reader_with_little_room_gets_whole_records();
  many_writers_lose_nothing_silently();
  return tap::done();
}
