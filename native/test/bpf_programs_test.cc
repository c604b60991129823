// Real eBPF maps that are too small: each says so and counts it. A real path that
// is longer than what is kept of it.
#include "ebpf/bpf_programs.h"

#include <bpf/bpf.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>

#include "ebpf/locator.h"
#include "os/error.h"
#include "os/unique_fd.h"
#include "tap.h"

using namespace janus;

namespace {

std::uint64_t full(const BpfPrograms& programs, const std::string& name) {
  const auto maps = programs.maps();
  return std::find_if(maps.begin(), maps.end(), [&](const auto& map) { return map.name == name; })->full;
}

ErrorCode code_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.code;
  }
  return ErrorCode::invalid;
}

// Whether the programs look a process up at all.
bool has_bit(const BpfPrograms& programs, std::uint32_t tgid) {
  const std::uint32_t word = tgid / 64;
  __u64 bits = 0;
  return bpf_map_lookup_elem(programs.task_bits_fd(), &word, &bits) == 0 && (bits >> tgid % 64 & 1) != 0;
}

// Whoever is in the process table has a bit, and so has nobody who has ended.
void bits() {
  BpfPrograms programs;
  const auto self = static_cast<std::uint32_t>(getpid());
  janus_task task = {.container = 7, .start_ns = 0, .forker_start_ns = 0, .forker = 0, .flags = 0};
  programs.each_task([&](const janus_iter_record& record, const auto&, std::string_view) {
    if (record.tgid == self) task.start_ns = record.start_ns;
  });
  CHECK(task.start_ns != 0 && !has_bit(programs, self));
  CHECK(programs.add_task(self, task) && has_bit(programs, self));
  std::array<int, 2> until{};
  CHECK(pipe2(until.data(), O_CLOEXEC) == 0);
  const pid_t child = fork();
  if (child == 0) {
    char byte = 0;
    close(until[1]);
    _exit(static_cast<int>(read(until[0], &byte, 1)));
  }
  const auto forked = static_cast<std::uint32_t>(child);
  CHECK(programs.task(forked)->container == 7 && has_bit(programs, forked));
  close(until[0]);
  close(until[1]);
  waitpid(child, nullptr, 0);
  CHECK(!programs.task(forked) && !has_bit(programs, forked));
  programs.remove_task(self);
}

UniqueFd path_of(const std::string& path) { return UniqueFd(open(path.c_str(), O_PATH | O_CLOEXEC)); }

// What an overlay is made of, and where a thread holds a mount: no file system is asked.
void mounts(const BpfPrograms& programs) {
  if (unshare(CLONE_NEWNS) != 0 || mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
    std::printf("# mounts: skipped, needs CAP_SYS_ADMIN\n");
    return;
  }
  char base[] = "/tmp/janusd-mounts.XXXXXX";
  const std::string at = mkdtemp(base);
  CHECK(mount("none", base, "tmpfs", 0, nullptr) == 0);
  for (const char* directory : {"/a", "/b", "/ramfs", "/one", "/two"}) mkdir((at + directory).c_str(), 0700);
  CHECK(mount("none", (at + "/ramfs").c_str(), "ramfs", 0, nullptr) == 0);
  mkdir((at + "/ramfs/l").c_str(), 0700);
  const std::string one = "lowerdir=" + at + "/a:" + at + "/ramfs/l", two = "lowerdir=" + at + "/one:" + at + "/b";
  CHECK(mount("none", (at + "/one").c_str(), "overlay", 0, one.c_str()) == 0);
  CHECK(mount("none", (at + "/two").c_str(), "overlay", 0, two.c_str()) == 0);
  const auto types = [&](const UniqueFd& fd) {
    std::string all = programs.file_system(fd.get()).value_or("none");
    for (std::uint32_t layer = 1; const auto type = programs.file_system(fd.get(), layer); ++layer) {
      all += "," + *type;
      for (std::uint32_t below = 1; const auto deep = programs.file_system(fd.get(), layer, below); ++below) all += "." + *deep;
    }
    return all;
  };
  CHECK(types(path_of(at)) == "tmpfs" && types(path_of("/proc")) == "proc");
  CHECK(types(path_of(at + "/one")) == "overlay,,tmpfs,ramfs");  // no upper layer
  CHECK(types(path_of(at + "/two")) == "overlay,,overlay..tmpfs.ramfs,tmpfs");

  Locator locator(programs, LocatorSlot::gate);
  const auto self = static_cast<std::uint32_t>(getpid());
  const auto mount_id = [&](const std::string& path) { return locator.locate(path_of(path).get()).raw->mount_id; };
  const std::uint32_t wanted = mount_id(at + "/ramfs"), none = mount_id(at + "/two");
  CHECK(programs.find_descriptor(self, wanted) == JANUS_FD_NONE);
  {
    const UniqueFd there = path_of(at + "/ramfs/l");
    CHECK(programs.find_descriptor(self, wanted) == there.get());
    CHECK(programs.find_descriptor(self, none) == JANUS_FD_NONE);
  }
  CHECK(chdir((at + "/ramfs").c_str()) == 0);
  CHECK(programs.find_descriptor(self, wanted) == JANUS_FD_CWD);
  CHECK(chdir("/") == 0);
  // In a thread that has directories and descriptors of its own.
  std::thread([&] {
    CHECK(unshare(CLONE_FS | CLONE_FILES) == 0);
    const UniqueFd there = path_of(at + "/ramfs");
    CHECK(programs.find_descriptor(static_cast<std::uint32_t>(gettid()), wanted) == there.get());
    CHECK(programs.find_descriptor(self, wanted) == JANUS_FD_NONE);
    CHECK(chroot((at + "/ramfs").c_str()) == 0);
    CHECK(programs.find_descriptor(static_cast<std::uint32_t>(gettid()), wanted) == JANUS_FD_ROOT);
  }).join();
  CHECK(programs.find_descriptor(0x7fff'ffff, wanted) == JANUS_FD_NONE);
  for (const char* point : {"/two", "/one", "/ramfs", ""}) umount((at + point).c_str());
  rmdir(base);
}

void long_path(const BpfPrograms& programs) {
  char base[] = "/tmp/janusd-long.XXXXXX";
  UniqueFd at(open(mkdtemp(base), O_PATH | O_DIRECTORY | O_CLOEXEC));
  Locator locator(programs, LocatorSlot::gate);
  const Location top = locator.locate(at.get());
  const std::size_t before = top.path.size();
  CHECK(!top.cut() && top.raw->full_len == before);

  const std::string name(200, 'x');
  constexpr int kLevels = 250;
  int made = 0;
  for (; made < kLevels && mkdirat(at.get(), name.c_str(), 0700) == 0; ++made) {
    at.reset(openat(at.get(), name.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    const Location here = locator.locate(at.get());
    const std::size_t whole = before + (made + 1) * (name.size() + 1);
    if (here.raw->full_len != whole || here.cut() != (here.path.size() < whole)) break;
  }
  CHECK(made == kLevels);  // the length is right at each level
  const Location deep = locator.locate(at.get());
  CHECK(deep.cut() && deep.has_path());
  CHECK((deep.path.size() - before) % (name.size() + 1) == 0);  // whole components are kept
  CHECK(deep.path.size() >= JANUS_PATH_HALF - name.size() - 1);
  for (; made > 0; --made) {
    at.reset(openat(at.get(), "..", O_PATH | O_DIRECTORY | O_CLOEXEC));
    unlinkat(at.get(), name.c_str(), AT_REMOVEDIR);
  }
  rmdir(base);
}

}  // namespace

int main() {
  BpfPrograms programs({.tasks = 1, .cgroups = 1, .identities = 1, .lower_identities = 1, .records = 1 << 16});
  for (const auto& map : programs.maps()) {
    CHECK(map.bytes > 0);
    CHECK(map.full == 0);
  }

  CHECK(programs.add_identity(1, 1));
  CHECK(programs.add_identity(1, 2));  // the same inode again takes no room
  CHECK(!programs.add_identity(2, 3));
  CHECK(full(programs, "identities") == 1);
  CHECK(programs.add_lower_identity({.ino = 1, .dev = 1}, 1));
  CHECK(!programs.add_lower_identity({.ino = 2, .dev = 1}, 2));
  CHECK(full(programs, "lower_identities") == 1);
  programs.add_cgroup({.id = ~0ull, .hierarchy = 0, .pad = 0}, 7);
  CHECK(code_of([&] { programs.add_cgroup({.id = ~0ull - 1, .hierarchy = 0, .pad = 0}, 8); }) == ErrorCode::exhausted);
  CHECK(full(programs, "cgroups") == 1);

  janus_task task = {.container = 7, .start_ns = 0, .forker_start_ns = 0, .forker = 0, .flags = 0};
  const auto self = static_cast<std::uint32_t>(getpid());
  programs.each_task([&](const janus_iter_record& record, const auto&, std::string_view) {
    if (record.tgid == self) task.start_ns = record.start_ns;
  });
  CHECK(programs.add_task(self, task));
  CHECK(!programs.add_task(1, task));
  CHECK(full(programs, "tasks") == 1);
  // A child of ours belongs to the container, too, and the kernel's side finds no room for it.
  const pid_t child = fork();
  if (child == 0) _exit(0);
  waitpid(child, nullptr, 0);
  CHECK(full(programs, "tasks") == 2);
  long_path(programs);
  mounts(programs);
  bits();
  return tap::done();
}
