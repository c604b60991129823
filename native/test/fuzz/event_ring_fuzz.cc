// Records on their way to JavaScript: what is drained is what was pushed, whatever its length and the buffer's.
// sources: record/event_ring.cc
#include "record/event_ring.h"

#include <algorithm>
#include <cstring>
#include <deque>
#include <vector>

#include "test/fuzz/input.h"

using namespace janus;

namespace {

struct Pushed {
  std::uint64_t seq;
  std::string path, exe, ancestry, asked, argv0;
  std::vector<std::uint32_t> deniers;
};

// As EventRing cuts them.
std::string cut(const std::string& text) { return text.substr(0, 65535); }

void check(std::span<const std::uint8_t> drained, std::deque<Pushed>& waiting) {
  for (std::size_t at = 0; at < drained.size();) {
    FileEvent event;
    CLAIM(drained.size() - at >= sizeof(event));
    std::memcpy(&event, drained.data() + at, sizeof(event));
    CLAIM(event.size <= drained.size() - at && event.size % 8 == 0);
    CLAIM(!waiting.empty() && waiting.front().seq == event.seq);
    const char* text = reinterpret_cast<const char*>(drained.data() + at + sizeof(event));
    for (const auto& [length, part] : {std::pair(event.path_len, &waiting.front().path),
                                       {event.exe_len, &waiting.front().exe},
                                       {event.ancestry_len, &waiting.front().ancestry},
                                       {event.asked_len, &waiting.front().asked},
                                       {event.argv0_len, &waiting.front().argv0}}) {
      CLAIM(std::string_view(text, length) == *part);
      text += length;
    }
    CLAIM(event.deniers == waiting.front().deniers.size());
    for (const std::uint32_t denier : waiting.front().deniers) {
      CLAIM(std::memcmp(text, &denier, sizeof(denier)) == 0);
      text += sizeof(denier);
    }
    waiting.pop_front();
    at += event.size;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::Input input(data, size);
  EventRing ring(65536);
  std::deque<Pushed> waiting;
  std::uint64_t seq = 0;
  while (!input.empty()) {
    const auto length = [&] { return static_cast<std::size_t>(input.byte()) << input.below(10); };
    if (input.flag()) {
      const std::string path(length(), 'p'), exe(length(), 'e'), ancestry(length(), 'a');
      const std::string asked(length(), 's'), argv0(length(), 'v');
      const std::uint64_t dropped = ring.dropped();
      std::vector<std::uint32_t> deniers(input.below(20), 0x01020304);
      ring.push({}, {.path = path, .exe = exe, .ancestry = ancestry, .asked = asked, .argv0 = argv0}, deniers);
      deniers.resize(std::min(deniers.size(), kDeniers));
      ++seq;
      if (ring.dropped() == dropped) waiting.push_back({seq, cut(path), cut(exe), cut(ancestry), cut(asked), cut(argv0), deniers});
    } else {
      std::vector<std::uint8_t> into(length());
      const std::size_t got = ring.drain(into);
      CLAIM(got <= into.size());
      check(std::span(into).first(got), waiting);
    }
  }
  std::vector<std::uint8_t> all(ring.capacity());
  check(std::span(all).first(ring.drain(all)), waiting);
  CLAIM(waiting.empty() && ring.used() == 0);
  return 0;
}
