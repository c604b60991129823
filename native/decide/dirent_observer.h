// Records what happens to entries and attributes where somebody watches that: create, delete, move, attrib.
//
// Owns: its thread, the dirents group with its marks, and the tables of the directories in
// watched trees. An event names directories by handle; what path that is, the table says, which is
// kept by the events themselves and so is as old as the event.
//
//   superblock mark   where handles can be opened (ext4, xfs, tmpfs): complete, since it tells of
//                     directories that nobody knows yet. It tells of the whole superblock: what is in
//                     no known directory is dropped at once.
//   inode marks       where they cannot (overlayfs): one on each directory. One that has just been
//                     made is marked a moment later. What is in it by then is recorded as found.
//
// Opens nothing but by O_PATH: the lister reads directories, on threads of its own.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "cover/directory_lister.h"
#include "cover/directory_table.h"
#include "decide/recorder.h"
#include "ebpf/locator.h"
#include "identity/shares.h"
#include "os/clock.h"
#include "os/fanotify_group.h"
#include "os/unique_fd.h"
#include "policy/policy.h"
#include "record/refusals.h"
#include "record/stats.h"
#include "track/tracker.h"

namespace janus {

class DirentObserver {
 public:
  struct Parts {
    const Groups& groups;
    const BpfPrograms& programs;
    const PolicyBox& policy;
    Tracker& tracker;
    Recorder& recorder;
    EngineCounters& counters;
    Refusals& refusals;
  };

  // Of events that are read and not looked at yet. Bytes.
  static constexpr std::size_t kQueueBytes = 64 << 20;
  // Directories that are known: in all, and in one container's watched trees.
  static constexpr std::size_t kDirectories = 262'144, kDirectoriesOfOne = 65'536;

  explicit DirentObserver(Parts parts, std::size_t queue_bytes = kQueueBytes);

  void run(const std::atomic<bool>& stop, int stop_fd);
  const Heartbeat& heartbeat() const { return heartbeat_; }

  // The policy of these superblocks has been published. Any thread.
  void changed(const std::set<Device>& devices);
  // Waits until all changes so far of these have been seen to, marks and all. False: not by then.
  bool settle(const std::set<Device>& devices, std::chrono::milliseconds limit);

  std::size_t directories() const { return directories_.load(std::memory_order_relaxed); }
  std::size_t marks() const { return marks_.load(std::memory_order_relaxed); }

 private:
  using Node = DirectoryTable::Node;
  using FileSystem = std::pair<int, int>;  // fsid

  // Who did it, as far as it was there when the event was read.
  struct Who {
    Tracker::Actor actor;
    janus_locate seen;
  };
  struct Event {
    std::uint64_t mask = 0;
    // Handles, as bytes_of() has them; empty: none.
    std::string directory, new_directory, object;
    std::string name, new_name;
    std::shared_ptr<const Who> who;
    std::uint64_t time_ns = 0;  // CLOCK_REALTIME
    bool again = false;         // its directory was not known before

    bool is_directory() const { return (mask & FAN_ONDIR) != 0; }
    std::size_t bytes() const {
      return sizeof(*this) + directory.size() + new_directory.size() + object.size() + name.size() + new_name.size();
    }
  };
  // A directory to be listed.
  struct Job {
    std::string handle;
    std::shared_ptr<const Event> made;  // by this event: what is there by now was made unseen
  };
  // Had its name taken by a rename: it is gone, unless it was exchanged.
  struct Replaced {
    std::string handle, path;
    bool directory = false;
    std::shared_ptr<const Event> by;
    std::uint64_t until_ns = 0;
  };
  struct Found {
    std::string name;
    bool directory = false;
  };
  struct Stream {
    Device device = 0;
    FileSystem file_system;
    std::uint64_t container = 0;  // that pays
    bool whole = false;           // the superblock is marked
    std::uint64_t version = 0;
    std::vector<Base> bases;
    DirectoryTable table;
    std::deque<Event> events;
    std::size_t event_bytes = 0;
    std::deque<Job> jobs;
    std::shared_ptr<DirectoryLister::Listing> listing;
    Job job;                   // of `listing`
    bool has_part = false;
    std::vector<Found> found;  // in it
    bool stale = false;        // events were lost: to be built anew
    std::set<std::string> strangers;  // handles of directories that are not in a watched tree
    std::vector<Replaced> replaced;
    std::map<std::string, Job> unlisted;  // by handle: was not where the table has it, and will be moved

    bool walks() const { return listing != nullptr || !jobs.empty(); }
  };
  using Path = std::string_view;

  void read_all();
  void take(const fanotify_event_metadata& event, std::uint64_t read_ns);
  std::shared_ptr<const Who> who(std::uint32_t tgid, std::uint64_t read_ns);
  Stream* stream_of(FileSystem file_system, const Event& event, std::uint32_t tgid, std::uint64_t read_ns);

  void take_changes();
  void begin(Device device, const Superblock& superblock);
  const Base* mark_whole(const std::vector<Base>& bases, unsigned change) const;
  void end(Stream& stream);
  void rewalk(Stream& stream, const Superblock& superblock);
  void mark(Stream& stream, int directory);

  // Each returns whether there is more to do at once.
  bool advance(Stream& stream);
  bool walk(Stream& stream, const Superblock& superblock);
  void enter(Stream& stream, const Superblock& superblock);
  void meet(Stream& stream, const Superblock& superblock, Node& parent, const std::string& path, const DirectoryLister::Listing::Entry& entry);
  void listed(Stream& stream, const Superblock& superblock);

  void look_at(Stream& stream, const Superblock& superblock, Event event);
  void renamed(Stream& stream, const Superblock& superblock, const std::shared_ptr<const Event>& event);
  void created(Stream& stream, const Superblock& superblock, const std::shared_ptr<const Event>& event, Node& parent, Path path);
  // Where a directory outside of what is watched is now, if its file system says so; else empty.
  std::string outside(const Stream& stream, const std::string& handle, std::string_view name);
  void finish_replaced(Stream& stream, const Superblock& superblock);
  Node* add(Stream& stream, std::string handle, Node& parent, std::string name, bool directory);
  void remove(Stream& stream, Node& node);
  void give_back(const Stream& stream, std::size_t directories);
  void forget(Stream& stream);
  void unwatchable(Stream& stream);

  void record(const Superblock& superblock, FileEventKind kind, Path path, Path other, bool directory, const Event& event, std::uint16_t flags = 0);
  void record_rename(const Superblock& superblock, Path from, Path to, const Event& event);
  void write(const Superblock& superblock, const Entry& entry, FileEventKind kind, Path path, Path other, bool directory, const Event& event, std::uint16_t flags);

  const Parts parts_;
  const std::size_t queue_bytes_;
  const int self_;
  Locator locator_;
  Heartbeat heartbeat_;
  const UniqueFd wake_event_;
  DirectoryLister lister_;
  std::atomic<std::size_t> directories_{0}, marks_{0};

  std::mutex mutex_;
  std::condition_variable seen_to_;
  std::set<Device> changed_;
  std::set<Device> busy_;  // changed, and not yet seen to

  // The thread's own.
  std::map<Device, Stream> streams_;
  std::map<FileSystem, std::vector<Stream*>> by_file_system_;
  Shares shares_;
  std::size_t queued_bytes_ = 0;
  // What is unread happened after this (CLOCK_BOOTTIME).
  std::uint64_t since_ns_ = 0;
  // Of the batch that is being read.
  std::unordered_map<std::uint32_t, std::shared_ptr<const Who>> actors_;
  std::uint64_t rebuilt_ns_ = 0;
  bool apart_ = false;  // the thread has a working directory of its own
};

}  // namespace janus
