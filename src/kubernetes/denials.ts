/**
 * What was denied, by guard, pod and what was asked: what the Events on pods tell. A sink, which keeps counts and the
 * newest denial's text, of so many at most, and of each guard its share: a container that storms takes no more memory
 * than one that asks once, and no other guard's place.
 */
import { randomBytes } from "node:crypto";
import type { FileEventView } from "../event/decode.js";
import { type ANSWERED_KINDS, type CHANGE_KINDS, EVENT_KINDS, FLAG, RESPONSES } from "../event/layout.js";
import type { Sink } from "../event/sink.js";
import { type Deniers, guardName, guardNames, type SubjectContext } from "../subject.js";
import { Allowance } from "./allowance.js";
import { cut } from "./node-status.js";

/** Kept at once, of all guards and of one. */
const LIMIT = 1024;
const GUARD_LIMIT = 128;

/** Writes of Events, of all guards and of one: so many at once, and then one in so long. Milliseconds. */
const BURST = 50;
const REFILL_MS = 2000;
const GUARD_BURST = 20;
const GUARD_REFILL_MS = 15_000;

/** Of an Event's name, what is taken of the pod's; the rest of 253 characters tells Events of a pod apart. */
const NAME_PART = 230;

/** Until an Event that was written is written again. Milliseconds. */
const REPEAT_MS = 10_000;

/** What is not denied again for so long is over: another denial is another Event. Milliseconds. */
const QUIET_MS = 5 * 60_000;

const DENY = RESPONSES.indexOf("deny");

type DeniedKind = (typeof ANSWERED_KINDS | typeof CHANGE_KINDS)[number];

/** Of what is denied: an Event's reason, and what its message says was not to be done to the path. */
const DEEDS: Readonly<Record<DeniedKind, { readonly reason: string; readonly deed: string }>> = {
  open: { reason: "OpenDenied", deed: "open" },
  access: { reason: "AccessDenied", deed: "access" },
  exec: { reason: "ExecDenied", deed: "exec" },
  create: { reason: "CreateDenied", deed: "create" },
  delete: { reason: "DeleteDenied", deed: "delete" },
  movedfrom: { reason: "MoveDenied", deed: "rename" },
  movedto: { reason: "MoveDenied", deed: "rename something to" },
  attrib: { reason: "AttribDenied", deed: "change attributes of" },
  link: { reason: "LinkDenied", deed: "link" },
  truncate: { reason: "TruncateDenied", deed: "truncate" },
  write: { reason: "WriteDenied", deed: "write to" },
};

function isDenied(kind: (typeof EVENT_KINDS)[number]): kind is DeniedKind {
  return Object.hasOwn(DEEDS, kind);
}

/** By kind; undefined: nobody denies it. */
const DEEDS_BY_KIND = EVENT_KINDS.map((kind) => (isDenied(kind) ? DEEDS[kind] : undefined));

/** What a guard has of what there is for all. */
interface Share {
  readonly allowance: Allowance;
  denials: number;
}

/** All denials by one guard, in one pod, for one reason: an Event. */
export class Denial {
  readonly subject: SubjectContext;
  readonly reason: string;
  readonly share: Share;
  /** Since the Event was made, and those of them that it tells of. */
  count = 0;
  told = 0;
  /** By the wall clock: the first and the last of `count`. */
  firstMs = 0;
  lastMs = 0;
  /** Of the first that the Event doesn't tell of yet. */
  message = "";
  /** The Event's name. There is none before something is told. */
  event: string;
  /** By the monotonic clock: the last one, and when the Event may be written again. */
  at = 0;
  due = 0;

  constructor(subject: SubjectContext, reason: string, share: Share) {
    this.subject = subject;
    this.reason = reason;
    this.share = share;
    this.event = newName(subject.pod);
  }

  /** Its Event is gone: another tells of what that one did not. */
  renew(): void {
    this.count -= this.told;
    this.told = 0;
    this.firstMs = this.lastMs;
    this.event = newName(this.subject.pod);
  }
}

export class Denials implements Sink {
  readonly name = "kubernetes_events";
  readonly dropped = 0;
  readonly drops = {};
  readonly queueBytes = 0;
  readonly #now: () => number;
  /** By guard, pod and reason. */
  readonly #known = new Map<string, Denial>();
  /** By the guard's name. */
  readonly #shares = new Map<string, Share>();
  /** Those whose Event lacks some, in turn. */
  readonly #untold = new Set<Denial>();
  readonly #allowance: Allowance;
  #suppressed = 0;
  #onChange: (() => void) | undefined;

  /** `now`: milliseconds, monotonic. */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
    this.#allowance = new Allowance(BURST, REFILL_MS, now());
  }

  /** Denials that no Event ever tells of: there was no room, or the API server does not take it. */
  get suppressed(): number {
    return this.#suppressed;
  }

  get size(): number {
    return this.#known.size;
  }

  /** Some are still to be told, now or later. */
  get waiting(): boolean {
    return this.#untold.size > 0;
  }

  /** Hears once a batch while some are to be told. One listener; undefined: none. */
  follow(listener: (() => void) | undefined): void {
    this.#onChange = listener;
  }

  write(view: FileEventView, subject: SubjectContext, deniers: Deniers): void {
    const denied = view.response === DENY ? DEEDS_BY_KIND[view.kind] : undefined;
    // Nobody could say which pod it is about.
    if (denied === undefined || subject.podUid === "") return;
    const denial = this.#denialOf(subject, denied.reason);
    if (denial === undefined) {
      this.#suppressed++;
      return;
    }
    denial.at = this.#now();
    denial.lastMs = Date.now();
    if (denial.count++ === 0) denial.firstMs = denial.lastMs;
    if (this.#untold.has(denial)) return;
    denial.message = messageOf(view, denied.deed, subject, deniers);
    this.#untold.add(denial);
  }

  flush(): void {
    if (this.waiting) this.#onChange?.();
  }

  async close(): Promise<void> {
    this.#onChange = undefined;
  }

  /** The next whose Event may be written now. */
  take(): Denial | undefined {
    const now = this.#now();
    if (!this.#allowance.has(now)) return undefined;
    for (const denial of this.#untold) {
      if (denial.due > now || !denial.share.allowance.has(now)) continue;
      this.#allowance.take();
      denial.share.allowance.take();
      this.#untold.delete(denial);
      denial.due = now + REPEAT_MS;
      return denial;
    }
    return undefined;
  }

  /** It could not be told just now. */
  putBack(denial: Denial): void {
    denial.due = 0;
    this.#untold.add(denial);
  }

  /** It cannot be told. */
  giveUp(denial: Denial): void {
    this.#suppressed += denial.count - denial.told;
    this.#forget(denial);
  }

  /** Forgets what is over. */
  sweep(): void {
    const before = this.#now() - QUIET_MS;
    for (const denial of this.#known.values()) {
      if (!this.#untold.has(denial) && denial.at < before) this.#forget(denial);
    }
  }

  #denialOf(subject: SubjectContext, reason: string): Denial | undefined {
    const key = keyOf(subject, reason);
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    if (this.#known.size >= LIMIT) return undefined;
    const share = this.#shareOf(guardName(subject));
    if (share.denials >= GUARD_LIMIT) return undefined;
    share.denials++;
    const denial = new Denial(subject, reason, share);
    this.#known.set(key, denial);
    return denial;
  }

  #shareOf(guard: string): Share {
    const known = this.#shares.get(guard);
    if (known !== undefined) return known;
    const share = { denials: 0, allowance: new Allowance(GUARD_BURST, GUARD_REFILL_MS, this.#now()) };
    this.#shares.set(guard, share);
    return share;
  }

  #forget(denial: Denial): void {
    this.#untold.delete(denial);
    if (!this.#known.delete(keyOf(denial.subject, denial.reason))) return;
    if (--denial.share.denials === 0) this.#shares.delete(guardName(denial.subject));
  }
}

function keyOf(subject: SubjectContext, reason: string): string {
  return `${guardName(subject)} ${subject.podUid} ${reason}`;
}

function newName(pod: string): string {
  // A part of a name must not end as no name does.
  return `${pod.slice(0, NAME_PART).replace(/[^a-z0-9]+$/, "")}.${randomBytes(8).toString("hex")}`;
}

/** Names of files and programs are somebody else's: escaped. */
function messageOf(view: FileEventView, deed: string, subject: SubjectContext, deniers: Deniers): string {
  const guards = guardNames(subject, deniers)?.all ?? [guardName(subject)];
  const isInside = (view.flags & FLAG.inside) !== 0;
  const who = `${view.commText} (uid ${view.uid})${isInside ? "" : ", which is not the container's,"}`;
  const where = `'${view.pathText}' in container ${subject.containerName || subject.containerId}`;
  return cut(`${who} was denied to ${deed} ${where} by ${guards.join(", ")}`);
}
