/** Who was not let in, and why: all counted, and logged so that nobody can fill the log by knocking. */
import type { Log } from "../log.js";

const MESSAGES = {
  plaintext: "a client that does not speak TLS",
  no_certificate: "a client without a certificate",
  unknown_ca: "a client whose certificate the CA has not signed",
  certificate_expired: "a client whose certificate has expired",
  certificate_invalid: "a client whose certificate is not good for a client",
  distrusts_us: "a client that does not trust the daemon's certificate",
  protocol: "a client that does not speak the daemon's TLS and HTTP/2",
  timeout: "a client that did not finish its handshake in time",
  hung_up: "a client that hung up in its handshake",
  too_many: "one connection too many",
  not_allowed: "a call that the client may not make",
} as const;

export type Reason = keyof typeof MESSAGES;

/** A line for each reason, at most. Milliseconds. */
const LOG_INTERVAL_MS = 10_000;

export class Refusals {
  /** Each reason, also at 0. */
  readonly counts: Record<Reason, number>;
  readonly #log: Pick<Log, "debug" | "warn">;
  readonly #now: () => number;
  /** When each was last logged, and how often it happened by then. */
  readonly #logged = new Map<Reason, { readonly at: number; readonly count: number }>();

  /** `now`: milliseconds, monotonic. */
  constructor(log: Pick<Log, "debug" | "warn">, now: () => number = () => performance.now()) {
    this.#log = log;
    this.#now = now;
    this.counts = Object.fromEntries(Object.keys(MESSAGES).map((reason) => [reason, 0])) as Record<Reason, number>;
  }

  note(reason: Reason, about: object): void {
    const count = ++this.counts[reason];
    const now = this.#now();
    const last = this.#logged.get(reason) ?? { at: Number.NEGATIVE_INFINITY, count: 0 };
    if (now - last.at < LOG_INTERVAL_MS) return;
    this.#logged.set(reason, { at: now, count });
    const more = count - last.count - 1;
    const line = { reason, ...about, ...(more > 0 ? { more } : {}) };
    // Load balancers and port scans do it all the time.
    if (reason === "hung_up") this.#log.debug(line, `gRPC refused: ${MESSAGES[reason]}`);
    else this.#log.warn(line, `gRPC refused: ${MESSAGES[reason]}`);
  }
}
