#include "cover/tree_walk.h"

#include <fcntl.h>

#include <cerrno>
#include <string_view>
#include <utility>

#include "os/error.h"
#include "os/path_resolver.h"

namespace janus {
namespace {

// Directories that are held open on the way; more are found again by path.
constexpr std::size_t kHeldOpen = 1024;

}  // namespace

void TreeWalk::enter(UniqueFd directory, std::string path) {
  if (todo_.size() >= kHeldOpen) directory.reset();
  todo_.push_back({std::move(directory), std::move(path)});
}

// Nothing if it is gone, was moved, or is covered by a mount: whatever is there
// now is guarded by its path and will be pinned when it is first opened.
void TreeWalk::list(Directory directory, const Superblock& superblock) {
  if (!directory.fd) {
    const Base* base = superblock.base_for(directory.path);
    if (base == nullptr) return;
    directory.fd = open_exact(base->mount->get(), directory.path.substr(base->root.size()));
    if (!directory.fd) return left_out(errno);
  }
  UniqueFd readable(openat(directory.fd.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOATIME));
  if (!readable) return left_out(errno);
  listed_.reset(fdopendir(readable.get()));
  if (!listed_) return left_out(errno);
  readable.release();
}

void TreeWalk::left_out(int number) { complete_ = complete_ && !is_exhausted(number); }

UniqueFd TreeWalk::next(const Superblock& superblock) {
  for (;;) {
    while (listed_) {
      const dirent* entry = readdir(listed_.get());
      if (entry == nullptr) {
        listed_.reset();
        break;
      }
      const std::string_view name = entry->d_name;
      if (name == "." || name == ".." || entry->d_type == DT_LNK) continue;
      if (UniqueFd object = open_exact(dirfd(listed_.get()), entry->d_name); object) return object;
      left_out(errno);
    }
    if (todo_.empty()) return {};
    Directory next = std::move(todo_.back());
    todo_.pop_back();
    list(std::move(next), superblock);
  }
}

}  // namespace janus
