// Resolution below a root must not leave it. On a real directory tree.
#include "os/path_resolver.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "os/error.h"
#include "tap.h"

namespace fs = std::filesystem;
using namespace janus;

namespace {

bool same_file(const UniqueFd& fd, const fs::path& path) {
  struct stat a {}, b {};
  return fstat(fd.get(), &a) == 0 && stat(path.c_str(), &b) == 0 && a.st_ino == b.st_ino && a.st_dev == b.st_dev;
}

}  // namespace

int main() {
  rlimit few{};
  getrlimit(RLIMIT_NOFILE, &few);
  few.rlim_cur = 64;
  setrlimit(RLIMIT_NOFILE, &few);
  char name[] = "/tmp/janusd-resolve.XXXXXX";
  const fs::path base = mkdtemp(name);
  const fs::path root = base / "root";
  fs::create_directories(root / "etc/deep");
  fs::create_directories(base / "outside");
  std::ofstream(root / "etc/passwd") << "inside";
  std::ofstream(base / "outside/passwd") << "outside";
  fs::create_symlink("/etc/passwd", root / "absolute");
  fs::create_symlink("../../../../etc/passwd", root / "etc/up");
  fs::create_symlink("loop", root / "loop");
  fs::create_symlink("/etc/deep/nothing", root / "dangling");
  fs::create_symlink("etc", root / "dir");
  const UniqueFd at(open(root.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));

  {
    const Resolved found = resolve_in(at.get(), "/absolute");
    CHECK(found.missing.empty() && found.seen == "/etc/passwd" && same_file(found.object, root / "etc/passwd"));
    CHECK(found.hops.size() == 1 && found.names[found.hops[0].index] == "absolute" && found.hops[0].rest.empty());
  }
  CHECK(same_file(resolve_in(at.get(), "/etc/up").object, root / "etc/passwd"));
  {
    const Resolved found = resolve_in(at.get(), "/dir/passwd");
    CHECK(found.seen == "/etc/passwd" && found.hops.size() == 1 && found.hops[0].rest == "/passwd");
  }
  {
    const Resolved found = resolve_in(at.get(), "/etc/a/b");
    CHECK(found.missing == "/a/b" && found.seen == "/etc/a/b" && same_file(found.object, root / "etc"));
  }
  {
    const Resolved found = resolve_in(at.get(), "/dangling");
    CHECK(found.seen == "/etc/deep/nothing" && found.missing == "/nothing");
  }
  {
    const Resolved found = resolve_in(at.get(), "/etc/passwd/below");  // a file where a directory was named
    CHECK(found.missing == "/below" && found.seen == "/etc/passwd/below");
  }
  {
    const Resolved found = resolve_in(at.get(), "/");
    CHECK(found.seen.empty() && same_file(found.object, root) && found.directories.empty());
  }
  std::string refused_by;
  const auto refusal = [&](const char* path) {
    try {
      resolve_in(at.get(), path);
    } catch (const Error& error) {
      refused_by = error.operation;
      return error.code;
    }
    return ErrorCode::not_found;
  };
  CHECK(refusal("/loop") == ErrorCode::invalid);

  // What is mounted is told of before it is looked into, and a border ends the resolution there.
  struct Recorder : Border {
    std::string seen, closed;
    void approach(const std::string& at) override {
      if (at == closed) throw Error(ErrorCode::unsupported, "closed");
    }
    void enter(int, const std::string& at) override {
      seen += "[" + at + "]";
      if (at == "/mounted/in") throw Error(ErrorCode::unsupported, "closed");
    }
  };
  if (unshare(CLONE_NEWNS) == 0 && mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0) {
    const UniqueFd here(open(root.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));  // of the new namespace
    fs::create_directory(root / "mounted");
    fs::create_symlink("/mounted/dir/file", root / "into");
    CHECK(mount("none", (root / "mounted").c_str(), "tmpfs", 0, nullptr) == 0);
    fs::create_directories(root / "mounted/in");
    fs::create_directories(root / "mounted/dir");
    CHECK(mount("none", (root / "mounted/in").c_str(), "tmpfs", 0, nullptr) == 0);
    const auto code = [&](const char* path, Recorder& recorder) {
      try {
        resolve_in(here.get(), path, &recorder);
      } catch (const Error& error) {
        return error.code;
      }
      return ErrorCode::not_found;
    };
    Recorder crossed, inner, closed;
    CHECK(resolve_in(here.get(), "/into", &crossed).seen == "/mounted/dir/file" && crossed.seen == "[][/mounted]");
    CHECK(code("/mounted/in/x", inner) == ErrorCode::unsupported && inner.seen == "[][/mounted][/mounted/in]");
    closed.closed = "/mounted";
    CHECK(code("/into", closed) == ErrorCode::unsupported && closed.seen == "[]");
    CHECK(umount((root / "mounted/in").c_str()) == 0 && umount((root / "mounted").c_str()) == 0);
  } else {
    std::printf("# mounts: skipped, needs CAP_SYS_ADMIN\n");
  }

  // A chain of symlinks that each lead to and fro: bounded, and no descriptor for each step.
  std::string to_and_fro;
  for (int i = 0; i < 500; ++i) to_and_fro += "d/../";
  fs::create_directory(root / "d");
  fs::create_symlink(to_and_fro + "d", root / "fro1");
  fs::create_symlink(to_and_fro + "fro1", root / "fro2");
  fs::create_symlink(to_and_fro + "fro2", root / "fro3");
  CHECK(resolve_in(at.get(), "/fro1").seen == "/d");
  CHECK(resolve_in(at.get(), "/fro1").directories.size() == 502);
  CHECK(refusal("/fro3") == ErrorCode::invalid);  // some 3,000 components

  // One below the other, each needs its own: refused before the last is used up.
  std::string deep;
  for (int i = 0; i < 80; ++i) deep += "/e";
  fs::create_directories(root.string() + deep);
  CHECK(refusal(deep.c_str()) == ErrorCode::exhausted);
  CHECK(refused_by == "hold");  // by us, not by the kernel
  CHECK(same_file(open_exact(at.get(), "/etc/passwd"), root / "etc/passwd"));
  CHECK(!open_exact(at.get(), "/dir/passwd"));      // through a symlink
  CHECK(!open_exact(at.get(), "/../outside/passwd"));
  CHECK(same_file(open_exact(at.get(), ""), root));
  few.rlim_cur = few.rlim_max;
  setrlimit(RLIMIT_NOFILE, &few);
  fs::remove_all(base);
  return tap::done();
}
