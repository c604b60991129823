// The native side as a whole.
//
// Owns: every part and every thread, and the order in which they start and
// stop. Methods are called on one thread (JavaScript's); what the parts do on
// their own threads never calls back but through `wake`.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "ebpf/bpf_programs.h"
#include "ebpf/decider.h"
#include "ebpf/pins.h"
#include "record/event_ring.h"
#include "record/refusals.h"
#include "os/fanotify_group.h"
#include "decide/dirent_observer.h"
#include "decide/explainer.h"
#include "decide/rehearsal.h"
#include "decide/gate.h"
#include "decide/kernel_denials.h"
#include "hold/arrivals.h"
#include "hold/holder.h"
#include "os/last_resort.h"
#include "cover/canary.h"
#include "cover/identity_scanner.h"
#include "identity/kernel_rules.h"
#include "track/inspector.h"
#include "cover/mark_planner.h"
#include "cover/replanner.h"
#include "decide/observer.h"
#include "decide/recorder.h"
#include "track/tracker.h"

namespace janus {

struct EngineOptions {
  std::size_t ring_bytes = 8 << 20;
  std::chrono::milliseconds deadline{1000};
  std::size_t identity_limit = kIdentityLimit;
  std::size_t ignore_limit = 262144;
  std::size_t ignore_after = 64;
  HoldMode hold = HoldMode::automatic;
  std::string version;         // of the daemon, for whoever looks at what it keeps
  bool kernel_decides = true;  // where it can
  bool keep = false;           // what the kernel decides holds on when this process is gone
  bool away_denies = false;    // ... and what it doesn't decide is denied then, in guarded containers
  std::chrono::milliseconds hold_limit{1000};
  std::chrono::milliseconds pod_wait{2000};  // see Arrivals
  KeeperProcess::Options keeper;
  std::uint64_t stalls = 0;  // after which this run begins: counted as exposure
};

// What tells whether the engine works. Its cost does not depend on the guards.
struct EngineVitals {
  struct Ring {
    std::size_t bytes, used;
    std::uint64_t written;
  };
  std::vector<std::string> programs;
  Ring ring{};
  std::map<std::string, double> heartbeat_ms;
};

// What goes wrong, counted since the start. Its cost does not depend on the guards.
struct EngineTroubles {
  std::map<std::string, std::uint64_t> losses, exposure;
  std::map<std::string, std::uint64_t> full;  // entries that found no room, by eBPF map
  std::vector<Refusals::Refused> refused;
};

struct EngineStats {
  std::map<std::string, std::uint64_t> asked, unwatched, marks, holds;
  std::map<std::string, std::uint64_t> away;  // opens while no daemon was there
  double away_seconds = 0;
  std::size_t containers = 0, processes = 0, scans_pending = 0;
  std::vector<MapUse> maps;
  std::uint64_t bpf_records = 0, bpf_ring_peak = 0;
  std::string hold_tier;
  bool kernel_decides = false, kernel_alone = false, kept = false;
  Arrivals::Stats arrivals;
  std::map<std::string, bool> urgent;  // threads that run before all ordinary ones, if they may
};

class Engine {
 public:
  // `wake`: records wait or a container ended; any thread, never concurrently.
  Engine(EngineOptions options, std::function<void()> wake);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  void start();
  // Answers what is pending and ends the threads; drain() still works.
  void stop();

  ContainerInfo find_container(const std::string& id);
  std::vector<std::string> missing_containers(const std::vector<std::string>& ids);
  std::vector<ContainerSummary> list_containers(bool all);
  std::vector<ProcessSummary> list_processes(const std::string& container);
  Explanation explain(const std::string& container, const std::string& path, FileEventKind kind, std::uint32_t pid);
  std::shared_ptr<const Rehearsal> rehearse(const GuardSpec& guard);
  std::optional<Rehearsal::Judged> judge_past(const Rehearsal& by, std::span<const std::uint8_t> record, const std::string& container);
  void apply(std::span<const GuardSpec> specs);
  // All guards of before are in place: what earlier daemons have left in the kernel goes, now and as they go.
  // Returns what has gone since this was last asked.
  TakenOver take_over();
  // See Arrivals (native/hold/arrivals.h).
  void hold_arrivals(bool on);
  std::vector<Arrival> take_arrivals();
  bool admit(std::uint64_t container, bool guarded);
  // The root directory of the canary's file system. The descriptor stays the engine's.
  int canary();
  bool remove(std::uint32_t key);
  void retry(std::uint32_t key);
  std::vector<PathNote> path_notes(std::uint32_t key);
  std::vector<std::string> take_ended();
  std::size_t drain(std::span<std::uint8_t> into);
  EngineVitals vitals();
  EngineTroubles troubles();
  EngineStats stats();
  void each_counts(const std::function<void(std::uint32_t, const SubjectCounts&)>& visit);

 private:
  struct Running;
  Running& running();

  const EngineOptions options_;
  const std::function<void()> wake_;
  EventRing ring_;  // outlives the threads: what they left can still be drained
  std::optional<LastResort> last_resort_;  // from the first start
  std::unique_ptr<Running> running_;
};

}  // namespace janus
