#include "observer.h"

#include <poll.h>
#include <unistd.h>

#include <array>

namespace janus {
namespace {

struct Observed {
  std::uint64_t bit;
  FileEventKind kind;
};
// In the order in which they happen to one open file: the kernel merges them.
constexpr std::array<Observed, 6> kObserved = {{{FAN_OPEN, FileEventKind::open},
                                                {FAN_OPEN_EXEC, FileEventKind::exec},
                                                {FAN_ACCESS, FileEventKind::access},
                                                {FAN_MODIFY, FileEventKind::modify},
                                                {FAN_CLOSE_WRITE, FileEventKind::closewrite},
                                                {FAN_CLOSE_NOWRITE, FileEventKind::closenowrite}}};

// Each event read installs a descriptor: so many at a time, then they are closed.
constexpr std::size_t kBatch = 64;

}  // namespace

Observer::Observer(Gate::Parts parts)
    : parts_(parts), self_(getpid()), locator_(parts.programs, LocatorSlot::observer) {}

void Observer::run(const std::atomic<bool>& stop, int stop_fd) {
  std::array<pollfd, 2> fds = {{{parts_.groups.observer.fd(), POLLIN, 0}, {stop_fd, POLLIN, 0}}};
  alignas(fanotify_event_metadata) std::array<char, kBatch * sizeof(fanotify_event_metadata)> buffer;
  while (!stop.load(std::memory_order_relaxed)) {
    heartbeat_.beat();
    poll(fds.data(), fds.size(), kBeatMs);
    if (fds[0].revents == 0) continue;
    bool unreadable = false;
    const std::size_t got = parts_.groups.observer.read(buffer, unreadable);
    const auto* event = reinterpret_cast<const fanotify_event_metadata*>(buffer.data());
    for (std::size_t left = got; FAN_EVENT_OK(event, left); event = FAN_EVENT_NEXT(event, left)) take(*event);
  }
}

void Observer::take(const fanotify_event_metadata& event) {
  if (event.mask & FAN_Q_OVERFLOW) parts_.counters.kernel_queue_overflow.add();
  const UniqueFd fd(event.fd);
  if (!fd || event.pid == self_) return;
  const auto policy = parts_.policy.get();
  const Location location = locator_.locate(fd.get(), event.pid, true);
  if (!location.found()) return;
  const Superblock* superblock = policy->find(location.raw->dev);
  if (superblock == nullptr) return;
  bool anyone = false;
  for (const Observed& observed : kObserved) {
    if (!(event.mask & observed.bit)) continue;
    const Decision decision =
        judge(*superblock->table, parts_.identities, location, observed.kind, true).decision;
    if (decision.entry == nullptr) continue;
    anyone = true;
    const std::uint8_t flags = decision.entry->action == Action::watch ? kFlagWatched : 0;
    parts_.recorder.record(*superblock->table, *decision.entry, location,
                           {.kind = observed.kind,
                            .response = 0,
                            .flags = flags,
                            .blocked_ns = 0,
                            .pid = event.pid,
                            .time_ns = clock_ns(CLOCK_REALTIME)});
  }
  if (!anyone) parts_.learner.learn(true, locator_, location, *policy);
}

}  // namespace janus
