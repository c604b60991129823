/**
 * Writes the Events on pods: an object for each Denial, made once and then brought up to date. One request at a time, and
 * no more of them than Denials allows, however much is denied.
 */
import { CoreV1Api, type CoreV1Event, type KubeConfig } from "@kubernetes/client-node";
import type { Log } from "../log.js";
import type { Denial, Denials } from "./denials.js";
import { explainFailure, statusOf } from "./failure.js";
import { backoff, between } from "./jitter.js";
import { FIELD_MANAGER, mergePatch } from "./own-resources.js";

/** What comes within this of a denial is told with it. Milliseconds. */
const DELAY_MIN_MS = 500;
const DELAY_MAX_MS = 1500;

/** How often is looked for what has come due, and for what is over. Milliseconds. */
const LOOK_MS = 1000;
const SWEEP_MS = 60_000;

/** After the API server did not answer; twice as long each time. Milliseconds. */
const RETRY_MIN_MS = 2000;
const RETRY_MAX_MS = 120_000;

export interface EventWriterOptions {
  readonly denials: Denials;
  readonly kubeConfig: () => KubeConfig;
  readonly log: Log;
}

export class EventWriter {
  readonly #options: EventWriterOptions;
  readonly #sweeping: NodeJS.Timeout;
  #timer: NodeJS.Timeout | undefined;
  #writing = false;
  #tries = 0;
  #written = 0;
  #failed = 0;
  #failure: string | undefined;
  #closed = false;

  constructor(options: EventWriterOptions) {
    this.#options = options;
    const { denials } = options;
    denials.follow(() => this.#look(between(DELAY_MIN_MS, DELAY_MAX_MS)));
    this.#sweeping = setInterval(() => denials.sweep(), SWEEP_MS);
    if (denials.waiting) this.#look(0); // from before there was anybody to tell it to
  }

  /** Events made or brought up to date so far. */
  get written(): number {
    return this.#written;
  }

  /** Requests of which nothing came. */
  get failed(): number {
    return this.#failed;
  }

  /** Why the last one could not be written. Undefined: it could. */
  get failure(): string | undefined {
    return this.#failure;
  }

  close(): void {
    this.#closed = true;
    this.#options.denials.follow(undefined);
    clearInterval(this.#sweeping);
    clearTimeout(this.#timer);
  }

  #look(afterMs: number): void {
    if (this.#closed || this.#writing || this.#timer !== undefined) return;
    this.#timer = setTimeout(() => void this.#write(), afterMs);
  }

  async #write(): Promise<void> {
    const { denials } = this.#options;
    this.#timer = undefined;
    this.#writing = true;
    let pauseMs = LOOK_MS;
    for (let denial = denials.take(); denial !== undefined && !this.#closed; denial = denials.take()) {
      if (await this.#tell(denial)) continue;
      pauseMs = backoff(this.#tries++, RETRY_MIN_MS, RETRY_MAX_MS);
      break;
    }
    this.#writing = false;
    if (denials.waiting) this.#look(pauseMs);
  }

  /** Whether the API server answered. */
  async #tell(denial: Denial): Promise<boolean> {
    const { denials, log } = this.#options;
    const { count, told } = denial;
    const verb = told === 0 ? "create" : "patch";
    try {
      await (told === 0 ? this.#make(denial) : this.#update(denial));
      denial.told = count;
      this.#tries = 0;
      this.#written++;
      this.#failure = undefined;
      return true;
    } catch (error) {
      const status = statusOf(error) ?? 0;
      if (verb === "patch" && status === 404) {
        // The cluster keeps Events for an hour, by default.
        denial.renew();
        denials.putBack(denial);
        return true;
      }
      this.#failed++;
      const failure = explainFailure(error, verb, "events");
      if (failure !== this.#failure) log.warn({ failure }, "denials are not told as Events");
      this.#failure = failure;
      // For good: a right is missing, or the namespace is about to go. What is said of credentials and load passes.
      const isRefused = status >= 400 && status < 500 && status !== 401 && status !== 429;
      if (isRefused) denials.giveUp(denial);
      else denials.putBack(denial);
      return isRefused;
    }
  }

  async #make(denial: Denial): Promise<void> {
    const { namespace, pod, podUid, node } = denial.subject;
    const body: CoreV1Event = {
      metadata: { name: denial.event, namespace },
      involvedObject: { apiVersion: "v1", kind: "Pod", namespace, name: pod, uid: podUid },
      type: "Warning",
      reason: denial.reason,
      source: { component: FIELD_MANAGER, host: node },
      reportingComponent: FIELD_MANAGER,
      reportingInstance: node,
      firstTimestamp: new Date(denial.firstMs),
      ...newest(denial),
    };
    const api = this.#options.kubeConfig().makeApiClient(CoreV1Api);
    try {
      await api.createNamespacedEvent({ namespace, body, fieldManager: FIELD_MANAGER });
    } catch (error) {
      if (statusOf(error) !== 409) throw error;
      await this.#update(denial); // an earlier try came through, and its answer did not
    }
  }

  async #update(denial: Denial): Promise<void> {
    const api = this.#options.kubeConfig().makeApiClient(CoreV1Api);
    const { namespace } = denial.subject;
    const request = { name: denial.event, namespace, body: newest(denial), fieldManager: FIELD_MANAGER };
    await api.patchNamespacedEvent(request, mergePatch());
  }
}

/** What changes with each denial. */
function newest({ count, lastMs, message }: Denial): Pick<CoreV1Event, "count" | "lastTimestamp" | "message"> {
  return { count, lastTimestamp: new Date(lastMs), message };
}
