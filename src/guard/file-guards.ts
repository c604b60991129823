/**
 * Keeps the guards of a guard file held: their containers come and go without
 * anybody telling us to create them.
 */
import { JanusdError } from "../errors.js";
import type { JanusdConfig } from "../gen/janus_pb.js";
import type { Log } from "../log.js";
import type { Engine } from "../native.js";
import { missingOf } from "./arrivals.js";
import { containerIds } from "./guard.js";
import type { GuardDetails, GuardRegistry } from "./registry.js";

const LOOK_MS = 1000;

interface Parts {
  readonly registry: Pick<GuardRegistry, "create" | "notHeld">;
  readonly engine: Pick<Engine, "missingContainers">;
  readonly log: Log;
}

export class FileGuards {
  readonly #configs: readonly JanusdConfig[];
  readonly #registry: Parts["registry"];
  readonly #engine: Parts["engine"];
  readonly #log: Log;
  /** Why a guard isn't held, as it was last logged, and since when. */
  readonly #waiting = new Map<JanusdConfig, { readonly reason: string; readonly sinceMs: number }>();
  #timer: NodeJS.Timeout | undefined;

  constructor(configs: readonly JanusdConfig[], { registry, engine, log }: Parts) {
    this.#configs = configs;
    this.#registry = registry;
    this.#engine = engine;
    this.#log = log;
  }

  start(): void {
    if (this.#configs.length === 0) return;
    this.holdAll();
    this.#timer = setInterval(() => this.holdAll(), LOOK_MS);
  }

  close(): void {
    clearInterval(this.#timer);
  }

  /** Those that aren't held now, each with the reason. */
  waiting(): GuardDetails[] {
    return [...this.#waiting].map(([config, { reason, sinceMs }]) =>
      this.#registry.notHeld(config, "file", reason, sinceMs),
    );
  }

  /** Creates what can be created now; what is held already is left as it is. */
  holdAll(): void {
    // One look at the processes for all guards that aren't held.
    const missing = missingOf(this.#engine, [...this.#waiting.keys()].flatMap(containerIds));
    for (const config of this.#configs) {
      if (this.#waiting.has(config) && containerIds(config).some((id) => missing.has(id))) continue;
      const about = { guard: config.name, namespace: config.namespace };
      try {
        this.#registry.create(config, "file");
        this.#waiting.delete(config);
      } catch (thrown) {
        const error = JanusdError.from(thrown);
        const before = this.#waiting.get(config);
        if (before?.reason === error.message) continue;
        this.#waiting.set(config, { reason: error.message, sinceMs: before?.sinceMs ?? Date.now() });
        this.#log.warn({ ...about, error: error.message, ...error.data }, "guard of the file cannot be held yet");
      }
    }
  }
}
