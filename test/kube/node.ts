/**
 * The node: namespaces, cgroups, containerd and the kubelet.
 *
 * Owns: what looks like the node's own to the programs (/run, /var/lib, /var/log, some sysctls). All of it is
 * mounted in a mount namespace that the caller made (`test/kube/run`), so that the machine has none of it.
 */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { cgroupParent } from "../support/cleanup.js";
import { dockerArchive } from "../support/image.js";
import { type KubeApi, KubeProgram } from "../support/kube-api.js";

/** Of the API server, for the node and in pods: the first address of the services' range. */
export const apiAddress = "10.96.0.1";
const nodeAddress = "10.95.0.1";
const podRange = "10.88.0.0/16";

export const nodeName = "kube-node-1";
const nodeToken = "janusd-test-node";
/** A line of the API server's token file. */
export const nodeUser = `${nodeToken},system:node:${nodeName},${nodeName},system:nodes`;

const containerdSocket = "/run/containerd/containerd.sock";
const pauseImage = "janusd.test/pause:1";

const cgroupRoot = "/sys/fs/cgroup";

/** The kubelet would change these for the whole machine: it is shown that they are as it wants them. */
const sysctls = { "vm/overcommit_memory": 1, "kernel/panic": 10, "kernel/panic_on_oops": 1 };

/** Mounts and addresses. Throws on the machine's own namespaces. */
export function prepareNode(directory: string): void {
  for (const kind of ["mnt", "net"])
    if (readlinkSync(`/proc/self/ns/${kind}`) === readlinkSync(`/proc/${process.ppid}/ns/${kind}`))
      throw new Error(`test/kube/run makes the ${kind} namespace that this needs`);
  const mount = (...args: string[]) => execFileSync("mount", args);
  mount("--make-rshared", "/");
  mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run");
  for (const [name, path] of [
    ["lib", "/var/lib"],
    ["log", "/var/log"],
  ] as const) {
    mkdirSync(join(directory, name));
    mount("--bind", join(directory, name), path);
    // Not what `directory` is a peer of: it is deleted at the end, and must show none of the mounts below.
    mount("--make-private", path);
    mount("--make-shared", path);
  }
  for (const [name, value] of Object.entries(sysctls)) {
    const file = join(directory, name.replace("/", "."));
    writeFileSync(file, `${value}\n`);
    mount("--bind", file, join("/proc/sys", name));
  }
  execFileSync("ip", ["link", "set", "lo", "up"]);
  for (const address of [apiAddress, nodeAddress]) execFileSync("ip", ["address", "add", `${address}/32`, "dev", "lo"]);
  makeCgroups();
}

/** This process's name in each hierarchy: the kubelet's root. `cleanup.ts` removes them. */
function makeCgroups(): void {
  for (const hierarchy of readdirSync(cgroupRoot)) {
    const cgroup = join(cgroupRoot, hierarchy, cgroupParent());
    mkdirSync(cgroup);
    if (hierarchy === "cpuset")
      for (const name of ["cpuset.cpus", "cpuset.mems"])
        writeFileSync(join(cgroup, name), readFileSync(join(cgroupRoot, hierarchy, name)));
  }
  mkdirSync(join(cgroupRoot, "unified", cgroupParent(), "node"));
}

/** Prefix of a command whose children outlive it: they are found by their cgroup, and end with it. */
function inNodeCgroup(): readonly string[] {
  const procs = join(cgroupRoot, "unified", cgroupParent(), "node/cgroup.procs");
  return ["sh", "-c", `echo $$ >${procs} && exec "$@"`, "sh"];
}

export class Containerd {
  readonly #program: KubeProgram;
  #execs = 0;

  private constructor(directory: string) {
    const cni = join(directory, "cni");
    mkdirSync(cni);
    writeFileSync(
      join(cni, "10-bridge.conflist"),
      JSON.stringify({
        ...{ cniVersion: "0.4.0", name: "pods" },
        plugins: [
          {
            ...{ type: "bridge", bridge: "cni0", isGateway: true },
            ipam: {
              ...{ type: "host-local", dataDir: "/run/cni", ranges: [[{ subnet: podRange }]] },
              routes: [{ dst: "0.0.0.0/0" }],
            },
          },
        ],
      }),
    );
    const config = join(directory, "containerd.toml");
    writeFileSync(
      config,
      `version = 2
[plugins."io.containerd.internal.v1.opt"]
  path = "/var/lib/containerd/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "${pauseImage}"
  disable_tcp_service = true
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "${cni}"
`,
    );
    const args = ["--config", config, "--log-level", "info"];
    this.#program = new KubeProgram(directory, "containerd", args, inNodeCgroup());
  }

  static async start(directory: string): Promise<Containerd> {
    const containerd = new Containerd(directory);
    await containerd.#program.until(() => containerd.ctr("version") !== "");
    const pause = dockerArchive(join(directory, "pause"), pauseImage, { Entrypoint: ["/pause"] }, (root) => {
      const source = new URL("pause.c", import.meta.url).pathname;
      execFileSync("cc", ["-static", "-Os", "-s", "-o", join(root, "pause"), source]);
    });
    containerd.load(pause);
    return containerd;
  }

  /** In the kubelet's namespace. */
  ctr(...args: readonly string[]): string {
    return execFileSync("ctr", ["--namespace", "k8s.io", ...args], { encoding: "utf8", stdio: "pipe" });
  }

  /** An image from a docker or OCI archive. */
  load(archive: string): void {
    this.ctr("image", "import", archive);
  }

  /** A program in a container, without the API server. `id`: as a pod's status has it. */
  exec(id: string, argv: readonly string[]): { readonly status: number | null; readonly stderr: string } {
    const task = ["--namespace", "k8s.io", "task", "exec", "--exec-id", `${process.pid}-${++this.#execs}`];
    const { status, stderr } = spawnSync("ctr", [...task, bare(id), ...argv], { encoding: "utf8" });
    return { status, stderr };
  }

  /** Containers of a pod that run, without its sandbox. */
  containersOf(uid: string): string[] {
    const filter = `labels."io.kubernetes.pod.uid"==${uid},labels."io.cri-containerd.kind"==container`;
    const made = this.ctr("container", "list", "--quiet", filter).split("\n").filter(Boolean);
    const tasks = this.ctr("task", "list").split("\n");
    return made.filter((id) => tasks.some((line) => line.startsWith(id) && line.includes("RUNNING")));
  }

  /** Ends a container's first process. */
  kill(id: string): void {
    this.ctr("task", "kill", "--signal", "SIGKILL", bare(id));
  }

  async stop(): Promise<void> {
    await this.#program.end("SIGTERM");
  }
}

/** Without the scheme. */
function bare(id: string): string {
  return id.replace("containerd://", "");
}

/** Resolves when the kubelet answers. */
export async function startKubelet(directory: string, api: KubeApi): Promise<KubeProgram> {
  const config = join(directory, "kubelet.json");
  const resolv = join(directory, "resolv.conf");
  writeFileSync(resolv, "");
  writeFileSync(
    config,
    JSON.stringify({
      ...{ apiVersion: "kubelet.config.k8s.io/v1beta1", kind: "KubeletConfiguration" },
      authentication: {
        anonymous: { enabled: false },
        webhook: { enabled: false },
        x509: { clientCAFile: join(api.directory, "ca.crt") },
      },
      authorization: { mode: "AlwaysAllow" },
      ...{ cgroupDriver: "cgroupfs", cgroupRoot: cgroupParent(), enforceNodeAllocatable: [] },
      ...{ containerRuntimeEndpoint: `unix://${containerdSocket}`, resolvConf: resolv },
      ...{ failSwapOn: false, localStorageCapacityIsolation: false, makeIPTablesUtilChains: false },
      evictionHard: { "memory.available": "0%", "nodefs.available": "0%", "imagefs.available": "0%" },
      imageGCHighThresholdPercent: 100,
      protectKernelDefaults: true,
      // Volumes are brought up to date at a pod's next sync.
      syncFrequency: "5s",
      // A container that crashes is started again after a second, not after minutes.
      featureGates: { KubeletCrashLoopBackOffMax: true },
      crashLoopBackOff: { maxContainerRestartPeriod: "1s" },
    }),
  );
  const kubelet = new KubeProgram(
    directory,
    "kubelet",
    [
      `--config=${config}`,
      `--kubeconfig=${api.kubeconfigFor(nodeToken, nodeName)}`,
      `--hostname-override=${nodeName}`,
      `--node-ip=${nodeAddress}`,
    ],
    inNodeCgroup(),
  );
  await kubelet.until(async () => (await fetch("http://127.0.0.1:10248/healthz")).ok);
  return kubelet;
}
