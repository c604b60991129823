/**
 * A denied open every few seconds, by the whole way: the kernel asks, the gate answers, the record comes up
 * through the ring and the decoder. It is on a file system that nobody else sees (native/cover/canary.h), and
 * a process of its own opens, since the daemon's own opens are not judged.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { constants } from "node:os";

const opener = new URL("../native/build/Release/janusd-canary", import.meta.url).pathname;

/** Without a proof for so long, denying is not known to work any more. Milliseconds. */
const PROOF_LIMIT_MS = 8_000;

export interface CanaryOptions {
  /** Descriptor of the canary's file system. */
  readonly root: number;
  readonly intervalMs: number;
  /** Upper bounds of what `proofs` counts by. */
  readonly boundsSeconds: readonly number[];
}

/** How long each proof took, from the request to open until its record had arrived. */
export interface Proofs {
  /** One more than the bounds. Not cumulative. */
  readonly buckets: readonly number[];
  readonly sum: number;
}

/** One open. Times are of performance.now(). */
interface Round {
  readonly asked: number;
  /** The same moment by the wall clock. Milliseconds. */
  readonly askedMs: number;
  answered: boolean;
  recorded: boolean;
}

export class Canary {
  readonly #options: CanaryOptions;
  readonly #buckets: number[];
  #sum = 0;
  #timer: NodeJS.Timeout | undefined;
  #process: ChildProcess | undefined;
  #ended: string | undefined;
  #round: Round | undefined;
  #proved = performance.now();
  /** What the last open that was not denied came to. */
  #wrong: string | undefined;
  #closed = false;

  constructor(options: CanaryOptions) {
    this.#options = options;
    this.#buckets = Array.from({ length: options.boundsSeconds.length + 1 }, () => 0);
  }

  start(): void {
    this.#proved = performance.now();
    this.#timer = setInterval(() => this.#ask(), this.#options.intervalMs);
    this.#ask();
  }

  get proofs(): Proofs {
    return { buckets: this.#buckets, sum: this.#sum };
  }

  /** Why denying is not known to work; undefined: it does. */
  get failure(): string | undefined {
    if (this.#wrong !== undefined) return this.#wrong;
    const seconds = Math.round((performance.now() - this.#proved) / 1000);
    if (seconds * 1000 < PROOF_LIMIT_MS) return undefined;
    if (this.#ended !== undefined) return `${this.#ended}: nothing was opened for ${seconds} s`;
    const round = this.#round;
    // One that was asked just now waits for a moment.
    const waits = round?.answered === false && performance.now() - round.asked > this.#options.intervalMs / 2;
    const what = waits ? "an open waits for its answer" : "opens are denied, no record arrives";
    return `${what}: not proven for ${seconds} s`;
  }

  /** The record of an open has arrived. `timeNs`: when it was decided, since the epoch. */
  heard(timeNs: bigint): void {
    const round = this.#round;
    // It may be of one that was given up. The clocks differ by less than a millisecond.
    if (round === undefined || Number(timeNs) / 1e6 < round.askedMs - 1) return;
    round.recorded = true;
    this.#conclude(round);
  }

  close(): void {
    this.#closed = true;
    clearInterval(this.#timer);
    this.#process?.kill("SIGKILL");
  }

  #ask(): void {
    // One that waits for its answer shows that nobody answers. Another would only wait behind it.
    if (this.#round?.answered === false) return;
    try {
      this.#process ??= this.#start();
    } catch (error) {
      // Other lacks come as the event `error`, but not that of memory.
      this.#ended = error instanceof Error ? error.message : String(error);
      return;
    }
    this.#round = { asked: performance.now(), askedMs: Date.now(), answered: false, recorded: false };
    this.#process.stdin?.write("?");
  }

  #start(): ChildProcess {
    const child = spawn(opener, { stdio: ["pipe", "pipe", "ignore", this.#options.root], env: {}, detached: true });
    const gone = (why: string): void => {
      if (this.#closed || this.#process !== child) return;
      this.#ended = why;
      this.#process = this.#round = undefined;
    };
    child.on("error", (error) => gone(error.message));
    child.on("exit", (status, signal) => gone(`janusd-canary ended (${signal ?? `status ${status}`})`));
    child.stdin?.on("error", () => undefined); // its end is told by itself
    child.stdout?.setEncoding("utf8").on("data", (text: string) => {
      if (this.#process === child) this.#answer(Number.parseInt(text, 10));
    });
    return child;
  }

  #answer(errno: number): void {
    const round = this.#round;
    if (round === undefined) return;
    round.answered = true;
    if (errno === constants.errno.EPERM) this.#conclude(round);
    else
      this.#wrong =
        errno === 0 ? "an open of a denied file was allowed" : `an open of a denied file ended with errno ${errno}`;
  }

  #conclude(round: Round): void {
    if (!round.answered || !round.recorded) return;
    this.#round = this.#ended = this.#wrong = undefined;
    this.#proved = performance.now();
    const seconds = (this.#proved - round.asked) / 1000;
    const { boundsSeconds } = this.#options;
    const bucket = boundsSeconds.findIndex((bound) => seconds <= bound);
    const at = bucket < 0 ? boundsSeconds.length : bucket;
    this.#buckets[at] = (this.#buckets[at] ?? 0) + 1;
    this.#sum += seconds;
  }
}
