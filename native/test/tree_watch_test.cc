// What appears in watched directories: real directories, on a volume and on an overlay.
#include "identity/tree_watch.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>

#include "kernel_state.h"
#include "tap.h"

using namespace janus;
namespace fs = std::filesystem;

namespace {

constexpr Device kDevice = 7, kOther = 8;  // whatever the caller calls them

struct Watch {
  EngineCounters counters;
  const Groups groups{false};
  TreeWatch trees{groups, counters};
  bool lost = false;

  // All there is: a drain takes some.
  std::vector<TreeWatch::Entry> drained() {
    std::vector<TreeWatch::Entry> all;
    for (;;) {
      auto some = trees.drain(lost);
      if (some.empty()) return all;
      for (auto& entry : some) all.push_back(std::move(entry));
    }
  }
  std::set<std::string> names() {
    std::set<std::string> names;
    for (const auto& entry : drained()) names.insert(entry.name);
    return names;
  }
};

using Names = std::set<std::string>;

UniqueFd path_fd(const fs::path& path) { return UniqueFd(open(path.c_str(), O_PATH | O_CLOEXEC)); }
void file(const fs::path& path) { std::ofstream(path) << "x"; }

void on_a_volume(const fs::path& base) {
  Watch watch;
  fs::create_directories(base / "volume/s");
  fs::create_directories(base / "volume/beside");
  watch.trees.watch(path_fd(base / "volume/s").get(), kDevice);
  file(base / "volume/s/f");
  fs::create_directories(base / "volume/s/d");
  file(base / "volume/beside/moved");
  fs::rename(base / "volume/beside/moved", base / "volume/s/moved");
  fs::create_hard_link(base / "volume/s/f", base / "volume/s/linked");
  auto entries = watch.drained();
  CHECK(entries.size() == 4 && !watch.lost);
  Names names;
  const UniqueFd mount(open(base.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  for (auto& entry : entries) {
    names.insert(entry.name);
    CHECK(entry.device == kDevice && entry.how == TreeWatch::Entry::by_handle);
    const UniqueFd directory = TreeWatch::open_directory(mount.get(), entry);
    struct stat opened {}, meant {};
    CHECK(directory && fstat(directory.get(), &opened) == 0 && stat((base / "volume/s").c_str(), &meant) == 0 &&
          opened.st_ino == meant.st_ino);
  }
  CHECK((names == Names{"f", "d", "moved", "linked"}));
  // What goes is nobody's news, nor what is elsewhere.
  fs::remove(base / "volume/s/f");
  file(base / "volume/beside/g");
  file(base / "volume/s/d/below");
  CHECK(watch.drained().empty());
  // A directory is found wherever it is by then, and not at all when it is gone.
  file(base / "volume/s/late");
  auto late = watch.drained();
  fs::rename(base / "volume/s", base / "volume/elsewhere");
  CHECK(late.size() == 1 && TreeWatch::open_directory(mount.get(), late[0]));
  fs::remove_all(base / "volume/elsewhere");
  errno = 0;
  CHECK(!TreeWatch::open_directory(mount.get(), late[0]) && errno == ESTALE);
  CHECK(!TreeWatch::open_directory(-1, late[0]));
}

void unwatched_and_forgotten(const fs::path& base) {
  Watch watch;
  fs::create_directories(base / "a");
  fs::create_directories(base / "b");
  const UniqueFd a = path_fd(base / "a"), b = path_fd(base / "b");
  watch.trees.watch(a.get(), kDevice);
  watch.trees.watch(a.get(), kDevice);
  watch.trees.watch(b.get(), kDevice);
  watch.trees.unwatch(a.get());
  file(base / "a/f");
  file(base / "b/f");
  CHECK(watch.names() == Names{"f"});
  CHECK(marks_of(watch.groups.trees).size() == 1);
  watch.trees.unwatch(b.get());
  CHECK(marks_of(watch.groups.trees).empty());
  watch.trees.watch(b.get(), kDevice);
  file(base / "b/g");
  watch.trees.forget(kDevice);  // also what waits
  CHECK(watch.drained().empty());
  watch.trees.forget(kOther);
}

// What cannot be watched: said once a device.
void blind() {
  Watch watch;
  watch.trees.watch(-1, kDevice);
  watch.trees.watch(-1, kDevice);
  CHECK(watch.counters.exposed_rescan.get() == 1);
  watch.trees.watch_overlay(-1, kOther, "/x");
  CHECK(watch.counters.exposed_rescan.get() == 2);
  watch.trees.forget(kDevice);
  watch.trees.watch(-1, kDevice);
  CHECK(watch.counters.exposed_rescan.get() == 3);
  CHECK(watch.drained().empty());
}

struct Overlay {
  Overlay(const fs::path& base, const char* name) : at(base / name) {
    for (const char* each : {"lower/s/d", "upper", "work", "merged"}) fs::create_directories(at / each);
    const std::string layers =
        "lowerdir=" + (at / "lower").string() + ",upperdir=" + (at / "upper").string() + ",workdir=" + (at / "work").string();
    CHECK(mount("overlay", (at / "merged").c_str(), "overlay", 0, layers.c_str()) == 0);
  }
  ~Overlay() { umount2((at / "merged").c_str(), MNT_DETACH); }
  fs::path operator/(const char* name) const { return at / "merged" / name; }
  fs::path at;
};

void on_an_overlay(const fs::path& base) {
  const Overlay overlay(base, "overlay");
  Watch watch;
  const auto rewatch = [&] {
    watch.trees.watch_overlay(path_fd(overlay / "s").get(), kDevice, "/s");
    watch.trees.watch_overlay(path_fd(overlay / "s/d").get(), kDevice, "/s/d");
  };
  rewatch();
  // The first change copies the directory up: it may have another handle then.
  file(overlay / "s/f");
  auto entries = watch.drained();
  CHECK(entries.size() == 1 && entries[0].device == kDevice);
  CHECK(entries[0].how == TreeWatch::Entry::unknown || (entries[0].how == TreeWatch::Entry::by_path && entries[0].path == "/s"));
  rewatch();
  file(overlay / "s/g");
  entries = watch.drained();
  CHECK(entries.size() == 1 && entries[0].how == TreeWatch::Entry::by_path && entries[0].path == "/s" && entries[0].name == "g");
  fs::create_directories(overlay / "s/new");
  watch.trees.watch_overlay(path_fd(overlay / "s/new").get(), kDevice, "/s/new");
  file(overlay / "s/new/h");
  entries = watch.drained();
  CHECK(entries.size() == 2 && entries[1].path == "/s/new" && entries[1].name == "h");
  watch.trees.forget(kDevice);
  file(overlay / "s/i");
  CHECK(watch.drained().empty());
}

// More than the kernel keeps.
void overflow(const fs::path& base) {
  std::size_t queued = 0;
  std::ifstream("/proc/sys/fs/fanotify/max_queued_events") >> queued;
  Watch watch;
  fs::create_directories(base / "full");
  watch.trees.watch(path_fd(base / "full").get(), kDevice);
  for (std::size_t i = 0; i <= queued + 1; ++i)
    close(open((base / "full" / ("f" + std::to_string(i))).c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
  // Some at a time.
  CHECK(watch.trees.drain(watch.lost).size() < queued / 2 && !watch.lost);
  CHECK(!watch.drained().empty() && watch.lost);
  watch.lost = false;
  file(base / "full/one more");
  CHECK(watch.names() == Names{"one more"} && !watch.lost);
}

}  // namespace

int main() {
  char name[] = "/tmp/janusd-trees.XXXXXX";
  const fs::path base = mkdtemp(name);
  CHECK(unshare(CLONE_NEWNS) == 0 && mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0);
  on_a_volume(base);
  unwatched_and_forgotten(base);
  blind();
  on_an_overlay(base);
  overflow(base);
  fs::remove_all(base);
  return tap::done();
}
