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

std::vector<std::string> texts(const Place& place) {
  std::vector<std::string> all;
  for (const Place::Path& path : place.paths) all.push_back(path.text);
  return all;
}

void places() {
  const Place top{.paths = {{.text = "/a", .cut = false}}, .more = false, .inode = 1};
  // Its own path comes first, then where the entry was, then where those above it were.
  const Place moved = top.after({.name = "/b", .former = {"/was/b"}, .inode = 2});
  const Place below = moved.after({.name = "/c", .former = {"/a/b/c", "/was/c"}, .inode = 3});
  CHECK((texts(moved) == std::vector<std::string>{"/a/b", "/was/b"}) && moved.inode == 2);
  CHECK((texts(below) == std::vector<std::string>{"/a/b/c", "/was/c", "/was/b/c"}));
  // The directory itself, of which more is known.
  CHECK((texts(top.after({.name = "", .former = {"/was"}, .inode = 1})) == std::vector<std::string>{"/a", "/was"}));

  // What is too long ends with a whole name, and nothing is added to it any more.
  const std::string name = "/" + std::string(255, 'n');
  Place deep = top;
  for (int i = 0; i < 100; ++i) deep = deep.after({.name = name, .former = {}, .inode = 1});
  const std::string cut = deep.paths.front().text;
  CHECK(deep.paths.front().cut && cut.size() > 16'000 && (cut.size() - 2) % name.size() == 0);
  CHECK(texts(deep.after({.name = "/x", .former = {"/short"}, .inode = 1})) == (std::vector<std::string>{cut, "/short"}));

  // A container may have moved each of them.
  Place often = top;
  for (int i = 0; i < 100; ++i) often = often.after({.name = "/d", .former = {"/at/" + std::to_string(i)}, .inode = 1});
  CHECK(!deep.more && often.more && often.paths.size() == 32 && often.paths[1].text == "/at/99");
}

}  // namespace

int main() {
  places();
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
  bool twice = false, placed = true;
  TreeWalk walk("/tree");
  CHECK(!walk.empty());
  while (UniqueFd object = next(walk)) {
    const std::string path = path_of(object);
    twice = twice || !seen.insert(path).second;
    const std::string name = path.substr(path.rfind('/'));
    placed = placed && base.string() + walk.place()->paths.front().text + name == path;
    if (is_directory(object)) walk.enter(std::move(object), walk.place(), {.name = name, .former = {}, .inode = 1}, held, 1);
  }
  CHECK(seen == made);
  CHECK(!twice);
  CHECK(placed);
  CHECK(walk.empty());

  TreeWalk gone("/nowhere");
  CHECK(!next(gone));

  // One that waits is found by its descriptor, wherever it was moved.
  TreeWalk moved;
  CHECK(moved.empty());
  moved.enter(UniqueFd(open((base / "tree/7").c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)), std::make_shared<const Place>(Place{.paths = {{.text = "/tree", .cut = false}}, .more = false, .inode = 1}),
              {.name = "/7", .former = {}, .inode = 2}, held, 1);
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
