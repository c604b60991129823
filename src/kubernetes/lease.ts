/**
 * Who of all daemons writes what concerns the whole cluster: whoever holds the Lease. As in Kubernetes' own programs, a
 * lease is over when it was not renewed for its duration by this node's clock, whatever the time in it says.
 */
import { CoordinationV1Api, type KubeConfig, type V1Lease, V1MicroTime } from "@kubernetes/client-node";
import type { Log } from "../log.js";
import { explainFailure, statusOf } from "./failure.js";
import { between } from "./jitter.js";

const NAME = "janusd";
const DURATION_MS = 60_000;
const RENEW_MS = 15_000;

/** All but one only look, and there are thousands of them. Milliseconds. */
const LOOK_MIN_MS = 20_000;
const LOOK_MAX_MS = 40_000;

/** Who has just started looks soon: perhaps there is nobody yet. */
const FIRST_MS = 3000;

export interface LeaseOptions {
  /** Of the holder: unique in the cluster. */
  readonly identity: string;
  readonly namespace: string;
  readonly kubeConfig: () => KubeConfig;
  readonly onChange: (leading: boolean) => void;
  readonly log: Log;
}

export class Lease {
  readonly #options: LeaseOptions;
  #timer: NodeJS.Timeout;
  #leading = false;
  #renewedAt = 0;
  /** As it was seen last, and since when it is like that. */
  #seen: { readonly version: string; readonly since: number } | undefined;
  #failure: string | undefined;
  #closed = false;

  constructor(options: LeaseOptions) {
    this.#options = options;
    this.#timer = setTimeout(() => void this.#turn(), between(0, FIRST_MS));
  }

  /** Why it cannot be had or looked at. Undefined: it can. */
  get failure(): string | undefined {
    return this.#failure;
  }

  /** Gives it up, so that another need not wait. Never rejects. */
  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    if (!this.#leading) return;
    this.#become(false);
    await this.#exchange("").catch(() => undefined); // it runs out by itself
  }

  async #turn(): Promise<void> {
    try {
      const held = await this.#exchange(this.#options.identity);
      if (held) this.#renewedAt = performance.now();
      this.#become(held);
      this.#failure = undefined;
    } catch (error) {
      const failure = explainFailure(error, "get, create or update", `leases "${NAME}"`);
      if (failure !== this.#failure) this.#options.log.warn({ failure }, "who writes the guards' status is not known");
      this.#failure = failure;
      if (performance.now() - this.#renewedAt > DURATION_MS) this.#become(false);
    }
    if (this.#closed) return;
    const pauseMs = this.#leading ? RENEW_MS : between(LOOK_MIN_MS, LOOK_MAX_MS);
    this.#timer = setTimeout(() => void this.#turn(), pauseMs);
  }

  /** Takes or renews it, if it is free or ours; `holder` "" gives it up. Whether it is ours now. */
  async #exchange(holder: string): Promise<boolean> {
    const { namespace, kubeConfig, identity } = this.#options;
    const api = kubeConfig().makeApiClient(CoordinationV1Api);
    try {
      const found = await api.readNamespacedLease({ name: NAME, namespace }).catch((error: unknown) => {
        if (statusOf(error) === 404) return undefined;
        throw error;
      });
      if (found === undefined) {
        await api.createNamespacedLease({ namespace, body: this.#lease(holder, undefined) });
        return true;
      }
      if (found.spec?.holderIdentity !== identity && !this.#isOver(found)) return false;
      await api.replaceNamespacedLease({ name: NAME, namespace, body: this.#lease(holder, found) });
      return holder !== "";
    } catch (error) {
      if (statusOf(error) === 409) return false; // another was quicker
      throw error;
    }
  }

  #isOver({ metadata, spec }: V1Lease): boolean {
    const version = metadata?.resourceVersion ?? "";
    if (this.#seen?.version !== version) this.#seen = { version, since: performance.now() };
    return (spec?.holderIdentity ?? "") === "" || performance.now() - this.#seen.since > DURATION_MS;
  }

  #lease(holderIdentity: string, before: V1Lease | undefined): V1Lease {
    const isOurs = before?.spec?.holderIdentity === holderIdentity;
    const renewTime = new V1MicroTime();
    const acquireTime = isOurs ? before?.spec?.acquireTime : renewTime;
    return {
      metadata: before?.metadata ?? { name: NAME, namespace: this.#options.namespace },
      spec: {
        ...{ holderIdentity, renewTime, leaseDurationSeconds: DURATION_MS / 1000 },
        ...(acquireTime && { acquireTime }),
        leaseTransitions: (before?.spec?.leaseTransitions ?? 0) + (isOurs ? 0 : 1),
      },
    };
  }

  #become(leading: boolean): void {
    if (leading === this.#leading) return;
    this.#leading = leading;
    this.#options.log.info({ leading }, "the guards' status in the cluster is this daemon's to write, or not");
    this.#options.onChange(leading);
  }
}
