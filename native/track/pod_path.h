// Which pod's container a cgroup's path names.
//
// Owns: what the kubelet's cgroup paths look like, in all layouts. Pure.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace janus {

struct PodContainer {
  std::string pod_uid;  // as the API server writes it: with dashes
  std::string id;       // 64 hex characters
  std::string path;     // as far as the container's own cgroup
};

// "/kubepods/burstable/pod<uid>/<id>",
// "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod<uid_with_underscores>.slice/cri-containerd-<id>.scope",
// and the same below any other cgroup. The first pod on the way from the root counts:
// what a container makes below its own cgroup is its own affair.
std::optional<PodContainer> pod_container_of(std::string_view path);

}  // namespace janus
