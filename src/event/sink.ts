/**
 * Where events end up. The pipeline knows only this, so that a sink can be
 * anything: a log, a stream, a test.
 */
import type { Deniers, SubjectContext } from "../subject.js";
import type { FileEventView } from "./decode.js";

export interface Sink {
  /** Unique in the daemon: a label value in the metrics. */
  readonly name: string;
  /** Takes what it needs out of `view`, which moves on when this returns. Must not block. */
  write(view: FileEventView, subject: SubjectContext, deniers: Deniers): void;
  /** The batch is complete. Must not block. */
  flush(): void;
  /** Delivers what it can in a bounded time, and counts the rest as dropped. */
  close(): Promise<void>;
  /** Events that were not delivered, all reasons together. */
  readonly dropped: number;
  /** The same by reason. Every possible reason is present from the start. */
  readonly drops: Readonly<Record<string, number>>;
  /** Bytes that wait for a slow reader. */
  readonly queueBytes: number;
}
