/**
 * The event log's own file (--log-file). Appended to, so that whoever truncates it (logrotate's `copytruncate`) leaves
 * no hole; opened anew on SIGHUP, after it was renamed. Until it can be, lines go on to the file that is open.
 */
import { closeSync, constants, fstat, fstatSync, openSync } from "node:fs";
import { Output, type OutputOptions } from "./output.js";

/** A symbolic link would let who may write to the directory choose what is appended to. Without NONBLOCK, a FIFO would have us wait. */
const FLAGS = constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT | constants.O_NOFOLLOW | constants.O_NONBLOCK;
const MODE = 0o640;

/** How often it is tried again, and looked whether the file is still there. Milliseconds. */
const LOOK_MS = 1000;

export class LogFile {
  readonly output: Output;
  readonly #path: string;
  readonly #timer: NodeJS.Timeout;
  #fd: number;
  #errors = 0;
  /** Of the last attempt to open it. */
  #openFailure: string | undefined;
  /** Of the last lines. */
  #writeFailure: string | undefined;
  #removed = false;

  /** Throws an Error that names the flag. */
  constructor(path: string, options: Pick<OutputOptions, "queueLimit" | "closeTimeoutMs">) {
    this.#path = path;
    try {
      this.#fd = open(path);
    } catch (cause) {
      throw new Error(`--log-file ${path}: cannot write there: ${messageOf(cause)}`, { cause });
    }
    this.output = new Output({
      ...options,
      fd: this.#fd,
      onUnused: closeSync,
      onWritten: (error) => {
        this.#writeFailure = error === undefined ? undefined : error.message;
        if (error !== undefined) this.#errors++;
      },
    });
    this.#timer = setInterval(() => this.#look(), LOOK_MS);
  }

  /** Attempts to write to it, or to open it again, that failed. */
  get errors(): number {
    return this.#errors;
  }

  /** Why lines are not where they should be. */
  get failure(): string | undefined {
    if (this.#openFailure !== undefined) return `cannot be opened again: ${this.#openFailure}`;
    if (this.#writeFailure !== undefined) return `cannot be written: ${this.#writeFailure}`;
    return this.#removed ? "was removed: SIGHUP has it made again" : undefined;
  }

  /** What is written from now on goes to the file that has the name now. Throws nothing: see `failure`. */
  reopen(): void {
    try {
      this.#fd = open(this.#path);
    } catch (error) {
      this.#errors++;
      this.#openFailure = messageOf(error);
      return;
    }
    this.#openFailure = undefined;
    this.#removed = false;
    this.output.use(this.#fd);
  }

  /** No more looks. The descriptor stays: a write may still be going on. */
  close(): void {
    clearInterval(this.#timer);
  }

  #look(): void {
    if (this.#openFailure !== undefined) this.reopen();
    const fd = this.#fd;
    fstat(fd, (error, stat) => {
      if (fd === this.#fd) this.#removed = error === null && stat.nlink === 0;
    });
  }
}

function open(path: string): number {
  const fd = openSync(path, FLAGS, MODE);
  if (fstatSync(fd).isFile()) return fd;
  closeSync(fd);
  throw new Error("not a regular file");
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
