/**
 * From the engine's ring to the sinks.
 *
 * The ring is drained in batches into one buffer that is used again and again.
 * Between batches the event loop gets its turn, so that gRPC and health answer
 * under a storm. A wake-up is answered a moment late on purpose: what comes
 * meanwhile joins the batch, and the gate thread has nobody to wake. That costs
 * no event (the ring holds far more than a moment's worth) and saves a system
 * call and a context switch for each.
 */
import type { Engine } from "../native.js";
import { type Deniers, NO_DENIERS, type SubjectLookup } from "../subject.js";
import { FileEventView } from "./decode.js";
import { Fanout } from "./fanout.js";
import { CANARY_SUBJECT, DENIER_BYTES, DENIERS, FILE_EVENT, FLAG } from "./layout.js";
import type { Sink } from "./sink.js";

/** No record is larger: its strings at the most that their length fields can say. */
const LARGEST_RECORD = FILE_EVENT.sizeof + 3 * 0xffff + DENIERS * DENIER_BYTES + 7;

const COALESCE_MS = 2;

/** At the end, for what is in the ring: the daemon has ten seconds for all of its end. Milliseconds. */
const CLOSING_MS = 5000;

export interface PipelineOptions {
  readonly engine: Pick<Engine, "drain">;
  readonly lookup: SubjectLookup;
  readonly sinks: readonly Sink[];
  /** Of the batch buffer; raised to what one record of the largest size needs. */
  readonly bufferBytes: number;
  /** Gets the canary's records instead of the sinks: when each was decided, in nanoseconds since the epoch. */
  readonly onCanary?: (timeNs: bigint) => void;
  /** Default: CLOSING_MS. */
  readonly closingMs?: number;
  /** Hears of the first failure of a kind (a sink that throws, a batch that makes no sense, records left at the end). */
  readonly onFailure?: (what: string, error: unknown) => void;
}

export interface PipelineStats {
  /** Records that reached the sinks. */
  readonly delivered: number;
  /** Records missing in the sequence: written by nobody, or lost in the ring. */
  readonly missing: number;
  /** Records whose subject nobody knows any more. */
  readonly unattributed: number;
  /** Batches of which the rest was thrown away since a record made no sense. */
  readonly malformed: number;
  /** Calls that threw, by the sink's name. */
  readonly failures: Readonly<Record<string, number>>;
}

export class EventPipeline {
  readonly #engine: Pick<Engine, "drain">;
  readonly #lookup: SubjectLookup;
  readonly #onCanary: ((timeNs: bigint) => void) | undefined;
  readonly #fanout: Fanout;
  readonly #closingMs: number;
  readonly #view: FileEventView;
  readonly #onFailure: (what: string, error: unknown) => void;
  #timer: NodeJS.Timeout | undefined;
  #immediate: NodeJS.Immediate | undefined;
  #closing: Promise<void> | undefined;
  /** The engine counts from 1, also what it then has no room for. */
  #nextSeq = 1;
  #delivered = 0;
  #missing = 0;
  #unattributed = 0;
  #malformed = 0;

  constructor(options: PipelineOptions) {
    this.#engine = options.engine;
    this.#lookup = options.lookup;
    this.#onCanary = options.onCanary;
    this.#onFailure = options.onFailure ?? (() => undefined);
    this.#fanout = new Fanout(options.sinks, (sink, error) => this.#onFailure(`sink ${sink}`, error));
    this.#closingMs = options.closingMs ?? CLOSING_MS;
    this.#view = new FileEventView(Math.max(options.bufferBytes, LARGEST_RECORD));
  }

  get stats(): PipelineStats {
    return {
      delivered: this.#delivered,
      missing: this.#missing,
      unattributed: this.#unattributed,
      malformed: this.#malformed,
      failures: this.#fanout.failures,
    };
  }

  /** Records that reached no sink, and should have. */
  get lost(): number {
    return this.#missing + this.#unattributed;
  }

  /** The ring is no longer empty. Cheap, and may be called at any time. */
  wake(): void {
    if (this.#timer !== undefined || this.#immediate !== undefined || this.#closing !== undefined) return;
    this.#timer = setTimeout(this.#run, COALESCE_MS);
  }

  /**
   * Delivers what is in the ring now, as much as there is time for, then closes the sinks. Never rejects.
   * Stop the engine before this, or what it still writes stays unread.
   */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    clearTimeout(this.#timer);
    clearImmediate(this.#immediate);
    const until = performance.now() + this.#closingMs;
    while (this.#drain() > 0) {
      if (performance.now() > until) {
        this.#onFailure("telling the last events", new Error("there was no time for all that were in the ring"));
        break;
      }
      await new Promise((resolve) => setImmediate(resolve));
    }
    await this.#fanout.close();
  }

  readonly #run = (): void => {
    this.#timer = this.#immediate = undefined;
    const bytes = this.#drain();
    // Nothing: the engine will wake us. A full buffer: more is waiting, so go
    // on as soon as everybody else had a turn. Else look again in a moment.
    if (bytes > this.#view.bytes.length / 2) this.#immediate = setImmediate(this.#run);
    else if (bytes > 0) this.#timer = setTimeout(this.#run, COALESCE_MS);
  };

  /** One batch. Returns its bytes; 0 = the ring is empty. */
  #drain(): number {
    const view = this.#view;
    const bytes = this.#engine.drain(view.bytes);
    if (bytes === 0) return 0;
    view.reset(bytes);
    try {
      while (view.next()) this.#deliver(view);
    } catch (error) {
      this.#malformed++;
      if (this.#malformed === 1) this.#onFailure("event batch", error);
    }
    this.#fanout.flush();
    return bytes;
  }

  #deliver(view: FileEventView): void {
    const seq = view.seq;
    if (seq > this.#nextSeq) this.#missing += seq - this.#nextSeq;
    this.#nextSeq = seq + 1;
    if (view.subjectId === CANARY_SUBJECT) {
      this.#onCanary?.(view.timeNs);
      return;
    }
    const subject = this.#lookup(view.subjectId);
    if (subject === undefined) {
      this.#unattributed++;
      return;
    }
    this.#delivered++;
    this.#fanout.write(view, subject, view.deniers === 0 ? NO_DENIERS : this.#deniersOf(view));
  }

  #deniersOf(view: FileEventView): Deniers {
    const others = view.denierIds.map(this.#lookup).filter((subject) => subject !== undefined);
    return { others, cut: (view.flags & FLAG.deniersCut) !== 0 || others.length < view.deniers };
  }
}
