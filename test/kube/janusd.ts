/** janusd on the cluster: its image and its release. */
import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, realpathSync, symlinkSync } from "node:fs";
import { dirname, join } from "node:path";
import { workspaceDirectory } from "../support/cleanup.js";
import { eventually } from "../support/daemon.js";
import { dockerArchive, installBusybox } from "../support/image.js";
import type { Outcome } from "../support/kube-api.js";
import { type Cluster, PATIENCE_MS } from "./cluster.js";

const top = new URL("../..", import.meta.url).pathname;
const chart = join(top, "deploy/helm/janusd");
const repository = "janusd.test/janusd";
export const namespace = "janus";
const daemonSet = "daemonset/janusd";

export class Janusd {
  readonly #cluster: Cluster;
  readonly #image: readonly [repository: string, tag: string];

  private constructor(cluster: Cluster, image: readonly [string, string]) {
    this.#cluster = cluster;
    this.#image = image;
  }

  /** By its chart, as a user does. `archive`: of an image; undefined: one is made of this checkout. */
  static async install(cluster: Cluster, archive: string | undefined): Promise<Janusd> {
    cluster.containerd.load(archive ?? makeImage());
    const [name = ""] = cluster.containerd.ctr("image", "list", "--quiet").match(/^\S*janusd:\S+$/m) ?? [];
    const at = name.lastIndexOf(":");
    const janusd = new Janusd(cluster, [name.slice(0, at), name.slice(at + 1)]);
    await cluster.namespace(namespace, { "pod-security.kubernetes.io/enforce": "privileged" });
    janusd.helm("install");
    janusd.rolledOut();
    return janusd;
  }

  /** Installs or upgrades the release. `values`: as `--set` has them. */
  helm(verb: "install" | "upgrade", ...values: readonly string[]): void {
    const [repository, tag] = this.#image;
    const image = [`image.repository=${repository}`, `image.tag=${tag}`, "image.pullPolicy=Never"];
    const set = [...image, ...values].map((value) => `--set=${value}`);
    this.#helm([verb, "janusd", chart, ...set]);
  }

  rollback(revision: number): void {
    this.#helm(["rollback", "janusd", String(revision)]);
  }

  uninstall(): void {
    this.#helm(["uninstall", "janusd", "--wait"]);
  }

  #helm(args: readonly string[]): void {
    const { status, stderr } = this.#cluster.api.tryHelm([...args, `--namespace=${namespace}`]);
    if (status !== 0) throw new Error(`helm ${args[0]}: ${stderr}`);
  }

  /** Returns when the daemon of this version is ready on the node. */
  rolledOut(): void {
    const args = ["rollout", "status", daemonSet, `--namespace=${namespace}`, "--timeout=120s"];
    const { status, stderr } = this.#cluster.api.tryKubectl(args);
    if (status !== 0) throw new Error(`${stderr}${this.describe()}`);
  }

  /** For a failure's message: why the pod isn't ready. */
  describe(): string {
    const about = (...args: string[]) => this.#cluster.api.tryKubectl([`--namespace=${namespace}`, ...args]).stdout;
    return about("describe", "pods") + about("logs", daemonSet, "--tail=40");
  }

  /** As documented for users: in the daemon's pod, without flags. */
  ctl(...args: readonly string[]): Outcome {
    return this.#cluster.api.tryKubectl(["exec", `--namespace=${namespace}`, daemonSet, "--", "janusctl", ...args]);
  }

  /** Of the daemon on the node. */
  podName(): string {
    const args = ["get", "pods", `--namespace=${namespace}`, "--selector=daemon=janusd", "--output=name"];
    return this.#cluster.api.kubectl(args).trim();
  }

  /** The event log, of all time. */
  log(): string {
    return this.#cluster.api.kubectl(["logs", daemonSet, `--namespace=${namespace}`]);
  }

  /** Like `eventually`, with what the daemon says where that fails. */
  async until(what: string, check: () => boolean | Promise<boolean>): Promise<void> {
    await eventually(what, check, PATIENCE_MS).catch((error: unknown) => {
      throw new Error(`${String(error)}\n${this.describe()}`);
    });
  }

  /** Resolves when as many containers of the namespace have this guard. */
  async guards(of: string, guard: string, containers: number): Promise<void> {
    await this.until(`${of}/${guard} guards ${containers}`, () => this.#guarded(of, guard) === containers);
  }

  #guarded(of: string, guard: string): number {
    const { stdout } = this.ctl("list", "--output=json");
    const listed: readonly Listed[] = stdout === "" ? [] : JSON.parse(stdout);
    return listed
      .filter(({ metadata }) => metadata.namespace === of && metadata.name === guard)
      .reduce((sum, { status }) => sum + status.containers.length, 0);
  }
}

/** What `janusctl list --output=json` says of a guard of a pod. */
interface Listed {
  readonly metadata: { readonly name: string; readonly namespace?: string };
  readonly status: { readonly containers: readonly unknown[] };
}

/** This checkout, with what it needs of this machine: Node.js, libraries, a shell. `make image` builds what users get. */
function makeImage(): string {
  const directory = join(workspaceDirectory(), "janusd-image");
  const config = { Entrypoint: ["/opt/janusd/bin/janusd"], Env: ["PATH=/usr/local/bin:/bin"] };
  return dockerArchive(directory, `${repository}:checkout`, config, (root) => {
    installBusybox(root, ["sh", "readlink", "dirname", "basename", "cat"]);
    const copy = (from: string, to = from) => {
      mkdirSync(dirname(join(root, to)), { recursive: true });
      cpSync(realpathSync(from), join(root, to), { recursive: true });
    };
    const node = realpathSync(join(top, "node_modules/.bin/node"));
    const built = ["janusd.node", "janusd-keeper", "janusd-canary"].map((name) => join("native/build/Release", name));
    copy(node, "/usr/local/bin/node");
    for (const path of ["package.json", "bin", "dist", ...built]) copy(join(top, path), join("/opt/janusd", path));
    for (const path of productionModules()) copy(path, join("/opt/janusd", path.slice(top.length)));
    for (const library of librariesOf([node, ...built.map((path) => join(top, path))])) copy(library);
    for (const name of ["janusd", "janusctl"])
      symlinkSync(`/opt/janusd/bin/${name}`, join(root, "usr/local/bin", name));
  });
}

/** Directories of node_modules. */
function productionModules(): string[] {
  const args = ["ls", "--all", "--parseable", "--omit=dev", "--omit=optional"];
  const listed = execFileSync("npm", args, { cwd: top, encoding: "utf8" }).trim().split("\n");
  return listed.filter((path) => path.startsWith(join(top, "node_modules/")));
}

function librariesOf(programs: readonly string[]): Set<string> {
  const listed = execFileSync("ldd", programs, { encoding: "utf8" });
  return new Set(Array.from(listed.matchAll(/^\s+(?:\S+ => )?(\/\S+) \(/gm), ([, path = ""]) => path));
}
