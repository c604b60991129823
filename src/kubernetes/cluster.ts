/**
 * Guards from Kubernetes: what is watched, and what of it this node holds. The only one that knows both the API server
 * and the node's container runtime.
 */
import { randomUUID } from "node:crypto";
import { CoreV1Api, CustomObjectsApi, type KubeConfig, type KubernetesObject } from "@kubernetes/client-node";
import type { PodArrivals } from "../guard/pod-arrivals.js";
import type { GuardRegistry, ResourceKind } from "../guard/registry.js";
import type { Log } from "../log.js";
import type { Engine } from "../native.js";
import { Admission } from "./admission.js";
import { Collection, type CollectionOptions } from "./collection.js";
import { Connection } from "./connection.js";
import { ContainerRuntime, findCriSocket, type PodContainer } from "./cri.js";
import type { Denials } from "./denials.js";
import { EventWriter } from "./event-writer.js";
import { GuardWriter, readNode } from "./guard-writer.js";
import { LastGood } from "./last-good.js";
import { Lease } from "./lease.js";
import { NodeObject } from "./node-object.js";
import type { NodeFacts } from "./node-status.js";
import { OWN_GROUP, PLURALS, resourceName, resourcePath } from "./own-resources.js";
import { type ApiPod, readPod, type SeenPod, withContainers } from "./pod.js";
import { Reconciler, type ResourceOutcome, type View } from "./reconcile.js";
import { type ReadResource, readResource } from "./resource.js";
import type { Labels } from "./selector.js";
import { SilentPods } from "./silent-pods.js";

/** Without a word of the API server for so long, what is enforced may not be what it says. Milliseconds. */
const UNHEARD_MS = 120_000;

/** How often the container runtime is asked, and while containers of guarded pods are to start. Milliseconds. */
const CRI_MS = 1000;
const CRI_STARTING_MS = 200;

export interface ClusterOptions {
  /** Undefined: a pod's own credentials. */
  readonly kubeconfig: string | undefined;
  /** Of the container runtime's socket. Undefined: the first of the known ones that is there. */
  readonly criEndpoint: string | undefined;
  readonly nodeName: string;
  /** Where resources are kept as they were when they last made sense. Undefined: nowhere. */
  readonly stateFile: string | undefined;
  readonly registry: Pick<GuardRegistry, "hold" | "release" | "ofResources" | "isHeld">;
  readonly engine: Pick<Engine, "missingContainers">;
  readonly arrivals: Pick<PodArrivals, "hold" | "release" | "admit">;
  /** What Events on pods tell. Undefined: there are none. */
  readonly denials: Denials | undefined;
  readonly log: Log;
}

type Followed = Pick<Collection<unknown>, "start" | "close" | "synced" | "failure" | "failures" | "heardAt">;

interface Namespace {
  readonly name: string;
  readonly labels: Labels;
}

export class Cluster {
  readonly #options: ClusterOptions;
  readonly #connection: Connection;
  readonly #guards: Readonly<Record<ResourceKind, Collection<ReadResource>>>;
  readonly #pods: Collection<SeenPod>;
  readonly #namespaces: Collection<Namespace>;
  readonly #reconciler: Reconciler;
  readonly #lastGood: LastGood;
  readonly #admission: Admission;
  readonly #runtime: ContainerRuntime | undefined;
  #node: NodeObject | undefined;
  #lease: Lease | undefined;
  #writer: GuardWriter | undefined;
  #events: EventWriter | undefined;
  readonly #startedAt = performance.now();
  /** What the runtime said last, by the pod's uid. */
  #containers: ReadonlyMap<string, readonly PodContainer[]> = new Map();
  #said = "";
  #runtimeFailure: string | undefined;
  #timer: NodeJS.Timeout | undefined;
  #followsNamespaces = false;
  /** All that is followed had been listed when the last pass began ... */
  #viewed = false;
  /** ... or an earlier one, which is done. */
  #settled = false;
  #closed = false;

  constructor(options: ClusterOptions) {
    this.#options = options;
    const { kubeconfig, criEndpoint, nodeName, stateFile, registry, engine, arrivals, log } = options;
    this.#connection = new Connection(kubeconfig);
    const shared = { kubeConfig: () => this.#connection.renew(), onChange: () => this.#changed(), log };
    const ofKind = (kind: ResourceKind): Collection<ReadResource> =>
      new Collection({
        ...{ ...shared, resource: resourceName(PLURALS[kind]), path: resourcePath(PLURALS[kind]) },
        list: (kubeConfig) => listOf(kubeConfig, PLURALS[kind]),
        read: (object) => readResource(kind, object),
        // Only its status is another: one of the daemons wrote it.
        isSame: (before, now) => before.uid === now.uid && before.generation === now.generation,
      });
    this.#guards = {
      JanusGuard: ofKind("JanusGuard"),
      ClusterJanusGuard: ofKind("ClusterJanusGuard"),
    };
    this.#pods = podsOf(nodeName, { ...shared, resource: "pods" });
    this.#namespaces = new Collection({
      ...{ ...shared, resource: "namespaces", path: "/api/v1/namespaces" },
      list: (kubeConfig) => kubeConfig.makeApiClient(CoreV1Api).listNamespace(),
      read: ({ metadata }) => ({ name: metadata?.name ?? "", labels: metadata?.labels ?? {} }),
    });
    const socket = criEndpoint ?? findCriSocket();
    this.#runtime = socket === undefined ? undefined : new ContainerRuntime(socket);
    this.#lastGood = new LastGood({ file: stateFile, log });
    const good = this.#lastGood.read();
    const view = () => this.#view();
    this.#reconciler = new Reconciler({ registry, engine, log, view, good, onPass: () => this.#passed() });
    this.#admission = new Admission({
      ...{ arrivals, log },
      standing: (podUid, id) => this.#reconciler.standing(this.#uidOf(podUid), id),
      isContainer: (podUid, id) => this.#containers.get(podUid)?.some((container) => container.id === id) ?? false,
      look: () => {
        this.#askRuntime(0);
        this.#reconciler.look();
      },
    });
  }

  start(): void {
    for (const collection of this.#followed()) collection.start();
    this.#switchAdmission(); // what the last run left may select what starts before anything is listed
  }

  /** From now on the cluster can see what becomes of its guards here. */
  publish(facts: () => NodeFacts): void {
    const { nodeName, denials, log } = this.#options;
    const outcomes = () => ({ resources: this.#reconciler.outcomes, coverage: this.#reconciler.coverage });
    const kubeConfig = () => this.#connection.current;
    if (denials !== undefined) this.#events = new EventWriter({ denials, kubeConfig, log });
    this.#node = new NodeObject({ nodeName, log, facts, outcomes, kubeConfig });
    this.#lease = new Lease({
      identity: `${nodeName}_${randomUUID()}`,
      namespace: this.#connection.namespace,
      ...{ kubeConfig, log, onChange: (leading) => this.#lead(leading) },
    });
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#node?.close();
    this.#events?.close();
    const released = this.#lease?.close();
    clearTimeout(this.#timer);
    this.#admission.on = false;
    this.#reconciler.close();
    for (const collection of [...this.#followed(), this.#namespaces]) collection.close();
    this.#runtime?.close();
    await Promise.all([released, this.#lastGood.close()]);
  }

  /** Of each resource, as of now on this node. */
  get outcomes(): readonly ResourceOutcome[] {
    return this.#reconciler.outcomes;
  }

  /** Since the API server was heard last, of what it was not heard of for longest. */
  get contactAgeSeconds(): number {
    const heard = this.#followed().map(({ heardAt }) => heardAt ?? this.#startedAt);
    return (performance.now() - Math.min(...heard)) / 1000;
  }

  /** Requests that failed so far. */
  get failures(): number {
    return [...this.#followed(), this.#namespaces].reduce((sum, { failures }) => sum + failures, 0);
  }

  /** Resources that are not enforced as they are. */
  get faulty(): number {
    return this.outcomes.filter(({ faults }) => faults.length > 0).length;
  }

  /** Of Events on pods, by outcome. Undefined: there are none. */
  get events(): Readonly<Record<string, number>> | undefined {
    const { denials } = this.#options;
    if (denials === undefined) return undefined;
    const { written = 0, failed = 0 } = this.#events ?? {};
    return { written, failed, suppressed: denials.suppressed };
  }

  /** What keeps from saying that what the cluster wants is enforced. Undefined: nothing does. */
  get failure(): string | undefined {
    const failures = [...this.#failures()].join("; ");
    if (!this.#settled) return failures === "" ? "not known yet what the cluster wants" : failures;
    return this.#runtimeFailure ?? (this.contactAgeSeconds * 1000 > UNHEARD_MS ? failures : undefined);
  }

  /** In words. */
  get detail(): string {
    const age = `the API server was heard ${Math.round(this.contactAgeSeconds)} s ago`;
    const failures = [...this.#failures()];
    return failures.length === 0 ? age : `${age}; ${failures.join("; ")}`;
  }

  *#failures(): Generator<string> {
    for (const { failure } of this.#followed()) if (failure !== undefined) yield failure;
    if (this.#runtimeFailure !== undefined) yield this.#runtimeFailure;
    const writers = [this.#node, this.#lease, this.#writer, this.#events];
    for (const writer of writers) if (writer?.failure !== undefined) yield writer.failure;
  }

  #followed(): Followed[] {
    const always = [...Object.values(this.#guards), this.#pods];
    return this.#followsNamespaces ? [...always, this.#namespaces] : always;
  }

  /** Whoever writes the status of guards follows all nodes: one daemon of the cluster does. */
  #lead(leading: boolean): void {
    this.#writer?.close();
    this.#writer = undefined;
    if (!leading) return;
    const { log } = this.#options;
    const nodes = new Collection({
      ...{ resource: resourceName("janusnodes"), path: resourcePath("janusnodes"), log },
      kubeConfig: () => this.#connection.renew(),
      list: (kubeConfig) => listOf(kubeConfig, "janusnodes"),
      read: readNode,
      onChange: () => this.#writer?.look(),
    });
    const silentPods = new SilentPods((node) =>
      podsOf(node, {
        ...{ resource: `pods of node ${node}`, log },
        kubeConfig: () => this.#connection.renew(),
        onChange: () => this.#writer?.look(),
      }),
    );
    this.#writer = new GuardWriter({
      ...{ nodes, silentPods, log },
      resources: () => this.#resources(),
      namespaces: () => this.#labels(),
      kubeConfig: () => this.#connection.current,
    });
  }

  #changed(): void {
    this.#writer?.look();
    // Namespaces are many: they are followed only where somebody needs them.
    if (!this.#followsNamespaces && [...this.#guards.ClusterJanusGuard.items].some(needsNamespaces)) {
      this.#followsNamespaces = true;
      this.#namespaces.start();
    }
    this.#reconciler.look();
  }

  #view(): View {
    this.#viewed = this.#followed().every(({ synced }) => synced);
    const pods = [...this.#pods.items].flatMap((pod) => {
      if (pod.over) return [];
      return withContainers(pod, this.#containers.get(pod.runtimeUid) ?? []);
    });
    return {
      resources: this.#resources(),
      pods,
      namespaces: this.#labels(),
      complete: {
        JanusGuard: this.#guards.JanusGuard.synced,
        ClusterJanusGuard: this.#guards.ClusterJanusGuard.synced,
        pods: this.#pods.synced,
      },
    };
  }

  #resources(): ReadResource[] {
    return Object.values(this.#guards).flatMap(({ items }) => [...items]);
  }

  /** By the namespace's name. */
  #labels(): ReadonlyMap<string, Labels> {
    return new Map([...this.#namespaces.items].map(({ name, labels }) => [name, labels]));
  }

  #passed(): void {
    this.#settled ||= this.#viewed;
    this.#lastGood.keep(this.#reconciler.good);
    this.#node?.look();
    this.#switchAdmission();
    this.#admission.decide();
    if (this.#admission.wantsList) this.#askRuntime(0);
    else if (this.#timer === undefined) this.#askRuntime();
  }

  #switchAdmission(): void {
    const asks = this.#runtime !== undefined && this.#runtimeFailure === undefined;
    this.#admission.on = !this.#closed && asks && this.#reconciler.hasGuards;
  }

  /** The API server's, of a pod as the node knows it. */
  #uidOf(runtimeUid: string): string {
    for (const pod of this.#pods.items) if (pod.runtimeUid === runtimeUid) return pod.uid;
    return runtimeUid;
  }

  /** `ms`: until then. */
  #askRuntime(ms?: number): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#closed || this.#runtime === undefined || !this.#reconciler.selecting) return;
    const starting = [...this.#pods.items].some((pod) => pod.starting);
    this.#timer = setTimeout(() => void this.#listContainers(), ms ?? (starting ? CRI_STARTING_MS : CRI_MS));
  }

  async #listContainers(): Promise<void> {
    const askedAt = performance.now();
    try {
      const containers = (await this.#runtime?.list()) ?? [];
      const said = JSON.stringify(containers.map(({ podUid, id }) => [podUid, id]).sort());
      if (said !== this.#said) this.#reconciler.look();
      this.#said = said;
      this.#containers = Map.groupBy(containers, ({ podUid }) => podUid);
      this.#runtimeFailure = undefined;
      this.#admission.listed(askedAt);
      this.#switchAdmission();
    } catch (error) {
      const failure = error instanceof Error ? error.message : String(error);
      if (failure !== this.#runtimeFailure) {
        this.#options.log.warn(
          { failure },
          "the container runtime does not answer: containers are known by pods' status",
        );
      }
      this.#runtimeFailure = failure;
      this.#switchAdmission();
    }
    this.#admission.decide();
    this.#askRuntime();
  }
}

function podsOf(
  node: string,
  options: Pick<CollectionOptions<SeenPod>, "kubeConfig" | "resource" | "onChange" | "log">,
): Collection<SeenPod> {
  const fieldSelector = `spec.nodeName=${node}`;
  return new Collection({
    ...{ ...options, path: "/api/v1/pods", fieldSelector },
    list: (kubeConfig) => kubeConfig.makeApiClient(CoreV1Api).listPodForAllNamespaces({ fieldSelector }),
    read: (object: ApiPod) => readPod(object),
  });
}

function needsNamespaces({ guard }: ReadResource): boolean {
  return guard?.namespaceSelector !== undefined;
}

/** Throws what the client throws, and an Error if the answer is no list. */
async function listOf(
  kubeConfig: KubeConfig,
  plural: string,
): Promise<{ metadata: { resourceVersion: string }; items: KubernetesObject[] }> {
  const request = { ...OWN_GROUP, plural };
  const answer: unknown = await kubeConfig.makeApiClient(CustomObjectsApi).listClusterCustomObject(request);
  if (!isList(answer)) throw new Error("the API server's answer is no list");
  return answer;
}

function isList(answer: unknown): answer is { metadata: { resourceVersion: string }; items: KubernetesObject[] } {
  return (
    typeof answer === "object" &&
    answer !== null &&
    "items" in answer &&
    Array.isArray(answer.items) &&
    "metadata" in answer
  );
}
