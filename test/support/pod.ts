/**
 * Pods as a kubelet makes them: the object in the API, real containers in the pod's cgroup, and a status that names them.
 *
 *     const pod = await startPod(api, { name: "web", labels: { app: "web" } }, t);
 *     await pod.container().exec(["cat", "/etc/secret"]);
 */
import { cgroupParent } from "./cleanup.js";
import { type Container, type ContainerOptions, startContainer } from "./container.js";
import type { KubeApi } from "./kube-api.js";

export const NODE = "testnode";

/** Where a container is in its pod. */
export type Kind = "init" | "ordinary" | "ephemeral";

export interface PodOptions {
  readonly name: string;
  readonly namespace?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly node?: string;
  /** Default: one that is called "main". */
  readonly containers?: readonly string[];
  readonly initContainers?: readonly string[];
}

interface Test {
  readonly teardown: (end: () => Promise<void>) => unknown;
}

interface Running {
  readonly kind: Kind;
  readonly name: string;
  readonly container: Container;
}

export class Pod {
  readonly uid: string;
  readonly name: string;
  readonly namespace: string;
  readonly #api: KubeApi;
  readonly #t: Test;
  readonly #running: Running[] = [];

  constructor(api: KubeApi, uid: string, { name, namespace = "default" }: PodOptions, t: Test) {
    this.#api = api;
    this.#t = t;
    this.uid = uid;
    this.name = name;
    this.namespace = namespace;
  }

  /** The one of that name that was started last. */
  container(name = "main"): Container {
    const found = this.#running.findLast((running) => running.name === name);
    if (found === undefined) throw new Error(`no container ${name}`);
    return found.container;
  }

  /** A container starts, in the pod's cgroup. The status doesn't say so before `report`. */
  async start(name = "main", kind: Kind = "ordinary", options: ContainerOptions = {}): Promise<Container> {
    const id = options.id ?? crypto.randomUUID().replaceAll("-", "").repeat(2);
    const cgroupPath = `${cgroupParent()}/kubepods/burstable/pod${this.uid}/${id}`;
    const files = { "/etc/secret": "s3cret\n", "/etc/other": "other\n", ...options.files };
    const container = await startContainer({ ...options, id, cgroupPath, files }, this.#t);
    this.#running.push({ kind, name, container });
    return container;
  }

  /** A container ends, as if it had crashed. */
  async end(name = "main"): Promise<void> {
    await this.container(name).kill();
    const at = this.#running.findLastIndex((running) => running.name === name);
    this.#running.splice(at, 1);
  }

  /** The pod's status names the containers that run. */
  report(phase = "Running"): void {
    const of = (kind: Kind) =>
      this.#running
        .filter((running) => running.kind === kind)
        .map(({ name, container }) => ({
          ...{ name, ready: true, restartCount: 0, image: "test", imageID: "", started: true },
          containerID: `containerd://${container.id}`,
          state: { running: { startedAt: new Date().toISOString().replace(/\.\d+/, "") } },
        }));
    const status = {
      phase,
      initContainerStatuses: of("init"),
      containerStatuses: of("ordinary"),
      ephemeralContainerStatuses: of("ephemeral"),
    };
    this.#kubectl(
      "patch",
      "pod",
      this.name,
      "--subresource=status",
      "--type=merge",
      `--patch=${JSON.stringify({ status })}`,
    );
  }

  label(...labels: readonly string[]): void {
    this.#kubectl("label", "--overwrite", "pod", this.name, ...labels);
  }

  /** The object goes at once. */
  delete(): void {
    this.#kubectl("delete", "pod", this.name, "--grace-period=0", "--force");
  }

  #kubectl(...args: readonly string[]): void {
    this.#api.kubectl([`--namespace=${this.namespace}`, ...args]);
  }
}

/** The pod's object, of which nothing runs yet. */
export function createPod(api: KubeApi, options: PodOptions, t: Test): Pod {
  const { name, namespace = "default", labels = {}, annotations = {}, node = NODE, initContainers = [] } = options;
  const of = (names: readonly string[]) => names.map((each) => ({ name: each, image: "test" }));
  const made = api.kubectl(
    ["create", "--output=jsonpath={.metadata.uid}", "--filename=-"],
    JSON.stringify({
      ...{ apiVersion: "v1", kind: "Pod", metadata: { name, namespace, labels, annotations } },
      spec: {
        nodeName: node,
        containers: of(options.containers ?? ["main"]),
        ...(initContainers.length > 0 && { initContainers: of(initContainers) }),
      },
    }),
  );
  return new Pod(api, made.trim(), options, t);
}

/** It runs, and its status says so. */
export async function startPod(api: KubeApi, options: PodOptions, t: Test): Promise<Pod> {
  const pod = createPod(api, options, t);
  for (const name of options.containers ?? ["main"]) await pod.start(name);
  pod.report();
  return pod;
}

/** A JanusGuard, or a ClusterJanusGuard if it has a namespaceSelector. */
export function guardResource(
  name: string,
  spec: Readonly<Record<string, unknown>> = {},
  namespace = "default",
): string {
  const isCluster = "namespaceSelector" in spec;
  return JSON.stringify({
    apiVersion: "januscontroller.clustergarage.io/v1alpha1",
    kind: isCluster ? "ClusterJanusGuard" : "JanusGuard",
    metadata: { name, ...(isCluster ? {} : { namespace }) },
    spec: {
      selector: { matchLabels: { app: "web" } },
      subjects: [{ deny: ["/etc/secret"], events: ["open"] }],
      ...spec,
    },
  });
}

export function apply(api: KubeApi, resource: string): void {
  api.kubectl(["apply", "--filename=-"], resource);
}

/** Whether an open of the path in the container is denied. */
export async function isDenied(container: Container, path = "/etc/secret"): Promise<boolean> {
  const { status, stderr } = await container.exec(["cat", path]);
  if (status !== 0 && !stderr.includes("Operation not permitted")) throw new Error(`cat ${path}: ${stderr}`);
  return status !== 0;
}
