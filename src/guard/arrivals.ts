/**
 * Containers that don't run yet: one look at the node's processes, now and
 * then, for all who wait for some.
 */
import type { Engine } from "../native.js";

/** Between two looks. Milliseconds. */
const PAUSE_MS = 100;
/** A look blocks the event loop: at most one part in so many of the time. */
const SHARE = 20;

interface Waiting {
  readonly ids: readonly string[];
  readonly done: () => void;
}

export class Arrivals {
  readonly #engine: Pick<Engine, "missingContainers">;
  readonly #waiting = new Set<Waiting>();
  #timer: NodeJS.Timeout | undefined;

  constructor(engine: Pick<Engine, "missingContainers">) {
    this.#engine = engine;
  }

  /** Resolves when all of `ids` run, when `ms` have passed or when `signal` aborts, whatever is first. Never rejects. */
  wait(ids: readonly string[], ms: number, signal: AbortSignal): Promise<void> {
    if (signal.aborted || !(ms > 0)) return Promise.resolve();
    return new Promise((resolve) => {
      const done = (): void => {
        this.#waiting.delete(waiting);
        clearTimeout(timer);
        signal.removeEventListener("abort", done);
        if (this.#waiting.size === 0) this.#pause(undefined);
        resolve();
      };
      const waiting = { ids, done };
      const timer = setTimeout(done, ms);
      signal.addEventListener("abort", done);
      this.#waiting.add(waiting);
      if (this.#timer === undefined) this.#pause(PAUSE_MS);
    });
  }

  /** Until the next look; undefined: there is none. */
  #pause(ms: number | undefined): void {
    clearTimeout(this.#timer);
    this.#timer = ms === undefined ? undefined : setTimeout(() => this.#look(), ms);
  }

  #look(): void {
    const start = performance.now();
    const missing = missingOf(
      this.#engine,
      [...this.#waiting].flatMap(({ ids }) => ids),
    );
    this.#pause(Math.max(PAUSE_MS, (performance.now() - start) * SHARE));
    for (const { ids, done } of [...this.#waiting]) if (!ids.some((id) => missing.has(id))) done();
  }
}

/** Those of `ids` that don't run, by one look. None if that fails: whoever wants one tries by itself, and says what is wrong. */
export function missingOf(engine: Pick<Engine, "missingContainers">, ids: readonly string[]): ReadonlySet<string> {
  if (ids.length === 0) return new Set();
  try {
    return new Set(engine.missingContainers([...new Set(ids)]));
  } catch {
    return new Set();
  }
}
