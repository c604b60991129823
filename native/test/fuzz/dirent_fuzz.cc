// What a fanotify event says of a changed directory. Events are the kernel's, the names in them a container's.
// sources:
#include <vector>

#include "os/dirent_event.h"
#include "test/fuzz/input.h"

using namespace janus;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < sizeof(fanotify_event_metadata)) return 0;
  // As large as the event: what is read beyond it is seen.
  std::vector<std::uint64_t> aligned((size + 7) / 8);
  auto* const event = reinterpret_cast<fanotify_event_metadata*>(aligned.data());
  std::memcpy(event, data, size);
  event->event_len = static_cast<std::uint32_t>(size);
  event->metadata_len = sizeof(*event);
  const DirentEvent what = dirent_of(*event);
  const char* const begin = reinterpret_cast<const char*>(event);
  if (what.directory == nullptr) {
    CLAIM(what.name.empty());
    return 0;
  }
  const char* const handle = reinterpret_cast<const char*>(what.directory);
  CLAIM(handle >= begin && handle + sizeof(file_handle) + what.directory->handle_bytes <= begin + size);
  CLAIM(what.name.data() >= begin && what.name.data() + what.name.size() <= begin + size);
  return 0;
}
