#include "hold/held.h"

#include <bpf/bpf.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "os/clock.h"
#include "os/error.h"
#include "os/unique_fd.h"

namespace janus {
namespace {

constexpr std::uint64_t bit_of(int signal) { return 1ull << (signal - 1); }
constexpr std::uint64_t kStops = bit_of(SIGSTOP) | bit_of(SIGTSTP) | bit_of(SIGTTIN) | bit_of(SIGTTOU);

struct Stop {
  bool stands = false;   // the process is stopped
  bool pending = false;  // another stop is to come
};

// proc(5): State, SigPnd, ShdPnd.
Stop stop_of(std::uint32_t tgid) {
  std::ifstream status("/proc/" + std::to_string(tgid) + "/status");
  Stop stop;
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("State:")) stop.stands = line.find('T') != std::string::npos && line.find("(stopped)") != std::string::npos;
    if (line.starts_with("SigPnd:") || line.starts_with("ShdPnd:"))
      stop.pending |= (std::strtoull(line.c_str() + sizeof("SigPnd:"), nullptr, 16) & kStops) != 0;
  }
  return stop;
}

// Our own stop is no longer pending in a process that stands still: another
// one that is came from somebody else.
bool stopped_by_others(std::uint32_t tgid) {
  const Stop stop = stop_of(tgid);
  return stop.stands && stop.pending;
}

// It may be just about to: then its state is older than what is pending, which is looked at twice.
bool stands_still(std::uint32_t tgid) {
  for (int looks = 0; looks < 2; ++looks) {
    const Stop stop = stop_of(tgid);
    if (stop.stands || stop.pending) return true;
  }
  return false;
}

bool is_held_list(const bpf_map_info& map) {
  return map.type == BPF_MAP_TYPE_HASH && map.key_size == sizeof(std::uint32_t) && map.value_size == sizeof(janus_held) &&
         std::strcmp(map.name, "held") == 0;
}

// Gives the stop to another daemon that has the process on its list. False: there is none.
bool hand_over(int held_map, std::uint32_t tgid, std::uint64_t start_ns) {
  const auto info_of = [](int map) {
    bpf_map_info info{};
    std::uint32_t size = sizeof(info);
    if (bpf_obj_get_info_by_fd(map, &info, &size) != 0) info = {};
    return info;
  };
  const std::uint32_t own = info_of(held_map).id;
  for (std::uint32_t id = 0; bpf_map_get_next_id(id, &id) == 0;) {
    if (id == own) continue;
    const UniqueFd map(bpf_map_get_fd_by_id(id));
    if (!map || !is_held_list(info_of(map.get()))) continue;
    janus_held held{};
    if (bpf_map_lookup_elem(map.get(), &tgid, &held) != 0 || held.start_ns != start_ns) continue;
    held.waits = 0;
    // Not if it has been struck meanwhile.
    if (bpf_map_update_elem(map.get(), &tgid, &held, BPF_EXIST) == 0) return true;
  }
  return false;
}

std::vector<std::uint32_t> all_on(int held_map) {
  std::vector<std::uint32_t> all;
  std::uint32_t tgid = 0;
  for (void* last = nullptr; bpf_map_get_next_key(held_map, last, &tgid) == 0; last = &all.back()) all.push_back(tgid);
  return all;
}

}  // namespace

void continue_process(int process, std::uint32_t tgid) {
  if (stopped_by_others(tgid)) return;
  syscall(SYS_pidfd_send_signal, process, SIGCONT, nullptr, 0);
}

std::optional<janus_held> strike(int held_map, std::uint32_t tgid, const janus_held& held) {
  janus_held now{};
  if (bpf_map_lookup_elem(held_map, &tgid, &now) != 0 || now.since_ns != held.since_ns) return std::nullopt;
  if (bpf_map_lookup_and_delete_elem(held_map, &tgid, &now) != 0) return std::nullopt;
  return now;
}

void end_hold(int held_map, int process, std::uint32_t tgid, const janus_held& struck) {
  if (struck.waits != 0 || hand_over(held_map, tgid, struck.start_ns)) return;
  continue_process(process, tgid);
}

void continue_all(int held_map) {
  for (const std::uint32_t each : all_on(held_map)) {
    const UniqueFd process(static_cast<int>(syscall(SYS_pidfd_open, each, 0)));
    janus_held struck{};
    if (bpf_map_lookup_and_delete_elem(held_map, &each, &struck) == 0 && process) end_hold(held_map, process.get(), each, struck);
  }
}

ContinuedArrivals continue_arrivals(int held_map, std::uint64_t container) {
  ContinuedArrivals continued;
  for (const std::uint32_t each : all_on(held_map)) {
    janus_held held{};
    if (bpf_map_lookup_elem(held_map, &each, &held) != 0 || held.cause != JANUS_HOLD_ARRIVAL) continue;
    if (container != 0 && held.container != container) continue;
    const UniqueFd process(static_cast<int>(syscall(SYS_pidfd_open, each, 0)));
    const bool ran = !stands_still(each);
    // Off the list first: held again at once, it would come off that hold's.
    const auto struck = strike(held_map, each, held);
    if (!struck) continue;
    ++continued.listed;
    continued.ran |= ran;
    if (process) end_hold(held_map, process.get(), each, *struck);
  }
  return continued;
}

HoldSwitch::HoldSwitch(int guardians_map) {
  void* mapped = mmap(nullptr, sizeof(janus_guardians), PROT_READ | PROT_WRITE, MAP_SHARED, guardians_map, 0);
  if (mapped == MAP_FAILED) throw Error::system(errno, "mmap", "map guardians");
  guardians_ = static_cast<janus_guardians*>(mapped);
}

void HoldSwitch::answering() const {
  __atomic_store_n(&guardians_->answered_ns, monotonic_ns(), __ATOMIC_RELAXED);
  __atomic_store_n(&guardians_->enabled, 1u, __ATOMIC_RELEASE);
}

HoldSwitch::~HoldSwitch() { munmap(guardians_, sizeof(janus_guardians)); }

}  // namespace janus
