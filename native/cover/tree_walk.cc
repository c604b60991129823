#include "cover/tree_walk.h"

#include <cerrno>
#include <utility>

#include "os/descriptors.h"
#include "os/error.h"
#include "os/path_resolver.h"

namespace janus {
namespace {

// Of one container; and in all a part of the descriptors.
constexpr std::size_t kHeldOpen = 1024, kLeastHeldOpen = 32, kPartOfDescriptors = 8;

}  // namespace

HeldOpen::HeldOpen() : shares_(descriptor_limit() / kPartOfDescriptors, kHeldOpen, kLeastHeldOpen) {}

std::shared_ptr<void> HeldOpen::take(std::uint64_t container) {
  const std::lock_guard lock(mutex_);
  if (!shares_.take(container)) return nullptr;
  return {this, [container](HeldOpen* self) {
            const std::lock_guard lock(self->mutex_);
            self->shares_.give_back(container);
          }};
}

void TreeWalk::enter(UniqueFd directory, std::string path, HeldOpen& held, std::uint64_t container) {
  std::shared_ptr<void> room = held.take(container);
  if (!room) directory.reset();
  todo_.push_back({std::move(directory), std::move(path), std::move(room)});
}

// Not if it is gone, was moved, or is covered by a mount: whatever is there now is
// guarded by its path and will be pinned when it is first opened.
void TreeWalk::enter_next(const Superblock& superblock, const DirectoryLister& lister, DirectoryLister::Whose whose) {
  Directory directory = std::move(todo_.back());
  todo_.pop_back();
  if (!directory.fd) {
    const Base* base = superblock.base_for(directory.path);
    if (base == nullptr) return;
    directory.fd = open_exact(base->mount->get(), directory.path.substr(base->root.size()));
    if (!directory.fd) return left_out(errno);
  }
  listed_ = lister.list(whose, std::move(directory.fd));
}

void TreeWalk::left_out(int number) { complete_ = complete_ && !is_exhausted(number); }

UniqueFd TreeWalk::next(const Superblock& superblock, DirectoryLister& lister, DirectoryLister::Whose whose) {
  waits_ = false;
  while (!stuck_) {
    if (!listed_) {
      if (todo_.empty()) return {};
      enter_next(superblock, lister, whose);
      continue;
    }
    while (const char* name = has_part_ ? listed_->next() : nullptr) {
      if (UniqueFd object = open_exact(listed_->directory(), name)) return object;
      left_out(errno);
    }
    if (has_part_ && listed_->is_read()) {
      if (listed_->error() != 0) left_out(listed_->error());
      listed_.reset();
      has_part_ = false;
      continue;
    }
    has_part_ = false;
    const DirectoryLister::Part part = lister.part(listed_);
    has_part_ = part == DirectoryLister::Part::read;
    waits_ = part == DirectoryLister::Part::waits;
    stuck_ = part == DirectoryLister::Part::stuck;
    if (waits_) return {};
  }
  complete_ = false;
  return {};
}

}  // namespace janus
