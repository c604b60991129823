// What is told of entries in a watched tree: a real file system, done by a process of its own.
#include "decide/dirent_observer.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "cover/event_mask.h"
#include "kernel_state.h"
#include "record/event_ring.h"
#include "tap.h"

using namespace janus;
namespace fs = std::filesystem;

namespace {

constexpr std::uint64_t kContainer = 7;

// As another process: our own are not told of.
void elsewhere(const std::function<void()>& what) {
  const pid_t child = fork();
  if (child == 0) {
    what();
    _exit(0);
  }
  int status = 0;
  CHECK(waitpid(child, &status, 0) == child && status == 0);
}

void file(const fs::path& path) { close(open(path.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600)); }

struct Bench {
  explicit Bench(const fs::path& at, std::size_t queue = DirentObserver::kQueueBytes)
      : root(std::make_shared<const UniqueFd>(open(at.c_str(), O_PATH | O_CLOEXEC))),
        observer({groups, programs, policy, tracker, recorder, counters, refusals}, queue),
        thread([this] { observer.run(stop, -1); }) {
    device = locator.locate(root->get()).raw->dev;
  }
  ~Bench() {
    stop = true;
    thread.join();
  }

  // Below /w; nothing: no guard any more.
  void watch(std::uint32_t events) {
    auto next = std::make_shared<Policy>();
    if (events != 0) {
      auto subject = std::make_shared<Subject>();
      subject->id = subject->guard = 1;
      subject->container = kContainer;
      subject->events = events;
      subject->recursive = true;
      subject->stats = std::make_shared<SubjectStats>();
      auto entry = std::make_shared<Entry>(Entry{.action = Action::watch, .depth = 0, .path = "/w", .relative = "", .subject = subject});
      auto superblock = std::make_shared<Superblock>();
      superblock->table = std::make_shared<SuperblockPolicy>(RuleTable{{entry, false}}, std::vector<View>{});
      superblock->bases = {{"", root}};
      superblock->containers = {kContainer};
      superblock->dirents = events;
      superblock->dirents_version = ++version;
      next->superblocks[device] = superblock;
    }
    policy.publish(next);
    observer.changed({device});
    CHECK(observer.settle({device}, std::chrono::seconds(10)));
  }

  // "create /w/a", in order, once there are so many.
  std::vector<std::string> told(std::size_t count) {
    static const char* const names[] = {"open", "access", "exec", "modify", "closewrite", "closenowrite", "attrib",
                                        "create", "delete", "deleteself", "movedfrom", "movedto", "moveself", "move"};
    std::vector<std::string> lines;
    std::vector<std::uint8_t> bytes(1 << 20);
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (lines.size() < count && std::chrono::steady_clock::now() < until) {
      const std::size_t got = ring.drain(bytes);
      for (std::size_t at = 0; at < got;) {
        FileEvent event;
        std::memcpy(&event, bytes.data() + at, sizeof(event));
        const char* texts = reinterpret_cast<const char*>(bytes.data()) + at + sizeof(event);
        std::string line = std::string(names[static_cast<int>(event.kind)]) + " " + std::string(texts, event.path_len);
        const std::size_t before = event.path_len + event.exe_len + event.ancestry_len + event.asked_len + event.argv0_len;
        if (event.other_len > 0) line += " " + std::string(texts + before, event.other_len);
        lines.push_back(line);
        at += event.size;
      }
      if (got == 0) std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    return lines;
  }

  EngineCounters counters;
  Refusals refusals;
  PolicyBox policy;
  const Groups groups{false};
  BpfPrograms programs;
  Tracker tracker{programs, {}};
  EventRing ring{8 << 20};
  Recorder recorder{ring, tracker, [] {}};
  Locator locator{programs, LocatorSlot::scanner};
  const std::shared_ptr<const UniqueFd> root;
  Device device = 0;
  std::uint64_t version = 0;
  std::atomic<bool> stop{false};
  DirentObserver observer;
  std::thread thread;
};

using Lines = std::vector<std::string>;

void exchange(const fs::path& at) {
  Bench bench(at);
  fs::create_directories(at / "w/a/in-a");
  fs::create_directories(at / "w/b/in-b");
  bench.watch(mask_of(FileEventKind::movedfrom) | mask_of(FileEventKind::movedto) | mask_of(FileEventKind::deleteself) |
              mask_of(FileEventKind::create));
  elsewhere([&] {
    renameat2(AT_FDCWD, (at / "w/a").c_str(), AT_FDCWD, (at / "w/b").c_str(), RENAME_EXCHANGE);
    file(at / "w/a/in-b/f");
    usleep(100'000);  // longer than a name that was taken is waited for
    file(at / "w/b/in-a/f");
  });
  CHECK((bench.told(4) == Lines{"move /w/a /w/b", "move /w/b /w/a", "create /w/a/in-b/f", "create /w/b/in-a/f"}));
  fs::remove_all(at / "w");
}

void replaced(const fs::path& at) {
  Bench bench(at);
  fs::create_directories(at / "w/a/below");
  fs::create_directories(at / "w/b");
  bench.watch(mask_of(FileEventKind::deleteself) | mask_of(FileEventKind::create));
  elsewhere([&] { rename((at / "w/a").c_str(), (at / "w/b").c_str()); });
  CHECK((bench.told(1) == Lines{"deleteself /w/b"}));
  elsewhere([&] { file(at / "w/b/below/f"); });
  CHECK((bench.told(1) == Lines{"create /w/b/below/f"}));
  fs::remove_all(at / "w");
}

// A tree that is moved in, and gone before anybody could look at it.
void gone_at_once(const fs::path& at) {
  Bench bench(at);
  fs::create_directories(at / "w");
  bench.watch(mask_of(FileEventKind::create));
  for (int i = 0; i < 50; ++i) {
    fs::create_directories(at / "out/sub");
    elsewhere([&] {
      rename((at / "out").c_str(), (at / "w/in").c_str());
      rmdir((at / "w/in/sub").c_str());
      rmdir((at / "w/in").c_str());
    });
  }
  elsewhere([&] { file(at / "w/last"); });
  CHECK((bench.told(1) == Lines{"create /w/last"}));
  CHECK(bench.observer.directories() == 2);
  fs::remove_all(at / "w");
}

// More than there is room for: each event is recorded or counted, and then all is known again.
void overflow(const fs::path& at) {
  constexpr std::size_t kCreates = 5000;
  Bench bench(at, 1000);
  fs::create_directories(at / "w/a/b");
  bench.watch(mask_of(FileEventKind::create));
  // On a busy machine the observer may keep pace with a burst.
  std::size_t created = 0, recorded = 0;
  for (int burst = 0; burst < 50 && bench.counters.dirents_lost.get() == 0; ++burst) {
    elsewhere([&] {
      for (std::size_t i = 0; i < kCreates; ++i) file(at / "w/a" / std::to_string(created + i));
    });
    created += kCreates;
    recorded += bench.told(1).size();
  }
  elsewhere([&] { mkdir((at / "w/a/b/c").c_str(), 0700); });
  ++created;
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  do recorded += bench.told(1).size();
  while (recorded + bench.counters.dirents_lost.get() < created && std::chrono::steady_clock::now() < until);
  std::printf("#   %zu recorded, %zu lost\n", recorded, static_cast<std::size_t>(bench.counters.dirents_lost.get()));
  CHECK(bench.counters.dirents_lost.get() > 0);
  CHECK(recorded + bench.counters.dirents_lost.get() == created);
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  elsewhere([&] { file(at / "w/a/b/c/f"); });
  CHECK((bench.told(1) == Lines{"create /w/a/b/c/f"}));
  fs::remove_all(at / "w");
}

void marks(const fs::path& at) {
  Bench bench(at);
  fs::create_directories(at / "w");
  bench.watch(mask_of(FileEventKind::create));
  CHECK(marks_of(bench.groups.dirents).size() == 1 && bench.observer.marks() == 1);
  bench.watch(0);
  CHECK(marks_of(bench.groups.dirents).empty());
  elsewhere([&] { file(at / "w/f"); });
  bench.watch(mask_of(FileEventKind::attrib));
  elsewhere([&] {
    chmod((at / "w/f").c_str(), 0644);
    chmod((at / "w").c_str(), 0711);
  });
  CHECK((bench.told(2) == Lines{"attrib /w/f", "attrib /w"}));
  fs::remove_all(at / "w");
}

// The policy changes while new directories of an overlay, each of which takes a mark, still wait to be listed.
void changed_meanwhile(const fs::path& at) {
  constexpr int kDirectories = 200;
  for (const auto* directory : {"lower", "upper", "work", "merged"}) fs::create_directories(at / directory);
  const std::string options = "lowerdir=" + (at / "lower").string() + ",upperdir=" + (at / "upper").string() +
                              ",workdir=" + (at / "work").string();
  const fs::path merged = at / "merged";
  CHECK(mount("overlay", merged.c_str(), "overlay", 0, options.c_str()) == 0);
  {
    Bench bench(merged);
    fs::create_directories(merged / "w");
    bench.watch(mask_of(FileEventKind::create));
    for (int i = 0; i < 5; ++i) {
      const auto path = [&](int j) { return merged / "w" / (std::to_string(i) + "-" + std::to_string(j)); };
      const pid_t child = fork();
      if (child == 0) {
        for (int j = 0; j < kDirectories; ++j) mkdir(path(j).c_str(), 0700);
        _exit(0);
      }
      while (waitpid(child, nullptr, WNOHANG) == 0) bench.watch(mask_of(FileEventKind::create));
      CHECK(bench.told(kDirectories).size() == kDirectories);
      CHECK(bench.observer.settle({bench.device}, std::chrono::seconds(10)));
      elsewhere([&] {
        for (int j = 0; j < kDirectories; ++j) file(path(j) / "f");
      });
      CHECK(bench.told(kDirectories).size() == kDirectories);
    }
  }
  CHECK(umount2(merged.c_str(), MNT_DETACH) == 0);
}

}  // namespace

int main() {
  CHECK(unshare(CLONE_NEWNS) == 0 && mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0);
  char name[] = "/tmp/janusd-dirents.XXXXXX";
  const fs::path at = mkdtemp(name);
  CHECK(mount("tmpfs", at.c_str(), "tmpfs", 0, nullptr) == 0);
  exchange(at);
  replaced(at);
  gone_at_once(at);
  overflow(at);
  marks(at);
  changed_meanwhile(at);
  CHECK(umount2(at.c_str(), MNT_DETACH) == 0);
  fs::remove(at);
  return tap::done();
}
