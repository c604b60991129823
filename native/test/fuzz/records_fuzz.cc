// What the eBPF programs write about processes: names, executables and cgroup paths are a container's to choose.
// sources: ebpf/record_stream.cc track/container_search.cc
#include <memory>

#include "ebpf/record_stream.h"
#include "os/error.h"
#include "test/fuzz/input.h"
#include "track/container_search.h"

using namespace janus;

namespace {

void as_tasks(std::string_view bytes) {
  ContainerSearch full(std::string(64, 'a')), name("web");
  std::size_t seen = 0;
  const std::string_view rest =
      visit_tasks(bytes, [&](const janus_iter_record& record, std::span<const TaskCgroup> cgroups, std::string_view exe) {
        seen += sizeof(record) + exe.size();
        for (const TaskCgroup& cgroup : cgroups) seen += sizeof(*cgroup.raw) + cgroup.path.size();
        full.see(record, cgroups);
        name.see(record, cgroups);
      });
  CLAIM(seen + rest.size() == bytes.size());
  for (const ContainerSearch* search : {&full, &name}) {
    try {
      const FoundContainer found = search->result();
      CLAIM(!found.info.pids.empty() && !found.keys.empty());
    } catch (const Error& error) {
      CLAIM(error.code == ErrorCode::not_found || error.code == ErrorCode::ambiguous);
    }
  }
}

void as_threads(std::string_view bytes) {
  std::size_t count = 0;
  const std::string_view rest = visit_threads(bytes, [&](const janus_thread&) { ++count; });
  CLAIM(rest.size() < sizeof(janus_thread) && count * sizeof(janus_thread) + rest.size() == bytes.size());
}

void as_record(std::string_view bytes) {
  const auto copy = std::make_unique<std::uint64_t[]>(bytes.size() / 8 + 1);
  std::memcpy(copy.get(), bytes.data(), bytes.size());
  const char* const begin = reinterpret_cast<const char*>(copy.get());
  const auto claim_inside = [&](std::string_view text) {
    CLAIM(text.data() >= begin && text.data() + text.size() <= begin + bytes.size());
  };
  if (const auto record = record_of(copy.get(), bytes.size())) {
    claim_inside(record->second.exe);
    claim_inside(record->second.argv0);
  }
  if (const auto denial = denial_of(copy.get(), bytes.size())) {
    claim_inside(denial->path);
    claim_inside(denial->asked);
    claim_inside(denial->other);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::Input input(data, size);
  const std::uint8_t kind = input.below(3);
  if (kind == 0) as_tasks(input.rest());
  if (kind == 1) as_threads(input.rest());
  if (kind == 2) as_record(input.rest());
  return 0;
}
