/**
 * Containers that are held at their first program, until what is known of their pods says that they may go on: nothing
 * selects them, or their guards are held. What isn't known by then is looked for; the engine's limit ends the wait.
 */
import type { PodArrivals } from "../guard/pod-arrivals.js";
import type { Log } from "../log.js";
import type { Arrival } from "../native.js";
import type { Standing } from "./reconcile.js";

/** One that still isn't decided after this has long gone on. Milliseconds. */
const FORGET_MS = 120_000;

export interface AdmissionOptions {
  readonly arrivals: Pick<PodArrivals, "hold" | "release" | "admit">;
  /** By the uid that the node knows the pod by, as of the last pass. */
  readonly standing: (podUid: string, containerId: string) => Standing;
  /** Whether the container runtime has a container of that id. */
  readonly isContainer: (podUid: string, containerId: string) => boolean;
  /** Asks the runtime and the cluster anew. */
  readonly look: () => void;
  readonly log: Log;
}

interface Waiting {
  readonly arrival: Arrival;
  readonly at: number;
  /** The runtime was asked after it came. */
  listed: boolean;
}

export class Admission {
  readonly #options: AdmissionOptions;
  /** By cgroup. */
  readonly #waiting = new Map<bigint, Waiting>();
  #on = false;
  #failed = false;

  constructor(options: AdmissionOptions) {
    this.#options = options;
  }

  /** Whether containers are held: some guard could select a pod of this node, and the runtime can be asked. */
  set on(on: boolean) {
    if (on === this.#on || (on && this.#failed)) return;
    if (!on) {
      this.#options.arrivals.release();
      this.#waiting.clear();
    } else {
      try {
        this.#options.arrivals.hold((arrivals) => this.#arrived(arrivals));
      } catch (error) {
        this.#failed = true; // it won't be otherwise next time
        this.#options.log.warn(
          { err: error },
          "containers can't be held at their start: they are guarded soon after it",
        );
        return;
      }
    }
    this.#on = on;
  }

  /** One waits, and the runtime was not asked since it came. */
  get wantsList(): boolean {
    return [...this.#waiting.values()].some(({ listed }) => !listed);
  }

  /** The runtime has listed its containers: asked at that time. */
  listed(askedAt: number): void {
    for (const waiting of this.#waiting.values()) if (waiting.at <= askedAt) waiting.listed = true;
  }

  /** Something is known that wasn't before. */
  decide(): void {
    for (const [cgroupId, waiting] of this.#waiting) {
      const guarded = this.#decisionOn(waiting);
      if (guarded === undefined && performance.now() - waiting.at < FORGET_MS) continue;
      this.#waiting.delete(cgroupId);
      this.#options.arrivals.admit(cgroupId, guarded ?? false);
    }
  }

  #arrived(arrivals: readonly Arrival[]): void {
    const at = performance.now();
    for (const arrival of arrivals) this.#waiting.set(arrival.cgroupId, { arrival, at, listed: false });
    this.decide();
    if (this.#waiting.size > 0) this.#options.look();
  }

  /** Whether it has guards. Undefined: it can't be said yet. */
  #decisionOn({ arrival: { podUid, containerId }, listed }: Waiting): boolean | undefined {
    const standing = this.#options.standing(podUid, containerId);
    if (standing === "unselected") return false;
    if (standing === "guarded") return true;
    // The pod's sandbox is no container to the runtime.
    return standing === "selected" && listed && !this.#options.isContainer(podUid, containerId) ? false : undefined;
  }
}
