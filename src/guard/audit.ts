/**
 * Who changed what is guarded: one line of the log for each guard that is created, replaced or removed, and a count.
 */
import type { Log } from "../log.js";
import type { GuardSource } from "./registry.js";

export const GUARD_CHANGES = ["created", "replaced", "removed"] as const;
export type GuardChange = (typeof GUARD_CHANGES)[number];

/** `container`: its containers ended. `state`: the last run, or another daemon with the same state file. */
export const CHANGE_SOURCES = ["rpc", "file", "kubernetes", "state", "container"] as const satisfies readonly (
  | GuardSource
  | "container"
)[];
export type ChangeSource = (typeof CHANGE_SOURCES)[number];

/** Who asks, as far as the connection tells. */
export interface Requester {
  /** `address:port`; `unix` for a Unix socket. */
  readonly peer: string;
  /** Of the process that connected to a Unix socket: the kernel's word. Its number is the daemon's PID namespace's. */
  readonly uid?: number;
  readonly pid?: number;
  /** What the client's certificate says that it is: common name, then subject alternative names. Verified. */
  readonly names?: readonly string[];
}

/** What has the guard file read again: the signal, or that the file changed. */
export type ReloadCause = "SIGHUP" | "file";

interface Subject {
  readonly name: string;
  readonly namespace: string;
  readonly podName: string;
}

export class AuditTrail {
  readonly #log: Log;
  readonly #counts = new Map<string, number>();

  constructor(log: Log) {
    this.#log = log;
  }

  /** `by`: who asked; undefined: nobody did, as `source` says. */
  record(
    change: GuardChange,
    source: ChangeSource,
    { name, namespace, podName }: Subject,
    by?: Requester | ReloadCause,
  ): void {
    const key = `${change} ${source}`;
    this.#counts.set(key, (this.#counts.get(key) ?? 0) + 1);
    this.#log.info({ guard: name, namespace, pod: podName, source, ...(by && { by }) }, `guard ${change}`);
  }

  count(change: GuardChange, source: ChangeSource): number {
    return this.#counts.get(`${change} ${source}`) ?? 0;
  }
}
