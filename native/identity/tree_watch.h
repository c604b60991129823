// Notices what appears in guarded directories.
//
// Owns: the marks of the trees group. Thread-safe but for drain().
//
// A new file in a pinned directory is asked about at once, since its directory
// is. A new directory is not: what is below it is open through mounts that carry
// no mark, until it is pinned, too. On a container's own overlay a file may be
// moved or linked into the directory, or written there by the node: nobody is
// asked, and it could leave again unasked. (Before Linux 6.6 an overlay gives no
// handles, so that this goes unnoticed.)
#pragma once

#include <fcntl.h>
#include <sys/fanotify.h>

#include <map>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
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
  // The same on an overlay, whose handles name a directory and cannot be opened.
  // To be called again when its handle has changed: it does when it is copied up.
  void watch_overlay(int directory, Device device, std::string_view path);
  void unwatch(int directory);
  // Nobody guards anything on the device any more.
  void forget(Device device);

  // Readable when something has appeared.
  int fd() const { return groups_.trees.fd(); }

  struct Entry {
    Device device = 0;
    std::vector<unsigned> directory;  // its struct file_handle
    std::string name;
    // On an overlay: where the directory is. Unknown if its handle is new.
    enum { by_handle, by_path, unknown } how = by_handle;
    std::string path;
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
  using Handle = std::vector<unsigned>;    // struct file_handle
  // Overlays may have one fsid in common, and directories of an image one handle.
  struct Overlays {
    std::set<Device> devices;
    std::map<Handle, std::map<Device, std::string>> paths;
  };

  bool mark(int directory, Device device, FileSystem& where);
  static Handle handle_of(const file_handle& handle);

  const Groups& groups_;
  EngineCounters& counters_;
  std::mutex mutex_;
  std::map<FileSystem, Device> devices_;
  std::map<FileSystem, Overlays> overlays_;
  std::set<Device> blind_;
};

}  // namespace janus
