#include "track/pod_path.h"

#include <algorithm>

#include "track/container_search.h"

namespace janus {
namespace {

// Of a pod: a UUID, or (a static pod's) a hash.
bool is_uid(std::string_view text) {
  return (text.size() == 36 || text.size() == 32) && std::ranges::all_of(text, [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || c == '-';
         });
}

// Empty: the component names no pod.
std::string uid_of(std::string_view component) {
  if (component.ends_with(".slice")) component.remove_suffix(6);
  const auto at = component.rfind("pod");
  if (at == std::string_view::npos || (at > 0 && component[at - 1] != '-')) return {};
  std::string uid(component.substr(at + 3));
  std::ranges::replace(uid, '_', '-');
  return is_uid(uid) ? uid : std::string();
}

}  // namespace

std::optional<PodContainer> pod_container_of(std::string_view path) {
  bool kubepods = false;
  std::string uid;
  for (std::size_t end = 0; end < path.size();) {
    const std::size_t begin = end + 1;
    end = std::min(path.find('/', begin), path.size());
    const std::string_view component = path.substr(begin, end - begin);
    if (!uid.empty()) {
      const std::string_view id = container_id_of(component);
      if (!is_full_id(id)) return std::nullopt;
      return PodContainer{.pod_uid = uid, .id = std::string(id), .path = std::string(path.substr(0, end))};
    }
    kubepods = kubepods || component.find("kubepods") != std::string_view::npos;
    if (kubepods) uid = uid_of(component);
  }
  return std::nullopt;
}

}  // namespace janus
