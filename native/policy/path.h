// Paths of a superblock: absolute, without a trailing slash; "" is the root.
#pragma once

#include <string_view>

namespace janus {

// Whether `path` is `prefix` or below it.
inline bool is_below(std::string_view path, std::string_view prefix) {
  return path.starts_with(prefix) && (path.size() == prefix.size() || path[prefix.size()] == '/');
}

// "/a/b" -> "/a"; "/a" -> "".
inline std::string_view parent_of(std::string_view path) {
  const auto slash = path.rfind('/');
  return slash == std::string_view::npos ? std::string_view{} : path.substr(0, slash);
}

}  // namespace janus
