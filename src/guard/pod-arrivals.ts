/**
 * Containers of pods that are about to run. One follower decides: it guards each that a guard selects, and admits all.
 * Nobody is held before there is one.
 */
import type { Log } from "../log.js";
import type { Arrival, Engine } from "../native.js";

export interface PodArrivalsOptions {
  readonly engine: Pick<Engine, "holdArrivals" | "takeArrivals" | "admit">;
  readonly log: Pick<Log, "error">;
}

/** Called on the event loop as soon as they have arrived. Each has to be admitted, some time. */
export type Follower = (arrivals: readonly Arrival[]) => void;

export class PodArrivals {
  readonly #engine: PodArrivalsOptions["engine"];
  readonly #log: PodArrivalsOptions["log"];
  #follower: Follower | undefined;

  constructor({ engine, log }: PodArrivalsOptions) {
    this.#engine = engine;
    this.#log = log;
  }

  /** Holds containers from now on, until `release`. Throws NativeError if this kernel can't even tell of them. */
  hold(follower: Follower): void {
    if (this.#follower === undefined) this.#engine.holdArrivals(true);
    this.#follower = follower;
  }

  /** All that are held go on; nobody is told of any more. */
  release(): void {
    if (this.#follower === undefined) return;
    this.#follower = undefined;
    this.#engine.holdArrivals(false);
  }

  /** As `Engine.admit`. */
  admit(cgroupId: bigint, guarded: boolean): boolean {
    return this.#engine.admit(cgroupId, guarded);
  }

  /** What the engine's `onWake` calls: tells the follower, and the engine that somebody listens. */
  deliver(): void {
    const follower = this.#follower;
    if (follower === undefined) return;
    const arrivals = this.#engine.takeArrivals();
    if (arrivals.length === 0) return;
    try {
      follower(arrivals);
    } catch (error) {
      this.#log.error({ err: error }, "containers that start could not be seen to: they go on");
      for (const { cgroupId } of arrivals) this.#engine.admit(cgroupId, false);
    }
  }
}
