#include "cover/identity_scanner.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <memory>

#include "identity/judge.h"
#include "os/error.h"
#include "os/path_resolver.h"

namespace janus {
namespace {

// Entries that are scanned in one go. CreateGuard itself waits for so many: a
// guarded place is mostly small, and is then complete in every respect when
// CreateGuard returns.
constexpr std::size_t kAtOnce = 512;

// How long CreateGuard waits for directories. The thread goes on with those that take longer.
constexpr std::uint64_t kCreatorPatienceNs = 100'000'000;

constexpr const char* kRefused = "listings";

// What has appeared and waits to be looked at: of all containers, and of one.
constexpr std::size_t kAllAppeared = 65'536, kAppeared = 8192;

// ... is looked at so far below, at once: each container has its turn.
constexpr std::size_t kAtOnceBelow = 64;

// Reads of the kernel's queue between two turns. Each has some hundred events.
constexpr int kReads = 64;

constexpr std::size_t kWhose = 4096;

// What the kernel has denied for where it is: so much is looked at in so long.
constexpr std::size_t kSeen = 1024;
constexpr std::uint64_t kSeenAgainNs = 1'000'000'000;

}  // namespace

IdentityScanner::IdentityScanner(Parts parts)
    : parts_(parts),
      creator_locator_(parts.programs, LocatorSlot::creator),
      locator_(parts.programs, LocatorSlot::scanner),
      wake_event_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      appeared_shares_(kAllAppeared, kAppeared),
      lister_([this] { wake(); }) {}

// ---- what others ask for ------------------------------------------------------

void IdentityScanner::scan(const ScanJob& job) {
  Scan scan{.container = job.container, .device = job.device, .walk = TreeWalk(job.path), .token = job.token, .begun = false};
  std::size_t left = kAtOnce;
  const std::uint64_t until = monotonic_ns() + kCreatorPatienceNs;
  Progress how = Progress::waits;
  do how = try_to_advance(scan, creator_locator_, left);
  while (how == Progress::waits && scan.walk.wait(lister_, until));
  if (how == Progress::done || how == Progress::incomplete) return finish(scan, how);
  parts_.counters.exposed_scan.add();
  push(std::move(scan), false);
}

void IdentityScanner::queue(const MarkPlanner::ScanJobs& jobs) {
  for (const ScanJob& job : jobs) {
    parts_.counters.exposed_scan.add();
    push(Scan{.container = job.container, .device = job.device, .walk = TreeWalk(job.path), .token = job.token, .begun = false}, false);
  }
}

void IdentityScanner::sweep(const MarkPlanner::Before& before) {
  {
    const std::lock_guard lock(queue_mutex_);
    sweeps_.insert(sweeps_.end(), before.begin(), before.end());
  }
  wake();
}

// What finds no room here is denied again, and seen again.
void IdentityScanner::see(std::uint64_t container, Device device, std::string_view path) {
  const std::string_view directory = parent_of(path);
  {
    const std::lock_guard lock(queue_mutex_);
    if (const std::uint64_t now = monotonic_ns(); now - seen_since_ns_ > kSeenAgainNs) {
      seen_lately_.clear();
      seen_since_ns_ = now;
    }
    if (seen_lately_.size() >= kSeen || !seen_lately_.emplace(device, path).second) return;
    seen_.push_back({.container = container,
                     .entry = {.device = device,
                               .directory = {},
                               .name = std::string(path.substr(directory.size() + 1)),
                               .how = TreeWatch::Entry::by_path,
                               .path = std::string(directory)},
                     .seen = true});
  }
  wake();
}

void IdentityScanner::push(Scan scan, bool first) {
  {
    const std::lock_guard lock(queue_mutex_);
    const std::uint64_t container = scan.container;
    if (first) scans_.push_front(container, std::move(scan));
    else scans_.push_back(container, std::move(scan));
  }
  wake();
}

IdentityScanner::Scan* IdentityScanner::first() {
  const std::lock_guard lock(queue_mutex_);
  return scans_.first();
}

void IdentityScanner::next(bool done) {
  const std::lock_guard lock(queue_mutex_);
  scans_.next(done);
}

bool IdentityScanner::take_sweep(Sweep& sweep) {
  const std::lock_guard lock(queue_mutex_);
  if (sweeps_.empty()) return false;
  sweep = std::move(sweeps_.front());
  sweeps_.pop_front();
  return true;
}

std::size_t IdentityScanner::pending() {
  const std::lock_guard lock(queue_mutex_);
  return scans_.size();
}

void IdentityScanner::wake() const { eventfd_write(wake_event_.get(), 1); }

// ---- the thread -----------------------------------------------------------------

void IdentityScanner::run(const std::atomic<bool>& stop) {
  apart_ = unshare(CLONE_FS) == 0;
  std::array<pollfd, 2> fds = {{{wake_event_.get(), POLLIN, 0}, {parts_.trees.fd(), POLLIN, 0}}};
  for (;;) {
    heartbeat_.beat();
    poll(fds.data(), fds.size(), kBeatMs);
    if (stop.load()) return;
    eventfd_t ignored = 0;
    eventfd_read(wake_event_.get(), &ignored);
    advance_all(stop);
    if (stop.load()) return;
    parts_.planner.look_for_room();
    if (parts_.identities.crowded()) parts_.identities.collect();
  }
}

// Until there is nothing to do but to wait.
void IdentityScanner::advance_all(const std::atomic<bool>& stop) {
  // So many in a row only wait: when it is as many as there are containers, it is all.
  std::size_t waiting = 0;
  for (;;) {
    heartbeat_.beat();
    // What has just appeared comes before what has been there for long.
    const bool more = grow();
    if (stop.load()) return;
    if (Sweep sweep; take_sweep(sweep)) sweep_now(sweep);
    Scan* const scan = first();
    if (scan == nullptr && more) continue;
    if (scan == nullptr) return;
    std::size_t left = kAtOnce;
    const Progress how = try_to_advance(*scan, locator_, left);
    const bool ended = how == Progress::done || how == Progress::incomplete;
    if (ended) finish(*scan, how);
    waiting = how == Progress::waits && left == kAtOnce ? waiting + 1 : 0;
    next(ended);
    const std::lock_guard lock(queue_mutex_);
    if (waiting >= scans_.containers() && !more) return;
  }
}

// What cannot be scanned is not tried again and again, and fails nobody who made a guard.
IdentityScanner::Progress IdentityScanner::try_to_advance(Scan& scan, Locator& locator, std::size_t& left) {
  try {
    return advance(scan, locator, left);
  } catch (const std::exception&) {
    parts_.counters.thread_failures.add();
    return Progress::incomplete;
  }
}

// `left`: entries that may still be looked at.
IdentityScanner::Progress IdentityScanner::advance(Scan& scan, Locator& locator, std::size_t& left) {
  scan.begun = true;
  const auto policy = parts_.policy.get();
  const Superblock* superblock = policy->find(scan.device);
  if (superblock == nullptr) return Progress::done;
  for (; left > 0; --left) {
    UniqueFd object = scan.walk.next(*superblock, lister_, {scan.container, scan.device});
    if (scan.walk.waits()) return Progress::waits;
    if (scan.walk.stuck()) parts_.refusals.add(scan.container, kRefused);
    if (!object) return scan.walk.complete() ? Progress::done : Progress::incomplete;
    if (scan.walk.place()->inode == 0) find_out(*scan.walk.place(), scan.walk.directory(), locator);
    if (!pin(std::move(object), scan.walk.place(), *superblock, scan, locator)) return Progress::incomplete;
  }
  return Progress::more;
}

Place::Step IdentityScanner::step_to(const Location& location, std::string name) const {
  Place::Step step{.name = std::move(name), .former = {}, .inode = location.raw->inode};
  if (location.stable())
    each_former_path(parts_.identities, location, [&](std::string_view path) { step.former.emplace_back(path); });
  return step;
}

// Completes the place of a directory: all, or all but the path by which it was opened.
void IdentityScanner::find_out(Place& place, int directory, Locator& locator) const {
  const Location location = locator.locate(directory, 0, true);
  if (place.paths.empty()) {
    // Deeper than anyone looks, it is in the root at least.
    const bool known = location.has_path();
    place.paths.push_back({.text = std::string(known ? location.path : ""), .cut = !known || location.cut()});
  }
  place = place.after(step_to(location, {}));
}

// Pins the entry of the directory if anybody is denied it, and has it listed where that goes
// on. False: the limit is met. What has left the directory meanwhile is looked at where it came: it is
// listed there, or the tree watch tells of it.
bool IdentityScanner::pin(UniqueFd object, const std::shared_ptr<const Place>& directory, const Superblock& superblock,
                          Scan& scan, Locator& locator) {
  const Location location = locator.locate_entry(object.get());
  if (!location.found() || !location.stable() || location.raw->dev != scan.device ||
      location.raw->parent_inode != directory->inode)
    return true;
  Place::Step step = step_to(location, std::string(location.path));
  const SuperblockPolicy& table = *superblock.table;
  std::vector<std::string> reasons;
  bool goes_on = false;
  Place place = directory->after(step);
  for (Place::Path& path : place.paths) {
    goes_on = goes_on || !table.outside(path.text, false);
    if (table.deniable(path.text, location.directory()) != nullptr) reasons.push_back(std::move(path.text));
  }
  if (!reasons.empty()) {
    const auto pinned = parts_.identities.pin(object.get(), location, reasons, superblock, 0, place.more);
    if (pinned == IdentityTable::Pinned::limit) return false;
    if (pinned == IdentityTable::Pinned::already && location.directory() && scan.promised() && !superblock.shared)
      parts_.trees.watch_overlay(object.get(), scan.device, reasons.front());
  }
  if (!location.directory() || !goes_on) return true;
  // What has appeared is part of the turn of whose guard it is in.
  if (scan.container == 0 && !reasons.empty())
    if (const Entry* denying = table.deniable(reasons.front(), true)) scan.container = denying->subject->container;
  const bool first = reasons.empty() || parts_.identities.begin_listing(step.inode);
  if (scan.promised() || first) scan.walk.enter(std::move(object), directory, std::move(step), held_open_, scan.container);
  return true;
}

void IdentityScanner::finish(const Scan& scan, Progress how) {
  const bool complete = how == Progress::done;
  if (!complete) parts_.counters.exposed_identity.add();
  if (scan.promised()) parts_.planner.scanned(scan.device, scan.token, complete);
}

// Scans the device again, unless that is to be done anyhow.
void IdentityScanner::scan_again(Device device, std::uint64_t container) {
  {
    const std::lock_guard lock(queue_mutex_);
    if (scans_.any_of([&](const Scan& scan) {
          return scan.device == device && (container == 0 || scan.container == container) && scan.promised() && !scan.begun;
        }))
      return;
  }
  queue(parts_.planner.scan_again(device, container));
}

// Empty: errno says why.
UniqueFd IdentityScanner::open_directory(const Superblock& superblock, TreeWatch::Entry& entry) const {
  if (entry.how == TreeWatch::Entry::by_handle) return open_by_handle(superblock, entry);
  const Base* base = entry.how == TreeWatch::Entry::by_path ? superblock.base_for(entry.path) : nullptr;
  errno = ENOENT;
  return base == nullptr ? UniqueFd() : open_exact(base->mount->get(), entry.path.substr(base->root.size()));
}

// Whose guard the entry's directory is in. It may be another's by now, and have a turn of the wrong one.
std::uint64_t IdentityScanner::whose(TreeWatch::Entry& entry, const Policy& policy) {
  const Superblock* superblock = policy.find(entry.device);
  if (superblock == nullptr) return 0;
  if (superblock->containers.size() == 1) return superblock->containers.front();
  const auto [known, is_new] = whose_.try_emplace({entry.device, entry.directory}, 0);
  if (!is_new) return known->second;
  std::uint64_t container = 0;
  if (const UniqueFd directory = open_directory(*superblock, entry)) {
    // It is watched, so it is pinned: where it has been says whose it is.
    const Location location = locator_.locate_entry(directory.get());
    each_former_path(parts_.identities, location, [&](std::string_view path) {
      const Entry* const denying = container == 0 ? superblock->table->deniable(path, true) : nullptr;
      if (denying != nullptr) container = denying->subject->container;
    });
  }
  known->second = container;
  if (whose_.size() > kWhose) whose_.clear();
  return container;
}

// Takes over what the kernel has queued, so that there is room for more.
void IdentityScanner::take_in() {
  const auto policy = parts_.policy.get();
  bool lost = false;
  for (int reads = 0; reads < kReads; ++reads) {
    heartbeat_.beat();
    auto entries = parts_.trees.drain(lost);
    if (entries.empty()) break;
    for (TreeWatch::Entry& entry : entries) {
      const std::uint64_t container = whose(entry, *policy);
      enqueue({.container = container, .entry = std::move(entry), .seen = false});
    }
  }
  if (lost) queue(parts_.planner.scan_again());
  std::deque<Appeared> seen;
  {
    const std::lock_guard lock(queue_mutex_);
    seen.swap(seen_);
  }
  for (Appeared& each : seen) enqueue(std::move(each));
}

void IdentityScanner::enqueue(Appeared appeared) {
  const std::uint64_t container = appeared.container;
  if (appeared_shares_.take(container)) return appeared_.push_back(container, std::move(appeared));
  parts_.refusals.add(container, "trees");
  scan_again(appeared.entry.device, container);
}

// Pins what has appeared in guarded directories. True: there is more.
bool IdentityScanner::grow() {
  take_in();
  for (std::size_t left = kAtOnce; left > 0;) {
    Appeared* const first = appeared_.first();
    if (first == nullptr) return false;
    heartbeat_.beat();
    Appeared next = std::move(*first);
    appeared_.next(true);
    appeared_shares_.give_back(next.container);
    pin_new(next, left);
  }
  return appeared_.first() != nullptr;
}

// `left`: entries that may still be looked at; less by one at least.
void IdentityScanner::pin_new(Appeared& appeared, std::size_t& left) {
  --left;
  TreeWatch::Entry& entry = appeared.entry;
  const auto policy = parts_.policy.get();
  const Superblock* superblock = policy->find(entry.device);
  if (superblock == nullptr) return;
  const UniqueFd directory = open_directory(*superblock, entry);
  if (!directory && appeared.seen) return;
  if (!directory && entry.how != TreeWatch::Entry::by_handle) return scan_again(entry.device);
  if (!directory) {
    if (errno != ESTALE) parts_.counters.exposed_rescan.add();  // else it is gone
    return;
  }
  UniqueFd object = open_exact(directory.get(), entry.name);
  if (!object) {
    if (is_exhausted(errno)) scan_again(entry.device);
    return;  // else it has gone again
  }
  const auto place = std::make_shared<Place>();
  find_out(*place, directory.get(), locator_);
  Scan scan{.container = 0, .device = entry.device, .walk = {}, .token = 0, .begun = false};
  const bool complete = pin(std::move(object), place, *superblock, scan, locator_);
  if (!scan.walk.empty()) parts_.counters.exposed_scan.add();
  if (complete && !scan.walk.empty()) {
    // One directory of each container is being read at a time: each takes a descriptor.
    const std::lock_guard lock(queue_mutex_);
    const std::uint64_t container = scan.container;
    if (scans_.has(container)) return scans_.push_second(container, std::move(scan));
  }
  const std::size_t at_once = std::min(left, kAtOnceBelow);
  std::size_t below = at_once;
  const Progress how = !complete ? Progress::incomplete : scan.walk.empty() ? Progress::done : advance(scan, locator_, below);
  left -= at_once - below;
  if (how == Progress::more || how == Progress::waits) push(std::move(scan), true);
  else finish(scan, how);
}

// A handle is opened by a mount: by a descriptor that can be read, or by the working
// directory. To open the former would ask whoever has a permission group there.
UniqueFd IdentityScanner::open_by_handle(const Superblock& superblock, TreeWatch::Entry& entry) const {
  UniqueFd directory;
  errno = ENOTSUP;
  if (!apart_) return directory;
  for (const Base& base : superblock.bases) {
    if (fchdir(base.mount->get()) != 0) continue;
    directory = TreeWatch::open_directory(AT_FDCWD, entry);
    break;
  }
  // It would keep the mount busy.
  const int number = errno;
  if (chdir("/") != 0) parts_.counters.thread_failures.add();
  errno = number;
  return directory;
}

void IdentityScanner::sweep_now(const Sweep& sweep) {
  const Device device = sweep.first;
  const auto& before = sweep.second;
  parts_.identities.sweep(
      device, parts_.policy,
      [&](const std::string& path) {
        heartbeat_.beat();
        const Base* base = before->base_for(path);
        return base == nullptr ? UniqueFd() : open_exact(base->mount->get(), path.substr(base->root.size()));
      },
      locator_);
  // What was left to the identity group is the gate's to ask about again.
  parts_.learner.forget({device});
  if (parts_.policy.get()->find(device) == nullptr) parts_.trees.forget(device);
}

}  // namespace janus
