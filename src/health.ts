/**
 * Health is what can be proven from the engine's own numbers, not that this
 * process runs.
 */
import type { EngineVitals } from "./native.js";

export interface Check {
  readonly name: string;
  readonly ok: boolean;
  /** What was found, in words. */
  readonly detail: string;
}

export interface HealthReport {
  /** All checks hold: guards are enforced and their events arrive. */
  readonly ready: boolean;
  /** False: only a restart helps. */
  readonly live: boolean;
  readonly checks: readonly Check[];
}

export interface HealthOptions {
  readonly vitals: () => EngineVitals;
  /** Records that left the ring so far, wherever they went. */
  readonly drained: () => number;
  /** Guards of the last run that could not be taken up yet. */
  readonly pending: () => readonly { readonly guard: string; readonly reason: string }[];
  /** The state file. Undefined: guards are kept nowhere, as was asked. */
  readonly stateFile?: { readonly failure: string | undefined } | undefined;
  /** The event log's file. Undefined: standard output. */
  readonly logFile?: { readonly failure: string | undefined } | undefined;
  /** The guard file. Undefined: there is none. */
  readonly guardFile?: { readonly failure: string | undefined } | undefined;
  /** What follows the cluster. Undefined: nothing does, as was asked. */
  readonly kubernetes?: { readonly failure: string | undefined; readonly detail: string } | undefined;
  /** The TLS files. Undefined: there are none. */
  readonly tls?: { readonly failure: string | undefined; readonly expires: Date } | undefined;
  /** What proves that denying works. Undefined: nothing does, as was asked. */
  readonly canary?: { readonly failure: string | undefined } | undefined;
  /** eBPF programs that were attached at the start. */
  readonly programs: readonly string[];
  /** Milliseconds, monotonic. */
  readonly now?: () => number;
}

/** Each thread moves at least once a second; more than this is not a busy machine any more. */
const HEARTBEAT_READY_MS = 5_000;
/** A gate that stands still for so long keeps containers waiting: killing the daemon releases them. */
const HEARTBEAT_LIVE_MS = 30_000;
/** How long the ring may hold records of which none leaves. */
const RING_STUCK_MS = 5_000;

export class Health {
  readonly #options: HealthOptions;
  readonly #now: () => number;
  #drained = -1;
  #movedAt: number;

  constructor(options: HealthOptions) {
    this.#options = options;
    this.#now = options.now ?? (() => performance.now());
    this.#movedAt = this.#now();
  }

  assess(): HealthReport {
    const { heartbeatMs, programs, ring } = this.#options.vitals();
    const checks = [
      ...Object.entries(heartbeatMs).map(([thread, ms]) => ({
        name: thread,
        ok: ms < HEARTBEAT_READY_MS,
        detail: `moved ${Math.round(ms)} ms ago`,
      })),
      this.#programs(programs),
      this.#ring(ring),
      ...this.#canary(),
      this.#pending(),
      ...this.#stateFile(),
      ...this.#logFile(),
      ...this.#guardFile(),
      ...this.#kubernetes(),
      ...this.#tls(),
    ];
    const live = heartbeatMs.gate < HEARTBEAT_LIVE_MS && heartbeatMs.watchdog < HEARTBEAT_LIVE_MS;
    return { ready: checks.every(({ ok }) => ok), live, checks };
  }

  #pending(): Check {
    const pending = this.#options.pending();
    const reasons = pending.map(({ guard, reason }) => `${guard}: ${reason}`).join("; ");
    return { name: "guards", ok: pending.length === 0, detail: pending.length === 0 ? "none pending" : reasons };
  }

  #canary(): Check[] {
    const { canary } = this.#options;
    if (canary === undefined) return [];
    const { failure } = canary;
    return [{ name: "canary", ok: failure === undefined, detail: failure ?? "opens of a denied file are denied" }];
  }

  #stateFile(): Check[] {
    const { stateFile } = this.#options;
    if (stateFile === undefined) return [];
    const { failure } = stateFile;
    const detail = failure === undefined ? "says what is held" : `cannot be written: ${failure}`;
    return [{ name: "state-file", ok: failure === undefined, detail }];
  }

  #logFile(): Check[] {
    const { logFile } = this.#options;
    if (logFile === undefined) return [];
    return [{ name: "log-file", ok: logFile.failure === undefined, detail: logFile.failure ?? "takes the event log" }];
  }

  #guardFile(): Check[] {
    const { guardFile } = this.#options;
    if (guardFile === undefined) return [];
    const { failure } = guardFile;
    const detail = failure === undefined ? "is in force" : `cannot be applied: ${failure.replaceAll("\n", "; ")}`;
    return [{ name: "guard-file", ok: failure === undefined, detail }];
  }

  #kubernetes(): Check[] {
    const { kubernetes } = this.#options;
    if (kubernetes === undefined) return [];
    const { failure, detail } = kubernetes;
    return [{ name: "kubernetes", ok: failure === undefined, detail: failure ?? detail }];
  }

  #tls(): Check[] {
    const { tls } = this.#options;
    if (tls === undefined) return [];
    const { failure, expires } = tls;
    const expired = expires < new Date();
    const certificate = `the certificate ${expired ? "expired" : "is good until"} ${expires.toISOString()}`;
    const detail = failure === undefined ? certificate : `new files cannot be used: ${failure}; ${certificate}`;
    return [{ name: "tls", ok: failure === undefined && !expired, detail }];
  }

  #programs(attached: readonly string[]): Check {
    const missing = this.#options.programs.filter((name) => !attached.includes(name));
    const ok = missing.length === 0;
    return {
      name: "ebpf",
      ok,
      detail:
        missing.length > 0 ? `not attached any more: ${missing.join(", ")}` : `${attached.length} programs attached`,
    };
  }

  #ring(ring: EngineVitals["ring"]): Check {
    const drained = this.#options.drained();
    const now = this.#now();
    if (ring.used === 0 || drained !== this.#drained) this.#movedAt = now;
    this.#drained = drained;
    const stuckMs = Math.round(now - this.#movedAt);
    return {
      name: "ring",
      ok: stuckMs < RING_STUCK_MS,
      detail: `${ring.used} of ${ring.bytes} bytes used${stuckMs > 0 ? `, none left for ${stuckMs} ms` : ""}`,
    };
  }
}
