/**
 * Says in the log what was lost, was exposed or found no room: each cause once
 * an interval, however often it happened. The exact numbers are metrics.
 */
import type { Log } from "./log.js";
import type { EngineStats } from "./native.js";

export type NoticedStats = Pick<EngineStats, "losses" | "exposure" | "maps" | "refused">;

/** A container that is refused something all the while has one line in so many looks. */
const LOOKS_PER_CONTAINER = 6;

export class Notices {
  readonly #log: Pick<Log, "warn">;
  #seen = new Map<string, number>();
  /** Containers that were refused something, and the looks since that was said. */
  #named = new Map<string, number>();

  constructor(log: Pick<Log, "warn">) {
    this.#log = log;
  }

  /** Call once an interval. */
  look({ losses, exposure, maps, refused }: NoticedStats): void {
    const full = Object.fromEntries(maps.map((map) => [map.name, map.full]));
    this.#compare(losses, "event records were lost");
    this.#compare(exposure, "opens may not have been judged");
    this.#compare(full, "an eBPF map is full");
    this.#name(refused);
  }

  #name(refused: NoticedStats["refused"]): void {
    const byContainer = Map.groupBy(refused, ({ container }) => container);
    for (const container of this.#named.keys()) if (!byContainer.has(container)) this.#named.delete(container);
    for (const [container, counts] of byContainer) {
      const looks = (this.#named.get(container) ?? LOOKS_PER_CONTAINER) + 1;
      this.#named.set(container, looks);
      if (looks <= LOOKS_PER_CONTAINER) continue;
      for (const { resource, count: total } of counts) {
        const key = `${container} ${resource}`;
        const count = total - (this.#seen.get(key) ?? 0);
        this.#seen.set(key, total);
        if (count <= 0) continue;
        this.#log.warn({ container, resource, count, total }, "a container has used up its share");
        this.#named.set(container, 0);
      }
    }
  }

  #compare(counts: Readonly<Record<string, number>>, message: string): void {
    for (const [cause, total] of Object.entries(counts)) {
      const key = `${message} ${cause}`;
      const count = total - (this.#seen.get(key) ?? 0);
      this.#seen.set(key, total);
      if (count > 0) this.#log.warn({ cause, count, total }, message);
    }
  }
}
