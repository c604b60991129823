// Resolves a path as a container sees it, without ever leaving the container.
//
// Owns: the descriptors of one resolution. Goes component by component below a
// descriptor of the container's root, so that neither an absolute symlink nor
// `..` nor a rename meanwhile leads out; nothing is opened but with O_PATH,
// which raises no event.
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "os/unique_fd.h"

namespace janus {

struct Resolved {
  UniqueFd object;      // what is there, or the deepest directory that is
  mode_t mode = 0;      // of `object`
  std::string missing;  // "/b/c" if only the directory of b is there; else ""
  std::string seen;     // where it is in the container, symlinks followed; "" is the root
  // Every directory in which a name was looked up: a change there may lead the
  // path elsewhere.
  std::vector<std::shared_ptr<const UniqueFd>> directories;
  std::vector<std::string> names;  // the names looked up there, same index
  // Symlinks that were followed: the path would be `rest` below names[index] if
  // something else stood there.
  struct Hop {
    std::size_t index;
    std::string rest;  // "/x/y" or ""
  };
  std::vector<Hop> hops;
};

// Whether a symlink that the path's last component is, is followed, as by open(2), or not, as by unlink(2).
enum class LastSymlink : bool { followed, itself };

// What a resolution may go into. Both throw Error to end it.
class Border {
 public:
  virtual ~Border() = default;
  // Before a name is looked up: where it is in the container.
  virtual void approach(const std::string& seen) = 0;
  // A mount was entered, the root first: by O_PATH, of what nothing was asked yet.
  virtual void enter(int fd, const std::string& seen) = 0;
};

// `root`: O_PATH of the container's root. `border`: null for none. Throws Error(invalid) for a symlink
// loop or more than 2,048 components, Error(exhausted) where no descriptors are
// left but the reserve, Error(system) for what else goes wrong. Holds a descriptor
// for each directory that is looked into, however often.
Resolved resolve_in(int root, const std::string& path, Border* border = nullptr, LastSymlink last = LastSymlink::followed);

// Opens a directory or file below `base` by a path without symlinks and without
// crossing a mount; O_PATH. Empty if it isn't there or isn't reached that way.
UniqueFd open_exact(int base, const std::string& relative);

}  // namespace janus
