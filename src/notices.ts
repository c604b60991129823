/**
 * Says in the log what was lost, was exposed or found no room: at once, and the same again only after a while, however
 * often it happens. The exact numbers are metrics.
 */
import type { Log } from "./log.js";
import type { EngineTroubles } from "./native.js";

/** Between two lines about the same. Milliseconds. */
const PAUSE_MS = 10_000;

/** ... and about a container that is refused something all the while. */
const CONTAINER_PAUSE_MS = 60_000;

/** Up to when was counted, and when that was said. */
interface Said {
  readonly total: number;
  readonly at: number;
}

export class Notices {
  readonly #log: Pick<Log, "warn">;
  readonly #now: () => number;
  readonly #causes = new Map<string, Said>();
  /** By container and resource. */
  #containers = new Map<string, Said>();

  /** `now`: milliseconds of a clock that only goes on. */
  constructor(log: Pick<Log, "warn">, now: () => number = () => performance.now()) {
    this.#log = log;
    this.#now = now;
  }

  /** Call often: what is said, and how often, does not depend on it. */
  look({ losses, exposure, full, refused }: EngineTroubles): void {
    this.#compare(losses, "event records were lost");
    this.#compare(exposure, "opens may not have been judged");
    this.#compare(full, "an eBPF map is full");
    this.#name(refused);
  }

  /** Containers that are gone are forgotten. */
  #name(refused: EngineTroubles["refused"]): void {
    const before = this.#containers;
    this.#containers = new Map();
    for (const { container, resource, count: total } of refused) {
      const key = `${container} ${resource}`;
      const said = before.get(key);
      if (said !== undefined) this.#containers.set(key, said);
      const count = this.#grown(this.#containers, key, total, CONTAINER_PAUSE_MS);
      if (count > 0) this.#log.warn({ container, resource, count, total }, "a container has used up its share");
    }
  }

  #compare(counts: Readonly<Record<string, number>>, message: string): void {
    for (const [cause, total] of Object.entries(counts)) {
      const count = this.#grown(this.#causes, `${message} ${cause}`, total, PAUSE_MS);
      if (count > 0) this.#log.warn({ cause, count, total }, message);
    }
  }

  /** How much is to be said; 0: nothing yet. */
  #grown(among: Map<string, Said>, key: string, total: number, pauseMs: number): number {
    const said = among.get(key);
    const count = total - (said?.total ?? 0);
    const now = this.#now();
    if (count <= 0 || (said !== undefined && now - said.at < pauseMs)) return 0;
    among.set(key, { total, at: now });
    return count;
  }
}
