#include "decide/kernel_denials.h"

#include <poll.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "identity/judge.h"
#include "policy/certain.h"

namespace janus {
namespace {

// A denial is recorded long before.
constexpr std::uint64_t kNamedNs = 10'000'000'000;

FileEventKind kind_of(std::uint32_t kind) { return kCertainKinds[kind < kCertainKinds.size() ? kind : 0]; }

}  // namespace

void KernelDenials::run(const std::atomic<bool>& stop, int stop_fd, const std::function<void()>& beat) {
  std::array<pollfd, 2> fds = {{{parts_.decider.fd(), POLLIN, 0}, {stop_fd, POLLIN, 0}}};
  bool more = false;
  while (!stop.load(std::memory_order_relaxed)) {
    const std::uint64_t now = heartbeat_.beat();
    parts_.rules.forget_unused(now - std::min(now, kNamedNs));
    beat();
    // Nobody says so if more came since: one wake-up is for all that come in a while.
    if (more) poll(&fds[1], 1, Decider::kGatherMs);
    else poll(fds.data(), fds.size(), kBeatMs);
    more = record() > 0;
  }
}

std::size_t KernelDenials::record() {
  const std::lock_guard lock(mutex_);
  bool first = true;
  const std::size_t count = parts_.decider.consume([&](const KernelDenial& denial) {
    // What is in the ring happened before: who it is, and what that runs.
    if (first) parts_.tracker.drain();
    first = false;
    record(denial);
  });
  if (parts_.decider.lost_total() != lost_) count_lost();
  return count;
}

void KernelDenials::record(const KernelDenial& denial) {
  const janus_denial& raw = *denial.raw;
  const bool whole = raw.cut == 0;
  if (raw.unpinned != 0 && whole) unpinned_(raw.container, raw.device, denial.path);
  const auto subject = parts_.rules.subject(raw.subject);
  if (subject == nullptr) return parts_.ring.lose(1);
  janus_locate seen{};
  seen.flags = JANUS_LOCATE_ACTOR | JANUS_LOCATE_TRACKED | (whole ? 0 : JANUS_LOCATE_HEAD_LOST);
  seen.mode = raw.mode;
  seen.ppid = raw.ppid;
  seen.uid = raw.uid;
  seen.container = raw.container;
  seen.task_flags = raw.task_flags;
  seen.start_ns = raw.start_ns;
  std::memcpy(seen.comm, raw.comm, sizeof(seen.comm));
  const Location location{.raw = &seen, .path = denial.path, .asked = denial.asked};
  const FileEventKind kind = kind_of(raw.kind);
  const Actor actor = actor_of(location);

  static const SuperblockPolicy nothing({}, {});  // its last guard is gone by now
  const auto policy = parts_.policy.get();
  const Superblock* superblock = policy->find(raw.device);
  const SuperblockPolicy& table = superblock == nullptr ? nothing : *superblock->table;
  std::vector<std::uint32_t> guards = {subject->guard}, deniers;
  std::vector<std::string> paths = parts_.rules.paths_of(raw.inode);
  if (whole) paths.emplace_back(denial.path);
  for (const std::string& path : paths) {
    if (!table.several_guards()) break;
    for (const Entry* entry : table.denying(path, location.directory(), kind, actor, kDeniers + 2)) {
      if (std::ranges::find(guards, entry->subject->guard) != guards.end()) continue;
      guards.push_back(entry->subject->guard);
      deniers.push_back(entry->subject->id);
    }
  }
  parts_.recorder.record(table, *subject, location,
                         {.kind = kind,
                          .response = Response::deny,
                          .flags = kFlagAnswered,
                          .blocked_ns = 0,
                          .actor = {.key = {raw.tgid, raw.start_ns}, .container = raw.container, .flags = raw.task_flags},
                          .time_ns = raw.time_ns + epoch_ns_,
                          .deniers = std::move(deniers),
                          // What a rename replaced was deleted: that has no other name.
                          .other = is_rename(kind) ? denial.other : std::string_view()});
}

// The decisions are counted all the same.
void KernelDenials::count_lost() {
  for (const Decider::Lost& lost : parts_.decider.lost()) {
    std::uint64_t& counted = lost_of_[{lost.subject, lost.kind}];
    const auto subject = parts_.rules.subject(lost.subject);
    for (; counted < lost.count; ++counted)
      if (subject != nullptr) subject->stats->count(kind_of(lost.kind), Response::deny, true);
  }
  const std::uint64_t total = parts_.decider.lost_total();
  parts_.ring.lose(total - std::exchange(lost_, total));
}

}  // namespace janus
