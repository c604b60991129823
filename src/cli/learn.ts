/**
 * `janusctl learn`: watches what a container opens and executes below some paths, and prints a guard that allows it.
 *
 * It makes a guard of its own for that, which denies all of these paths in mode audit. So nothing is denied, every
 * single open is asked about and recorded (a watched one may be merged with others), and what is recorded is what the
 * printed guard would deny, links and moved files included.
 */
import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { InvalidArgumentError } from "commander";
import { type Event, type Lost, type LostCause, Response } from "../gen/janus/v1/events_pb.js";
import { GuardMode, Scope } from "../gen/janus_pb.js";
import { normalisePath, pathProblem } from "../guard/guard.js";
import type { JanusClient } from "./client.js";
import { faultsOf, say, sayInvalid } from "./faults.js";
import { isWithin, Learnt } from "./learnt.js";
import { cautionsOf, formatLesson, LEARNT_EVENTS, type LearntEvent, type Lesson } from "./learnt-text.js";
import { shortId } from "./output.js";
import type { Io, Session } from "./session.js";

interface LearnOptions {
  /** Milliseconds. */
  readonly for: number;
  readonly fold: number;
}

export function parsePath(text: string, before: readonly string[] = []): string[] {
  const problem = pathProblem(text);
  if (problem !== undefined) throw new InvalidArgumentError(`It ${problem}.`);
  return [...new Set([...before, normalisePath(text)])];
}

export function parseFold(text: string): number {
  const most = /^\d{1,5}$/.test(text) ? Number(text) : 0;
  if (most < 1) throw new InvalidArgumentError("give a whole number from 1 to 99999");
  return most;
}

export async function learn(
  { client, io }: Session,
  asked: string,
  paths: readonly string[],
  options: LearnOptions,
): Promise<number> {
  const place = await placeOf(client, io, asked, paths);
  if (place === undefined) return 2;
  const lesson = new Learning(client, place, `janusctl-learn-${process.pid}-${randomBytes(4).toString("hex")}`);
  const interrupted = io.interrupted?.() ?? new Promise<void>(() => {});
  say(io, [`learning for ${options.for / 1000} s, by the guard ${lesson.guard}; Ctrl-C ends it`]);
  const { because, failures } = await lesson.run(options.for, interrupted);
  // Without a guard there was nothing to learn from.
  if (because !== undefined) {
    const learnt = lesson.result(because, options.fold);
    io.stdout(formatLesson(learnt));
    say(io, cautionsOf(learnt));
  }
  say(io, failures);
  return failures.length === 0 ? 0 : 1;
}

/** Where to learn. Paths that are below others, or lead there, are left out. */
interface Place {
  /** The full id. */
  readonly container: string;
  readonly paths: readonly string[];
  /** Where each of them leads, symlinks followed. */
  readonly roots: readonly string[];
}

/** Undefined: it makes no sense, which is said. */
async function placeOf(
  client: JanusClient,
  io: Io,
  container: string,
  paths: readonly string[],
): Promise<Place | undefined> {
  try {
    const all: { container: string; path: string; root: string }[] = [];
    for (const path of paths) {
      const said = await client.explain({ container, path });
      all.push({ container: said.container, path, root: said.path });
    }
    const kept = all.filter(
      ({ root }, at) =>
        !all.some((other, index) => (other.root !== root || index < at) && index !== at && isWithin(root, other.root)),
    );
    return {
      container: all[0]?.container ?? container,
      paths: kept.map(({ path }) => path),
      roots: kept.map(({ root }) => root),
    };
  } catch (error) {
    sayInvalid(io, error);
    return undefined;
  }
}

/** How often to look whether the container still runs: its end takes the guard away. */
const LOOK_MS = 2000;
/** Once the guard is gone, this long without an event is the stream's end; and no longer than that at all. */
const QUIET_MS = 300;
const DRAIN_MS = 10_000;

class Learning {
  readonly guard: string;
  readonly #client: JanusClient;
  readonly #place: Place;
  readonly #learnt: Readonly<Record<LearntEvent, Learnt>>;
  /** One for each cause. */
  readonly #lost = new Map<LostCause, Lost>();
  #events = 0;
  /** Of the last event, by performance.now(). */
  #lastMs = 0;
  #began = new Date();
  #ended = new Date();

  constructor(client: JanusClient, place: Place, guard: string) {
    this.#client = client;
    this.#place = place;
    this.guard = guard;
    this.#learnt = { open: new Learnt(place.roots), exec: new Learnt(place.roots) };
  }

  /** `because`: why it ended; undefined: it never began. The guard is gone in any case, or `failures` say how to remove it. */
  async run(
    forMs: number,
    interrupted: Promise<void>,
  ): Promise<{ readonly because: string | undefined; readonly failures: readonly string[] }> {
    const over = new AbortController();
    const failures: string[] = [];
    let because: string | undefined;
    let asked = false;
    const opened = Promise.withResolvers<void>();
    const reading = this.#read(over.signal, opened.resolve).then(
      () => "the daemon ended the stream",
      (error: unknown) => {
        failures.push(...faultsOf(error));
        return "the stream broke";
      },
    );
    try {
      // First the stream, so that it has all of the guard's events.
      await Promise.race([opened.promise, reading]);
      if (failures.length > 0) return { because, failures };
      asked = true;
      await this.#client.createGuard(this.#request());
      this.#began = new Date();
      because = "cut short";
      because = await Promise.race([
        sleep(forMs, "as long as asked", { signal: over.signal, ref: true }),
        interrupted.then(() => "interrupted"),
        this.#containersEnd(over.signal),
        reading,
      ]);
    } catch (error) {
      failures.push(...faultsOf(error));
    } finally {
      this.#ended = new Date();
      if (asked) await this.#remove(failures);
      if (because !== undefined && failures.length === 0) await this.#drain();
      over.abort();
      await reading;
    }
    return { because, failures };
  }

  result(because: string, fold: number): Lesson {
    const { open, exec } = this.#learnt;
    return {
      name: `learnt-${shortId(this.#place.container)}`,
      ...this.#place,
      ...{ began: this.#began, ended: this.#ended, because, events: this.#events, lost: [...this.#lost.values()] },
      learnt: { open: open.folded(fold), exec: exec.folded(fold) },
    };
  }

  #request() {
    const { container, paths } = this.#place;
    const subject = { deny: [...paths], event: [...LEARNT_EVENTS], recursive: true, scope: Scope.CONTAINER };
    return { name: this.guard, cid: [container], mode: GuardMode.AUDIT, subject: [subject] };
  }

  async #read(signal: AbortSignal, opened: () => void): Promise<void> {
    const include = { guards: [this.guard], responses: [Response.AUDIT] };
    for await (const items of this.#client.watch({ include, follow: true }, signal)) {
      this.#lastMs = performance.now();
      for (const { item } of items) {
        if (item.case === "opened") opened();
        else if (item.case === "event") this.#add(item.value);
        else if (item.case === "lost") this.#addLost(item.value);
      }
    }
  }

  #add({ event, path, pathBytes, directory, process }: Event): void {
    this.#events++;
    const kind = LEARNT_EVENTS.find((one) => one === event);
    if (kind !== undefined) this.#learnt[kind].add(path, pathBytes.length === 0, directory, process?.executable ?? "");
  }

  #addLost(lost: Lost): void {
    const before = this.#lost.get(lost.cause);
    this.#lost.set(lost.cause, { ...lost, count: lost.count + (before?.count ?? 0n) });
  }

  async #containersEnd(signal: AbortSignal): Promise<string> {
    for (;;) {
      await sleep(LOOK_MS, undefined, { signal });
      if ((await this.#client.listGuards({ name: this.guard })).length === 0) return "the container ended";
    }
  }

  /** Of one that isn't there any more, too. */
  async #remove(failures: string[]): Promise<void> {
    try {
      await this.#client.destroyGuard({ name: this.guard });
    } catch (error) {
      failures.push(...faultsOf(error));
      failures.push(`the guard ${this.guard} may still be there, and denies nothing: janusctl delete ${this.guard}`);
    }
  }

  /** What was decided before may still be on its way. */
  async #drain(): Promise<void> {
    const end = performance.now() + DRAIN_MS;
    this.#lastMs = performance.now();
    while (performance.now() < Math.min(this.#lastMs + QUIET_MS, end)) await sleep(QUIET_MS / 10);
  }
}
