// Which container an id means: cgroup layouts, and who is its first process.
#include "track/container_search.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "os/error.h"
#include "tap.h"

using namespace janus;

namespace {

const std::string kA(64, 'a'), kB(64, 'b'), kPause(64, 'c');

struct Path {
  std::uint32_t hierarchy;
  std::string path;
};

struct Node {
  struct Process {
    std::uint32_t tgid, ppid;
    bool node_root;
    std::vector<Path> cgroups;
  };
  std::vector<Process> processes = {{1, 0, true, {}}};

  // In a root of its own, started by something outside.
  Node& add(std::uint32_t tgid, std::vector<Path> cgroups, std::uint32_t ppid = 2,
            bool node_root = false) {
    processes.push_back({tgid, ppid, node_root, std::move(cgroups)});
    return *this;
  }
  Node& add(std::uint32_t tgid, const std::string& v2, std::uint32_t ppid = 2,
            bool node_root = false) {
    return add(tgid, std::vector<Path>{{0, v2}}, ppid, node_root);
  }

  FoundContainer find(const std::string& id) const {
    ContainerSearch search(id);
    for (const Process& process : processes) {
      janus_iter_record record{};
      record.tgid = process.tgid;
      record.ppid = process.ppid;
      record.node_root = process.node_root;
      record.start_ns = process.tgid;
      std::vector<janus_iter_cgroup> raw(process.cgroups.size());
      std::vector<TaskCgroup> cgroups;
      for (std::size_t i = 0; i < raw.size(); ++i) {
        const std::string& path = process.cgroups[i].path;
        raw[i].hierarchy = process.cgroups[i].hierarchy;
        // Each cgroup's id is the hash of its path, from the deepest up.
        for (std::size_t end = path.size(); end != 0; end = path.rfind('/', end - 1))
          raw[i].ids[raw[i].levels++] = std::hash<std::string>()(path.substr(0, end)) >> 8;
        cgroups.push_back({&raw[i], path});
      }
      search.see(record, cgroups);
    }
    return search.result();
  }

  std::vector<std::uint32_t> pids(const std::string& id) const { return find(id).info.pids; }
  std::uint32_t first(const std::string& id) const { return find(id).info.init_pid; }
  // What it throws; empty: it doesn't.
  std::string failure(const std::string& id, ErrorCode code) const {
    try {
      find(id);
    } catch (const Error& error) {
      return error.code == code ? error.what() : "another code";
    }
    return "";
  }
};

using Pids = std::vector<std::uint32_t>;

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

void components() {
  CHECK(container_id_of(kA) == kA);
  CHECK(container_id_of("cri-containerd-" + kA + ".scope") == kA);
  CHECK(container_id_of("docker-" + kA + ".scope") == kA);
  CHECK(container_id_of("crio-" + kA) == kA);
  CHECK(container_id_of("libpod-payload-" + kA) == kA);
  CHECK(container_id_of("kubepods-pod1.slice:cri-containerd:" + kA) == kA);
  CHECK(container_id_of("crio-conmon-" + kA + ".scope").empty());
  CHECK(container_id_of("libpod-conmon-" + kA + ".scope").empty());
  CHECK(container_id_of("demo") == "demo");
  CHECK(container_id_of("runc-demo.scope") == "demo");
  CHECK(container_id_of("crun-my-demo.scope") == "my-demo");
  CHECK(container_id_of("runc-demo") == "runc-demo");
  CHECK(container_id_of("my-" + kA + "x") == "my-" + kA + "x");
  CHECK(container_id_of("system.slice").empty());
  CHECK(container_id_of("containerd.service").empty());
}

void layouts() {
  const std::string pod = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/";
  for (const std::string& path : {
           "/docker/" + kA,
           "/system.slice/docker-" + kA + ".scope",
           "/kubepods/burstable/pod1/" + kA,
           pod + "cri-containerd-" + kA + ".scope",
           "/system.slice/containerd.service/kubepods-pod1.slice:cri-containerd:" + kA,
           pod + "crio-" + kA + ".scope",
           "/kubepods/burstable/pod1/crio-" + kA,
           "/machine.slice/libpod-" + kA + ".scope",
           "/libpod_parent/libpod-" + kA,
           "/user.slice/user-0.slice/session-1.scope/libpod-payload-" + kA,
       }) {
    const std::string parent = path.substr(0, path.rfind('/'));
    Node node;
    node.add(10, parent + "/" + kPause).add(20, path).add(21, path + "/container", 20).add(30, path + "/init.scope", 99);
    node.add(5, parent + "/crio-conmon-" + kA + ".scope", 1, true).add(40, parent + "/" + kB);
    for (const std::string& id : {kA, std::string(12, 'a')}) {
      const FoundContainer found = node.find(id);
      CHECK(found.info.id == kA && found.info.cgroup_path == path && found.info.init_pid == 20);
      CHECK(found.info.pids == Pids({20, 21, 30}));
      CHECK(found.keys.size() == 1 && found.keys[0].hierarchy == 0);
    }
  }
  CHECK(Node().add(20, "/default/web").add(21, "/default/webber").pids("web") == Pids({20}));
  CHECK(Node().add(20, "/system.slice/runc-web.scope").pids("web") == Pids({20}));
}

void hierarchies() {
  // Docker on a hybrid node: v2 has the service that started it, v1 the container.
  const std::string service = "/system.slice/containerd.service", path = "/docker/" + kA;
  const FoundContainer v1 = Node().add(20, {{0, service}, {8, path}}).add(3, service, 1, true).find(kA);
  CHECK(v1.info.pids == Pids({20}) && v1.info.cgroup_path == path);
  CHECK(v1.keys.size() == 1 && v1.keys[0].hierarchy == 8);
  CHECK(v1.info.cgroup >> 56 == 8);
  // A controller that is not the first, a named hierarchy.
  CHECK(Node().add(20, {{4, "/user"}, {9, path}}).pids(kA) == Pids({20}));
  // A process that is in v1's only, beside one that is in v2's.
  const FoundContainer both = Node().add(20, {{0, path}}).add(21, {{8, path}}, 20).find(kA);
  CHECK(both.info.pids == Pids({20, 21}) && both.keys.size() == 2);
  CHECK(both.keys[0].hierarchy == 0 && both.keys[1].hierarchy == 8);
}

void nesting() {
  const std::string outer = "/docker/" + kA, inner = outer + "/docker/" + kB;
  Node docker;
  docker.add(20, outer + "/init").add(21, outer, 20).add(30, inner, 21).add(31, inner, 30);
  CHECK(docker.pids(kA) == Pids({20, 21, 30, 31}));
  CHECK(docker.first(kA) == 20);
  CHECK(docker.pids(kB) == Pids({30, 31}));
  // The outer one shares its pid namespace: the inner one's pid 1 is not its first.
  CHECK(Node().add(20, outer).add(30, inner, 21).first(kA) == 20);
  // A cgroup that a container gave another's name.
  Node forged;
  forged.add(20, outer).add(10, "/docker/" + kB + "/docker/" + kA);
  CHECK(forged.pids(kA) == Pids({20}));
  CHECK(has(Node().add(20, outer).add(10, "/default/x/" + kA).failure(kA, ErrorCode::ambiguous), "/default/x/" + kA));
  // An id on each of two levels, one in the other.
  CHECK(Node().add(20, "/x/docker-" + kA + ".scope/" + kA).add(21, "/x/docker-" + kA + ".scope", 20).find(kA).keys.size() == 1);
}

void first_process() {
  const std::string path = "/docker/" + kA;
  // `runc exec` in a container that shares its pid namespace.
  CHECK(Node().add(50, path).add(40, path).add(60, path, 40).first(kA) == 40);
  // Its parent has ended: the pause container, or the node's pid 1, adopted it.
  // Whether it is pid 1 of a namespace of its own doesn't matter.
  CHECK(Node().add(40, path).add(60, path, 1).first(kA) == 40);
  CHECK(Node().add(40, path).add(60, path, 30).add(30, "/docker/" + kPause).first(kA) == 40);
  // An older process that the node's root put in is taken for it: nothing tells
  // that apart from a container whose processes make pid namespaces.
  CHECK(Node().add(10, path).add(40, path).first(kA) == 10);
  // Its own child is not older, whatever number it has.
  CHECK(Node().add(40, path).add(20, path, 40).first(kA) == 40);
  // Processes of a runtime that is still putting one in.
  const FoundContainer exec = Node().add(40, path).add(39, path, 2, true).find(kA);
  CHECK(exec.info.init_pid == 40 && exec.info.pids == Pids({39, 40}));
}

void refusals() {
  const Node node = Node().add(20, "/docker/" + kA).add(21, "/docker/" + std::string(12, 'a') + std::string(52, 'd'));
  const std::string several = node.failure(std::string(12, 'a'), ErrorCode::ambiguous);
  CHECK(has(several, kA) && has(several, std::string(52, 'd')));
  CHECK(node.pids(kA) == Pids({20}));
  CHECK(has(node.failure(std::string(11, 'a'), ErrorCode::not_found), "no process is in a cgroup of that name"));
  CHECK(has(node.failure(kB, ErrorCode::not_found), "searched 3 processes in 2 cgroups (v2)"));
  CHECK(has(Node().failure(kB, ErrorCode::not_found), "searched 1 processes in 0 cgroups"));
  CHECK(has(node.failure("docker", ErrorCode::not_found), "only holds other containers"));
  CHECK(has(Node().add(20, "/docker/" + kA, 2, true).failure(kA, ErrorCode::not_found), "still setting it up"));
  const std::string names = Node().add(20, "/default/web").add(21, "/k8s.io/web").failure("web", ErrorCode::ambiguous);
  CHECK(has(names, "/default/web") && has(names, "/k8s.io/web"));
}

}  // namespace

int main() {
  components();
  layouts();
  hierarchies();
  nesting();
  first_process();
  refusals();
  return tap::done();
}
