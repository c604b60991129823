// Real directories: what is told of which name, and to whom.
#include "cover/name_watch.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "tap.h"

using namespace janus;
namespace fs = std::filesystem;

namespace {

constexpr NameOwner kOne{.container = 1, .guard = 10}, kOther{.container = 2, .guard = 20};
using Owners = std::set<NameOwner>;

struct Watch {
  const Groups groups{false};
  Owners told;
  int calls = 0;
  NameWatch names{groups, [this](const Owners& owners) {
                    told = owners;
                    ++calls;
                  }};
  std::vector<NameWatch::Watched> one, other;

  Owners drained() {
    told.clear();
    calls = 0;
    names.drain();
    return told;
  }
};

Resolved at(const fs::path& root, const std::string& path) {
  const UniqueFd fd(open(root.c_str(), O_PATH | O_CLOEXEC));
  return resolve_in(fd.get(), path);
}

void by_directory(const fs::path& base) {
  Watch watch;
  fs::create_directories(base / "a/data");
  fs::create_directories(base / "b/data");
  CHECK(watch.names.watch(at(base / "a", "/data/secret"), kOne, watch.one).failed == 0);
  CHECK(watch.names.watch(at(base / "b", "/data/secret"), kOther, watch.other).failed == 0);
  CHECK(watch.drained().empty() && watch.calls == 0);

  std::ofstream(base / "a/data/secret") << "x";
  CHECK(watch.drained() == Owners{kOne});  // the same name elsewhere is another
  std::ofstream(base / "a/data/nothing") << "x";
  CHECK(watch.drained().empty());
  fs::rename(base / "b/data", base / "b/gone");
  CHECK(watch.drained() == Owners{kOther});
  fs::remove(base / "a/data/secret");
  fs::rename(base / "b/gone", base / "b/data");
  CHECK((watch.drained() == Owners{kOne, kOther}) && watch.calls == 1);  // one plan for all

  // Twice watched is watched until twice unwatched.
  std::vector<NameWatch::Watched> again;
  watch.names.watch(at(base / "a", "/data/secret"), kOne, again);
  watch.names.unwatch(watch.one, kOne);
  std::ofstream(base / "a/data/secret") << "x";
  CHECK(watch.drained() == Owners{kOne});
  watch.names.unwatch(again, kOne);
  fs::remove(base / "a/data/secret");
  CHECK(watch.drained().empty());
  CHECK(watch.names.marks() > 0);
  watch.names.unwatch(watch.other, kOther);
  CHECK(watch.names.marks() == 0);
  fs::rename(base / "b/data", base / "b/gone");
  CHECK(watch.drained().empty());
}

// The first change in a directory of an image copies it up: it has another handle then.
void on_overlay(const fs::path& base) {
  for (const char* name : {"lower/etc/app", "upper", "work", "merged"}) fs::create_directories(base / name);
  const std::string layers =
      "lowerdir=" + (base / "lower").string() + ",upperdir=" + (base / "upper").string() + ",workdir=" + (base / "work").string();
  if (mount("overlay", (base / "merged").c_str(), "overlay", 0, layers.c_str()) != 0) {
    CHECK(!"overlay can be mounted");
    return;
  }
  {
    Watch watch;
    CHECK(watch.names.watch(at(base / "merged", "/etc/app/secret"), kOne, watch.one).failed == 0);
    std::ofstream(base / "merged/etc/app/secret") << "x";
    CHECK(watch.drained() == Owners{kOne});
    fs::remove(base / "merged/etc/app/secret");
    CHECK(watch.drained() == Owners{kOne});
    std::ofstream(base / "merged/etc/app/other") << "x";
    CHECK(watch.drained().empty());
  }
  umount((base / "merged").c_str());
}

// More than the kernel keeps: everything may have changed.
void overflow(const fs::path& base) {
  Watch watch;
  fs::create_directories(base / "full");
  CHECK(watch.names.watch(at(base / "full", "/secret"), kOne, watch.one).failed == 0);
  const std::string limit = "/proc/sys/fs/fanotify/max_queued_events";
  std::size_t queued = 0;
  std::ifstream(limit) >> queued;
  for (std::size_t i = 0; i <= queued + 1; ++i) {
    const std::string name = base / "full" / ("f" + std::to_string(i));
    close(open(name.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
  }
  CHECK(watch.drained() == Owners{kOne});
  std::ofstream(base / "full/secret") << "x";
  CHECK(watch.drained() == Owners{kOne});
}

}  // namespace

int main() {
  char name[] = "/tmp/janusd-names.XXXXXX";
  const fs::path base = mkdtemp(name);
  by_directory(base);
  on_overlay(base);
  overflow(base);
  fs::remove_all(base);
  return tap::done();
}
