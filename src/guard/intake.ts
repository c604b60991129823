/**
 * Requests about guards, as they come. The controller is often early: a create
 * whose containers don't run yet waits for them, and what comes meanwhile about
 * the same guard overtakes it. The registry itself never waits.
 */
import { JanusdError } from "../errors.js";
import type { JanusdConfig } from "../gen/janus_pb.js";
import type { Engine } from "../native.js";
import { Arrivals } from "./arrivals.js";
import type { Requester } from "./audit.js";
import { containerIds } from "./guard.js";
import { type GuardHandle, type GuardRegistry, identity, isMeant } from "./registry.js";

export interface GuardIntakeOptions {
  readonly registry: Pick<GuardRegistry, "create" | "destroy">;
  readonly engine: Pick<Engine, "missingContainers">;
  /** How long to wait for containers at most; 0: not at all. Milliseconds. */
  readonly waitMs: number;
}

export interface Caller {
  readonly requester: Requester;
  /** Aborted: nobody wants the answer any more. Its reason is thrown. */
  readonly signal: AbortSignal;
  /** How long the caller itself waits. Milliseconds. */
  readonly patienceMs: number;
}

interface Waiting {
  readonly config: JanusdConfig;
  readonly overtaken: AbortController;
}

export class GuardIntake {
  readonly #registry: GuardIntakeOptions["registry"];
  readonly #arrivals: Arrivals;
  readonly #waitMs: number;
  /** By identity(). */
  readonly #waiting = new Map<string, Waiting>();

  constructor({ registry, engine, waitMs }: GuardIntakeOptions) {
    this.#registry = registry;
    this.#arrivals = new Arrivals(engine);
    this.#waitMs = waitMs;
  }

  /** As `GuardRegistry.create`, but waits for containers that don't run yet. Nothing is held before all of them do. */
  async create(config: JanusdConfig, caller: Caller): Promise<GuardHandle> {
    const ms = Math.min(this.#waitMs, caller.patienceMs);
    try {
      const guard = this.#registry.create(config, "rpc", caller.requester);
      this.#overtake(identity(config), "a newer CreateGuard of this guard came");
      return guard;
    } catch (error) {
      if (!isNotFound(error) || !(ms > 0)) throw error;
    }
    const start = performance.now();
    await this.#wait(config, ms, caller.signal);
    try {
      return this.#registry.create(config, "rpc", caller.requester);
    } catch (error) {
      if (!isNotFound(error)) throw error;
      const waited = `waited ${Math.round(performance.now() - start)} ms`;
      throw new JanusdError(`${error.message}; ${waited}`, error.data, { cause: error });
    }
  }

  /** As `GuardRegistry.destroy`; a create that waits for its containers ends, and counts. */
  destroy(request: Pick<JanusdConfig, "name" | "namespace" | "podName" | "pid">, requester: Requester): number {
    let removed = this.#registry.destroy(request, requester);
    if (request.name === "" && request.podName === "") return removed;
    for (const [key, { config }] of [...this.#waiting]) {
      if (!isMeant(config, request)) continue;
      this.#overtake(key, "a DestroyGuard of this guard came");
      removed++;
    }
    return removed;
  }

  /** Ends all that waits. */
  close(): void {
    for (const { overtaken } of this.#waiting.values())
      overtaken.abort(new JanusdError("the daemon is stopping", { kind: "unavailable" }));
  }

  async #wait(config: JanusdConfig, ms: number, signal: AbortSignal): Promise<void> {
    const key = identity(config);
    this.#overtake(key, "a newer CreateGuard of this guard came");
    const waiting = { config, overtaken: new AbortController() };
    this.#waiting.set(key, waiting);
    const ended = AbortSignal.any([signal, waiting.overtaken.signal]);
    await this.#arrivals.wait(containerIds(config), ms, ended);
    if (this.#waiting.get(key) === waiting) this.#waiting.delete(key);
    ended.throwIfAborted();
  }

  #overtake(key: string, why: string): void {
    this.#waiting.get(key)?.overtaken.abort(new JanusdError(`overtaken: ${why}`, { kind: "aborted" }));
    this.#waiting.delete(key);
  }
}

function isNotFound(error: unknown): error is JanusdError {
  return error instanceof JanusdError && error.data.kind === "not_found";
}
