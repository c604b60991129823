/**
 * Says in the log what was lost, was exposed or found no room: each cause once
 * an interval, however often it happened. The exact numbers are metrics.
 */
import type { Log } from "./log.js";
import type { EngineStats } from "./native.js";

export type NoticedStats = Pick<EngineStats, "losses" | "exposure" | "maps">;

export class Notices {
  readonly #log: Pick<Log, "warn">;
  #seen = new Map<string, number>();

  constructor(log: Pick<Log, "warn">) {
    this.#log = log;
  }

  /** Call once an interval. */
  look({ losses, exposure, maps }: NoticedStats): void {
    const full = Object.fromEntries(maps.map((map) => [map.name, map.full]));
    this.#compare(losses, "event records were lost");
    this.#compare(exposure, "opens may not have been judged");
    this.#compare(full, "an eBPF map is full");
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
