#include "decide/dirent_observer.h"

#include <dirent.h>
#include <poll.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "cover/event_mask.h"
#include "identity/judge.h"
#include "os/dirent_event.h"
#include "os/file_handle.h"
#include "os/path_resolver.h"

namespace janus {
namespace {

constexpr std::size_t kReadBytes = 256 * 1024;
// Reads, events and entries of one turn: others have theirs.
constexpr int kReads = 64, kEvents = 512, kEntries = 512;

// Guards that one event is recorded for at most.
constexpr std::size_t kGuards = 16;

// After a rename took a name: the other half of an exchange has come by then.
constexpr std::uint64_t kExchangeNs = 20'000'000;

// How often a table is built anew, since events name directories that it doesn't know.
constexpr std::uint64_t kRebuildNs = 1'000'000'000;

// Handles of directories outside that are remembered.
constexpr std::size_t kStrangers = 4096;

constexpr std::uint64_t kOnInodes = kDirentMask | FAN_EVENT_ON_CHILD;

// The queue in the kernel is not bounded: it has to be taken over before others make it longer.
constexpr int kNice = -10;

std::string relative_to(const Base& base, std::string_view path) { return std::string(path.substr(base.root.size())); }

const Base* base_of(const std::vector<Base>& bases, std::string_view path) {
  const auto at = std::ranges::find_if(bases, [&](const Base& base) { return is_below(path, base.root); });
  return at == bases.end() ? nullptr : &*at;
}

UniqueFd open_at(const std::vector<Base>& bases, std::string_view path) {
  const Base* base = base_of(bases, path);
  return base == nullptr ? UniqueFd() : open_exact(base->mount->get(), relative_to(*base, path));
}

std::string handle_of(int fd) {
  const auto handle = FileHandle::of(fd);
  return handle ? bytes_of(handle->get()) : std::string();
}

bool is_directory(int at, const DirectoryLister::Listing::Entry& entry) {
  if (entry.type != DT_UNKNOWN) return entry.type == DT_DIR;
  struct stat status {};
  return fstatat(at, entry.name, &status, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) == 0 && S_ISDIR(status.st_mode);
}

// Several of them in one event.
bool is_merged(std::uint64_t mask) {
  mask &= FAN_CREATE | FAN_DELETE | FAN_ATTRIB;
  return (mask & (mask - 1)) != 0;
}

}  // namespace

DirentObserver::DirentObserver(Parts parts, std::size_t queue_bytes)
    : parts_(parts),
      queue_bytes_(queue_bytes),
      self_(getpid()),
      locator_(parts.programs, LocatorSlot::dirents),
      wake_event_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      lister_([this] { eventfd_write(wake_event_.get(), 1); }),
      shares_(kDirectories, kDirectoriesOfOne) {}

void DirentObserver::changed(const std::set<Device>& devices) {
  {
    const std::lock_guard lock(mutex_);
    changed_.insert(devices.begin(), devices.end());
    busy_.insert(devices.begin(), devices.end());
  }
  eventfd_write(wake_event_.get(), 1);
}

bool DirentObserver::settle(const std::set<Device>& devices, std::chrono::milliseconds limit) {
  std::unique_lock lock(mutex_);
  const auto seen_to = [&] { return std::ranges::none_of(devices, [this](Device device) { return busy_.contains(device); }); };
  return seen_to_.wait_for(lock, limit, seen_to);
}

void DirentObserver::run(const std::atomic<bool>& stop, int stop_fd) {
  apart_ = unshare(CLONE_FS) == 0;  // a working directory of its own
  setpriority(PRIO_PROCESS, 0, kNice);  // of this thread alone; without CAP_SYS_NICE nothing happens
  bool more = false;
  while (!stop.load(std::memory_order_relaxed)) {
    heartbeat_.beat();
    const bool waits = std::ranges::any_of(streams_, [](const auto& each) { return !each.second.replaced.empty(); });
    std::array<pollfd, 3> fds = {{{parts_.groups.dirents.fd(), POLLIN, 0}, {stop_fd, POLLIN, 0}, {wake_event_.get(), POLLIN, 0}}};
    poll(fds.data(), fds.size(), more ? 0 : waits ? static_cast<int>(kExchangeNs / 1'000'000) : kBeatMs);
    eventfd_t ignored = 0;
    eventfd_read(wake_event_.get(), &ignored);
    take_changes();
    read_all();
    more = false;
    std::set<Device> walking;
    for (auto& [device, stream] : streams_) {
      more = advance(stream) || more;
      if (stream.walks() || stream.stale) walking.insert(device);
    }
    // What waits in the queue counts as read: who did it is known.
    parts_.tracker.settle(Tracker::Reader::dirents, streams_.empty() ? UINT64_MAX : since_ns_);
    std::size_t directories = 0, marks = 0;
    for (const auto& [device, stream] : streams_) {
      directories += stream.table.size();
      marks += stream.whole ? 1 : stream.table.size();
    }
    directories_.store(directories, std::memory_order_relaxed);
    marks_.store(marks, std::memory_order_relaxed);
    const std::lock_guard lock(mutex_);
    std::erase_if(busy_, [&](Device device) { return !walking.contains(device) && !changed_.contains(device); });
    seen_to_.notify_all();
  }
  while (!streams_.empty()) end(streams_.begin()->second);
}

// ---- reading ------------------------------------------------------------------

// The kernel pads events to 4 bytes, and what fanotify(7) reads them by wants 8.
__attribute__((no_sanitize("alignment"))) void DirentObserver::read_all() {
  thread_local std::vector<char> buffer(kReadBytes);
  for (int reads = 0; reads < kReads; ++reads) {
    const std::uint64_t asked_ns = boot_ns();
    bool unreadable = false;
    std::size_t left = parts_.groups.dirents.read(buffer, unreadable);
    if (left == 0) {
      since_ns_ = asked_ns;
      return;
    }
    const std::uint64_t read_ns = boot_ns();
    // Who did it, and what that ran, happened before.
    parts_.tracker.drain();
    actors_.clear();
    const auto* event = reinterpret_cast<const fanotify_event_metadata*>(buffer.data());
    for (; FAN_EVENT_OK(event, left); event = FAN_EVENT_NEXT(event, left)) take(*event, read_ns);
  }
}

__attribute__((no_sanitize("alignment"))) void DirentObserver::take(const fanotify_event_metadata& raw, std::uint64_t read_ns) {
  if (raw.mask & FAN_Q_OVERFLOW) {
    parts_.counters.kernel_queue_overflow.add();
    for (auto& [device, stream] : streams_) stream.stale = true;
    return;
  }
  if (raw.pid == self_) return;
  const DirentEvent what = dirent_of(raw);
  // A change of a link count names no directory: the entry that came or went is told of by itself.
  if (what.directory == nullptr && what.new_directory == nullptr) return;
  Event event;
  event.mask = raw.mask;
  if (what.directory != nullptr) event.directory = bytes_of(*what.directory);
  if (what.new_directory != nullptr) event.new_directory = bytes_of(*what.new_directory);
  const auto tgid = static_cast<std::uint32_t>(raw.pid);
  Stream* const stream = stream_of({what.file_system.val[0], what.file_system.val[1]}, event, tgid, read_ns);
  if (stream == nullptr) return;
  if (what.object != nullptr) event.object = bytes_of(*what.object);
  event.name = what.name;
  event.new_name = what.new_name;
  const std::size_t bytes = event.bytes();
  if (stream->stale || queued_bytes_ + bytes > queue_bytes_ || stream->event_bytes + bytes > queue_bytes_ / 2) {
    parts_.counters.dirents_lost.add();
    stream->stale = true;
    return;
  }
  event.who = who(tgid, read_ns);
  event.time_ns = clock_ns(CLOCK_REALTIME);
  queued_bytes_ += bytes;
  stream->event_bytes += bytes;
  stream->events.push_back(std::move(event));
}

// Null: it is in no watched tree. Where events wait it may be in a directory that one of them is about.
DirentObserver::Stream* DirentObserver::stream_of(FileSystem file_system, const Event& event, std::uint32_t tgid,
                                                  std::uint64_t read_ns) {
  const auto streams = by_file_system_.find(file_system);
  if (streams == by_file_system_.end()) return nullptr;
  const auto knows = [&](const Stream* stream) {
    return !stream->events.empty() || stream->walks() || stream->stale ||
           (!event.directory.empty() && stream->table.find(event.directory) != nullptr) ||
           (!event.new_directory.empty() && stream->table.find(event.new_directory) != nullptr) ||
           // An overlay's directory may have got another handle.
           (!stream->whole && !stream->strangers.contains(event.directory));
  };
  std::vector<Stream*> candidates;
  std::ranges::copy_if(streams->second, std::back_inserter(candidates), knows);
  if (candidates.empty()) return nullptr;
  if (candidates.size() == 1) return candidates.front();
  // Overlays may have one number in common, and directories of an image one handle.
  const std::uint64_t container = who(tgid, read_ns)->actor.container;
  const auto theirs = std::ranges::find_if(candidates, [&](const Stream* stream) { return stream->container == container; });
  if (theirs != candidates.end()) return *theirs;
  parts_.counters.dirents_lost.add();
  return nullptr;
}

// Once for all that one process did in a batch.
std::shared_ptr<const DirentObserver::Who> DirentObserver::who(std::uint32_t tgid, std::uint64_t read_ns) {
  auto& known = actors_[tgid];
  if (known != nullptr) return known;
  auto who = std::make_shared<Who>();
  const Location at = locator_.locate(wake_event_.get(), static_cast<std::int32_t>(tgid));
  const janus_locate& raw = *at.raw;
  const bool there = (raw.flags & JANUS_LOCATE_ACTOR) != 0 && raw.start_ns <= read_ns;
  if (there) {
    who->seen.flags = JANUS_LOCATE_ACTOR;
    who->seen.start_ns = raw.start_ns;
    who->seen.ppid = raw.ppid;
    who->seen.uid = raw.uid;
    std::memcpy(who->seen.comm, raw.comm, sizeof(raw.comm));
  }
  // Who was there before what was unread happened is who has the number now.
  if (there && raw.start_ns <= since_ns_) {
    const ProcessKey key{tgid, raw.start_ns};
    who->actor = parts_.tracker.actor(key).value_or(
        Tracker::Actor{.key = key, .container = raw.flags & JANUS_LOCATE_TRACKED ? raw.container : 0});
  } else {
    who->actor = parts_.tracker.actor(tgid, since_ns_, read_ns, there);
    if (there && who->actor.key.start_ns == 0 && who->actor.container == 0) who->actor.key = {tgid, raw.start_ns};
  }
  return known = std::move(who);
}

// ---- what is watched ------------------------------------------------------------

void DirentObserver::take_changes() {
  std::set<Device> devices;
  {
    const std::lock_guard lock(mutex_);
    devices.swap(changed_);
  }
  if (devices.empty()) return;
  const auto policy = parts_.policy.get();
  for (const Device device : devices) {
    const Superblock* superblock = policy->find(device);
    const auto stream = streams_.find(device);
    if (superblock == nullptr || superblock->dirents == 0) {
      if (stream != streams_.end()) end(stream->second);
    } else if (stream == streams_.end()) {
      begin(device, *superblock);
    } else if (stream->second.version != superblock->dirents_version || stream->second.bases.size() != superblock->bases.size()) {
      stream->second.version = superblock->dirents_version;
      stream->second.bases = superblock->bases;
      rewalk(stream->second, *superblock);
    }
  }
}

void DirentObserver::begin(Device device, const Superblock& superblock) {
  const Base* const marked = mark_whole(superblock.bases, FAN_MARK_ADD);
  struct statfs status {};
  if (superblock.bases.empty() || fstatfs((marked != nullptr ? *marked : superblock.bases.front()).mount->get(), &status) != 0) {
    parts_.counters.exposed_rescan.add();
    return;
  }
  Stream& stream = streams_[device];
  stream.device = device;
  stream.file_system = {status.f_fsid.__val[0], status.f_fsid.__val[1]};
  stream.container = superblock.containers.front();
  stream.version = superblock.dirents_version;
  stream.bases = superblock.bases;
  by_file_system_[stream.file_system].push_back(&stream);
  stream.whole = marked != nullptr;
  if (stream.whole) marks_.fetch_add(1, std::memory_order_relaxed);
  rewalk(stream, superblock);
}

// Through which mount the superblock's mark was made or removed: btrfs takes none through one of a subvolume.
const Base* DirentObserver::mark_whole(const std::vector<Base>& bases, unsigned change) const {
  const auto taken = std::ranges::find_if(bases, [&](const Base& base) {
    return parts_.groups.dirents.try_mark(change | FAN_MARK_FILESYSTEM, kDirentMask, base.mount->get()) == 0;
  });
  return taken == bases.end() ? nullptr : &*taken;
}

void DirentObserver::end(Stream& stream) {
  if (stream.whole) {
    mark_whole(stream.bases, FAN_MARK_REMOVE);
  } else if (std::ranges::none_of(streams_, [&](const auto& each) { return &each.second != &stream && !each.second.whole; })) {
    parts_.groups.dirents.flush_inode_marks();  // also those of directories that were moved out
  } else {
    for (const std::string& handle : stream.table.handles()) {
      const Node* const node = stream.table.find(handle);
      if (!node->directory) continue;
      if (const UniqueFd directory = open_at(stream.bases, stream.table.path_of(*node)))
        parts_.groups.dirents.try_mark(FAN_MARK_REMOVE, kOnInodes, directory.get());
    }
  }
  forget(stream);
  queued_bytes_ -= stream.event_bytes;
  auto& same = by_file_system_[stream.file_system];
  std::erase(same, &stream);
  if (same.empty()) by_file_system_.erase(stream.file_system);
  streams_.erase(stream.device);
}

// Finds the directories that are watched now and not known yet. Those that are known stay where the events put them.
void DirentObserver::rewalk(Stream& stream, const Superblock& superblock) {
  const auto matters = [&](std::string_view path) { return superblock.table->observed_around(path, kDirentKinds); };
  for (const std::string& handle : stream.table.handles()) {
    Node* const node = stream.table.find(handle);
    if (node == nullptr) continue;
    const std::string path = stream.table.path_of(*node);
    if (node->directory ? !matters(path) : !superblock.table->is_named(path)) remove(stream, *node);
  }
  // New ones that were not listed to their end are marked, and told of, when they are.
  std::map<std::string, std::shared_ptr<const Event>> made;
  const auto is_new = [&](const Job& job) {
    if (job.made != nullptr) made.emplace(job.handle, job.made);
  };
  if (stream.listing != nullptr) is_new(stream.job);
  std::ranges::for_each(stream.jobs, is_new);
  for (const auto& [handle, job] : stream.unlisted) is_new(job);
  stream.jobs.clear();
  stream.listing = nullptr;
  stream.has_part = false;
  stream.found.clear();
  stream.strangers.clear();
  stream.unlisted.clear();
  for (const Base& base : stream.bases) {
    struct stat status {};
    if (fstat(base.mount->get(), &status) != 0 || !S_ISDIR(status.st_mode) || !matters(base.root)) continue;
    std::string handle = handle_of(base.mount->get());
    if (handle.empty()) continue;
    if (stream.table.find(handle) == nullptr) {
      if (!shares_.take(stream.container)) {
        unwatchable(stream);
        continue;
      }
      stream.table.add_top(handle, base.root);
      mark(stream, base.mount->get());
    }
    stream.jobs.push_back({std::move(handle), nullptr});
  }
  // Of those that are known, what is below may matter only now.
  for (const std::string& handle : stream.table.handles()) {
    const Node* node = stream.table.find(handle);
    const auto is_made = made.find(handle);
    if (node->directory && node->parent != nullptr) stream.jobs.push_back({handle, is_made == made.end() ? nullptr : is_made->second});
  }
}

void DirentObserver::mark(Stream& stream, int directory) {
  if (stream.whole) return;
  if (parts_.groups.dirents.try_mark(FAN_MARK_ADD, kOnInodes, directory) != 0) parts_.counters.dirents_unknown.add();
}

// A directory is beyond the container's share, or lies too deep.
void DirentObserver::unwatchable(Stream& stream) {
  parts_.refusals.add(stream.container, "directories");
  parts_.counters.dirents_limit.add();
}

// Null: there is no room.
DirentObserver::Node* DirentObserver::add(Stream& stream, std::string handle, Node& parent, std::string name, bool directory) {
  if (!shares_.take(stream.container)) {
    unwatchable(stream);
    return nullptr;
  }
  const std::size_t before = stream.table.size();
  Node* const node = stream.table.add(std::move(handle), parent, std::move(name), directory);
  give_back(stream, before + 1 - stream.table.size());
  if (node == nullptr) unwatchable(stream);
  return node;
}

void DirentObserver::remove(Stream& stream, Node& node) {
  const std::size_t before = stream.table.size();
  stream.table.remove(node);
  give_back(stream, before - stream.table.size());
}

void DirentObserver::give_back(const Stream& stream, std::size_t directories) {
  shares_.set(stream.container, shares_.held(stream.container) - directories);
}

// All of its directories.
void DirentObserver::forget(Stream& stream) {
  give_back(stream, stream.table.size());
  stream.table.clear();
}

// ---- finding directories ----------------------------------------------------------

bool DirentObserver::advance(Stream& stream) {
  const auto policy = parts_.policy.get();
  const Superblock* superblock = policy->find(stream.device);
  if (superblock == nullptr) return false;  // to be told of
  finish_replaced(stream, *superblock);
  if (stream.walks()) return walk(stream, *superblock);
  for (int events = 0; events < kEvents && !stream.events.empty() && !stream.walks(); ++events) {
    Event event = std::move(stream.events.front());
    stream.events.pop_front();
    const std::size_t bytes = event.bytes();
    queued_bytes_ -= bytes;
    stream.event_bytes -= bytes;
    look_at(stream, *superblock, std::move(event));
  }
  if (stream.events.empty() && stream.stale && !stream.walks()) {
    stream.stale = false;
    forget(stream);
    stream.replaced.clear();
    rewalk(stream, *superblock);
  }
  return !stream.events.empty() || stream.walks();
}

bool DirentObserver::walk(Stream& stream, const Superblock& superblock) {
  for (int left = kEntries; left > 0;) {
    if (stream.listing == nullptr) {
      if (stream.jobs.empty()) return true;
      enter(stream, superblock);
      --left;
      continue;
    }
    Node* const parent = stream.table.find(stream.job.handle);
    const std::string path = parent == nullptr ? std::string() : stream.table.path_of(*parent);
    while (left > 0 && parent != nullptr && stream.has_part) {
      const auto entry = stream.listing->next_entry();
      if (!entry) break;
      meet(stream, superblock, *parent, path, *entry);
      --left;
    }
    if (left == 0) return true;
    if (stream.has_part && stream.listing->is_read()) {
      if (stream.listing->error() != 0) parts_.counters.dirents_unknown.add();
      listed(stream, superblock);
      continue;
    }
    stream.has_part = false;
    const DirectoryLister::Part part = lister_.part(stream.listing);
    if (part == DirectoryLister::Part::waits) return false;
    if (part == DirectoryLister::Part::read) {
      stream.has_part = true;
      continue;
    }
    // It takes too long: what is below it, and what was still to be found, is not known.
    parts_.refusals.add(stream.container, "listings");
    parts_.counters.dirents_unknown.add(1 + stream.jobs.size());
    stream.jobs.clear();
    listed(stream, superblock);
  }
  return true;
}

void DirentObserver::enter(Stream& stream, const Superblock& superblock) {
  Job job = std::move(stream.jobs.front());
  stream.jobs.pop_front();
  const Node* node = stream.table.find(job.handle);
  if (node == nullptr) return;
  const std::string path = stream.table.path_of(*node);
  if (!superblock.table->observed_around(path, kDirentKinds)) return;
  UniqueFd directory = open_at(stream.bases, path);
  if (!directory || handle_of(directory.get()) != job.handle) {
    // Gone, or somewhere else by now. Mostly an event that waits says so.
    const bool told = std::ranges::any_of(stream.events, [&](const Event& event) { return event.object == job.handle; });
    if (!told) parts_.counters.dirents_unknown.add();
    else stream.unlisted.insert_or_assign(job.handle, std::move(job));
    return;
  }
  stream.job = std::move(job);
  if (stream.job.made != nullptr) mark(stream, directory.get());
  stream.listing = lister_.list({stream.container, stream.device}, std::move(directory));
  stream.has_part = false;
}

void DirentObserver::meet(Stream& stream, const Superblock& superblock, Node& parent, const std::string& path,
                          const DirectoryLister::Listing::Entry& entry) {
  const std::string below = path + "/" + entry.name;
  const int at = stream.listing->directory();
  const bool directory = is_directory(at, entry);
  if (stream.job.made != nullptr) stream.found.push_back({entry.name, directory});
  const bool matters = directory ? superblock.table->observed_around(below, kDirentKinds) : superblock.table->is_named(below);
  if (!matters) return;
  const UniqueFd object = open_exact(at, entry.name);
  std::string handle = object ? handle_of(object.get()) : std::string();
  if (handle.empty() || stream.table.find(handle) != nullptr) return;
  if (parent.children.contains(std::string_view(entry.name))) return;  // an event that waits will say what became of it
  if (add(stream, handle, parent, entry.name, directory) == nullptr || !directory) return;
  if (stream.job.made == nullptr) mark(stream, object.get());
  stream.jobs.push_back({std::move(handle), stream.job.made});
}

// All of a directory was read. What was in a new one before it was marked, nothing told of. What came after did: the
// first that is told of such an entry is that it was made.
void DirentObserver::listed(Stream& stream, const Superblock& superblock) {
  stream.listing = nullptr;
  stream.has_part = false;
  const Job job = std::move(stream.job);
  const std::vector<Found> found = std::exchange(stream.found, {});
  const Node* node = stream.table.find(job.handle);
  if (job.made == nullptr || found.empty() || node == nullptr) return;
  read_all();
  std::map<std::string_view, bool> told;  // name -> whether it was made first
  for (const Event& event : stream.events) {
    if (event.directory == job.handle) told.try_emplace(event.name, (event.mask & FAN_CREATE) != 0);
    if (event.new_directory == job.handle) told.try_emplace(event.new_name, true);
  }
  const std::string path = stream.table.path_of(*node);
  bool late = false;
  for (const auto& [name, directory] : found) {
    if (const auto at = told.find(name); at != told.end() && at->second) continue;
    late = true;
    record(superblock, FileEventKind::create, path + "/" + name, {}, directory, *job.made, kFlagFound);
  }
  if (late) parts_.counters.dirents_late.add();
}

// ---- what happened ----------------------------------------------------------------

void DirentObserver::look_at(Stream& stream, const Superblock& superblock, Event one) {
  Node* const parent = one.directory.empty() ? nullptr : stream.table.find(one.directory);
  Node* const target = one.new_directory.empty() ? nullptr : stream.table.find(one.new_directory);
  if (parent == nullptr && target == nullptr) {
    if (stream.whole || one.again || stream.strangers.contains(one.directory)) {
      if (!stream.whole && stream.strangers.size() < kStrangers) stream.strangers.insert(one.directory);
      return;
    }
    // It got another handle as it was copied up, or it was moved out of the tree and still has its mark.
    const std::uint64_t now = monotonic_ns();
    if (now - rebuilt_ns_ < kRebuildNs) {
      parts_.counters.dirents_lost.add();
      return;
    }
    rebuilt_ns_ = now;
    one.again = true;
    queued_bytes_ += one.bytes();
    stream.event_bytes += one.bytes();
    stream.events.push_front(std::move(one));
    forget(stream);
    rewalk(stream, superblock);
    return;
  }
  const auto event = std::make_shared<const Event>(std::move(one));
  if (event->mask & FAN_RENAME) return renamed(stream, superblock, event);
  if (parent == nullptr) return;
  const bool itself = event->name == ".";
  const std::string path = itself ? stream.table.path_of(*parent) : stream.table.path_of(*parent, event->name);
  const bool directory = event->is_directory();
  // In the order in which they can happen to one object.
  if (event->mask & FAN_CREATE) created(stream, superblock, event, *parent, path);
  if (event->mask & FAN_ATTRIB) record(superblock, FileEventKind::attrib, path, {}, directory, *event);
  if (!(event->mask & FAN_DELETE)) return;
  record(superblock, FileEventKind::remove, path, {}, directory, *event);
  record(superblock, FileEventKind::deleteself, path, {}, directory, *event);
  if (Node* const node = stream.table.find(event->object)) {
    if (node->directory || node->parent == parent) remove(stream, *node);
  } else if (directory && superblock.table->observed_around(path, kDirentKinds)) {
    parts_.counters.dirents_unknown.add();
  }
}

void DirentObserver::created(Stream& stream, const Superblock& superblock, const std::shared_ptr<const Event>& event,
                             Node& parent, Path path) {
  const bool directory = event->is_directory();
  record(superblock, FileEventKind::create, path, {}, directory, *event);
  const bool matters = directory ? superblock.table->observed_around(path, kDirentKinds) : superblock.table->is_named(path);
  if (!matters || event->object.empty() || stream.table.find(event->object) != nullptr) return;
  if (add(stream, event->object, parent, event->name, directory) == nullptr || !directory || stream.whole) return;
  stream.jobs.push_back({event->object, event});
}

std::string DirentObserver::outside(const Stream& stream, const std::string& handle, std::string_view name) {
  const auto known = FileHandle::from(handle);
  if (!stream.whole || !apart_ || !known) return {};
  // The working directory says which file system is meant: what O_PATH opened is no answer to that by itself.
  if (fchdir(stream.bases.front().mount->get()) != 0) return {};
  const UniqueFd directory = known->open(AT_FDCWD, O_PATH | O_DIRECTORY);
  if (chdir("/") != 0 || !directory) return {};
  const Location at = locator_.locate(directory.get());
  return at.found() && at.has_path() && at.raw->dev == stream.device ? std::string(at.path) + "/" + std::string(name) : std::string();
}

void DirentObserver::renamed(Stream& stream, const Superblock& superblock, const std::shared_ptr<const Event>& event) {
  Node* const from = event->directory.empty() ? nullptr : stream.table.find(event->directory);
  Node* const to = event->new_directory.empty() ? nullptr : stream.table.find(event->new_directory);
  const std::string old_path = from == nullptr ? outside(stream, event->directory, event->name) : stream.table.path_of(*from, event->name);
  const std::string new_path = to == nullptr ? outside(stream, event->new_directory, event->new_name) : stream.table.path_of(*to, event->new_name);
  record_rename(superblock, old_path, new_path, *event);
  const bool directory = event->is_directory();
  const bool matters = to != nullptr && (directory ? superblock.table->observed_around(new_path, kDirentKinds)
                                                   : superblock.table->is_named(new_path));
  // It was taken for replaced, and is exchanged.
  std::erase_if(stream.replaced, [&](const Replaced& replaced) { return replaced.handle == event->object; });
  Node* node = event->object.empty() ? nullptr : stream.table.find(event->object);
  const auto replace = [&](Node* replaced) {
    if (replaced == nullptr || replaced == node) return;
    stream.replaced.push_back({replaced->handle, new_path, replaced->directory, event, monotonic_ns() + kExchangeNs});
  };
  if (!matters) {
    if (node != nullptr) remove(stream, *node);
    else if (directory && from != nullptr && superblock.table->observed_around(old_path, kDirentKinds))
      parts_.counters.dirents_unknown.add();
    return;
  }
  if (node != nullptr) {
    const std::size_t before = stream.table.size();
    const auto moved = stream.table.move(*node, *to, event->new_name);
    give_back(stream, before - stream.table.size());
    if (!moved) return unwatchable(stream);
    replace(moved->replaced);
    if (auto unlisted = stream.unlisted.extract(event->object)) stream.jobs.push_back(std::move(unlisted.mapped()));
    return;
  }
  // From outside. What has the name now is put aside first.
  if (const auto had = to->children.find(event->new_name); had != to->children.end()) {
    Node* const replaced = had->second;
    stream.table.detach(*replaced);
    replace(replaced);
  }
  if (event->object.empty() || add(stream, event->object, *to, event->new_name, directory) == nullptr || !directory) return;
  if (!stream.whole) parts_.counters.dirents_late.add();
  // Not as made: what is below came along.
  if (!stream.whole)
    if (const UniqueFd at = open_at(stream.bases, new_path); at && handle_of(at.get()) == event->object) mark(stream, at.get());
  stream.jobs.push_back({event->object, nullptr});
}

void DirentObserver::finish_replaced(Stream& stream, const Superblock& superblock) {
  const std::uint64_t now = monotonic_ns();
  while (!stream.replaced.empty() && stream.replaced.front().until_ns <= now) {
    const Replaced replaced = std::move(stream.replaced.front());
    stream.replaced.erase(stream.replaced.begin());
    record(superblock, FileEventKind::deleteself, replaced.path, {}, replaced.directory, *replaced.by);
    if (Node* const node = stream.table.find(replaced.handle)) remove(stream, *node);
  }
}

// ---- records ------------------------------------------------------------------------

void DirentObserver::record(const Superblock& superblock, FileEventKind kind, Path path, Path other, bool directory,
                            const Event& event, std::uint16_t flags) {
  const Actor actor = actor_of(event.who->actor.container, event.who->actor.flags);
  if (is_merged(event.mask)) flags |= kFlagMerged;
  for (const Entry* entry : superblock.table->watching(path, directory, kind, actor, kGuards))
    write(superblock, *entry, kind, path, other, directory, event, flags);
}

// One record for each guard, whichever of the names it watches.
void DirentObserver::record_rename(const Superblock& superblock, Path from, Path to, const Event& event) {
  const Actor actor = actor_of(event.who->actor.container, event.who->actor.flags);
  const bool directory = event.is_directory();
  const auto watching = [&](Path path, FileEventKind kind) {
    return path.empty() ? std::vector<const Entry*>() : superblock.table->watching(path, directory, kind, actor, kGuards);
  };
  std::vector<const Entry*> came = watching(to, FileEventKind::movedto);
  for (const Entry* entry : watching(from, FileEventKind::movedfrom)) {
    const auto same = std::ranges::find(came, entry->subject->guard, [](const Entry* one) { return one->subject->guard; });
    const bool both = same != came.end();
    if (both) came.erase(same);
    write(superblock, *entry, both ? FileEventKind::move : FileEventKind::movedfrom, from, to, directory, event, 0);
  }
  for (const Entry* entry : came) write(superblock, *entry, FileEventKind::movedto, to, from, directory, event, 0);
  for (const Entry* entry : watching(from, FileEventKind::moveself))
    write(superblock, *entry, FileEventKind::moveself, from, to, directory, event, 0);
}

void DirentObserver::write(const Superblock& superblock, const Entry& entry, FileEventKind kind, Path path, Path other,
                           bool directory, const Event& event, std::uint16_t flags) {
  janus_locate seen = event.who->seen;
  seen.mode = directory ? S_IFDIR : S_IFREG;
  parts_.recorder.record(*superblock.table, *entry.subject, Location{.raw = &seen, .path = path, .asked = {}},
                         {.kind = kind,
                          .response = Response::allow,
                          .flags = static_cast<std::uint16_t>(flags | kFlagWatched),
                          .blocked_ns = 0,
                          .actor = event.who->actor,
                          .time_ns = event.time_ns,
                          .deniers = {},
                          .other = other});
}

}  // namespace janus
