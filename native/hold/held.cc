#include "hold/held.h"

#include <bpf/bpf.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>
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

// Our own stop is no longer pending in a process that stands still: another
// one that is came from somebody else (proc(5), State, SigPnd, ShdPnd).
bool stopped_by_others(std::uint32_t tgid) {
  std::ifstream status("/proc/" + std::to_string(tgid) + "/status");
  bool stopped = false;
  std::uint64_t pending = 0;
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("State:")) stopped = line.find('T') != std::string::npos && line.find("(stopped)") != std::string::npos;
    if (line.starts_with("SigPnd:") || line.starts_with("ShdPnd:"))
      pending |= std::strtoull(line.c_str() + sizeof("SigPnd:"), nullptr, 16);
  }
  return stopped && (pending & kStops) != 0;
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

bool strike(int held_map, std::uint32_t tgid, const janus_held& held) {
  janus_held now{};
  if (bpf_map_lookup_elem(held_map, &tgid, &now) != 0 || now.since_ns != held.since_ns) return false;
  return bpf_map_delete_elem(held_map, &tgid) == 0;
}

void continue_all(int held_map) {
  for (const std::uint32_t each : all_on(held_map)) {
    const UniqueFd process(static_cast<int>(syscall(SYS_pidfd_open, each, 0)));
    if (process) continue_process(process.get(), each);
    bpf_map_delete_elem(held_map, &each);
  }
}

std::size_t continue_arrivals(int held_map, std::uint64_t container) {
  std::size_t continued = 0;
  for (const std::uint32_t each : all_on(held_map)) {
    janus_held held{};
    if (bpf_map_lookup_elem(held_map, &each, &held) != 0 || held.cause != JANUS_HOLD_ARRIVAL) continue;
    if (container != 0 && held.container != container) continue;
    const UniqueFd process(static_cast<int>(syscall(SYS_pidfd_open, each, 0)));
    // Off the list first: held again at once, it would come off that hold's.
    if (!strike(held_map, each, held)) continue;
    ++continued;
    if (process) continue_process(process.get(), each);
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
