// A directory that never comes back costs a thread of its container's share, and nobody
// else anything. The kernel makes it hang: a group of ours does not answer.
#include "cover/directory_lister.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/fanotify.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "os/fanotify_group.h"
#include "tap.h"

namespace fs = std::filesystem;
using namespace janus;
using Part = DirectoryLister::Part;
using Listing = std::shared_ptr<DirectoryLister::Listing>;

namespace {

constexpr std::chrono::milliseconds kPatience{50};

UniqueFd at(const fs::path& path) { return UniqueFd(open(path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)); }

// Waits for it as long as need be.
std::set<std::string> names(DirectoryLister& lister, const Listing& listing) {
  std::set<std::string> names;
  do {
    while (lister.part(listing) != Part::read) lister.wait(*listing, UINT64_MAX);
    while (const char* name = listing->next()) names.insert(name);
  } while (!listing->is_read());
  return names;
}

void waits_alone(const fs::path& base) {
  FanotifyGroup silent("silent", FAN_CLASS_CONTENT | FAN_CLOEXEC | FAN_NONBLOCK, O_RDONLY);
  std::vector<fs::path> stuck;
  for (int i = 0; i <= static_cast<int>(DirectoryLister::kThreadsOfOne); ++i) {
    stuck.push_back(base / ("stuck" + std::to_string(i)));
    fs::create_directories(stuck.back());
    silent.mark(FAN_MARK_ADD, FAN_OPEN_PERM | FAN_ONDIR, at(stuck.back()).get(), stuck.back());
  }
  DirectoryLister lister([] {}, kPatience);
  const auto of = [&](std::uint64_t container, Device device, const fs::path& path) {
    return lister.list({.container = container, .device = device}, at(path));
  };

  const Listing first = of(1, 1, stuck[0]);
  CHECK(lister.part(first) == Part::waits && lister.stuck() == 0);
  // Another of its directories on this superblock waits for that one, those elsewhere don't.
  const Listing second = of(1, 1, base / "fine");
  CHECK(lister.part(second) == Part::waits);
  CHECK(names(lister, of(1, 2, base / "fine")).size() == 3);
  CHECK(names(lister, of(2, 1, base / "fine")).size() == 3);
  std::this_thread::sleep_for(2 * kPatience);
  CHECK(lister.part(first) == Part::stuck && lister.part(second) == Part::stuck && lister.stuck() == 1);

  // It has so many threads, and no more.
  std::vector<Listing> others;
  for (std::size_t i = 1; i < DirectoryLister::kThreadsOfOne; ++i) {
    others.push_back(of(1, 10 + static_cast<Device>(i), stuck[i]));
    CHECK(lister.part(others.back()) == Part::waits);
  }
  const Listing more = of(1, 20, base / "fine");
  CHECK(lister.part(more) == Part::waits);
  std::this_thread::sleep_for(2 * kPatience);
  CHECK(lister.part(more) == Part::stuck && lister.stuck() == DirectoryLister::kThreadsOfOne);
  CHECK(names(lister, of(2, 1, base / "fine")).size() == 3);

  // They are free again when the kernel lets them go.
  silent.release();
  for (int i = 0; i < 500 && lister.stuck() > 0; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  CHECK(lister.stuck() == 0);
  CHECK(names(lister, second).size() == 3);
}

// Nobody waits for a thread that waits.
void ends(const fs::path& base) {
  FanotifyGroup silent("silent", FAN_CLASS_CONTENT | FAN_CLOEXEC | FAN_NONBLOCK, O_RDONLY);
  silent.mark(FAN_MARK_ADD, FAN_OPEN_PERM | FAN_ONDIR, at(base / "stuck0").get(), "stuck0");
  {
    DirectoryLister lister([] {}, kPatience);
    const Listing listing = lister.list({.container = 1, .device = 1}, at(base / "stuck0"));
    CHECK(lister.part(listing) == Part::waits);
    pollfd asked{silent.fd(), POLLIN, 0};
    CHECK(poll(&asked, 1, 10'000) == 1);
  }
  silent.release();
}

}  // namespace

int main() {
  char name[] = "/tmp/janusd-lister.XXXXXX";
  const fs::path base = mkdtemp(name);
  fs::create_directories(base / "fine/directory");
  std::ofstream(base / "fine/a") << "";
  std::ofstream(base / "fine/b") << "";
  fs::create_symlink("a", base / "fine/link");
  fs::create_directories(base / "large");
  for (int i = 0; i < 3000; ++i) std::ofstream(base / "large" / (std::to_string(i) + std::string(60, 'x'))) << "";

  {
    DirectoryLister lister([] {});
    const DirectoryLister::Whose whose{.container = 1, .device = 1};
    CHECK((names(lister, lister.list(whose, at(base / "fine"))) == std::set<std::string>{"a", "b", "directory"}));
    CHECK(names(lister, lister.list(whose, at(base / "large"))).size() == 3000);
    const Listing none = lister.list(whose, UniqueFd());
    CHECK(names(lister, none).empty() && none->error() == EBADF);
  }
  waits_alone(base);
  ends(base);

  fs::remove_all(base);
  return tap::done();
}
