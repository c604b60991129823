#include "cover/directory_lister.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <mutex>
#include <set>
#include <system_error>
#include <thread>

#include "os/clock.h"

namespace janus {
namespace {

constexpr std::size_t kPartBytes = 32 * 1024;

// How long a thread with nothing to do stays.
constexpr std::chrono::seconds kIdle{2};

// What getdents64(2) writes.
struct DirectoryEntry {
  std::uint64_t inode;
  std::int64_t offset;
  std::uint16_t bytes;
  std::uint8_t type;
  char name[];
};

}  // namespace

// ---- one directory ------------------------------------------------------------

void DirectoryLister::Listing::read_part() {
  filled_ = at_ = 0;
  if (!readable_) readable_.reset(openat(directory_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOATIME));
  if (!readable_) {
    error_ = errno;
    ended_ = true;
    return;
  }
  part_.resize(kPartBytes);
  // Small directories are read whole, the end included: a part costs two changes of thread.
  while (!ended_ && filled_ <= part_.size() / 2) {
    const long got = syscall(SYS_getdents64, readable_.get(), part_.data() + filled_, part_.size() - filled_);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) error_ = errno;
    ended_ = got <= 0;
    if (got > 0) filled_ += static_cast<std::size_t>(got);
  }
  if (ended_) readable_.reset();
}

std::optional<DirectoryLister::Listing::Entry> DirectoryLister::Listing::next_entry() {
  while (at_ < filled_) {
    // The kernel aligns each entry to 8 bytes.
    const auto* entry = reinterpret_cast<const DirectoryEntry*>(part_.data() + at_);
    at_ += entry->bytes;
    const std::string_view name = entry->name;
    if (name != "." && name != "..") return Entry{entry->name, entry->type};
  }
  return std::nullopt;
}

const char* DirectoryLister::Listing::next() {
  while (const auto entry = next_entry())
    if (entry->type != DT_LNK) return entry->name;
  return nullptr;
}

// ---- the threads ----------------------------------------------------------------

struct DirectoryLister::State {
  std::mutex mutex;
  std::condition_variable asked, read;
  std::function<void()> done;  // null: the lister is gone
  std::deque<std::shared_ptr<Listing>> queue;
  std::set<std::shared_ptr<Listing>> busy;  // queued, or with a thread
  std::size_t idle = 0;
  std::uint64_t patience_ns = 0;

  // Whether the container may ask for one more there.
  Part room_for(const Whose& whose, std::uint64_t now_ns) const {
    std::size_t theirs = 0, late = 0;
    for (const auto& listing : busy) {
      if (listing->whose_.container != whose.container) continue;
      if (listing->whose_.device == whose.device) return is_late(*listing, now_ns) ? Part::stuck : Part::waits;
      ++theirs;
      if (is_late(*listing, now_ns)) ++late;
    }
    if (late == kThreadsOfOne) return Part::stuck;
    return theirs < kThreadsOfOne && busy.size() < kThreads ? Part::read : Part::waits;
  }

  bool is_late(const Listing& listing, std::uint64_t now_ns) const {
    return now_ns - listing.since_ns_ >= patience_ns;
  }

  static void run(const std::shared_ptr<State>& state) {
    pthread_setname_np(pthread_self(), "lister");
    std::unique_lock lock(state->mutex);
    for (;;) {
      ++state->idle;
      const bool any = state->asked.wait_for(lock, kIdle, [&] { return !state->queue.empty() || !state->done; });
      --state->idle;
      if (!any || !state->done) return;
      const std::shared_ptr<Listing> listing = std::move(state->queue.front());
      state->queue.pop_front();
      lock.unlock();
      listing->read_part();
      lock.lock();
      listing->done_ = true;
      state->busy.erase(listing);
      state->read.notify_all();
      if (state->done) state->done();
    }
  }
};

DirectoryLister::DirectoryLister(std::function<void()> done, std::chrono::nanoseconds patience)
    : state_(std::make_shared<State>()) {
  state_->done = std::move(done);
  state_->patience_ns = static_cast<std::uint64_t>(patience.count());
}

DirectoryLister::~DirectoryLister() {
  const std::lock_guard lock(state_->mutex);
  state_->done = nullptr;
  state_->queue.clear();
  state_->asked.notify_all();
}

std::shared_ptr<DirectoryLister::Listing> DirectoryLister::list(Whose whose, UniqueFd directory) const {
  return std::shared_ptr<Listing>(new Listing(whose, std::move(directory)));
}

DirectoryLister::Part DirectoryLister::part(const std::shared_ptr<Listing>& listing) {
  const std::lock_guard lock(state_->mutex);
  const std::uint64_t now = monotonic_ns();
  if (listing->done_) {
    listing->asked_ = listing->done_ = false;
    return Part::read;
  }
  if (listing->asked_) return state_->is_late(*listing, now) ? Part::stuck : Part::waits;
  if (const Part room = state_->room_for(listing->whose_, now); room != Part::read) return room;
  if (state_->idle <= state_->queue.size()) {
    try {
      std::thread([state = state_] { State::run(state); }).detach();
    } catch (const std::system_error&) {
      return Part::waits;  // the table of processes is full
    }
  }
  listing->asked_ = true;
  listing->since_ns_ = now;
  state_->busy.insert(listing);
  state_->queue.push_back(listing);
  state_->asked.notify_one();
  return Part::waits;
}

bool DirectoryLister::wait(const Listing& listing, std::uint64_t until_ns) {
  std::unique_lock lock(state_->mutex);
  while (listing.asked_ && !listing.done_) {
    const std::uint64_t now = monotonic_ns();
    if (now >= until_ns) return false;
    state_->read.wait_for(lock, std::chrono::nanoseconds(until_ns - now));
  }
  return listing.done_;
}

std::size_t DirectoryLister::stuck() const {
  const std::lock_guard lock(state_->mutex);
  const std::uint64_t now = monotonic_ns();
  return static_cast<std::size_t>(
      std::ranges::count_if(state_->busy, [&](const auto& listing) { return state_->is_late(*listing, now); }));
}

}  // namespace janus
