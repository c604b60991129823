/**
 * Keeps this node's JanusNode: made once, owned by the Node, and its status written when something changed. Writes are
 * some seconds apart, by chance, so that a change that every node sees is no storm.
 */
import { CoreV1Api, CustomObjectsApi, type KubeConfig } from "@kubernetes/client-node";
import { API_VERSION } from "../guard/document.js";
import type { Log } from "../log.js";
import { explainFailure, statusOf } from "./failure.js";
import { backoff, between } from "./jitter.js";
import { type NodeFacts, type NodeStatus, nodeStatus, sameBut } from "./node-status.js";
import { FIELD_MANAGER, mergePatch, OWN_GROUP } from "./own-resources.js";
import type { Coverage, ResourceOutcome } from "./reconcile.js";

/** From a change to its being written, at most and at least. Milliseconds. */
const DELAY_MIN_MS = 500;
const DELAY_MAX_MS = 3000;

/** How often is looked whether something changed that nobody tells of. Milliseconds. */
const LOOK_MS = 5000;

/** Whatever happens, it is written so often: who reads it takes a daemon that does not for dead. Milliseconds. */
export const HEARTBEAT_MS = 2 * 60_000;

/** After a write that failed; twice as long each time. Milliseconds. */
const RETRY_MIN_MS = 2000;
const RETRY_MAX_MS = 120_000;

const NODES = { ...OWN_GROUP, plural: "janusnodes" } as const;

export interface NodeObjectOptions {
  readonly nodeName: string;
  readonly kubeConfig: () => KubeConfig;
  readonly facts: () => NodeFacts;
  readonly outcomes: () => { readonly resources: readonly ResourceOutcome[]; readonly coverage: Coverage };
  readonly log: Log;
}

export class NodeObject {
  readonly #options: NodeObjectOptions;
  readonly #looking: NodeJS.Timeout;
  #timer: NodeJS.Timeout | undefined;
  #writing = false;
  #written: NodeStatus | undefined;
  #writtenAt = 0;
  #tries = 0;
  #failure: string | undefined;
  #closed = false;

  constructor(options: NodeObjectOptions) {
    this.#options = options;
    this.#looking = setInterval(() => this.look(), LOOK_MS);
    this.look();
  }

  /** Why the status is not written. Undefined: it is. */
  get failure(): string | undefined {
    return this.#failure;
  }

  /** Something may have changed: if so, it is written soon. */
  look(): void {
    if (this.#closed || this.#writing || this.#timer !== undefined) return;
    this.#timer = setTimeout(
      () => {
        this.#timer = undefined;
        if (this.#isDue()) void this.#write();
      },
      between(DELAY_MIN_MS, DELAY_MAX_MS),
    );
  }

  close(): void {
    this.#closed = true;
    clearInterval(this.#looking);
    clearTimeout(this.#timer);
  }

  #isDue(): boolean {
    if (this.#written === undefined) return true;
    const next = this.#status();
    return !sameBut(next, this.#written) || performance.now() - this.#writtenAt > HEARTBEAT_MS;
  }

  #status(): NodeStatus {
    const { facts, outcomes } = this.#options;
    const { resources, coverage } = outcomes();
    return nodeStatus(facts(), resources, coverage, this.#written, new Date().toISOString());
  }

  async #write(): Promise<void> {
    const { log, nodeName } = this.#options;
    this.#writing = true;
    let pauseMs = 0;
    try {
      const status = this.#status();
      await this.#put(status);
      this.#written = status;
      this.#writtenAt = performance.now();
      this.#tries = 0;
      if (this.#failure !== undefined) log.info({ node: nodeName }, "the node's status is written again");
      this.#failure = undefined;
    } catch (error) {
      const failure = error instanceof Refused ? error.message : String(error);
      if (failure !== this.#failure) log.warn({ node: nodeName, failure }, "the node's status is not written");
      this.#failure = failure;
      pauseMs = backoff(this.#tries++, RETRY_MIN_MS, RETRY_MAX_MS);
    }
    this.#writing = false;
    this.#timer = undefined;
    if (this.#closed) return;
    if (pauseMs > 0) this.#timer = setTimeout(() => void this.#write(), pauseMs);
  }

  async #put(status: NodeStatus): Promise<void> {
    if (this.#written === undefined) await this.#make();
    try {
      await this.#patch(status);
    } catch (error) {
      if (statusOf(error) !== 404) throw refused(error, "patch", "janusnodes/status");
      await this.#make();
      await this.#patch(status).catch((again: unknown) => Promise.reject(refused(again, "patch", "janusnodes/status")));
    }
  }

  async #patch(status: NodeStatus): Promise<void> {
    const api = this.#options.kubeConfig().makeApiClient(CustomObjectsApi);
    const request = { ...NODES, name: this.#options.nodeName, body: { status }, fieldManager: FIELD_MANAGER };
    await api.patchClusterCustomObjectStatus(request, mergePatch());
  }

  /** It goes with the Node. One that is there is taken as it is. */
  async #make(): Promise<void> {
    const { nodeName: name, kubeConfig } = this.#options;
    const core = kubeConfig().makeApiClient(CoreV1Api);
    const node = await core.readNode({ name }).catch((error: unknown) => {
      const reason = `the cluster has no Node ${JSON.stringify(name)}: --node-name has to be this node's`;
      throw statusOf(error) === 404 ? new Refused(reason) : refused(error, "get", `nodes ${JSON.stringify(name)}`);
    });
    const owner = { apiVersion: "v1", kind: "Node", name, uid: node.metadata?.uid ?? "" };
    const body = {
      apiVersion: API_VERSION,
      kind: "JanusNode",
      metadata: { name, ownerReferences: [owner] },
    };
    try {
      await kubeConfig()
        .makeApiClient(CustomObjectsApi)
        .createClusterCustomObject({ ...NODES, body });
    } catch (error) {
      if (statusOf(error) !== 409) throw refused(error, "create", "janusnodes");
    }
  }
}

class Refused extends Error {
  override readonly name = "Refused";
}

function refused(error: unknown, verb: string, resource: string): Refused {
  return new Refused(explainFailure(error, verb, resource), { cause: error });
}
