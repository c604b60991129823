/**
 * A Kubernetes cluster of one node on this machine, from real parts: etcd, API server, controller manager,
 * scheduler, kubelet, containerd with the CRI, and a CNI bridge.
 *
 *     const cluster = await Cluster.start();
 *     cluster.startPod("web", { labels: { app: "web" } });
 *     cluster.exec("web", ["cat", "/etc/app/secret"]);
 *     await cluster.stop();
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { certificate } from "../support/certificates.js";
import { workspaceDirectory } from "../support/cleanup.js";
import { eventually } from "../support/daemon.js";
import { KubeApi, KubeProgram, type Outcome } from "../support/kube-api.js";
import { makeAppImage } from "./images.js";
import { apiAddress, Containerd, nodeName, nodeUser, prepareNode, startKubelet } from "./node.js";
import { type PodOptions, podManifest } from "./pods.js";

/** Beside the kubelet. The API server knows each by its name, as a token. */
const controlPlane = ["kube-controller-manager", "kube-scheduler"] as const;

/** Generous: it fails a hung test, it does not measure. Controllers wait up to 30 s between two tries. */
export const PATIENCE_MS = 90_000;

/** A container of a pod. */
export interface Where {
  readonly namespace?: string;
  readonly container?: string;
}

export class Cluster {
  /** Of this run: it goes with the test process. */
  readonly directory: string;
  readonly api: KubeApi;
  readonly containerd: Containerd;
  readonly #programs: readonly KubeProgram[];

  private constructor(directory: string, api: KubeApi, containerd: Containerd, programs: readonly KubeProgram[]) {
    this.directory = directory;
    this.api = api;
    this.containerd = containerd;
    this.#programs = programs;
  }

  /** Resolves when the node is ready for pods. In namespaces of its own, once in a process. */
  static async start(): Promise<Cluster> {
    const directory = join(workspaceDirectory(), "cluster");
    mkdirSync(directory);
    prepareNode(directory);
    const containerd = await Containerd.start(directory);
    containerd.load(makeAppImage(join(directory, "app")));
    const api = await KubeApi.start({
      ...{ address: apiAddress, port: 443, controllers: true, flags: kubeletAccess },
      users: [nodeUser, ...controlPlane.map((name) => `${name},system:${name},${name},`)],
    });
    const controllerFlags = [
      `--root-ca-file=${join(api.directory, "ca.crt")}`,
      `--service-account-private-key-file=${join(api.directory, "server.key")}`,
      "--use-service-account-credentials",
    ];
    const programs = controlPlane.map((name) => {
      const flags = [
        `--kubeconfig=${api.kubeconfigFor(name, name)}`,
        "--bind-address=127.0.0.1",
        "--leader-elect=false",
      ];
      return new KubeProgram(directory, name, name === "kube-scheduler" ? flags : [...flags, ...controllerFlags]);
    });
    const kubelet = await startKubelet(directory, api);
    const cluster = new Cluster(directory, api, containerd, [kubelet, ...programs]);
    await kubelet.until(() => cluster.has("node", nodeName));
    api.kubectl(["wait", "--for=condition=Ready", `node/${nodeName}`, "--timeout=60s"]);
    await kubelet.until(() => cluster.has("serviceaccount", "default"));
    return cluster;
  }

  /** Resolves when pods can be made in it. */
  async namespace(name: string, labels: Readonly<Record<string, string>> = {}): Promise<void> {
    this.apply({ apiVersion: "v1", kind: "Namespace", metadata: { name, labels } });
    const made = () => this.has("serviceaccount", "default", name);
    await eventually(`${name} has a service account`, made, PATIENCE_MS);
  }

  has(kind: string, name: string, namespace = "default"): boolean {
    return this.api.tryKubectl(["get", kind, name, `--namespace=${namespace}`]).status === 0;
  }

  apply(...resources: readonly object[]): void {
    const { status, stderr } = this.tryApply(...resources);
    if (status !== 0) throw new Error(`kubectl apply: ${stderr}`);
  }

  tryApply(...resources: readonly object[]): Outcome {
    const list = { apiVersion: "v1", kind: "List", items: resources };
    return this.api.tryKubectl(["apply", "--filename=-"], JSON.stringify(list));
  }

  /** Returns when it is ready. */
  startPod(name: string, options: PodOptions = {}): void {
    this.apply(podManifest(name, options));
    const { namespace = "default" } = options;
    this.api.kubectl(["wait", "--for=condition=Ready", `--namespace=${namespace}`, `pod/${name}`, "--timeout=60s"]);
  }

  /** A program in a running container, by `kubectl exec`. */
  exec(pod: string, argv: readonly string[], { namespace = "default", container = "main" }: Where = {}): Outcome {
    return this.api.tryKubectl(["exec", `--namespace=${namespace}`, pod, `--container=${container}`, "--", ...argv]);
  }

  /** What `kubectl get` prints of an object. */
  get(kind: string, name: string, path: string, namespace = "default"): string {
    return this.api.kubectl(["get", kind, name, `--namespace=${namespace}`, `--output=jsonpath={${path}}`]);
  }

  /** The node's own view of a volume of a pod: what the kubelet has put there. */
  volume(uid: string, kind: "secret" | "configmap" | "empty-dir", name: string): string {
    return join("/var/lib/kubelet/pods", uid, "volumes", `kubernetes.io~${kind}`, name);
  }

  async stop(): Promise<void> {
    for (const program of this.#programs) await program.end();
    await this.containerd.stop();
    await this.api.stop();
  }
}

/** The API server's own certificate for the kubelet, which logs and exec need. */
function kubeletAccess(directory: string): readonly string[] {
  certificate(directory, "kubelet-client", { issuer: "ca", subject: "/O=system:masters/CN=kube-apiserver" });
  const file = join(directory, "kubelet-client");
  return [
    `--kubelet-client-certificate=${file}.crt`,
    `--kubelet-client-key=${file}.key`,
    "--kubelet-preferred-address-types=InternalIP",
    "--allow-privileged=true",
  ];
}
