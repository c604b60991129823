/**
 * Gives each event to every sink, and keeps the sinks out of each other's way:
 * one that throws is counted and goes on being called, the others never notice.
 */
import type { Deniers, SubjectContext } from "../subject.js";
import type { FileEventView } from "./decode.js";
import type { Sink } from "./sink.js";

export class Fanout {
  readonly #sinks: readonly Sink[];
  readonly #failures: number[];
  readonly #onFailure: (sink: string, error: unknown) => void;

  /** `onFailure` hears of the first failure of each sink; the rest are only counted. */
  constructor(sinks: readonly Sink[], onFailure: (sink: string, error: unknown) => void) {
    this.#sinks = sinks;
    this.#failures = sinks.map(() => 0);
    this.#onFailure = onFailure;
  }

  /** Calls that threw, by the sink's name. */
  get failures(): Readonly<Record<string, number>> {
    return Object.fromEntries(this.#sinks.map((sink, index) => [sink.name, this.#failures[index] ?? 0]));
  }

  write(view: FileEventView, subject: SubjectContext, deniers: Deniers): void {
    for (let index = 0; index < this.#sinks.length; index++) {
      const sink = this.#sinks[index] as Sink;
      try {
        sink.write(view, subject, deniers);
      } catch (error) {
        this.#failed(sink, index, error);
      }
    }
  }

  flush(): void {
    for (const [index, sink] of this.#sinks.entries()) {
      try {
        sink.flush();
      } catch (error) {
        this.#failed(sink, index, error);
      }
    }
  }

  /** All at once: a sink that takes its time costs no other. Never rejects. */
  async close(): Promise<void> {
    const closing = this.#sinks.map(async (sink) => sink.close());
    for (const [index, result] of (await Promise.allSettled(closing)).entries()) {
      if (result.status === "rejected") this.#failed(this.#sinks[index] as Sink, index, result.reason);
    }
  }

  #failed(sink: Sink, index: number, error: unknown): void {
    const failures = (this.#failures[index] ?? 0) + 1;
    this.#failures[index] = failures;
    if (failures === 1) this.#onFailure(sink.name, error);
  }
}
