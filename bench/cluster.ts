/**
 * What a cluster of many nodes asks of its API server: a real one, with its etcd, and the Kubernetes side of many daemons,
 * some processes of 50 each. No kernel is asked for anything.
 */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { CoreV1Api, CustomObjectsApi, KubeConfig, PatchStrategy, setHeaderOptions } from "@kubernetes/client-node";
import { killAtExit } from "../test/support/cleanup.js";
import { installCrds, KubeApi, kubeSkip } from "../test/support/kube-api.js";
import type { Assignment, Word } from "./cluster-daemons.js";
import { type Figures, quantile } from "./figures.js";

const [NODES = 200, PODS = 30, GUARDS = 500] = (process.env["CLUSTER"] ?? "").split("x").filter(Boolean).map(Number);
const DAEMONS_OF_A_PROCESS = 50;
/** What is extrapolated to. */
const LARGE = 5000;

/** Long enough for each daemon's heartbeat, and for each to look at the lease. */
const IDLE_MS = 130_000;
/** Of the pods of each node, so many are replaced in so long. */
const REPLACED = 5;
const ROLLOUT_MS = 60_000;
const CHANGES = 20;
const OUTAGE_MS = 15_000;
/** No guard's status was written for so long: all is said. */
const QUIET_MS = 10_000;
const LOOK_MS = 2000;
/** It fails what hangs. */
const PATIENCE_MS = 600_000;
/** Requests of this bench's own at once. */
const WORKERS = 16;

const GROUP = { group: "januscontroller.clustergarage.io", version: "v1alpha1", namespace: "default" } as const;
const MERGE = setHeaderOptions("Content-Type", PatchStrategy.MergePatch);
const range = (count: number): number[] => Array.from({ length: count }, (_, index) => index);

/** Counts what goes through to the API server and back. */
class Meter {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  bytes = 0;

  private constructor(server: Server) {
    this.#server = server;
  }

  static async start(to: number): Promise<Meter> {
    const server = createServer();
    const meter = new Meter(server);
    server.on("connection", (client) => {
      const api = connect(to, "127.0.0.1");
      for (const [from, into] of [
        [client, api],
        [api, client],
      ] as const) {
        meter.#sockets.add(from);
        from.on("data", (data) => {
          meter.bytes += data.length;
        });
        from.on("error", () => into.destroy());
        from.on("close", () => {
          meter.#sockets.delete(from);
          into.destroy();
        });
        from.pipe(into);
      }
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    return meter;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  close(): void {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
  }
}

interface Asked {
  readonly verb: string;
  readonly resource: string;
  readonly atMs: number;
}

/** What the daemons asked, by the API server's audit log. */
function requests(api: KubeApi): Asked[] {
  const seen = new Set<string>();
  return readFileSync(api.auditLog, "utf8")
    .split("\n")
    .flatMap((line) => {
      if (line === "") return [];
      const { auditID, verb, objectRef, requestReceivedTimestamp } = JSON.parse(line);
      if (seen.has(auditID)) return [];
      seen.add(auditID);
      return [{ verb, resource: objectRef?.resource ?? "", atMs: Date.parse(requestReceivedTimestamp) }];
    });
}

async function each<Item>(items: readonly Item[], work: (item: Item) => Promise<unknown>): Promise<void> {
  const queue = [...items];
  const worker = async (): Promise<void> => {
    for (let item = queue.shift(); item !== undefined; item = queue.shift()) await work(item);
  };
  await Promise.all(range(WORKERS).map(worker));
}

const nodeName = (index: number): string => `node-${index}`;

/** Of a node's pods, the first is selected by the guard that is changed; each other by one of the 500 more. */
class Objects {
  readonly #core: CoreV1Api;
  readonly #custom: CustomObjectsApi;

  constructor(kubeconfig: string) {
    const config = new KubeConfig();
    config.loadFromFile(kubeconfig);
    this.#core = config.makeApiClient(CoreV1Api);
    this.#custom = config.makeApiClient(CustomObjectsApi);
  }

  async makeNode(index: number): Promise<void> {
    await this.#core.createNode({ body: { metadata: { name: nodeName(index) } } });
  }

  async makePod(node: number, index: number, turn = 0): Promise<void> {
    const name = `pod-${node}-${index}-${turn}`;
    const app = index === 0 ? "everywhere" : `app-${(node * PODS + index) % (GUARDS - 1)}`;
    const environment = range(20).map((number) => ({ name: `VARIABLE_${number}`, value: "some value or other" }));
    await this.#core.createNamespacedPod({
      namespace: "default",
      body: {
        metadata: { name, labels: { app } },
        spec: { nodeName: nodeName(node), containers: [{ name: "main", image: "test", env: environment }] },
      },
    });
    const running = { name: "main", ready: true, restartCount: 0, image: "test", imageID: "", started: true };
    const status = { ...running, containerID: `containerd://${containerOf(node, index)}`, state: { running: {} } };
    const body = { status: { phase: "Running", containerStatuses: [status] } };
    await this.#core.patchNamespacedPodStatus({ namespace: "default", name, body }, MERGE);
  }

  async replacePod(node: number, index: number): Promise<void> {
    await this.#core.deleteNamespacedPod({
      namespace: "default",
      name: `pod-${node}-${index}-0`,
      gracePeriodSeconds: 0,
    });
    await this.makePod(node, index, 1);
  }

  async makeGuard(index: number): Promise<void> {
    const app = index === 0 ? "everywhere" : `app-${index - 1}`;
    const deny = range(10).map((number) => `/etc/secrets-${number}`);
    await this.#custom.createNamespacedCustomObject({
      ...{ ...GROUP, plural: "janusguards" },
      body: {
        apiVersion: `${GROUP.group}/${GROUP.version}`,
        kind: "JanusGuard",
        metadata: { name: `guard-${index}` },
        spec: { selector: { matchLabels: { app } }, subjects: [{ deny, events: ["open"], scope: "container" }] },
      },
    });
  }

  /** The guard that selects a pod of each node. */
  async changeGuard(turn: number): Promise<void> {
    const body = { spec: { subjects: [{ deny: [`/etc/changed-${turn}`], events: ["open"], scope: "container" }] } };
    await this.#custom.patchNamespacedCustomObject({ ...GROUP, plural: "janusguards", name: "guard-0", body }, MERGE);
  }
}

function containerOf(node: number, index: number): string {
  return (node * PODS + index).toString(16).padStart(64, "0");
}

class Daemons {
  readonly #children: ChildProcess[] = [];
  /** When guards were held, by their name. */
  readonly held: { readonly guard: string; readonly atMs: number }[] = [];
  readonly heapBytes: number[] = [];
  readonly failures: string[] = [];

  start(kubeconfig: string): void {
    for (let first = 0; first < NODES; first += DAEMONS_OF_A_PROCESS) {
      const child = fork(new URL("cluster-daemons.ts", import.meta.url), [], {
        execArgv: [...process.execArgv, "--expose-gc"],
      });
      if (child.pid !== undefined) killAtExit(child.pid);
      child.on("message", (word: Word) => {
        if (word.kind === "held") this.held.push(word);
        else if (word.kind === "synced") this.heapBytes.push(word.heapBytes);
        else this.failures.push(word.failure);
      });
      const nodes = range(Math.min(DAEMONS_OF_A_PROCESS, NODES - first)).map((index) => ({
        name: nodeName(first + index),
        containers: range(PODS).map((pod) => containerOf(first + index, pod)),
      }));
      const assignment: Assignment = { kubeconfig, guards: GUARDS, nodes };
      child.send(assignment);
      this.#children.push(child);
    }
  }

  get synced(): boolean {
    return this.heapBytes.length === this.#children.length;
  }

  end(): void {
    for (const child of this.#children) child.kill("SIGKILL");
  }
}

async function until(what: string, done: () => boolean, everyMs = 200): Promise<void> {
  for (const end = performance.now() + PATIENCE_MS; performance.now() < end; await sleep(everyMs)) if (done()) return;
  throw new Error(`not in time: ${what}`);
}

export async function cluster(figures: Figures): Promise<void> {
  const missing = kubeSkip("kube-apiserver");
  if (missing !== false) throw new Error(missing);
  const api = await KubeApi.start();
  const meter = await Meter.start(Number(new URL(api.url).port));
  const daemons = new Daemons();
  try {
    await installCrds(api);
    api.kubectl(["create", "serviceaccount", "janusd"]);
    const admin = ["--clusterrole=cluster-admin", "--serviceaccount=default:janusd"];
    api.kubectl(["create", "clusterrolebinding", "janusd", ...admin]);
    const objects = new Objects(api.kubeconfig);
    await each(range(NODES), (node) => objects.makeNode(node));
    await each(range(GUARDS), (guard) => objects.makeGuard(guard));
    await each(range(NODES * PODS), (pod) => objects.makePod(Math.floor(pod / PODS), pod % PODS));

    const kubeconfig = api.serviceAccount("default", "janusd");
    writeFileSync(kubeconfig, readFileSync(kubeconfig, "utf8").replace(api.url, `https://127.0.0.1:${meter.port}`));
    daemons.start(kubeconfig);
    await until("all daemons know all guards", () => daemons.synced);
    await until("a guard is held on each pod", () => daemons.held.length >= NODES * PODS);
    figures.add("cluster_start_kb", meter.bytes / NODES / 1024);
    figures.add("cluster_heap_mb", daemons.heapBytes.reduce((a, b) => a + b, 0) / daemons.heapBytes.length / 2 ** 20);
    const isQuiet = () =>
      requests(api).every(({ resource, atMs }) => resource !== "janusguards" || atMs < Date.now() - QUIET_MS);
    await until("the guards' status is written", isQuiet, LOOK_MS);
    figures.add("cluster_watches", requests(api).filter(({ verb }) => verb === "watch").length / NODES);

    /** A daemon's share, a minute. */
    const measure = async (work: () => Promise<unknown>): Promise<{ requests: number; kb: number }> => {
      const [begun, bytes] = [Date.now(), meter.bytes];
      await work();
      const minutes = (Date.now() - begun) / 60_000;
      const asked = requests(api).filter(({ atMs }) => atMs >= begun).length;
      return { requests: asked / NODES / minutes, kb: (meter.bytes - bytes) / NODES / 1024 / minutes };
    };
    const idle = await measure(() => sleep(IDLE_MS));
    figures.add("cluster_idle_requests_per_min", idle.requests);
    figures.add("cluster_idle_kb_per_min", idle.kb);
    figures.add("cluster_5000_idle_requests_per_s", (idle.requests * LARGE) / 60);
    figures.add("cluster_5000_idle_mb_per_s", (idle.kb * LARGE) / 60 / 1024);

    const replaced = range(NODES * REPLACED);
    const rollout = await measure(async () => {
      const paced = each(replaced, async (number) => {
        await objects.replacePod(number % NODES, 1 + Math.floor(number / NODES));
        await sleep((ROLLOUT_MS / replaced.length) * WORKERS);
      });
      await Promise.all([paced, sleep(ROLLOUT_MS)]);
    });
    figures.add("cluster_rollout_requests_per_min", rollout.requests);
    figures.add("cluster_rollout_kb_per_min", rollout.kb);

    const taken: number[] = [];
    for (const turn of range(CHANGES)) {
      daemons.held.length = 0;
      const begun = Date.now();
      await objects.changeGuard(turn);
      const ofIt = () => daemons.held.filter(({ guard }) => guard === "guard-0");
      await until("the change is enforced on each node", () => ofIt().length >= NODES);
      taken.push(...ofIt().map(({ atMs }) => atMs - begun));
    }
    figures.add("cluster_enforced_p50_ms", quantile(taken, 0.5));
    figures.add("cluster_enforced_p99_ms", quantile(taken, 0.99));

    await api.stopServer();
    await sleep(OUTAGE_MS);
    await api.startServer();
    const back = Date.now();
    await sleep(60_000);
    const seconds = Map.groupBy(
      requests(api).filter(({ atMs }) => atMs > back - OUTAGE_MS),
      ({ atMs }) => Math.floor(atMs / 1000),
    );
    figures.add("cluster_back_peak_requests_per_s", Math.max(...[...seconds.values()].map(({ length }) => length)));
    if (daemons.failures.length > 0) throw new Error(daemons.failures.slice(0, 5).join("\n"));
  } finally {
    daemons.end();
    meter.close();
    await api.stop();
  }
}
