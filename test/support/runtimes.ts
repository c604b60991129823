/**
 * Runtimes that bring their own storage and monitors: podman, and containerd
 * with `ctr` and with the CRI. All of a test process's is in its workspace, and
 * in cgroups of its name.
 */
import { execFileSync, type SpawnSyncReturns, spawn, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { createFileRegistry, fromBinary, fromJson, type JsonObject, type JsonValue, toJson } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { Client, credentials } from "@grpc/grpc-js";
import { serviceDefinition } from "../../src/rpc/definition.js";
import { cgroupParent, killAtExit, mountsBelow, removeTree, workspaceDirectory } from "./cleanup.js";
import { eventually } from "./daemon.js";
import { dockerArchive, installBusybox } from "./image.js";

/** In every image of `image()`. */
const secret = "/etc/secret";
const sleep = ["/bin/sleep", "1000000"] as const;
const imageName = "localhost/janusd-test:latest";

export interface ExecOutcome {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A container, as its runtime knows it. */
export interface RuntimeContainer {
  readonly id: string;
  readonly initPid: number;
  /** A program run in it by the runtime. */
  readonly exec: (...argv: readonly string[]) => Promise<ExecOutcome>;
}

function resultOf({ status, stdout, stderr }: SpawnSyncReturns<string>): ExecOutcome {
  return { status, stdout, stderr };
}

/** Runs a program to its end; throws what it said if it fails. */
function run(enter: readonly string[], program: string, args: readonly string[], env: NodeJS.ProcessEnv = {}): string {
  const [command = program, ...rest] = [...enter, program, ...args];
  return execFileSync(command, rest, { encoding: "utf8", env: { ...process.env, ...env }, stdio: "pipe" }).trim();
}

/** An image of busybox and /etc/secret, as a docker archive. Returns the file. */
function image(): string {
  return dockerArchive(join(workspaceDirectory(), "image"), imageName, { Cmd: sleep }, (root) => {
    installBusybox(root, ["sh", "cat", "sleep", "true"]);
    writeFileSync(join(root, secret), "s3cret\n");
  });
}

let archive: string | undefined;

interface Teardown {
  teardown(handler: () => void): unknown;
}

/** podman, with the cgroupfs driver and a store of its own. */
export class Podman {
  readonly #directory: string;
  readonly #enter: readonly string[];
  readonly #environment: NodeJS.ProcessEnv;
  readonly #options: readonly string[];

  /** `enter`: prefix of every command, for example to enter another mount namespace. */
  constructor(runtime: "runc" | "crun", t: Teardown, enter: readonly string[] = []) {
    this.#enter = enter;
    // crun wants CAP_SYS_RESOURCE for a device filter, and the pids controller, which v1 has here.
    this.#options = runtime === "crun" ? ["--privileged", "--pids-limit=-1"] : [];
    this.#directory = mkdtempSync(join(workspaceDirectory(), "p")); // podman takes 50 characters
    const file = join(this.#directory, "containers.conf");
    const limits = ["nofile", "nproc"].map((limit) => `"${limit}=1024:1024"`); // more would need CAP_SYS_RESOURCE
    writeFileSync(
      file,
      `[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
lock_type = "file"
runtime = "${runtime}"
tmp_dir = "${this.#directory}/tmp"
[containers]
default_ulimits = [${limits.join(", ")}]
`,
    );
    this.#environment = { CONTAINERS_CONF: file };
    t.teardown(() => {
      this.#podman("pod", "rm", "--force", "--all", "--time", "0");
      this.#podman("rm", "--force", "--all", "--time", "0");
      for (const point of mountsBelow(this.#directory)) spawnSync("umount", ["--lazy", point]);
      removeTree(this.#directory);
    });
    archive ??= image();
    this.#podman("load", "--quiet", "--input", archive);
  }

  #arguments(args: readonly string[]): string[] {
    const stores = ["--root", join(this.#directory, "root"), "--runroot", this.#directory];
    return [...stores, "--storage-driver", "overlay", ...args];
  }

  #podman(...args: readonly string[]): string {
    return run(this.#enter, "podman", this.#arguments(args), this.#environment);
  }

  /** Starts what was created. */
  start(id: string): void {
    this.#podman("start", id);
  }

  /** Not started: its runtime has set it up, and waits. */
  created(...command: readonly string[]): RuntimeContainer {
    const id = this.#podman("create", "--network=none", "--cgroup-parent", cgroupParent(), imageName, ...command);
    this.#podman("init", id);
    return this.#container(id);
  }

  run(...options: readonly string[]): RuntimeContainer {
    const where = options.length > 0 ? options : ["--network=none", "--cgroup-parent", cgroupParent()];
    return this.#container(this.#podman("run", "--detach", ...this.#options, ...where, imageName, ...sleep));
  }

  /** A container of another image, from its archive. */
  runOf(file: string, name: string, options: readonly string[], command: readonly string[]): RuntimeContainer {
    this.#podman("load", "--quiet", "--input", file);
    return this.#container(this.#podman("run", "--detach", ...options, name, ...command));
  }

  /** A container in a pod, and the pod's infra container. They share their pid namespace. */
  pod(): { readonly pod: string; readonly infra: RuntimeContainer; readonly container: RuntimeContainer } {
    const pod = this.#podman(
      ...["pod", "create", "--network=none", "--cgroup-parent", cgroupParent(), "--share", "ipc,pid,uts"],
      ...["--infra-image", imageName, "--infra-command", sleep.join(" ")],
    );
    const container = this.run("--pod", pod);
    const infra = this.#podman("pod", "inspect", pod, "--format", "{{.InfraContainerID}}");
    return { pod, infra: this.#container(infra), container };
  }

  /** Of a container's conmon. */
  monitor({ id }: RuntimeContainer): number {
    return Number(this.#podman("inspect", id, "--format", "{{.State.ConmonPid}}"));
  }

  #container(id: string): RuntimeContainer {
    const [command = "podman", ...rest] = [...this.#enter, "podman", ...this.#arguments(["exec", id])];
    return {
      id,
      initPid: Number(this.#podman("inspect", id, "--format", "{{.State.Pid}}")),
      exec: async (...argv) =>
        resultOf(
          spawnSync(command, [...rest, ...argv], {
            encoding: "utf8",
            env: { ...process.env, ...this.#environment },
          }),
        ),
    };
  }
}

export interface KubeletPod {
  readonly uid: string;
  readonly name: string;
  readonly cgroup: string;
}

/** containerd, driven by `ctr` and over the CRI. */
export class Containerd {
  readonly #directory = join(workspaceDirectory(), "containerd");
  /** Of containerd; the first directory of `ctr`'s cgroups. */
  readonly #namespace = cgroupParent().slice(1);
  readonly #cri: Cri;

  private constructor() {
    this.#cri = new Cri(`unix:${join(this.#directory, "sock")}`);
  }

  static async start(t: Teardown): Promise<Containerd> {
    const containerd = new Containerd();
    const directory = containerd.#directory;
    mkdirSync(directory);
    const file = join(directory, "config.toml");
    writeFileSync(
      file,
      `version = 2
root = "${directory}/root"
state = "${directory}/state"
[grpc]
  address = "${directory}/sock"
[ttrpc]
  address = "${directory}/ttrpc"
[plugins."io.containerd.internal.v1.opt"]
  path = "${directory}/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "${imageName}"
  disable_tcp_service = true
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "${directory}/cni"
    conf_dir = "${directory}/cni"
`,
    );
    const child = spawn("containerd", ["--config", file, "--log-level", "warn"], { stdio: "ignore" });
    const forget = child.pid === undefined ? () => undefined : killAtExit(child.pid);
    t.teardown(() => {
      containerd.#cri.close();
      for (const id of containerd.#ctr("task", "list", "--quiet").split("\n").filter(Boolean))
        containerd.#ctr("task", "delete", "--force", id);
      child.kill("SIGKILL");
      forget();
      for (const point of mountsBelow(directory)) spawnSync("umount", ["--lazy", point]);
    });
    await eventually("containerd serves", () => spawnSync("ctr", containerd.#arguments(["version"])).status === 0);
    archive ??= image();
    for (const namespace of [containerd.#namespace, "k8s.io"])
      run([], "ctr", ["--address", join(directory, "sock"), "--namespace", namespace, "image", "import", archive]);
    return containerd;
  }

  #arguments(args: readonly string[]): string[] {
    return ["--address", join(this.#directory, "sock"), "--namespace", this.#namespace, ...args];
  }

  #ctr(...args: readonly string[]): string {
    return run([], "ctr", this.#arguments(args));
  }

  /** As `ctr` does: its cgroup is /NAMESPACE/NAME. */
  run(name: string): RuntimeContainer {
    this.#ctr("run", "--detach", "--snapshotter", "overlayfs", imageName, name);
    const row = this.#ctr("task", "list")
      .split("\n")
      .find((line) => line.startsWith(`${name} `));
    const exec = ["task", "exec", "--exec-id", "a-shell", name];
    return {
      id: name,
      initPid: Number(row?.split(/\s+/)[1]),
      exec: async (...argv) => resultOf(spawnSync("ctr", this.#arguments([...exec, ...argv]), { encoding: "utf8" })),
    };
  }

  /** Where the CRI is served. */
  get socket(): string {
    return join(this.#directory, "sock");
  }

  /** As the kubelet does, with the cgroupfs driver: a sandbox and a container in the pod's cgroup. */
  async pod(cgroup: string, t: { teardown(handler: () => Promise<void>): unknown }) {
    const namespaces = { network: "NODE", pid: "CONTAINER" };
    const pod = {
      metadata: { name: basename(cgroup), uid: "uid", namespace: "default" },
      linux: { cgroupParent: cgroup, securityContext: { namespaceOptions: namespaces } },
    };
    const sandbox = String((await this.#cri.call("RunPodSandbox", { config: pod }))["podSandboxId"]);
    t.teardown(async () => {
      await this.#cri.call("StopPodSandbox", { podSandboxId: sandbox });
      await this.#cri.call("RemovePodSandbox", { podSandboxId: sandbox });
    });
    const config = {
      ...{ metadata: { name: "web" }, image: { image: imageName }, command: [...sleep] },
      labels: { "io.kubernetes.pod.uid": "uid", "io.kubernetes.container.name": "web" },
      linux: { securityContext: { namespaceOptions: namespaces } },
    };
    const request = { podSandboxId: sandbox, config, sandboxConfig: pod };
    const id = String((await this.#cri.call("CreateContainer", request))["containerId"]);
    await this.#cri.call("StartContainer", { containerId: id });
    const container: RuntimeContainer = {
      id,
      initPid: this.#pidOf(id),
      exec: async (...argv) => {
        const answer = await this.#cri.call("ExecSync", { containerId: id, cmd: [...argv], timeout: "10" });
        const output = (name: string) => Buffer.from(String(answer[name] ?? ""), "base64").toString();
        return { status: Number(answer["exitCode"] ?? 0), stdout: output("stdout"), stderr: output("stderr") };
      },
    };
    return { sandbox: { id: sandbox, initPid: this.#pidOf(sandbox) }, container };
  }

  /** As the kubelet does, with its labels: the pod's sandbox, and then `start` for each of its containers. */
  async sandbox({ uid, name, cgroup }: KubeletPod, t: { teardown(handler: () => Promise<void>): unknown }) {
    const namespaces = { network: "NODE", pid: "CONTAINER" };
    const linux = { securityContext: { namespaceOptions: namespaces } };
    const labels = { "io.kubernetes.pod.uid": uid, "io.kubernetes.pod.name": name };
    const pod = { metadata: { name, uid, namespace: "default" }, labels, linux: { ...linux, cgroupParent: cgroup } };
    const podSandboxId = String((await this.#cri.call("RunPodSandbox", { config: pod }))["podSandboxId"]);
    t.teardown(async () => {
      await this.#cri.call("StopPodSandbox", { podSandboxId });
      await this.#cri.call("RemovePodSandbox", { podSandboxId });
    });
    let attempt = 0;
    const start = async (container: string, ...command: readonly string[]): Promise<string> => {
      const config = {
        metadata: { name: container, attempt: attempt++ },
        labels: { ...labels, "io.kubernetes.container.name": container },
        ...{ image: { image: imageName }, command: [...command], linux },
      };
      const request = { podSandboxId, config, sandboxConfig: pod };
      const containerId = String((await this.#cri.call("CreateContainer", request))["containerId"]);
      await this.#cri.call("StartContainer", { containerId });
      return containerId;
    };
    return { id: podSandboxId, start };
  }

  /** Of a container that has ended. Undefined: it runs. */
  async exitCode(containerId: string): Promise<number | undefined> {
    const { status } = await this.#cri.call("ContainerStatus", { containerId });
    if (typeof status !== "object" || status === null || Array.isArray(status)) throw new Error("no status");
    return status["state"] === "CONTAINER_EXITED" ? Number(status["exitCode"] ?? 0) : undefined;
  }

  #pidOf(id: string): number {
    return Number(readFileSync(join(this.#directory, "state/io.containerd.runtime.v2.task/k8s.io", id, "init.pid")));
  }
}

/** The CRI's calls, in protobuf's JSON. */
class Cri {
  readonly #client: Client;
  readonly #service;
  readonly #registry;

  constructor(address: string) {
    const set = join(workspaceDirectory(), "cri.binpb");
    const proto = new URL("cri.proto", import.meta.url).pathname;
    execFileSync("protoc", [`--proto_path=${join(proto, "..")}`, `--descriptor_set_out=${set}`, proto]);
    this.#registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, readFileSync(set)));
    const service = this.#registry.getService("runtime.v1.RuntimeService");
    if (service === undefined) throw new Error("cri.proto has no RuntimeService");
    this.#service = service;
    this.#client = new Client(address, credentials.createInsecure());
  }

  call(name: string, request: JsonValue): Promise<JsonObject> {
    const method = this.#service.methods.find((candidate) => candidate.name === name);
    const definition = method === undefined ? undefined : serviceDefinition(this.#service)[method.localName];
    if (method === undefined || definition === undefined) throw new Error(`no ${name} in cri.proto`);
    const { path, requestSerialize, responseDeserialize } = definition;
    return new Promise((resolve, reject) => {
      const message = fromJson(method.input, request);
      this.#client.makeUnaryRequest(path, requestSerialize, responseDeserialize, message, (error, response) => {
        if (error !== null) return reject(new Error(`${name}: ${error.details}`));
        const answer = toJson(method.output, response);
        if (typeof answer !== "object" || answer === null || Array.isArray(answer)) return reject(new Error(name));
        resolve(answer);
      });
    });
  }

  close(): void {
    this.#client.close();
  }
}
