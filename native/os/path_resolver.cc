#include "os/path_resolver.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <array>
#include <cerrno>
#include <climits>
#include <cstdint>
#include <deque>
#include <iterator>
#include <string_view>

#include "os/descriptors.h"
#include "os/error.h"

namespace janus {
namespace {

constexpr int kMaxSymlinks = 40;  // as the kernel's own limit (path_resolution(7))

// Components of one resolution, those of symlinks and `..` included. A path
// without symlinks has 2,048 at most (PATH_MAX). With symlinks a container
// chooses the number, up to 40 x PATH_MAX, and each costs us system calls, a
// watch and perhaps a descriptor.
constexpr std::size_t kMaxComponents = 2048;

int openat2(int at, const char* path, std::uint64_t flags, std::uint64_t resolve) {
  const open_how how{.flags = flags, .mode = 0, .resolve = resolve};
  long fd = 0;
  do {
    fd = syscall(SYS_openat2, at, path, &how, sizeof(how));
  } while (fd < 0 && (errno == EAGAIN || errno == EINTR));
  return static_cast<int>(fd);
}

void split_front(std::string_view path, std::deque<std::string>& onto) {
  std::vector<std::string> parts;
  while (!path.empty()) {
    const auto slash = path.find('/');
    const std::string_view part = path.substr(0, slash);
    path.remove_prefix(slash == std::string_view::npos ? path.size() : slash + 1);
    if (part.empty() || part == ".") continue;
    parts.emplace_back(part);
  }
  onto.insert(onto.begin(), std::make_move_iterator(parts.begin()), std::make_move_iterator(parts.end()));
}

UniqueFd duplicate(int fd) {
  UniqueFd copy(fcntl(fd, F_DUPFD_CLOEXEC, 3));
  if (!copy) throw Error::system(errno, "fcntl", "F_DUPFD_CLOEXEC");
  return copy;
}

mode_t mode_of(int fd) {
  struct statx status {};
  // As the kernel remembers it: a file system need not ask a server.
  if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE, &status) != 0)
    throw Error::system(errno, "statx", "path component");
  return status.stx_mode;
}

constexpr std::uint64_t kInRoot = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;

// One component. `border` is asked before it is looked up, and when it is a mount.
UniqueFd step(int at, const std::string& name, const std::string& seen, Border* border) {
  constexpr std::uint64_t flags = O_PATH | O_NOFOLLOW | O_CLOEXEC;
  if (border == nullptr) return UniqueFd(openat2(at, name.c_str(), flags, kInRoot));
  border->approach(seen);
  UniqueFd next(openat2(at, name.c_str(), flags, kInRoot | RESOLVE_NO_XDEV));
  if (next || errno != EXDEV) return next;
  next.reset(openat2(at, name.c_str(), flags, kInRoot));
  if (next) border->enter(next.get(), seen);
  return next;
}

}  // namespace

Resolved resolve_in(int root, const std::string& path, Border* border, LastSymlink last) {
  struct Level {
    std::shared_ptr<const UniqueFd> fd;
    std::string seen;
  };
  std::vector<Level> stack;
  if (border != nullptr) border->enter(root, "");
  stack.push_back({std::make_shared<const UniqueFd>(duplicate(root)), ""});
  std::deque<std::string> todo;
  split_front(path, todo);
  Resolved result;
  int symlinks = 0;
  std::size_t components = 0;
  bool is_leaf = false;  // the top of the stack is no directory
  while (!todo.empty()) {
    const std::string name = std::move(todo.front());
    todo.pop_front();
    // Those that wait count, too: each link followed may add as many as fit into it.
    if (++components + todo.size() > kMaxComponents) throw Error(ErrorCode::invalid, "too many components on the way");
    if (name == "..") {
      if (stack.size() > 1) stack.pop_back();
      is_leaf = false;
      continue;
    }
    const int at = stack.back().fd->get();
    std::string seen = stack.back().seen + "/" + name;
    UniqueFd next;
    if (!is_leaf) {
      result.directories.push_back(stack.back().fd);
      result.names.push_back(name);
      next = step(at, name, seen, border);
    } else {
      errno = ENOTDIR;
    }
    if (!next) {
      if (errno == ELOOP)  // RESOLVE_NO_MAGICLINKS
        throw Error(ErrorCode::invalid, "leads through a link of procfs, which is whatever its process makes it");
      if (errno != ENOENT && errno != ENOTDIR) throw Error::system(errno, "openat2", path);
      result.missing = "/" + name;
      for (const auto& rest : todo) {
        if (rest == "..") throw Error(ErrorCode::invalid, "a symlink on the way leads through a missing directory");
        result.missing += "/" + rest;
      }
      break;
    }
    next = outside_reserve(std::move(next), path);
    const mode_t mode = mode_of(next.get());
    if (S_ISLNK(mode) && !(todo.empty() && last == LastSymlink::itself)) {
      if (++symlinks > kMaxSymlinks) throw Error(ErrorCode::invalid, "too many symbolic links on the way");
      std::array<char, PATH_MAX> target;
      const ssize_t size = readlinkat(next.get(), "", target.data(), target.size());
      if (size < 0) throw Error(ErrorCode::invalid, "leads through a link of procfs, which is whatever its process makes it");
      const std::string_view text(target.data(), static_cast<std::size_t>(size));
      std::string rest;
      for (const std::string& part : todo) rest += "/" + part;
      result.hops.push_back({result.names.size() - 1, std::move(rest)});
      if (text.starts_with('/')) stack.erase(stack.begin() + 1, stack.end());
      split_front(text, todo);
      continue;
    }
    stack.push_back({std::make_shared<const UniqueFd>(std::move(next)), std::move(seen)});
    is_leaf = !S_ISDIR(mode);
  }
  result.seen = stack.back().seen + result.missing;
  result.mode = mode_of(stack.back().fd->get());
  result.object = outside_reserve(duplicate(stack.back().fd->get()), path);
  return result;
}

UniqueFd open_exact(int base, const std::string& relative) {
  const char* path = relative.empty() ? "." : relative.c_str() + (relative.front() == '/' ? 1 : 0);
  return UniqueFd(openat2(base, path, O_PATH | O_NOFOLLOW | O_CLOEXEC,
                          RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV));
}

}  // namespace janus
