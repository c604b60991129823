#include "ebpf/kept.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/bpf.h>
#include <linux/membarrier.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <numeric>
#include <system_error>
#include <utility>
#include <vector>

#include "os/clock.h"

namespace janus {
namespace {

UniqueFd pinned(const std::string& directory, const char* name) { return UniqueFd(bpf_obj_get((directory + "/" + name).c_str())); }

// Nothing, if it is no map of one value (or one for each processor).
bpf_map_info about(const UniqueFd& map) {
  bpf_map_info info{};
  std::uint32_t size = sizeof(info);
  if (!map || bpf_obj_get_info_by_fd(map.get(), &info, &size) != 0) return {};
  return info;
}

}  // namespace

Kept::Kept(const std::string& directory) {
  const UniqueFd map = pinned(directory, kPresence);
  const bpf_map_info info = about(map);
  if (info.type != BPF_MAP_TYPE_ARRAY || info.value_size < sizeof(layout_)) return;
  std::vector<std::uint8_t> value(info.value_size);
  const std::uint32_t first = 0;
  if (bpf_map_lookup_elem(map.get(), &first, value.data()) != 0) return;
  std::memcpy(&layout_, value.data(), sizeof(layout_));
  if (layout_ != JANUS_KEPT_LAYOUT || info.value_size != sizeof(janus_presence)) return;
  void* const mapped = mmap(nullptr, sizeof(janus_presence), PROT_READ | PROT_WRITE, MAP_SHARED, map.get(), 0);
  if (mapped == MAP_FAILED) return;
  presence_ = static_cast<janus_presence*>(mapped);
  UniqueFd counts = pinned(directory, kCounts);
  const bpf_map_info of_counts = about(counts);
  if (of_counts.type == BPF_MAP_TYPE_PERCPU_ARRAY && of_counts.value_size == sizeof(std::uint64_t) &&
      of_counts.max_entries == JANUS_AWAY_COUNTS)
    counts_ = std::move(counts);
}

Kept::~Kept() {
  if (presence_ != nullptr) munmap(presence_, sizeof(janus_presence));
}

void Kept::name_heir() {
  if (presence_ != nullptr) presence_->heir = 1;
}

void Kept::end() {
  if (presence_ == nullptr) return;
  presence_->ended = 1;
  // Waits for each program that has begun before.
  syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0);
}

AwayCounts Kept::counts() const {
  AwayCounts counts{};
  if (!counts_) return counts;
  std::vector<std::uint64_t> of_processors(static_cast<std::size_t>(std::max(1, libbpf_num_possible_cpus())));
  for (std::uint32_t which = 0; which < counts.size(); ++which)
    if (bpf_map_lookup_elem(counts_.get(), &which, of_processors.data()) == 0)
      counts[which] = std::accumulate(of_processors.begin(), of_processors.end(), std::uint64_t{0});
  return counts;
}

std::vector<KeptState> look_at_kept(const std::string& base) {
  std::error_code failed;
  std::vector<std::filesystem::path> directories;
  for (const auto& directory : std::filesystem::directory_iterator(base, failed)) directories.push_back(directory.path());
  std::ranges::sort(directories);
  std::vector<KeptState> all;
  for (const auto& directory : directories) {
    const Kept kept(directory);
    KeptState state{.directory = directory.filename(), .layout = kept.layout(), .presence = {}, .counts = kept.counts(), .seen_ns = 0};
    if (kept.presence() != nullptr) state.presence = *kept.presence();
    state.seen_ns = boot_ns();
    all.push_back(std::move(state));
  }
  return all;
}

}  // namespace janus
