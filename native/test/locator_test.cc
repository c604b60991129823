// What follows a guarded inode in a path whose end may be lost.
#include "ebpf/locator.h"

#include <string>

#include "tap.h"

using namespace janus;

int main() {
  janus_locate raw{};
  const std::string whole = "/data/free/g/deep/file";
  Location location{.raw = &raw, .path = whole, .asked = {}};
  raw.hits = 2;
  raw.full_len = static_cast<std::uint32_t>(whole.size());
  raw.hit_tail[0] = static_cast<std::uint32_t>(std::string("/deep/file").size());
  CHECK(location.after(0) == "/deep/file" && !location.cut());
  CHECK(location.after(1).empty());  // the object itself

  // 100 bytes more that are lost: the hit is still where it was.
  raw.flags = JANUS_LOCATE_TAIL_LOST;
  raw.full_len += 100;
  raw.hit_tail[0] += 100;
  CHECK(location.after(0) == "/deep/file" && location.cut());
  // In what is lost: nothing is known of what follows.
  raw.hit_tail[1] = 50;
  CHECK(location.after(1).empty());
  raw.hit_tail[1] = 100;
  CHECK(location.after(1).empty());
  // The superblock's root is guarded.
  raw.hit_tail[0] = raw.full_len;
  CHECK(location.after(0) == whole);
  return tap::done();
}
