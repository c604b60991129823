/**
 * Writes the status of the guards, from what the nodes say: while this daemon holds the Lease. Only what changed, and a
 * few a second.
 */
import { setTimeout as pause } from "node:timers/promises";
import { CustomObjectsApi, type KubeConfig } from "@kubernetes/client-node";
import type { Log } from "../log.js";
import type { Collection } from "./collection.js";
import { explainFailure, statusOf } from "./failure.js";
import { type GuardStatus, guardStatus, isWritten, type NodeReport } from "./guard-status.js";
import type { NodeGuard } from "./node-status.js";
import { FIELD_MANAGER, mergePatch, OWN_GROUP, PLURALS } from "./own-resources.js";
import { Pulse } from "./pulse.js";
import { nameOf, type ReadResource } from "./resource.js";
import type { Labels } from "./selector.js";
import { type SilentPods, silentReport } from "./silent-pods.js";

/** Nodes' words come one after the other: they are waited for. Milliseconds. */
const DEBOUNCE_MS = 1000;

/** Between two writes, at least, and for each node: its daemon hears of every write. Milliseconds. */
const WRITE_MS = 50;
const WRITE_NODE_MS = 0.1;

/** After a change of a guard, until each node that selects pods must have said so: more than NodeObject's delay. */
const SETTLE_MS = 5000;

/** How often is looked for nodes whose daemon is silent. Milliseconds. */
const PULSE_MS = 30_000;

/** What a JanusNode says. */
export interface SeenNode {
  readonly name: string;
  /** "": it says none. */
  readonly heartbeat: string;
  readonly guards: readonly NodeGuard[];
}

/** Written by daemons, by the API server's schema; of another version, perhaps, so that what isn't as it should be is left out. */
export function readNode(object: {
  readonly metadata?: { readonly name?: string };
  readonly status?: unknown;
}): SeenNode {
  const field = (name: string): unknown =>
    typeof object.status === "object" && object.status !== null && Reflect.get(object.status, name);
  const [guards, heartbeat] = [field("guards"), field("heartbeat")];
  return {
    name: object.metadata?.name ?? "",
    heartbeat: typeof heartbeat === "string" ? heartbeat : "",
    guards: Array.isArray(guards) ? guards.filter(isNodeGuard) : [],
  };
}

function isNodeGuard(guard: unknown): guard is NodeGuard {
  if (typeof guard !== "object" || guard === null) return false;
  const has = (type: "string" | "number" | "boolean", ...fields: readonly (keyof NodeGuard)[]): boolean =>
    fields.every((field) => typeof Reflect.get(guard, field) === type);
  return (
    has("string", "namespace", "name", "uid", "reason", "message") &&
    has("number", "observedGeneration", "enforcedGeneration", "observablePods", "guardedPods", "containers") &&
    has("boolean", "ready")
  );
}

export interface GuardWriterOptions {
  readonly nodes: Collection<SeenNode>;
  /** Of nodes whose daemon is silent. Closed with the writer. */
  readonly silentPods: SilentPods;
  readonly resources: () => readonly ReadResource[];
  readonly namespaces: () => ReadonlyMap<string, Labels>;
  readonly kubeConfig: () => KubeConfig;
  readonly log: Log;
}

export class GuardWriter {
  readonly #options: GuardWriterOptions;
  /** Since when each guard is as it is: by uid. */
  readonly #since = new Map<string, { readonly generation: number; readonly at: number }>();
  readonly #pulse = new Pulse();
  readonly #feeling: NodeJS.Timeout;
  #timer: NodeJS.Timeout | undefined;
  #writing = false;
  #failure: string | undefined;
  #closed = false;

  constructor(options: GuardWriterOptions) {
    this.#options = options;
    options.nodes.start();
    this.#feeling = setInterval(() => this.look(), PULSE_MS);
    this.look();
  }

  get failure(): string | undefined {
    return this.#failure;
  }

  look(): void {
    if (!this.#closed) this.#timer ??= setTimeout(() => void this.#write(), DEBOUNCE_MS);
  }

  close(): void {
    this.#closed = true;
    clearInterval(this.#feeling);
    clearTimeout(this.#timer);
    this.#options.nodes.close();
    this.#options.silentPods.close();
  }

  async #write(): Promise<void> {
    this.#timer = undefined;
    const { nodes, silentPods } = this.#options;
    if (this.#writing || !nodes.synced) return this.look();
    const silent = this.#pulse.silent(nodes.items);
    silentPods.follow(silent);
    if (!silentPods.settled) return this.look();
    this.#writing = true;
    let failure: string | undefined;
    for (const [resource, status] of this.#due(silent)) {
      try {
        await this.#patch(resource, status);
      } catch (error) {
        failure = explainFailure(error, "patch", `${PLURALS[resource.kind]}/status`);
        if (failure !== this.#failure) this.#options.log.warn({ failure }, "guards' status is not written");
        break;
      }
      await pause(Math.max(WRITE_MS, nodes.size * WRITE_NODE_MS));
      if (this.#closed) break;
    }
    this.#failure = failure;
    this.#writing = false;
    const isAnyNew = [...this.#since.values()].some(({ at }) => performance.now() - at < SETTLE_MS + DEBOUNCE_MS);
    if (failure !== undefined || isAnyNew) this.look();
  }

  #due(silent: ReadonlySet<string>): [ReadResource, GuardStatus][] {
    const resources = this.#options.resources();
    const reports = this.#reports(resources, silent);
    const uids = new Set(resources.map(({ uid }) => uid));
    for (const uid of this.#since.keys()) if (!uids.has(uid)) this.#since.delete(uid);
    const now = new Date().toISOString();
    return resources.flatMap((resource): [ReadResource, GuardStatus][] => {
      const next = guardStatus(resource, reports.get(resource.uid) ?? [], this.#isNew(resource), now);
      return isWritten(resource, next) ? [] : [[resource, next]];
    });
  }

  /** By the guard's uid. */
  #reports(
    resources: readonly ReadResource[],
    silent: ReadonlySet<string>,
  ): ReadonlyMap<string, readonly NodeReport[]> {
    const { nodes, silentPods, namespaces } = this.#options;
    const reports = new Map<string, NodeReport[]>();
    const add = (report: NodeReport): void => {
      const ofGuard = reports.get(report.guard.uid);
      if (ofGuard === undefined) reports.set(report.guard.uid, [report]);
      else ofGuard.push(report);
    };
    const labels = namespaces();
    for (const { name: node, guards } of nodes.items) {
      if (!silent.has(node)) {
        for (const guard of guards) add({ node, guard, isSilent: false });
        continue;
      }
      const pods = silentPods.of(node);
      const said = new Map(guards.map((guard) => [guard.uid, guard]));
      for (const resource of resources) {
        const guard = silentReport(resource, pods, labels, said.get(resource.uid));
        if (guard !== undefined) add({ node, guard, isSilent: true });
      }
    }
    return reports;
  }

  #isNew({ uid, generation }: ReadResource): boolean {
    const known = this.#since.get(uid);
    if (known?.generation === generation) return performance.now() - known.at < SETTLE_MS;
    this.#since.set(uid, { generation, at: performance.now() });
    return true;
  }

  async #patch(resource: ReadResource, status: GuardStatus): Promise<void> {
    const api = this.#options.kubeConfig().makeApiClient(CustomObjectsApi);
    const { kind, namespace, name } = resource;
    const plural = PLURALS[kind];
    const request = { ...OWN_GROUP, plural, name, body: { status }, fieldManager: FIELD_MANAGER };
    try {
      if (kind === "ClusterJanusGuard") await api.patchClusterCustomObjectStatus(request, mergePatch());
      else await api.patchNamespacedCustomObjectStatus({ ...request, namespace }, mergePatch());
    } catch (error) {
      if (statusOf(error) !== 404) throw error; // it is gone
      this.#options.log.debug({ resource: nameOf(resource) }, "a guard was deleted before its status was written");
    }
  }
}
