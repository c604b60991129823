// What a view says of its container's mount namespaces, when it is asked for what has changed only.
#include "cover/container_view.h"

#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <numeric>
#include <vector>

#include "os/error.h"
#include "tap.h"

using namespace janus;

namespace {

// A process in a mount namespace and root of its own, that mounts a tmpfs on /mnt whenever it is told to.
class Child {
 public:
  Child() {
    if (pipe(to_.data()) != 0 || pipe(from_.data()) != 0) return;
    pid_ = fork();
    if (pid_ != 0) return;
    const bool apart = unshare(CLONE_NEWNS) == 0 && mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
                       mount("view-test", "/mnt", "tmpfs", 0, nullptr) == 0 && mkdir("/mnt/mnt", 0755) == 0 && chdir("/mnt") == 0 &&
                       mount(".", "/", nullptr, MS_MOVE, nullptr) == 0 && chroot(".") == 0;
    for (char told = apart ? 'y' : 'n'; write(from_[1], &told, 1) == 1 && read(to_[0], &told, 1) == 1;)
      if (mount("view-test", "/mnt", "tmpfs", 0, nullptr) != 0) break;
    _exit(1);
  }
  ~Child() {
    end();
    if (pid_ > 0) waitpid(pid_, nullptr, 0);
    for (const int fd : {to_[0], to_[1], from_[0], from_[1]}) close(fd);
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  bool ready() const {
    char said = 0;
    return read(from_[0], &said, 1) == 1 && said != 'n';
  }
  bool mounts() const { return write(to_[1], "m", 1) == 1 && ready(); }
  // It is not reaped: its directory in /proc is there.
  void end() const {
    kill(pid_, SIGKILL);
    siginfo_t info{};
    waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOWAIT);
  }
  HeldProcess held() const { return std::make_shared<const ProcessDir>(static_cast<std::uint32_t>(pid_)); }

 private:
  std::array<int, 2> to_{}, from_{};
  pid_t pid_ = 0;
};

}  // namespace

int main() {
  using Read = ContainerView::Read;
  const Child first, second, third;
  CHECK(first.ready() && second.ready() && third.ready());
  ViewShares shares;
  ContainerInfo info;
  info.cgroup = 7;
  const BpfPrograms programs({.tasks = 1, .cgroups = 1, .identities = 1, .lower_identities = 1, .records = 1 << 16});
  ContainerView view(info, first.held(), shares, programs);
  view.add_namespace(2, second.held());
  view.add_namespace(3, third.held());
  view.refresh(Read::changed);
  const auto sizes = [&] {
    std::vector<std::size_t> all{view.mounts().size()};
    for (const auto& other : view.namespaces()) all.push_back(other.mounts.size());
    CHECK(shares.mounts.held(7) == std::accumulate(all.begin(), all.end(), std::size_t{0}));
    return all;
  };
  using Sizes = std::vector<std::size_t>;
  CHECK(sizes() == Sizes({1, 1, 1}));

  CHECK(second.mounts());
  view.refresh(Read::changed);
  CHECK(sizes() == Sizes({1, 2, 1}) && view.has_mount(view.namespaces()[0].mounts.back().id));
  CHECK(first.mounts() && third.mounts() && third.mounts());
  view.refresh(Read::changed);
  CHECK(sizes() == Sizes({2, 2, 3}));
  for (const Read which : {Read::changed, Read::all}) {
    view.refresh(which);
    CHECK(sizes() == Sizes({2, 2, 3}));
  }

  second.end();
  view.refresh(Read::changed);
  CHECK(sizes() == Sizes({2, 3}) && view.covers(3));
  first.end();
  bool ended = false;
  try {
    view.refresh(Read::changed);
  } catch (const Error& error) {
    ended = error.code == ErrorCode::not_found;
  }
  CHECK(ended);
  return tap::done();
}
