#include "decide/observer.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
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
constexpr std::size_t kEventBytes = sizeof(fanotify_event_metadata) + sizeof(fanotify_event_info_pidfd);

// The kernel makes one at the read, for a process that is not reaped by then.
UniqueFd pidfd_of(const fanotify_event_metadata& event) {
  const auto* info = reinterpret_cast<const fanotify_event_info_pidfd*>(&event + 1);
  const bool there = event.event_len >= kEventBytes && info->hdr.info_type == FAN_EVENT_INFO_TYPE_PIDFD;
  return UniqueFd(there && info->pidfd >= 0 ? info->pidfd : -1);
}

}  // namespace

Observer::Observer(DecideParts parts)
    : parts_(parts), self_(getpid()), locator_(parts.programs, LocatorSlot::observer) {}

void Observer::run(const std::atomic<bool>& stop, int stop_fd) {
  std::array<pollfd, 2> fds = {{{parts_.groups.observer.fd(), POLLIN, 0}, {stop_fd, POLLIN, 0}}};
  alignas(fanotify_event_metadata) std::array<char, kBatch * kEventBytes> buffer;
  while (!stop.load(std::memory_order_relaxed)) {
    heartbeat_.beat();
    poll(fds.data(), fds.size(), kBeatMs);
    const std::uint64_t asked_ns = boot_ns();
    bool unreadable = false;
    const std::size_t got = parts_.groups.observer.read(buffer, unreadable);
    const std::uint64_t read_ns = boot_ns();
    // Who did it, and what that ran, happened before.
    if (got > 0) parts_.tracker.drain();
    const auto* event = reinterpret_cast<const fanotify_event_metadata*>(buffer.data());
    for (std::size_t left = got; FAN_EVENT_OK(event, left); event = FAN_EVENT_NEXT(event, left)) {
      take(*event, read_ns);
      if (uncounted_ > 0 && --uncounted_ == 0) since_ns_ = counted_ns_;
    }
    bound(!unreadable && got + kEventBytes <= buffer.size(), asked_ns);
  }
}

// Events are read in the order in which they happened. So what is unread
// happened after we last asked and found the queue empty in the end; or, if it
// never gets empty, after we counted what was in it, once that is read.
void Observer::bound(bool emptied, std::uint64_t asked_ns) {
  if (emptied) {
    since_ns_ = asked_ns;
    uncounted_ = 0;
  } else if (uncounted_ == 0) {
    int bytes = 0;
    const std::uint64_t now = boot_ns();
    if (ioctl(parts_.groups.observer.fd(), FIONREAD, &bytes) != 0) return;
    counted_ns_ = now;
    uncounted_ = static_cast<std::size_t>(bytes) / sizeof(fanotify_event_metadata);
    if (uncounted_ == 0) since_ns_ = now;
  }
  parts_.tracker.settle(Tracker::Reader::observer, since_ns_);
}

Tracker::Actor Observer::identify(std::uint32_t tgid, bool alive, const janus_locate& raw,
                                  std::uint64_t read_ns) const {
  // While it is not reaped, nobody else has its number. (Who began after the
  // read has it by now.)
  if (!alive || !(raw.flags & JANUS_LOCATE_ACTOR) || raw.start_ns > read_ns)
    return parts_.tracker.actor(tgid, since_ns_, read_ns, alive);
  const ProcessKey key{tgid, raw.start_ns};
  return parts_.tracker.actor(key).value_or(
      Tracker::Actor{.key = key, .container = raw.flags & JANUS_LOCATE_TRACKED ? raw.container : 0});
}

void Observer::take(const fanotify_event_metadata& event, std::uint64_t read_ns) {
  if (event.mask & FAN_Q_OVERFLOW) parts_.counters.kernel_queue_overflow.add();
  const UniqueFd fd(event.fd);
  const UniqueFd pidfd = pidfd_of(event);
  if (!fd || event.pid == self_) return;
  const auto policy = parts_.policy.get();
  const Location location = locator_.locate(fd.get(), event.pid, true);
  if (!location.found()) return;
  const Superblock* superblock = policy->find(location.raw->dev);
  if (superblock == nullptr) return;
  const Tracker::Actor actor = identify(static_cast<std::uint32_t>(event.pid), static_cast<bool>(pidfd), *location.raw, read_ns);
  bool anyone = false;
  for (const Observed& observed : kObserved) {
    if (!(event.mask & observed.bit)) continue;
    const Decision decision =
        judge(*superblock->table, parts_.identities, location, actor_of(actor.container, actor.flags), observed.kind, true).decision;
    if (decision.entry == nullptr) continue;
    anyone = true;
    const std::uint16_t flags = decision.entry->action == Action::watch ? kFlagWatched : 0;
    parts_.recorder.record(*superblock->table, *decision.entry->subject, location,
                           {.kind = observed.kind,
                            .response = Response::allow,
                            .flags = flags,
                            .blocked_ns = 0,
                            .actor = actor,
                            .time_ns = clock_ns(CLOCK_REALTIME),
                            .deniers = {}});
  }
  if (!anyone) parts_.learner.learn(true, locator_, location, *policy);
}

}  // namespace janus
