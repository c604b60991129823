/**
 * Who follows the events: reads the history for each subscriber from where it begins, and then, for all that share a
 * filter at once, what comes. Since both are the same history, nothing is missed or sent twice in between.
 *
 * Runs between batches of events, for a bounded time each, so the log waits for no subscriber. Each has a queue of its
 * own: one that takes its events too slowly loses those that its queue has no room for, and is told how many.
 */
import { Buffer } from "node:buffer";
import { JanusdError } from "../errors.js";
import type { EventFilter } from "../event/filter.js";
import type { EventHistory, PastEvent } from "../event/history.js";
import { LostCause } from "../gen/janus/v1/events_pb.js";
import { encodeEvent, encodeItem } from "./event-message.js";

/** How many may follow at once. */
const MAX_SUBSCRIBERS = 64;
/** Of encoded events that wait for one subscriber. */
const QUEUE_BYTES = 1024 * 1024;
/** Of one message, unless a single event is larger. */
const MESSAGE_BYTES = 64 * 1024;
/** From the first new event to its delivery: what comes meanwhile goes with it. Milliseconds. */
const COALESCE_MS = 20;
/** So long the event loop is kept at once, and so long it is left to others then. Milliseconds. */
const TURN_MS = 5;

export const LOSSES = ["queue", "history", "record"] as const;
export type Loss = (typeof LOSSES)[number];

const CAUSES: Readonly<Record<Loss, LostCause>> = {
  queue: LostCause.QUEUE,
  history: LostCause.HISTORY,
  record: LostCause.RECORD,
};

/** Where a stream begins. */
export type Since =
  | { readonly kind: "oldest" }
  | { readonly kind: "now" }
  | { readonly kind: "sequence"; readonly sequence: number }
  | { readonly kind: "time"; readonly timeNs: bigint };

export interface Subscription {
  readonly filter: EventFilter;
  /** Equal for filters that are equal. */
  readonly filterKey: string;
  readonly since: Since;
  readonly follow: boolean;
}

/** The other end of a stream. */
export interface Receiver {
  /** `response` is a WatchResponse. `taken`: there is room for the next one. */
  write(response: Uint8Array, taken: () => void): void;
  /** After all that was written. Undefined: the stream is complete. */
  end(error: JanusdError | undefined): void;
}

/** Subscribers that follow with the same filter. */
interface Group {
  readonly filter: EventFilter;
  readonly members: Set<Subscriber>;
}

export class EventStreams {
  readonly #history: EventHistory;
  readonly #subscribers = new Set<Subscriber>();
  /** Those that read the history by themselves. */
  readonly #reading = new Set<Subscriber>();
  /** Those that have come to its end, by filter. */
  readonly #groups = new Map<string, Group>();
  readonly #lost: Record<Loss, number> = { queue: 0, history: 0, record: 0 };
  /** Of the event that the groups get next. */
  #position = 0;
  #sent = 0;
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(history: EventHistory) {
    this.#history = history;
  }

  get subscribers(): number {
    return this.#subscribers.size;
  }

  /** Events that were given to subscribers. */
  get sent(): number {
    return this.#sent;
  }

  /** What subscribers were told that they lost, all together. */
  get lost(): Readonly<Record<Loss, number>> {
    return this.#lost;
  }

  /** Returns what ends it, for when its client has gone. Throws JanusdError. */
  subscribe(subscription: Subscription, receiver: Receiver): () => void {
    if (this.#closed) throw new JanusdError("the daemon is stopping", { kind: "unavailable" });
    const { since, follow } = subscription;
    const next = this.#history.nextSequence;
    if (since.kind === "sequence" && since.sequence > next) {
      const description = `the next event is ${next}: this is of an earlier run of the daemon`;
      throw JanusdError.invalid([{ field: "since_sequence", description }]);
    }
    if (this.#subscribers.size >= MAX_SUBSCRIBERS) {
      throw new JanusdError(`${MAX_SUBSCRIBERS} clients follow the events already: end one of them`, {
        kind: "exhausted",
      });
    }
    const subscriber = new Subscriber(subscription, receiver, this.#history, {
      lost: (cause, count) => {
        this.#lost[cause] += count;
      },
      sent: () => {
        this.#sent++;
      },
      taken: () => this.#taken(subscriber),
    });
    if (this.#subscribers.size === 0) this.#history.follow(() => this.#schedule(COALESCE_MS));
    this.#subscribers.add(subscriber);
    if (since.kind === "now" && follow) this.#join(subscriber);
    else this.#reading.add(subscriber);
    subscriber.send();
    this.#schedule(0);
    return () => this.#remove(subscriber);
  }

  /** Sends what has come so far, and ends all streams. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#follow(performance.now() + TURN_MS);
    for (const subscriber of this.#subscribers) {
      this.#remove(subscriber);
      subscriber.end(new JanusdError("the daemon is stopping", { kind: "unavailable" }));
    }
  }

  #remove(subscriber: Subscriber): void {
    this.#subscribers.delete(subscriber);
    this.#reading.delete(subscriber);
    const { filterKey } = subscriber.subscription;
    const group = this.#groups.get(filterKey);
    group?.members.delete(subscriber);
    if (group?.members.size === 0) this.#groups.delete(filterKey);
    if (this.#subscribers.size === 0) this.#history.follow(undefined);
  }

  /** It has read all of the history: from here on it gets what comes with the others. */
  #join(subscriber: Subscriber): void {
    const { filterKey, filter } = subscriber.subscription;
    if (this.#groups.size === 0) this.#position = this.#history.end;
    const group = this.#groups.get(filterKey) ?? { filter, members: new Set() };
    group.members.add(subscriber);
    this.#groups.set(filterKey, group);
  }

  #schedule(ms: number): void {
    if (this.#closed) return;
    this.#timer ??= setTimeout(this.#turn, ms);
  }

  readonly #turn = (): void => {
    this.#timer = undefined;
    const until = performance.now() + TURN_MS;
    let more = this.#follow(until);
    for (const subscriber of [...this.#reading]) {
      // The next turn begins with another.
      this.#reading.delete(subscriber);
      this.#reading.add(subscriber);
      more = this.#read(subscriber, until) || more;
    }
    for (const subscriber of this.#subscribers) subscriber.send();
    if (more) this.#schedule(TURN_MS);
  };

  /** Gives the groups what has come. True: there is more, and the turn is over. */
  #follow(until: number): boolean {
    const history = this.#history;
    if (this.#groups.size === 0) return false;
    this.#skipForgotten();
    while (this.#position < history.end) {
      const event = history.at(this.#position);
      if (event === undefined) break;
      this.#deliver(event);
      this.#position++;
      // After each: a container may make its paths long, and a pattern take its time with them.
      if (performance.now() > until) return this.#position < history.end;
    }
    return false;
  }

  #skipForgotten(): void {
    const { first } = this.#history;
    if (this.#position >= first) return;
    for (const { members } of this.#groups.values()) {
      for (const member of members)
        member.lose("history", Math.max(0, first - Math.max(this.#position, member.position)));
    }
    this.#position = first;
  }

  #deliver({ view, subject, deniers, missing }: PastEvent): void {
    let encoded: Uint8Array | undefined;
    for (const { filter, members } of this.#groups.values()) {
      if (missing > 0) for (const member of members) member.miss(this.#position, missing);
      if (!filter.matches(view, subject, deniers)) continue;
      encoded ??= encodeEvent(view, subject, deniers);
      for (const member of members) if (member.position <= this.#position) member.push(encoded);
    }
  }

  /** Goes on in the history. True: there is more to be read now, and the turn is over. */
  #read(subscriber: Subscriber, until: number): boolean {
    const outcome = subscriber.read(until);
    if (outcome === "more") return true;
    if (outcome === "full") return false;
    this.#reading.delete(subscriber);
    if (subscriber.subscription.follow) this.#join(subscriber);
    else subscriber.complete(() => this.#remove(subscriber));
    return false;
  }

  #taken(subscriber: Subscriber): void {
    if (!this.#subscribers.has(subscriber)) return;
    if (this.#reading.has(subscriber)) this.#schedule(0);
    subscriber.send();
  }
}

interface Notify {
  lost(cause: Loss, count: number): void;
  sent(): void;
  taken(): void;
}

class Subscriber {
  readonly subscription: Subscription;
  /** Of the next event that is for it. */
  position: number;
  readonly #receiver: Receiver;
  readonly #history: EventHistory;
  readonly #notify: Notify;
  /** Where one that doesn't follow ends. */
  readonly #last: number;
  /** Until the first event that is new enough. */
  #since: Since | undefined;
  #queue: Uint8Array[] = [];
  #queueBytes = 0;
  /** What it is to be told next. */
  #losses: [Loss, number][] = [];
  #writing = false;
  #onEmpty: (() => void) | undefined;

  constructor(subscription: Subscription, receiver: Receiver, history: EventHistory, notify: Notify) {
    this.subscription = subscription;
    this.#receiver = receiver;
    this.#history = history;
    this.#notify = notify;
    this.#last = history.end;
    this.#since = subscription.since;
    const { since } = subscription;
    const oldest = history.at(history.first)?.view;
    this.position = since.kind === "now" ? history.end : history.first;
    const oldestSequence = oldest?.seq ?? history.nextSequence;
    const nextSequence = history.nextSequence;
    this.#enqueue(
      encodeItem({
        case: "opened",
        value: { oldestSequence: BigInt(oldestSequence), nextSequence: BigInt(nextSequence) },
      }),
    );
    if (since.kind === "sequence") {
      if (history.first > 0) this.lose("history", Math.max(0, oldestSequence - since.sequence));
    } else if (since.kind === "time" && history.first > 0 && oldest !== undefined && since.timeNs < oldest.timeNs) {
      this.#losses.push(["history", 0]);
    }
  }

  /** Goes on in the history. `full`: it has to take some first. */
  read(until: number): "more" | "full" | "done" {
    const { filter, follow } = this.subscription;
    if (this.position < this.#history.first) {
      this.lose("history", this.#history.first - this.position);
      this.position = this.#history.first;
    }
    const end = follow ? this.#history.end : this.#last;
    for (let first = true; this.position < end; first = false) {
      if (this.#queueBytes >= QUEUE_BYTES) return "full";
      if (!first && performance.now() > until) return "more";
      const event = this.#history.at(this.position);
      if (event === undefined) break;
      this.position++;
      const { view, subject, deniers } = event;
      if (this.#isTooOld(event)) continue;
      this.lose("record", this.#missingBefore(event));
      this.#since = undefined;
      if (filter.matches(view, subject, deniers)) this.#give(encodeEvent(view, subject, deniers));
    }
    return "done";
  }

  #isTooOld({ view }: PastEvent): boolean {
    const since = this.#since;
    if (since === undefined) return false;
    if (since.kind === "sequence" && view.seq < since.sequence) return true;
    if (since.kind === "time" && view.timeNs < since.timeNs) return true;
    return false;
  }

  /** What was lost before the first event is of interest only as far as it was asked for. */
  #missingBefore({ view, missing }: PastEvent): number {
    const since = this.#since;
    if (since === undefined) return missing;
    return since.kind === "sequence" ? Math.max(0, Math.min(missing, view.seq - since.sequence)) : 0;
  }

  /** The encoded event, or a loss if there is no room. */
  push(event: Uint8Array): void {
    if (this.#queueBytes > 0 && this.#queueBytes + event.length > QUEUE_BYTES) {
      this.lose("queue", 1);
      return;
    }
    this.#give(event);
  }

  #give(event: Uint8Array): void {
    this.#tellLosses();
    this.#enqueue(event);
    this.#notify.sent();
  }

  /** Records are missing before the event at that position. */
  miss(position: number, count: number): void {
    if (this.position <= position) this.lose("record", count);
  }

  lose(cause: Loss, count: number): void {
    if (count === 0) return;
    this.#notify.lost(cause, count);
    const same = this.#losses.find(([one]) => one === cause);
    if (same === undefined) this.#losses.push([cause, count]);
    else same[1] += count;
  }

  /** Gives the receiver what waits, as much as it takes now. */
  send(): void {
    if (this.#writing) return;
    const message = this.#nextMessage();
    if (message === undefined) {
      this.#onEmpty?.();
      return;
    }
    this.#writing = true;
    this.#receiver.write(message, () => {
      this.#writing = false;
      this.#notify.taken();
    });
  }

  /** Ends the stream once all is taken. */
  complete(done: () => void): void {
    this.#onEmpty = () => {
      this.#onEmpty = undefined;
      done();
      this.#receiver.end(undefined);
    };
  }

  /** Ends the stream after all that waits. */
  end(error: JanusdError): void {
    for (let message = this.#nextMessage(); message !== undefined; message = this.#nextMessage()) {
      this.#receiver.write(message, () => undefined);
    }
    this.#receiver.end(error);
  }

  #enqueue(item: Uint8Array): void {
    this.#queue.push(item);
    this.#queueBytes += item.length;
  }

  #tellLosses(): void {
    for (const [loss, count] of this.#losses.splice(0)) {
      this.#enqueue(encodeItem({ case: "lost", value: { count: BigInt(count), cause: CAUSES[loss] } }));
    }
  }

  #nextMessage(): Uint8Array | undefined {
    if (this.#queue.length === 0) this.#tellLosses();
    const [first] = this.#queue;
    if (first === undefined) return undefined;
    let bytes = first.length;
    let count = 1;
    for (let next = this.#queue[count]; next !== undefined && bytes + next.length <= MESSAGE_BYTES; ) {
      bytes += next.length;
      next = this.#queue[++count];
    }
    this.#queueBytes -= bytes;
    return Buffer.concat(this.#queue.splice(0, count), bytes);
  }
}
