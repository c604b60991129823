// The loaded eBPF object: its programs, maps and ring buffer.
//
// Owns: everything that libbpf opened. Methods may be called from any thread
// unless they say otherwise. Must not interpret: the tracker does.
#pragma once

#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "bpf/event.h"
#include "ebpf/attachments.h"
#include "ebpf/map_sizes.h"
#include "ebpf/record_stream.h"
#include "record/stats.h"

struct bpf_map;
struct bpf_object;
struct janusd_bpf;
struct ring_buffer;

namespace janus {

// A process's name, as the kernel has it in its records.
inline std::string comm_of(const char (&comm)[16]) { return {comm, strnlen(comm, sizeof(comm))}; }

struct MapUse {
  std::string name;
  std::uint64_t bytes = 0;        // of kernel memory now, by its own account
  std::uint64_t max_entries = 0;  // of a ring, bytes
  std::uint64_t full = 0;         // entries that found no room
};

// Of each map of a loaded object; `full` is not known here.
std::vector<MapUse> maps_of(const bpf_object* object);

// A mount namespace, and how often its mounts have changed, by the kernel's own count.
struct MountState {
  std::uint64_t mnt_ns = 0;  // unique since boot; 0: there is no such thread
  std::uint64_t event = 0;
  bool operator==(const MountState&) const = default;
};

class BpfPrograms {
 public:
  // Loads and attaches all. Throws Error(unsupported) with the verifier's last
  // lines if this kernel refuses, and leaves nothing attached.
  explicit BpfPrograms(const MapSizes& sizes = map_sizes(Machine::read()));
  ~BpfPrograms();
  BpfPrograms(const BpfPrograms&) = delete;
  BpfPrograms& operator=(const BpfPrograms&) = delete;

  const MapSizes& sizes() const { return sizes_; }

  // Walks every process of the node (iter/task).
  void each_task(const TaskVisitor& visit);
  // Walks the tracked processes, and those of their threads that have a mount
  // namespace of their own.
  void each_thread(const std::function<void(const janus_thread&)>& visit);

  // Throws Error(exhausted) when the map is full. That, and each false below, is
  // counted as the map's `full`.
  void add_cgroup(const janus_cgroup_key& key, std::uint64_t container);
  void remove_cgroup(const janus_cgroup_key& key);
  // Overwrites what is known of the process. False: no room.
  bool add_task(std::uint32_t tgid, const janus_task& task);
  void remove_task(std::uint32_t tgid);
  // Of all processes of a container. Returns how many there were.
  std::size_t remove_tasks_of(std::uint64_t container);
  std::optional<janus_task> task(std::uint32_t tgid) const;
  // Which fanotify group's inode marks make an identity. Once, at start.
  void set_identity_group(int fd);
  bool add_identity(std::uint64_t inode, std::uint32_t id);
  void remove_identity(std::uint64_t inode);
  // Whether the inode, by its kernel address, is there and carries a mark of the
  // identity group.
  bool has_identity_mark(std::uint64_t inode) const;
  // The same by the image's inode, for a file that has several names there.
  bool add_lower_identity(const janus_lower_key& key, std::uint32_t id);
  void remove_lower_identity(const janus_lower_key& key);

  // The type of the file system that a descriptor is on ("ext4"); of an overlay's
  // layer, counted from 1, or of that one's own (`below`) if those are given. ""
  // is a layer that it lacks; nothing, that it has no more. Asks no file system.
  std::optional<std::string> file_system(int fd, std::uint32_t layer = 0, std::uint32_t below = 0) const;

  // By what a thread holds something of a mount: a descriptor or JANUS_FD_*. Asks
  // no file system. Nothing is held: it may be something else by now.
  std::int32_t find_descriptor(std::uint32_t pid, std::uint32_t mount_id) const;

  // What a thread's mounts are at. Looks at no file, and waits for nobody.
  MountState find_mounts(std::uint32_t pid) const;

  // The process table with who may be in it, and guarded inodes, for other programs to read.
  int tasks_fd() const;
  int task_bits_fd() const;
  // Who is in which container, as far as that has no entry there: for the decider.
  int cgroups_fd() const;
  int untracked_fd() const;
  int identities_fd() const;

  // Those that keep the table of processes true while nobody reads their records.
  std::vector<std::pair<std::string, int>> kept_links() const;

  // Readable when records wait. One consumer at a time.
  int records_fd() const;
  void consume(const std::function<void(const janus_record&, const RecordTexts&)>& visit);

  std::uint64_t counter(janus_counter which) const;
  // Bytes of the ring that waited at once, at most.
  std::uint64_t ring_peak() const;
  std::vector<MapUse> maps() const;
  // Entries that found no room, by map.
  std::map<std::string, std::uint64_t> full() const;
  // Those of the programs that are there now.
  std::vector<std::string> attached() const { return attachments_.present(); }

  // The shared buffers of one calling thread; see Locator.
  janus_slot& slot(std::uint32_t index) const { return slots_[index]; }
  void run_locate(std::uint32_t index) const;

 private:
  void close();
  // Updates an entry; false if there is no room.
  bool update(const bpf_map* map, const void* key, const void* value, std::uint64_t flags, Counter& full);
  static int on_record(void* context, void* data, std::size_t size);

  const MapSizes sizes_;
  janusd_bpf* skeleton_ = nullptr;
  ring_buffer* ring_ = nullptr;
  janus_slot* slots_ = nullptr;
  __u64* task_bits_ = nullptr;
  Attachments attachments_;
  int locate_fd_ = -1;
  std::mutex iterate_;
  std::mutex consume_;
  struct Batch {
    const std::function<void(const janus_record&, const RecordTexts&)>* visit;
    std::int64_t left;  // bytes
  };
  Batch batch_{};  // during consume()
  Counter tasks_full_, cgroups_full_, identities_full_, lower_identities_full_;
};

}  // namespace janus
