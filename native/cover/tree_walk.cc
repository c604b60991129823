#include "cover/tree_walk.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "os/descriptors.h"
#include "os/error.h"
#include "os/path_resolver.h"

namespace janus {
namespace {

// Of one container; and in all a part of the descriptors.
constexpr std::size_t kHeldOpen = 1024, kLeastHeldOpen = 32, kPartOfDescriptors = 8;

// Bytes of a path.
constexpr std::size_t kLongest = 16'384;

// Of one place.
constexpr std::size_t kPaths = 32;

}  // namespace

Place::Path Place::Path::below(std::string_view name) const {
  Path path = *this;
  path.cut = cut || text.size() + name.size() > kLongest;
  if (!path.cut) path.text += name;
  return path;
}

Place Place::after(const Step& step) const {
  Place place{.paths = {paths.front().below(step.name)}, .more = more, .inode = step.inode};
  const auto add = [&](Path path) {
    if (std::ranges::any_of(place.paths, [&](const Path& other) { return other.text == path.text; })) return;
    if (place.paths.size() < kPaths) place.paths.push_back(std::move(path));
    else place.more = true;
  };
  for (const std::string& former : step.former) add({.text = former, .cut = false});
  for (const Path& path : paths) add(path.below(step.name));
  return place;
}

HeldOpen::HeldOpen() : shares_(descriptor_limit() / kPartOfDescriptors, kHeldOpen, kLeastHeldOpen) {}

std::shared_ptr<void> HeldOpen::take(std::uint64_t container) {
  const std::lock_guard lock(mutex_);
  if (!shares_.take(container)) return nullptr;
  return {this, [container](HeldOpen* self) {
            const std::lock_guard lock(self->mutex_);
            self->shares_.give_back(container);
          }};
}

TreeWalk::TreeWalk(std::string path) {
  const Place place{.paths = {{.text = std::move(path), .cut = false}}, .more = false, .inode = 0};
  todo_.push_back({.fd = {}, .room = nullptr, .above = std::make_shared<const Place>(place), .step = {}});
}

void TreeWalk::enter(UniqueFd directory, std::shared_ptr<const Place> above, Place::Step step, HeldOpen& held,
                     std::uint64_t container) {
  std::shared_ptr<void> room = held.take(container);
  if (!room) directory.reset();
  todo_.push_back({std::move(directory), std::move(room), std::move(above), std::move(step)});
}

// Not if it is gone, was moved, or is covered by a mount: whatever is there now is
// guarded by its path and will be pinned when it is first opened.
void TreeWalk::enter_next(const Superblock& superblock, const DirectoryLister& lister, DirectoryLister::Whose whose) {
  Directory directory = std::move(todo_.back());
  todo_.pop_back();
  auto place = std::make_shared<Place>(directory.above->after(directory.step));
  if (!directory.fd) {
    // Another may be there by now.
    place->paths.resize(1);
    place->inode = 0;
    const Place::Path& path = place->paths.front();
    if (path.cut) return left_out(ENAMETOOLONG);
    const Base* base = superblock.base_for(path.text);
    if (base == nullptr) return;
    directory.fd = open_exact(base->mount->get(), path.text.substr(base->root.size()));
    if (!directory.fd) return left_out(errno);
  }
  place_ = std::move(place);
  listed_ = lister.list(whose, std::move(directory.fd));
}

void TreeWalk::left_out(int number) { complete_ = complete_ && !is_exhausted(number) && number != ENAMETOOLONG; }

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
