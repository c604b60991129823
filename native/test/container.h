// A container for C++ tests: a process in a cgroup, a mount namespace and a root
// directory of its own. No runtime is needed for that.
//
// Owns: the process, the cgroup, and what is mounted for it.
#pragma once

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

namespace janus {

// Its root is an overlay: `image()` is the lower layer. /data is a directory of the
// node's, `volume()`; /proc is there.
class TestContainer {
 public:
  // `letter`: its id is 64 of these, but for the number of this process at its end.
  TestContainer(const std::filesystem::path& base, char letter) : id_(id_of(letter)), base_(base / id_.substr(0, 8)) {
    for (const char* name : {"image/etc", "image/data", "image/proc", "image/tmp", "upper", "work", "root", "volume"})
      std::filesystem::create_directories(base_ / name);
    cgroup_ = cgroups() / ("janusd-units-" + std::to_string(getpid())) / id_;
  }
  ~TestContainer() {
    stop();
    rmdir(cgroup_.c_str());
    rmdir(cgroup_.parent_path().c_str());
  }
  TestContainer(const TestContainer&) = delete;
  TestContainer& operator=(const TestContainer&) = delete;

  // False: errno of the child's is lost, but something could not be had.
  bool start() {
    std::filesystem::create_directories(cgroup_);
    std::array<int, 2> ready{};
    if (pipe2(ready.data(), O_CLOEXEC) != 0) return false;
    pid_ = fork();
    if (pid_ == 0) live(ready[1]);
    close(ready[1]);
    char answer = 0;
    const bool started = read(ready[0], &answer, 1) == 1;
    close(ready[0]);
    return started;
  }
  void stop() {
    if (pid_ <= 0) return;
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
    pid_ = 0;
  }

  const std::string& id() const { return id_; }
  pid_t pid() const { return pid_; }
  std::filesystem::path image() const { return base_ / "image"; }
  std::filesystem::path volume() const { return base_ / "volume"; }
  // As the container sees it, from outside.
  std::filesystem::path root() const { return "/proc/" + std::to_string(pid_) + "/root"; }

 private:
  // Where cgroup v2 is mounted.
  static std::filesystem::path cgroups() {
    std::ifstream mounts("/proc/self/mounts");
    for (std::string line; std::getline(mounts, line);) {
      std::istringstream fields(line);
      std::string device, point, type;
      fields >> device >> point >> type;
      if (type == "cgroup2") return point;
    }
    return "/sys/fs/cgroup";
  }

  // Two runs of a test at once don't find each other's.
  static std::string id_of(char letter) {
    const std::string number = std::to_string(getpid());
    return std::string(64 - number.size(), letter) + number;
  }
  [[noreturn]] void live(int ready) const {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    const std::string layers =
        "lowerdir=" + (base_ / "image").string() + ",upperdir=" + (base_ / "upper").string() + ",workdir=" + (base_ / "work").string();
    const std::string root = base_ / "root";
    const int procs = open((cgroup_ / "cgroup.procs").c_str(), O_WRONLY | O_CLOEXEC);
    const bool there = write(procs, "0", 1) == 1 && unshare(CLONE_NEWNS) == 0 &&
                       mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
                       mount("overlay", root.c_str(), "overlay", 0, layers.c_str()) == 0 &&
                       mount(volume().c_str(), (root + "/data").c_str(), nullptr, MS_BIND, nullptr) == 0 &&
                       mount("proc", (root + "/proc").c_str(), "proc", 0, nullptr) == 0 && chroot(root.c_str()) == 0 &&
                       chdir("/") == 0;
    if (!there || write(ready, "", 1) != 1) _exit(1);
    for (;;) pause();
  }

  const std::string id_;
  const std::filesystem::path base_;
  std::filesystem::path cgroup_;
  pid_t pid_ = 0;
};

}  // namespace janus
