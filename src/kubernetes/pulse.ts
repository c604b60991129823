/**
 * Which nodes' daemons are silent, by the heartbeats in their JanusNodes. This node's clock says how long one was not heard;
 * the time that is written in it counts only where it is seen for the first time.
 */
import { HEARTBEAT_MS } from "./node-object.js";

/** Two heartbeats may be missed, with time for each to arrive. Milliseconds. */
export const SILENT_MS = 2.5 * HEARTBEAT_MS;

interface Beat {
  readonly heartbeat: string;
  /** By the monotonic clock. */
  readonly at: number;
}

export class Pulse {
  readonly #now: () => number;
  /** By the node's name. */
  #beats = new Map<string, Beat>();

  /** `now`: milliseconds, monotonic. */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  /** `nodes`: all there are. Of these, the names of the silent ones. */
  silent(nodes: Iterable<{ readonly name: string; readonly heartbeat: string }>): ReadonlySet<string> {
    const now = this.#now();
    const before = this.#beats;
    this.#beats = new Map();
    const silent = new Set<string>();
    for (const { name, heartbeat } of nodes) {
      const known = before.get(name);
      const beat =
        known?.heartbeat === heartbeat ? known : { heartbeat, at: now - (known === undefined ? ageOf(heartbeat) : 0) };
      this.#beats.set(name, beat);
      if (now - beat.at > SILENT_MS) silent.add(name);
    }
    return silent;
  }
}

/** By the wall clocks of both nodes. */
function ageOf(heartbeat: string): number {
  const age = Date.now() - Date.parse(heartbeat);
  return Number.isNaN(age) ? 0 : Math.max(0, age);
}
