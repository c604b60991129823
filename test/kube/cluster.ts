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
import { KubeApi, KubeProgram, type Outcome } from "../support/kube-api.js";
import { makeAppImage } from "./images.js";
import { apiAddress, Containerd, nodeName, nodeUser, prepareNode, startKubelet } from "./node.js";
import { type PodOptions, podManifest } from "./pods.js";

/** Beside the kubelet. The API server knows each by its name, as a token. */
const controlPlane = ["kube-controller-manager", "kube-scheduler"] as const;

/** A container of a pod. */
export interface Where {
  readonly namespace?: string;
  readonly container?: string;
}

export class Cluster {
  readonly api: KubeApi;
  readonly containerd: Containerd;
  readonly #programs: readonly KubeProgram[];

  private constructor(api: KubeApi, containerd: Containerd, programs: readonly KubeProgram[]) {
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
    const there = (kind: string, name: string) => () => api.tryKubectl(["get", kind, name]).status === 0;
    await kubelet.until(there("node", nodeName));
    api.kubectl(["wait", "--for=condition=Ready", `node/${nodeName}`, "--timeout=60s"]);
    await kubelet.until(there("serviceaccount", "default"));
    return new Cluster(api, containerd, [kubelet, ...programs]);
  }

  apply(...resources: readonly object[]): void {
    this.api.kubectl(["apply", "--filename=-"], JSON.stringify({ apiVersion: "v1", kind: "List", items: resources }));
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
