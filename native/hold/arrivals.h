// Containers of pods that start: tells of each when its first program is executed,
// and holds that until the container is admitted.
//
// Owns: the programs of bpf/arrivals.bpf.c, which are attached only while holding is
// on, and who has not been admitted yet. Knows no pods: whoever takes the arrivals
// admits each. Which of the holder's tiers does it:
//   fentry     the exec goes round. It opens its program again once it is admitted.
//   syscalls, scheduler  the process is stopped after its exec; the keeper continues
//              it after the limit
//   off        nobody is held: arrivals are only told of
// Thread-safe.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "ebpf/attachments.h"
#include "hold/holder.h"
#include "record/stats.h"

struct arrivals_bpf;
struct ring_buffer;

namespace janus {

struct Arrival {
  std::uint64_t container = 0;
  std::string container_id, pod_uid, cgroup_path;
  std::uint32_t pid = 0;
  std::uint64_t since_ns = 0;  // monotonic
  bool held = false;           // false: it runs already
};

class Arrivals {
 public:
  // Nobody is held for longer than `wait`; 0: nobody is held.
  Arrivals(const Holder& holder, std::chrono::milliseconds wait) : holder_(holder), wait_(wait) {}
  ~Arrivals() { hold(false); }
  Arrivals(const Arrivals&) = delete;
  Arrivals& operator=(const Arrivals&) = delete;

  // Containers that are there when it is switched on are never held. Off: all go on.
  // Throws Error(unsupported), and is off then.
  void hold(bool on);
  bool is_on() const;

  // The tracker's: readable when somebody arrived; -1 if off.
  int fd() const;
  // ... and reads it. True: there is something to take.
  bool collect();

  // Those that arrived since the last call. Call it once a second or more, also if
  // there is nothing to take: nobody is held for one that doesn't.
  std::vector<Arrival> take();
  // The container goes on. `guarded`: it has guards. False: it wasn't waiting any more.
  bool admit(std::uint64_t container, bool guarded);

  struct Stats {
    std::uint64_t admitted = 0;  // of those held
    std::uint64_t expired = 0;   // of those held
    std::uint64_t unheld = 0;    // arrived, and were not held
    std::uint64_t unknown = 0;   // ran a program before the guards were there that they have, or might have
    std::array<std::uint64_t, kBlockedBoundsNs.size() + 1> waited{};  // of those admitted
    std::uint64_t waited_ns = 0;
  };
  Stats stats() const;
  std::vector<MapUse> maps() const;
  std::vector<std::string> attached() const;

 private:
  struct Pending {
    std::uint64_t since_ns;
    bool held;
  };

  void open();
  void close();
  void arrived(const janus_arrival& told);
  enum class LetGo { gone, ran, waited };
  LetGo let_go(std::uint64_t container, const Pending& pending);
  std::uint64_t own_untold() const;
  static int on_arrival(void* context, void* data, std::size_t size);

  const Holder& holder_;
  const std::chrono::milliseconds wait_;
  mutable std::mutex mutex_;
  arrivals_bpf* skeleton_ = nullptr;
  ring_buffer* ring_ = nullptr;
  Attachments attachments_;
  std::map<std::uint64_t, Pending> pending_;  // told of, not admitted
  std::vector<Arrival> fresh_;                // not taken
  Stats stats_;
  std::uint64_t untold_ = 0;  // of programs that are gone
};

}  // namespace janus
