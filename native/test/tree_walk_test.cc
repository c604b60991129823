// A walk sees every entry once, however many directories wait. On a real tree.
#include "cover/tree_walk.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <vector>

#include "tap.h"

namespace fs = std::filesystem;
using namespace janus;

namespace {

// More than are held open: the last ones are found again by their paths.
constexpr int kDirectories = 1500;

std::string path_of(const UniqueFd& fd) { return fs::read_symlink("/proc/self/fd/" + std::to_string(fd.get())); }

bool is_directory(const UniqueFd& fd) {
  struct stat status {};
  return fstat(fd.get(), &status) == 0 && S_ISDIR(status.st_mode);
}

}  // namespace

int main() {
  char name[] = "/tmp/janusd-walk.XXXXXX";
  const fs::path base = mkdtemp(name);
  std::set<std::string> made;
  for (int i = 0; i < kDirectories; ++i) {
    const fs::path directory = base / "tree" / std::to_string(i);
    fs::create_directories(directory);
    std::ofstream(directory / "file") << i;
    fs::create_symlink("file", directory / "link");
    made.insert(directory);
    made.insert(directory / "file");
  }
  fs::create_directories(base / "beside");

  Superblock superblock;
  superblock.bases.push_back({"", std::make_shared<const UniqueFd>(open(base.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC))});

  DirectoryLister lister([] {});
  // Whoever has nothing else to do waits for each directory.
  const auto next = [&](TreeWalk& walk) {
    UniqueFd object;
    do object = walk.next(superblock, lister, {.container = 1, .device = 1});
    while (walk.waits() && walk.wait(lister, UINT64_MAX));
    return object;
  };
  HeldOpen held;
  std::set<std::string> seen;
  bool twice = false;
  TreeWalk walk("/tree");
  CHECK(!walk.empty());
  while (UniqueFd object = next(walk)) {
    const std::string path = path_of(object);
    twice = twice || !seen.insert(path).second;
    if (is_directory(object)) walk.enter(std::move(object), path.substr(base.string().size()), held, 1);
  }
  CHECK(seen == made);
  CHECK(!twice);
  CHECK(walk.empty());

  TreeWalk gone("/nowhere");
  CHECK(!next(gone));

  // One that waits is found by its descriptor, wherever it was moved.
  TreeWalk moved;
  CHECK(moved.empty());
  moved.enter(UniqueFd(open((base / "tree/7").c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)), "/tree/7", held, 1);
  fs::rename(base / "tree/7", base / "beside/7");
  const UniqueFd file = next(moved);
  CHECK(file && path_of(file) == base / "beside/7/file");
  CHECK(!next(moved));

  // One container takes a part, and leaves room for another.
  std::vector<std::shared_ptr<void>> rooms;
  for (auto room = held.take(1); room; room = held.take(1)) rooms.push_back(std::move(room));
  CHECK(!rooms.empty() && rooms.size() <= 1024 && held.take(2));
  rooms.pop_back();
  CHECK(held.take(1));

  fs::remove_all(base);
  return tap::done();
}
