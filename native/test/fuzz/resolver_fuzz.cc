// Paths in a tree that a container made, against the kernel's own resolution below the same root. The tree is real.
// sources: os/path_resolver.cc os/descriptors.cc
#include "os/path_resolver.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <filesystem>

#include "os/error.h"
#include "test/fuzz/input.h"

namespace fs = std::filesystem;
using namespace janus;

namespace {

constexpr const char* kNames[] = {"a", "b", "c", "d", "..", ".", "", "e"};

// Below the root that is made once and emptied after each input; beside it lies what must never be reached.
struct Tree {
  fs::path base;
  int root;

  Tree() {
    std::string name = fs::temp_directory_path() / "janusd-fuzz.XXXXXX";
    base = mkdtemp(name.data());
    fs::create_directories(base / "root");
    fs::create_directories(base / "a/b");
    root = open((base / "root").c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC);
  }
  ~Tree() {
    close(root);
    fs::remove_all(base);
  }
  void clear() const {
    for (const auto& entry : fs::directory_iterator(base / "root")) fs::remove_all(entry.path());
  }
};

std::string path_from(fuzz::Input& input) {
  std::string path = input.flag() ? "/" : "";
  for (unsigned left = 1 + input.below(6); left > 0; --left) (path += kNames[input.below(8)]) += '/';
  path.pop_back();
  return path;
}

void grow(const Tree& tree, fuzz::Input& input) {
  for (unsigned left = input.below(12); left > 0; --left) {
    const std::uint8_t kind = input.below(4);
    // What is made is made where the kernel would make it: below the root, whatever the links say.
    const std::string where = path_from(input);
    const open_how how{.flags = O_PATH | O_DIRECTORY | O_CLOEXEC, .mode = 0, .resolve = RESOLVE_IN_ROOT};
    const UniqueFd in(static_cast<int>(syscall(SYS_openat2, tree.root, where.empty() ? "/" : where.c_str(), &how, sizeof(how))));
    const char* name = kNames[input.below(4)];
    const int at = in ? in.get() : tree.root;
    if (kind == 0) mkdirat(at, name, 0700);
    if (kind == 1) UniqueFd(openat(at, name, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    if (kind >= 2) {
      std::string target = path_from(input);
      // Long ones: a chain of them is what a container makes of it.
      if (kind == 3)
        for (unsigned i = input.byte(); i > 0 && target.size() < 3000; --i) target = "./" + target + "/../" + name;
      if (!target.empty() && symlinkat(target.c_str(), at, name) != 0) continue;
    }
  }
}

bool same(int a, int b) {
  struct stat x {}, y {};
  return fstat(a, &x) == 0 && fstat(b, &y) == 0 && x.st_ino == y.st_ino && x.st_dev == y.st_dev;
}

void compare(const Tree& tree, const std::string& path) {
  const open_how how{.flags = O_PATH | O_CLOEXEC, .mode = 0, .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
  const UniqueFd kernel(static_cast<int>(syscall(SYS_openat2, tree.root, path.empty() ? "/" : path.c_str(), &how, sizeof(how))));
  try {
    const Resolved ours = resolve_in(tree.root, path);
    CLAIM(ours.directories.size() == ours.names.size());
    for (const auto& hop : ours.hops) CLAIM(hop.index < ours.names.size());
    if (kernel) {
      CLAIM(ours.missing.empty(), path);
      CLAIM(same(ours.object.get(), kernel.get()), path);
    }
    // Where it says that it is, without symlinks, is where it is.
    const std::string there = ours.seen.substr(0, ours.seen.size() - ours.missing.size());
    const UniqueFd exact = open_exact(tree.root, there);
    CLAIM(exact && same(exact.get(), ours.object.get()), path);
  } catch (const Error& error) {
    // Refused: more than we follow, or `..` of what is not there.
    CLAIM(error.code == ErrorCode::invalid, error.what());
    if (kernel) CLAIM(std::string(error.what()).starts_with("too many"), path + ": " + error.what());
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const Tree tree;
  fuzz::Input input(data, size);
  grow(tree, input);
  for (int asked = 0; asked < 6; ++asked) compare(tree, path_from(input));
  tree.clear();
  return 0;
}
