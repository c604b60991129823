/**
 * Text to a file descriptor that may be slow, full, or gone. Never blocks the
 * event loop, never throws, never holds more than a fixed number of bytes, and
 * never closes the descriptor: another file would get its number, and what
 * somebody else prints would land there.
 *
 * How depends on what the descriptor is, since Node's own `process.stdout`
 * blocks on files and pipes:
 * - a pipe, FIFO or terminal is opened again, without blocking, through
 *   /proc/self/fd. That makes a file description of our own; the caller's (and
 *   its other holders') keeps its mode. A FIFO that found a new reader is taken
 *   up again.
 * - a socket cannot be opened again: it is set to not block for all its holders.
 * - a regular file is written on the thread pool, one write at a time.
 */
import { Buffer } from "node:buffer";
import { closeSync, constants, fstatSync, openSync, write, writeSync } from "node:fs";
import { Socket } from "node:net";
import { hasCode } from "../errors.js";

/** Why lines were dropped. */
export const DROP_REASONS = ["queue_full", "no_space", "closed", "io_error", "shutdown"] as const;
export type DropReason = (typeof DROP_REASONS)[number];

export interface OutputOptions {
  /** Borrowed, and left open. */
  readonly fd: number;
  /** What may wait, in bytes. Further text is dropped. */
  readonly queueLimit: number;
  /** How long `close` waits for the reader, in milliseconds. */
  readonly closeTimeoutMs: number;
  /** How each chunk ended. */
  readonly onWritten?: (error: Error | undefined) => void;
  /** A descriptor that another replaced is not written to any more. */
  readonly onUnused?: (fd: number) => void;
}

const NEWLINE = 0x0a;
/** While a reader doesn't read: from the first to the last, doubling. */
const RETRY_MS = { first: 2, last: 100 };
const REOPEN_MS = 1000;

type Done = (error: NodeJS.ErrnoException | undefined, written: number) => void;

/** Carries one chunk at a time. */
interface Transport {
  /** `done` may be called before this returns. */
  write(chunk: Buffer, done: Done): void;
  /** No call of `done` after this. Returns the bytes of the chunk that went out so far. */
  destroy(): number;
}

export class Output {
  readonly #options: OutputOptions;
  readonly #drops: Record<DropReason, number> = { queue_full: 0, no_space: 0, closed: 0, io_error: 0, shutdown: 0 };
  #fd: number;
  /** Takes its place after the chunk in flight. */
  #nextFd: number | undefined;
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
    this.#fd = options.fd;
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

  /** From the next chunk on. Only for regular files: they lose nothing that is in flight. */
  use(fd: number): void {
    if (this.#nextFd !== undefined) this.#options.onUnused?.(this.#nextFd);
    this.#nextFd = fd;
    if (this.#inFlight === undefined) this.#switch();
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
    const written = this.#transport?.destroy() ?? 0;
    this.#transport = undefined;
    this.#discard("shutdown", written);
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
      if (written > 0) this.#torn = chunk[written - 1] !== NEWLINE;
      this.#options.onWritten?.(error);
      if (error === undefined) {
        this.#inFlight = undefined;
      } else {
        this.#failed(reasonOf(error), written);
      }
      this.#switch();
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
    for (
      let at = chunk.indexOf(NEWLINE, Math.max(written, this.#inFlightStart));
      at !== -1;
      at = chunk.indexOf(NEWLINE, at + 1)
    ) {
      lines++;
    }
    return lines;
  }

  #switch(): void {
    if (this.#nextFd === undefined || this.#closing !== undefined) return;
    this.#transport?.destroy();
    const before = this.#fd;
    this.#fd = this.#nextFd;
    this.#nextFd = undefined;
    this.#open();
    this.#options.onUnused?.(before);
  }

  #reopen(): boolean {
    if (Date.now() < this.#reopenAt) return false;
    this.#open();
    return this.#transport !== undefined;
  }

  #open(): void {
    this.#torn = false;
    try {
      this.#transport = openTransport(this.#fd);
    } catch {
      // ENXIO: a FIFO that nobody reads. EBADF: started with stdout closed.
      this.#reopenAt = Date.now() + REOPEN_MS;
    }
  }
}

function openTransport(fd: number): Transport {
  const stat = fstatSync(fd);
  if (stat.isFIFO() || stat.isCharacterDevice()) {
    const own = reopen(fd);
    if (own !== undefined) return new NonBlockingTransport(own, true);
  }
  if ((stat.isFIFO() || stat.isSocket()) && setNonBlocking(fd)) return new NonBlockingTransport(fd, false);
  return new BlockingTransport(fd);
}

/** Undefined if the descriptor was inherited from somebody whose files we may not open. Throws ENXIO: nobody reads. */
function reopen(fd: number): number | undefined {
  try {
    return openSync(`/proc/self/fd/${fd}`, constants.O_WRONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  } catch (error) {
    if (hasCode(error, "ENXIO")) throw error;
    return undefined;
  }
}

/** Never used, never closed: libuv sets the mode when it is given a descriptor, and Node offers no other way to. */
const modeSetters = new Map<number, Socket>();

/** False if libuv knows no such kind of descriptor (a datagram socket). */
function setNonBlocking(fd: number): boolean {
  if (modeSetters.has(fd)) return true;
  try {
    modeSetters.set(fd, new Socket({ fd, readable: false, writable: true }).unref());
    return true;
  } catch {
    return false;
  }
}

class NonBlockingTransport implements Transport {
  readonly #fd: number;
  readonly #owned: boolean;
  #retry: NodeJS.Timeout | undefined;
  #written = 0;

  constructor(fd: number, owned: boolean) {
    this.#fd = fd;
    this.#owned = owned;
  }

  write(chunk: Buffer, done: Done): void {
    this.#written = 0;
    this.#write(chunk, RETRY_MS.first, done);
  }

  destroy(): number {
    clearTimeout(this.#retry);
    if (this.#owned) closeSync(this.#fd);
    return this.#written;
  }

  #write(chunk: Buffer, retryMs: number, done: Done): void {
    const before = this.#written;
    let error: NodeJS.ErrnoException | undefined;
    try {
      while (this.#written < chunk.length) this.#written += writeSync(this.#fd, chunk, this.#written);
    } catch (thrown) {
      error = thrown instanceof Error ? thrown : new Error(String(thrown));
    }
    if (error?.code !== "EAGAIN") {
      done(error, this.#written);
      return;
    }
    const next = this.#written > before ? RETRY_MS.first : Math.min(retryMs * 2, RETRY_MS.last);
    this.#retry = setTimeout(() => this.#write(chunk, next, done), retryMs);
  }
}

class BlockingTransport implements Transport {
  readonly #fd: number;
  #written = 0;
  #destroyed = false;

  constructor(fd: number) {
    this.#fd = fd;
  }

  write(chunk: Buffer, done: Done): void {
    this.#written = 0;
    this.#write(chunk, done);
  }

  destroy(): number {
    this.#destroyed = true;
    return this.#written;
  }

  #write(chunk: Buffer, done: Done): void {
    write(this.#fd, chunk, this.#written, chunk.length - this.#written, null, (error, bytes) => {
      if (this.#destroyed) return;
      if (error === null) this.#written += bytes;
      if (error === null && this.#written < chunk.length) this.#write(chunk, done);
      else done(error ?? undefined, this.#written);
    });
  }
}

function reasonOf(error: NodeJS.ErrnoException): DropReason {
  switch (error.code) {
    case "ENOSPC":
    case "EDQUOT":
    case "EFBIG":
      return "no_space";
    case "EPIPE":
    case "ECONNRESET":
      return "closed";
    default:
      return "io_error";
  }
}
