/**
 * Reads the engine's records without copying them: one view, moved from record
 * to record of a batch, that decodes a field when it is asked for it.
 */
import { Buffer, isUtf8 } from "node:buffer";
import { ANCESTOR, COMM_BYTES, DENIER_BYTES, EVENT_KINDS, FILE_EVENT, FLAG, RECORD_ALIGNMENT } from "./layout.js";
import { isPlain, printableBytes, quoteBytes } from "./text.js";

const WORD = 4;
const SLASH = 0x2f;
const MOVED_TO = EVENT_KINDS.indexOf("movedto");
const TWO_32 = 2 ** 32;

/** A batch that doesn't consist of whole records: the two sides don't agree on the layout. */
export class MalformedBatchError extends Error {
  override readonly name = "MalformedBatchError";
}

/** A process that an event's process descends from. */
export interface Ancestor {
  readonly pid: number;
  readonly comm: string;
  readonly exe: string;
}

/**
 * A cursor. What a getter returns is the caller's, except where it says that it
 * is a window; the view itself is valid until `next` or `reset`.
 */
export class FileEventView {
  /** The batch buffer, for the engine to drain into. */
  readonly bytes: Buffer;
  readonly #u16: Uint16Array;
  readonly #u32: Uint32Array;
  readonly #i32: Int32Array;
  readonly #u64: BigUint64Array;
  #start = 0;
  #word = 0;
  #next = 0;
  #length = 0;

  /** `capacity` in bytes, rounded up to the records' alignment. */
  constructor(capacity: number) {
    const memory = new ArrayBuffer(Math.ceil(capacity / RECORD_ALIGNMENT) * RECORD_ALIGNMENT);
    this.bytes = Buffer.from(memory);
    this.#u16 = new Uint16Array(memory);
    this.#u32 = new Uint32Array(memory);
    this.#i32 = new Int32Array(memory);
    this.#u64 = new BigUint64Array(memory);
  }

  /** Starts over, before the first of the records in the first `length` bytes. */
  reset(length: number): void {
    this.#next = 0;
    this.#length = length;
  }

  /** Moves to the next record; false at the end. Throws MalformedBatchError. */
  next(): boolean {
    const start = this.#next;
    if (start === this.#length) return false;
    const room = this.#length - start;
    const size = room < FILE_EVENT.sizeof ? 0 : (this.#u32[start / WORD] as number);
    this.#start = start;
    this.#word = start / WORD;
    this.#next = start + size;
    const variable = size === 0 ? 0 : this.#otherEnd - this.#pathStart + this.deniers * DENIER_BYTES;
    if (size < FILE_EVENT.sizeof + variable || size > room || size % RECORD_ALIGNMENT !== 0) {
      this.#length = this.#next = 0;
      throw new MalformedBatchError(`record of ${size} bytes at ${start}, ${room} left`);
    }
    return true;
  }

  /** Stands on the record that begins there, and was found whole before. */
  seek(start: number): void {
    this.#start = start;
    this.#word = start / WORD;
  }

  /** Of the record, in bytes. */
  get size(): number {
    return this.#u32[this.#word] as number;
  }

  /** The whole record: a window, as pathBytes. */
  get record(): Buffer {
    return this.bytes.subarray(this.#start, this.#start + this.size);
  }

  /** Copies the record into another batch. */
  copyTo(into: FileEventView, at: number): void {
    this.bytes.copy(into.bytes, at, this.#start, this.#start + this.size);
  }

  /** A gap means lost records. Exact below 2^53. */
  get seq(): number {
    const word = this.#word + FILE_EVENT.seq / WORD;
    return (this.#u32[word + 1] as number) * TWO_32 + (this.#u32[word] as number);
  }

  /** When it was decided (or read, if only seen): RFC 3339, UTC, nanoseconds. */
  get time(): string {
    const word = this.#word + FILE_EVENT.time_ns / WORD;
    return rfc3339(this.#u32[word + 1] as number, this.#u32[word] as number);
  }

  /** The same, in nanoseconds since the epoch. */
  get timeNs(): bigint {
    return this.#u64[(this.#start + FILE_EVENT.time_ns) / 8] as bigint;
  }

  /** Of the actor's guarded container; 0n if it is in none. */
  get cgroupId(): bigint {
    return this.#u64[(this.#start + FILE_EVENT.cgroup_id) / 8] as bigint;
  }

  get subjectId(): number {
    return this.#u32[this.#word + FILE_EVENT.subject_id / WORD] as number;
  }

  /** From reading the question to answering it, in nanoseconds. */
  get blockedNs(): number {
    return this.#u32[this.#word + FILE_EVENT.blocked_ns / WORD] as number;
  }

  get pid(): number {
    return this.#i32[this.#word + FILE_EVENT.pid / WORD] as number;
  }

  /** When the process began, RFC 3339: with its pid, its identity within one run of the daemon. Empty: not known. */
  get start(): string {
    const word = this.#word + FILE_EVENT.start_ns / WORD;
    const [high, low] = [this.#u32[word + 1] as number, this.#u32[word] as number];
    return high === 0 && low === 0 ? "" : rfc3339(high, low);
  }

  /** The same, in nanoseconds since the epoch. 0n: not known. */
  get startNs(): bigint {
    return this.#u64[(this.#start + FILE_EVENT.start_ns) / 8] as bigint;
  }

  /** 0 = not known. */
  get ppid(): number {
    return this.#i32[this.#word + FILE_EVENT.ppid / WORD] as number;
  }

  get uid(): number {
    return this.#u32[this.#word + FILE_EVENT.uid / WORD] as number;
  }

  /** Index into EVENT_KINDS. */
  get kind(): number {
    return this.bytes[this.#start + FILE_EVENT.kind] as number;
  }

  /** Index into RESPONSES. */
  get response(): number {
    return this.bytes[this.#start + FILE_EVENT.response] as number;
  }

  /** Bits of FLAG. */
  get flags(): number {
    return this.#u16[(this.#start + FILE_EVENT.flags) / 2] as number;
  }

  get isDirectory(): boolean {
    return (this.flags & FLAG.directory) !== 0;
  }

  /** The path as the container sees it; bytes that are not UTF-8 become U+FFFD. */
  get path(): string {
    return this.bytes.toString("utf8", this.#pathStart, this.#pathEnd);
  }

  /** The path, escaped as text.ts says. */
  get pathText(): string {
    return printableBytes(this.bytes, this.#pathStart, this.#pathEnd);
  }

  /** A window into the batch: copy what must outlive it. */
  get pathBytes(): Buffer {
    return this.bytes.subarray(this.#pathStart, this.#pathEnd);
  }

  /** Else only its end is known, some whole components, after three dots. */
  get pathIsWhole(): boolean {
    return this.bytes[this.#pathStart] === SLASH;
  }

  get pathIsUtf8(): boolean {
    return isPlain(this.bytes, this.#pathStart, this.#pathEnd) || isUtf8(this.pathBytes);
  }

  /** The path as a JSON string. */
  get pathJson(): string {
    return quoteBytes(this.bytes, this.#pathStart, this.#pathEnd);
  }

  get exe(): string {
    return this.bytes.toString("utf8", this.#pathEnd, this.#exeEnd);
  }

  /** A window, as pathBytes. */
  get exeBytes(): Buffer {
    return this.bytes.subarray(this.#pathEnd, this.#exeEnd);
  }

  get exeText(): string {
    return printableBytes(this.bytes, this.#pathEnd, this.#exeEnd);
  }

  get exeJson(): string {
    return quoteBytes(this.bytes, this.#pathEnd, this.#exeEnd);
  }

  /** Whether `asked` is known. */
  get hasAsked(): boolean {
    return this.#askedLength !== 0;
  }

  /** A window, as pathBytes: the path by which the process asked, as it wrote it. A claim of its own. Empty: not known. */
  get askedBytes(): Buffer {
    return this.bytes.subarray(this.#ancestryEnd, this.#askedEnd);
  }

  get askedText(): string {
    return printableBytes(this.bytes, this.#ancestryEnd, this.#askedEnd);
  }

  get askedJson(): string {
    return quoteBytes(this.bytes, this.#ancestryEnd, this.#askedEnd);
  }

  /** Whether `argv0` is known. */
  get hasArgv0(): boolean {
    return this.#argv0Length !== 0;
  }

  /** A window, as pathBytes: the first argument of the program that the process runs. Empty: not known. */
  get argv0Bytes(): Buffer {
    return this.bytes.subarray(this.#askedEnd, this.#argv0End);
  }

  get argv0Text(): string {
    return printableBytes(this.bytes, this.#askedEnd, this.#argv0End);
  }

  get argv0Json(): string {
    return quoteBytes(this.bytes, this.#askedEnd, this.#argv0End);
  }

  /** Of a rename, whether the other name is known: the new one, or where the path is that, the old one. */
  get hasOther(): boolean {
    return this.#otherLength !== 0;
  }

  /** Whether `other` is what it was called before, and the path what it is called now. */
  get otherIsOld(): boolean {
    return this.kind === MOVED_TO;
  }

  /** A window, as pathBytes: the other name as the container sees it. */
  get otherBytes(): Buffer {
    return this.bytes.subarray(this.#argv0End, this.#otherEnd);
  }

  get otherIsUtf8(): boolean {
    return isPlain(this.bytes, this.#argv0End, this.#otherEnd) || isUtf8(this.otherBytes);
  }

  get otherText(): string {
    return printableBytes(this.bytes, this.#argv0End, this.#otherEnd);
  }

  get otherJson(): string {
    return quoteBytes(this.bytes, this.#argv0End, this.#otherEnd);
  }

  get comm(): string {
    return this.bytes.toString("utf8", this.#start + FILE_EVENT.comm, this.#commEnd);
  }

  /** A window, as pathBytes. */
  get commBytes(): Buffer {
    return this.bytes.subarray(this.#start + FILE_EVENT.comm, this.#commEnd);
  }

  get commText(): string {
    return printableBytes(this.bytes, this.#start + FILE_EVENT.comm, this.#commEnd);
  }

  get commJson(): string {
    return quoteBytes(this.bytes, this.#start + FILE_EVENT.comm, this.#commEnd);
  }

  /** Its forker, the forker's forker, ..., as far as they are the container's; see FLAG.cut. */
  get ancestry(): Ancestor[] {
    return this.#ancestors((start, end) => this.bytes.toString("utf8", start, end));
  }

  /** `PID:COMM`, the forker's first, with commas between them (one in a name is escaped). `...`: and more. */
  get ancestryText(): string {
    const parts = this.#ancestors((start, end) => printableBytes(this.bytes, start, end).replaceAll(",", "\\x2c")).map(
      ({ pid, comm }) => `${pid}:${comm}`,
    );
    if ((this.flags & FLAG.cut) !== 0) parts.push("...");
    return parts.join(",");
  }

  /** Of each other guard that denies it, or would, the id of a subject; see FLAG.deniersCut. */
  get denierIds(): number[] {
    const start = this.#otherEnd;
    return Array.from({ length: this.deniers }, (_, index) => this.bytes.readUInt32LE(start + index * DENIER_BYTES));
  }

  #ancestors(text: (start: number, end: number) => string): Ancestor[] {
    const all: Ancestor[] = [];
    const end = this.#ancestryEnd;
    for (let at = this.#exeEnd; at < end; ) {
      const comm = at + ANCESTOR.sizeof;
      const exe = comm + this.bytes.readUInt8(at + ANCESTOR.comm_len);
      const next = exe + this.bytes.readUInt16LE(at + ANCESTOR.exe_len);
      all.push({ pid: this.bytes.readUInt32LE(at + ANCESTOR.pid), comm: text(comm, exe), exe: text(exe, next) });
      at = next;
    }
    return all;
  }

  get #ancestryEnd(): number {
    return this.#exeEnd + (this.#u16[(this.#start + FILE_EVENT.ancestry_len) / 2] as number);
  }

  get #askedLength(): number {
    return this.#u16[(this.#start + FILE_EVENT.asked_len) / 2] as number;
  }

  get #askedEnd(): number {
    return this.#ancestryEnd + this.#askedLength;
  }

  get #argv0Length(): number {
    return this.#u16[(this.#start + FILE_EVENT.argv0_len) / 2] as number;
  }

  get #argv0End(): number {
    return this.#askedEnd + this.#argv0Length;
  }

  get #otherLength(): number {
    return this.#u16[(this.#start + FILE_EVENT.other_len) / 2] as number;
  }

  get #otherEnd(): number {
    return this.#argv0End + this.#otherLength;
  }

  /** How many other guards deny it, or only audit and would. */
  get deniers(): number {
    return this.#u16[(this.#start + FILE_EVENT.deniers) / 2] as number;
  }

  // path_len and exe_len share one word: path in the lower half (little endian).
  get #pathLength(): number {
    return (this.#u32[this.#word + FILE_EVENT.path_len / WORD] as number) & 0xffff;
  }

  get #exeLength(): number {
    return (this.#u32[this.#word + FILE_EVENT.path_len / WORD] as number) >>> 16;
  }

  get #pathStart(): number {
    return this.#start + FILE_EVENT.sizeof;
  }

  get #pathEnd(): number {
    return this.#pathStart + this.#pathLength;
  }

  get #exeEnd(): number {
    return this.#pathEnd + this.#exeLength;
  }

  get #commEnd(): number {
    const start = this.#start + FILE_EVENT.comm;
    let end = start;
    while (end < start + COMM_BYTES && this.bytes[end] !== 0) end++;
    return end;
  }
}

const NS_PER_SECOND = 1e9;
let cachedSecond = -1;
let cachedPrefix = "";

/**
 * Formats 64 bits of nanoseconds since the epoch. Long division by halves of a
 * word keeps every step exact in a double, without a BigInt per event.
 */
function rfc3339(high: number, low: number): string {
  const upper = (high % NS_PER_SECOND) * 0x10000 + (low >>> 16);
  const lower = (upper % NS_PER_SECOND) * 0x10000 + (low & 0xffff);
  const second =
    Math.floor(high / NS_PER_SECOND) * TWO_32 +
    Math.floor(upper / NS_PER_SECOND) * 0x10000 +
    Math.floor(lower / NS_PER_SECOND);
  if (second !== cachedSecond) {
    cachedSecond = second;
    cachedPrefix = new Date(second * 1000).toISOString().slice(0, -"000Z".length);
  }
  return `${cachedPrefix}${String(lower % NS_PER_SECOND).padStart(9, "0")}Z`;
}
