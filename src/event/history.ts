/**
 * The last events, as the engine wrote them, so that who comes later still sees them. A sink that costs an event one
 * copy of its record, and never more than its bytes: the oldest events make room.
 *
 * An event's position counts what the history was given, from 0. Whoever reads goes from position to position, and so
 * cannot miss where the past ends and the present begins.
 */
import { type Deniers, NO_DENIERS, type SubjectContext } from "../subject.js";
import { FileEventView } from "./decode.js";
import type { Sink } from "./sink.js";

/** Of memory for each event that is kept; a record is larger. */
const BYTES_PER_EVENT = 128;

/** An event of the history. `view` moves on with the next one that is read. */
export interface PastEvent {
  readonly view: FileEventView;
  readonly subject: SubjectContext;
  readonly deniers: Deniers;
  /** Records that were lost since the event before. */
  readonly missing: number;
}

export class EventHistory implements Sink {
  readonly name = "history";
  readonly dropped = 0;
  readonly drops = {};
  readonly queueBytes = 0;
  readonly #view: FileEventView;
  readonly #offsets: Uint32Array;
  /** By slot; empty where there is no event any more, so that its guard can go. */
  readonly #subjects: (SubjectContext | undefined)[];
  readonly #deniers: Deniers[];
  readonly #missing: Uint32Array;
  readonly #lost: () => number;
  #lostBefore = 0;
  #writeAt = 0;
  #first = 0;
  #end = 0;
  #nextSequence = 1;
  #onAppend: (() => void) | undefined;

  /** `lost`: how many records the daemon has lost so far. */
  constructor(bytes: number, lost: () => number) {
    this.#lost = lost;
    this.#view = new FileEventView(bytes);
    const slots = Math.floor(bytes / BYTES_PER_EVENT);
    this.#offsets = new Uint32Array(slots);
    this.#missing = new Uint32Array(slots);
    this.#subjects = new Array<undefined>(slots).fill(undefined);
    this.#deniers = new Array<Deniers>(slots).fill(NO_DENIERS);
  }

  /** Position of the oldest event; `end` if there is none. */
  get first(): number {
    return this.#first;
  }

  /** Position of the event that comes next. */
  get end(): number {
    return this.#end;
  }

  /** Of the event that comes next, at least. */
  get nextSequence(): number {
    return this.#nextSequence;
  }

  /** Undefined: it is not there any more, or not yet. */
  at(position: number): PastEvent | undefined {
    if (position < this.#first || position >= this.#end) return undefined;
    const slot = position % this.#offsets.length;
    const subject = this.#subjects[slot];
    if (subject === undefined) return undefined;
    this.#view.seek(this.#offsets[slot] as number);
    return { view: this.#view, subject, deniers: this.#deniers[slot] ?? NO_DENIERS, missing: this.#missing[slot] ?? 0 };
  }

  /** Hears that there is more, once a batch. One listener; undefined: none. */
  follow(listener: (() => void) | undefined): void {
    this.#onAppend = listener;
  }

  write(view: FileEventView, subject: SubjectContext, deniers: Deniers): void {
    const at = this.#makeRoom(view.size);
    view.copyTo(this.#view, at);
    const slot = this.#end % this.#offsets.length;
    this.#offsets[slot] = at;
    this.#subjects[slot] = subject;
    this.#deniers[slot] = deniers;
    const lost = this.#lost();
    this.#missing[slot] = lost - this.#lostBefore;
    this.#lostBefore = lost;
    this.#writeAt = at + view.size;
    this.#end++;
    this.#nextSequence = view.seq + 1;
  }

  flush(): void {
    this.#onAppend?.();
  }

  async close(): Promise<void> {
    this.#onAppend = undefined;
  }

  /** Where so many bytes fit in one piece, once the oldest events are gone from there. */
  #makeRoom(size: number): number {
    let at = this.#writeAt;
    if (at + size > this.#view.bytes.length) {
      this.#evict(at, this.#view.bytes.length);
      at = 0;
    }
    this.#evict(at, at + size);
    if (this.#end - this.#first === this.#offsets.length) this.#drop();
    return at;
  }

  /** The events that begin there: the oldest, if any do. */
  #evict(from: number, to: number): void {
    while (this.#first < this.#end) {
      const offset = this.#offsets[this.#first % this.#offsets.length] as number;
      if (offset < from || offset >= to) return;
      this.#drop();
    }
  }

  #drop(): void {
    this.#subjects[this.#first % this.#offsets.length] = undefined;
    this.#first++;
  }
}
