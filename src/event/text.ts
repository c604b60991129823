/**
 * Bytes that somebody else chose (file names, process names), as text that
 * stays on one line and cannot pass for something it isn't.
 *
 * Escaped as \xNN, byte by byte: control characters (C0, DEL, C1), line and
 * paragraph separators, bidirectional overrides, bytes that are not UTF-8, the
 * single quote, which would close a quoted value, and the backslash itself, so
 * that the escape is unambiguous.
 */
import { Buffer, isUtf8 } from "node:buffer";

const SPACE = 0x20;
const TILDE = 0x7e;
const BACKSLASH = 0x5c;
const QUOTE = 0x22;
const APOSTROPHE = 0x27;

const HIDDEN = String.raw`\p{Cc}\p{Cs}\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069`;
const UNSAFE = new RegExp(String.raw`[${HIDDEN}\\']`, "gu");
const UNSAFE_ONCE = new RegExp(UNSAFE.source, "u");
const CONTROLS = new RegExp(`[${HIDDEN}]`, "gu");

/** True if every byte is printable ASCII other than the backslash and the single quote. */
export function isPlain(bytes: Uint8Array, start: number, end: number): boolean {
  for (let i = start; i < end; i++) {
    const byte = bytes[i] as number;
    if (byte < SPACE || byte > TILDE || byte === BACKSLASH || byte === APOSTROPHE) return false;
  }
  return true;
}

/** `bytes[start, end)` as one line of text. */
export function printableBytes(bytes: Buffer, start: number, end: number): string {
  if (isPlain(bytes, start, end)) return bytes.toString("latin1", start, end);
  if (isUtf8(bytes.subarray(start, end))) return escapeUnsafe(bytes.toString("utf8", start, end));
  return escapeInvalid(bytes, start, end);
}

/**
 * `bytes[start, end)` as a JSON string; bytes that are not UTF-8 become U+FFFD. What is hidden or ends a line for some
 * reader is escaped, which JSON asks of the C0 controls only.
 */
export function quoteBytes(bytes: Buffer, start: number, end: number): string {
  let plain = isPlain(bytes, start, end);
  for (let i = start; plain && i < end; i++) plain = bytes[i] !== QUOTE;
  return plain ? `"${bytes.toString("latin1", start, end)}"` : quoteJson(bytes.toString("utf8", start, end));
}

/** Any value as JSON, with what is hidden or ends a line for some reader escaped. */
export function quoteJson(value: unknown): string {
  return JSON.stringify(value).replace(
    CONTROLS,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

/** A string of the configuration (a tag, a pod's name) as one line of text. */
export function printableString(text: string): string {
  return UNSAFE_ONCE.test(text) ? escapeUnsafe(text) : text;
}

/** For people only: like `printableString`, but a backslash stays one, so that what is escaped is not certain. */
export function singleLine(text: string): string {
  return text.replace(CONTROLS, escapeCharacter);
}

function escapeUnsafe(text: string): string {
  return text.replace(UNSAFE, escapeCharacter);
}

function escapeCharacter(character: string): string {
  return escapeBytes(Buffer.from(character));
}

function escapeBytes(bytes: Uint8Array): string {
  let out = "";
  for (const byte of bytes) out += `\\x${byte.toString(16).padStart(2, "0")}`;
  return out;
}

/** The rare case, where each sequence has to be judged by itself. */
function escapeInvalid(bytes: Buffer, start: number, end: number): string {
  let out = "";
  for (let i = start; i < end; ) {
    const length = sequenceLength(bytes[i] as number);
    const sequence = bytes.subarray(i, Math.min(i + length, end));
    if (isUtf8(sequence)) {
      out += escapeUnsafe(sequence.toString("utf8"));
      i += length;
    } else {
      out += escapeBytes(sequence.subarray(0, 1));
      i += 1;
    }
  }
  return out;
}

/** Of a UTF-8 sequence, by its first byte; 1 for a byte that can't be first. */
function sequenceLength(lead: number): number {
  if (lead >= 0xf0) return 4;
  if (lead >= 0xe0) return 3;
  return lead >= 0xc0 ? 2 : 1;
}
