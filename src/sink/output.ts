/**
 * Text to a file descriptor that may be slow, full, or gone. Never blocks the
 * event loop, never throws, never holds more than a fixed number of bytes.
 *
 * How depends on what the descriptor is, since Node's own `process.stdout`
 * blocks on files and pipes:
 * - a pipe, FIFO or terminal is opened again, without blocking, through
 *   /proc/self/fd. That makes a file description of our own; the caller's (and
 *   its other holders') keeps its mode. A FIFO that found a new reader is taken
 *   up again.
 * - a socket cannot be opened again: it is taken over and set to not block.
 * - a regular file is written on the thread pool, one write at a time.
 */
import { Buffer } from "node:buffer";
import { closeSync, constants, fstatSync, openSync, write } from "node:fs";
import { Socket } from "node:net";

/** Why lines were dropped. */
export const DROP_REASONS = ["queue_full", "no_space", "closed", "io_error", "shutdown"] as const;
export type DropReason = (typeof DROP_REASONS)[number];

export interface OutputOptions {
  /** Borrowed, and left open, unless it is a socket: that one belongs to the output from now on. */
  readonly fd: number;
  /** What may wait, in bytes. Further text is dropped. */
  readonly queueLimit: number;
  /** How long `close` waits for the reader, in milliseconds. */
  readonly closeTimeoutMs: number;
}

const NEWLINE = 0x0a;
const EAGAIN_RETRY_MS = 50;
const REOPEN_MS = 1000;

/** Carries one chunk at a time. `done` tells how many bytes certainly went out. */
interface Transport {
  write(chunk: Buffer, done: (error: NodeJS.ErrnoException | undefined, written: number) => void): void;
  /** Lets go of the descriptor, also in the middle of a write. */
  destroy(): void;
}

export class Output {
  readonly #options: OutputOptions;
  readonly #drops: Record<DropReason, number> = { queue_full: 0, no_space: 0, closed: 0, io_error: 0, shutdown: 0 };
  #transport: Transport | undefined;
  #reopenAt = 0;
  #waiting: string[] = [];
  #waitingBytes = 0;
  #waitingLines = 0;
  #inFlight: Buffer | undefined;
  /** Where the lines of the chunk in flight begin. */
  #inFlightStart = 0;
  /** The last thing that went out is half a line. */
  #torn = false;
  #closing: Promise<void> | undefined;
  #onIdle: (() => void) | undefined;

  constructor(options: OutputOptions) {
    this.#options = options;
    this.#open();
  }

  get drops(): Readonly<Record<DropReason, number>> {
    return this.#drops;
  }

  get queueBytes(): number {
    return this.#waitingBytes + (this.#inFlight?.length ?? 0);
  }

  /** `text` is `lines` whole lines. */
  push(text: string, lines: number): void {
    if (this.#closing !== undefined) {
      this.#drops.shutdown += lines;
      return;
    }
    if (this.#transport === undefined && !this.#reopen()) {
      this.#drops.closed += lines;
      return;
    }
    const bytes = Buffer.byteLength(text);
    if (this.queueBytes + bytes > this.#options.queueLimit) {
      this.#drops.queue_full += lines;
      return;
    }
    this.#waiting.push(text);
    this.#waitingBytes += bytes;
    this.#waitingLines += lines;
    this.#pump();
  }

  /** Waits for the reader until the timeout; what is left then is dropped. Never rejects. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    if (this.#inFlight !== undefined) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, this.#options.closeTimeoutMs);
        this.#onIdle = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
    this.#discard("shutdown", 0);
    this.#transport?.destroy();
    this.#transport = undefined;
  }

  #pump(): void {
    const transport = this.#transport;
    if (this.#inFlight !== undefined || transport === undefined) return;
    if (this.#waitingLines === 0) {
      this.#onIdle?.();
      return;
    }
    const prefix = this.#torn ? "\n" : "";
    const chunk = Buffer.from(prefix + this.#waiting.join(""));
    this.#inFlightStart = prefix.length;
    this.#waiting = [];
    this.#waitingBytes = this.#waitingLines = 0;
    this.#inFlight = chunk;
    transport.write(chunk, (error, written) => {
      // Given up meanwhile, and counted then.
      if (this.#inFlight !== chunk) return;
      if (written > 0) this.#torn = chunk[written - 1] !== NEWLINE;
      if (error === undefined) {
        this.#inFlight = undefined;
      } else {
        this.#failed(reasonOf(error), written);
      }
      this.#pump();
    });
  }

  #failed(reason: DropReason, written: number): void {
    if (reason !== "closed") {
      this.#drops[reason] += this.#linesInFlight(written);
      this.#inFlight = undefined;
      return;
    }
    // Nobody reads: what waits has nowhere to go either.
    this.#discard(reason, written);
    this.#transport?.destroy();
    this.#transport = undefined;
    this.#reopenAt = Date.now() + REOPEN_MS;
    this.#onIdle?.();
  }

  #discard(reason: DropReason, written: number): void {
    this.#drops[reason] += this.#linesInFlight(written) + this.#waitingLines;
    this.#inFlight = undefined;
    this.#waiting = [];
    this.#waitingBytes = this.#waitingLines = 0;
  }

  /** Lines of the chunk in flight that end past its first `written` bytes. */
  #linesInFlight(written: number): number {
    const chunk = this.#inFlight;
    let lines = 0;
    if (chunk === undefined) return lines;
    for (let at = chunk.indexOf(NEWLINE, Math.max(written, this.#inFlightStart)); at !== -1; at = chunk.indexOf(NEWLINE, at + 1)) {
      lines++;
    }
    return lines;
  }

  #reopen(): boolean {
    if (Date.now() < this.#reopenAt) return false;
    this.#open();
    return this.#transport !== undefined;
  }

  #open(): void {
    this.#torn = false;
    try {
      this.#transport = openTransport(this.#options.fd);
    } catch {
      // ENXIO: a FIFO without a reader. EBADF: started with stdout closed.
      this.#reopenAt = Date.now() + REOPEN_MS;
    }
  }
}

function openTransport(fd: number): Transport {
  const stat = fstatSync(fd);
  if (stat.isFIFO()) {
    const own = reopen(fd);
    return new StreamTransport(own ?? fd);
  }
  if (stat.isSocket()) return new StreamTransport(fd);
  if (stat.isCharacterDevice()) {
    const own = reopen(fd);
    return new FileTransport(own ?? fd, own !== undefined);
  }
  return new FileTransport(fd, false);
}

/** Undefined if the descriptor was inherited from somebody whose files we may not open: then it is used as it is. */
function reopen(fd: number): number | undefined {
  try {
    return openSync(`/proc/self/fd/${fd}`, constants.O_WRONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  } catch (error) {
    if (codeOf(error) === "ENXIO") throw error;
    return undefined;
  }
}

class FileTransport implements Transport {
  readonly #fd: number;
  readonly #owned: boolean;
  #retry: NodeJS.Timeout | undefined;

  constructor(fd: number, owned: boolean) {
    this.#fd = fd;
    this.#owned = owned;
  }

  write(chunk: Buffer, done: (error: NodeJS.ErrnoException | undefined, written: number) => void): void {
    const step = (from: number): void => {
      write(this.#fd, chunk, from, chunk.length - from, null, (error, bytes) => {
        const written = from + (bytes ?? 0);
        if (error?.code === "EAGAIN") this.#retry = setTimeout(step, EAGAIN_RETRY_MS, written);
        else if (error !== null) done(error, written);
        else if (written === chunk.length) done(undefined, written);
        else step(written);
      });
    };
    step(0);
  }

  destroy(): void {
    clearTimeout(this.#retry);
    if (this.#owned) closeSync(this.#fd);
  }
}

class StreamTransport implements Transport {
  readonly #socket: Socket;

  constructor(fd: number) {
    this.#socket = new Socket({ fd, readable: false, writable: true });
    // The write's own callback reports it; without a listener it would end the process.
    this.#socket.on("error", () => undefined);
    this.#socket.unref();
  }

  write(chunk: Buffer, done: (error: NodeJS.ErrnoException | undefined, written: number) => void): void {
    this.#socket.write(chunk, (error) => done(error ?? undefined, error ? 0 : chunk.length));
  }

  destroy(): void {
    this.#socket.destroy();
  }
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && "code" in error ? error.code : undefined;
}

function reasonOf(error: NodeJS.ErrnoException): DropReason {
  switch (error.code) {
    case "ENOSPC":
    case "EDQUOT":
    case "EFBIG":
      return "no_space";
    case "EPIPE":
    case "ECONNRESET":
    case "ERR_STREAM_DESTROYED":
      return "closed";
    default:
      return "io_error";
  }
}
