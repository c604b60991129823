// Which pod's container a path names, in the layouts of kubelets and runtimes.
#include "track/pod_path.h"

#include <string>

#include "tap.h"

using namespace janus;

namespace {

const std::string kId(64, 'a');
const std::string kUid = "0b7f3c5e-1d2a-4c6b-8e9f-001122334455";
const std::string kInSlice = "0b7f3c5e_1d2a_4c6b_8e9f_001122334455";
const std::string kStatic = "0123456789abcdef0123456789abcdef";

bool names(const std::string& path, const std::string& uid = kUid, const std::string& below = "") {
  const auto found = pod_container_of(path + below);
  return found && found->pod_uid == uid && found->id == kId && found->path == path;
}

}  // namespace

int main() {
  const std::string slices = "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod" + kInSlice + ".slice/";
  CHECK(names("/kubepods/pod" + kUid + "/" + kId));
  CHECK(names("/kubepods/burstable/pod" + kUid + "/" + kId));
  CHECK(names("/a/b/kubepods/besteffort/pod" + kUid + "/" + kId));
  CHECK(names("/kubepods/burstable/pod" + kStatic + "/" + kId, kStatic));
  CHECK(names(slices + "cri-containerd-" + kId + ".scope"));
  CHECK(names(slices + "crio-" + kId + ".scope"));
  CHECK(names(slices + "docker-" + kId + ".scope"));
  CHECK(names("/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod" + kInSlice + ".slice/cri-containerd-" + kId + ".scope"));
  // What lies below belongs to it.
  CHECK(names(slices + "crio-" + kId + ".scope", kUid, "/container"));
  CHECK(names("/kubepods/pod" + kUid + "/" + kId, kUid, "/kubepods/pod" + kStatic + "/" + std::string(64, 'b')));
  CHECK(!pod_container_of(slices + "crio-conmon-" + kId + ".scope"));
  CHECK(!pod_container_of("/kubepods/pod" + kUid + "/web"));
  CHECK(!pod_container_of("/kubepods/pod" + kUid));
  CHECK(!pod_container_of("/elsewhere/pod" + kUid + "/" + kId));
  CHECK(!pod_container_of("/kubepods/tripod" + kUid + "/" + kId));
  CHECK(!pod_container_of("/system.slice/docker-" + kId + ".scope"));
  CHECK(!pod_container_of(""));
  CHECK(!pod_container_of("/"));
  return tap::done();
}
