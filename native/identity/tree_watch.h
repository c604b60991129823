// Notices what appears in guarded directories of volumes.
//
// Owns: the marks of the trees group. Thread-safe but for drain().
//
// A new file in a pinned directory is asked about at once, since its directory
// is. A new directory is not: what is below it is open through mounts that carry
// no mark, until it is pinned, too. On a container's own overlay, which is marked
// as a whole, nothing is watched.
#pragma once

#include <sys/fanotify.h>

#include <map>
#include <mutex>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "os/fanotify_group.h"
#include "policy/policy.h"
#include "record/stats.h"
#include "os/unique_fd.h"

namespace janus {

class TreeWatch {
 public:
  TreeWatch(const Groups& groups, EngineCounters& counters) : groups_(groups), counters_(counters) {}

  // `directory` is on `device`. Where the file system gives no handles, new
  // entries go unnoticed: counted as exposure once a device.
  void watch(int directory, Device device);
  void unwatch(int directory);

  // Readable when something has appeared.
  int fd() const { return groups_.trees.fd(); }

  struct Entry {
    Device device = 0;
    std::vector<unsigned> directory;  // its struct file_handle
    std::string name;
  };
  // What was created in, or moved into, a watched directory; some at a time, so
  // that who makes more all the while doesn't keep us. `lost`: there was more
  // than the kernel keeps.
  std::vector<Entry> drain(bool& lost);

  // O_PATH of the entry's directory, wherever it is by now. `mount`: a readable
  // descriptor on that file system. Empty: errno says why.
  static UniqueFd open_directory(int mount, Entry& entry);

 private:
  using FileSystem = std::pair<int, int>;  // fsid

  const Groups& groups_;
  EngineCounters& counters_;
  std::mutex mutex_;
  std::map<FileSystem, Device> devices_;
  std::set<Device> blind_;
};

}  // namespace janus
