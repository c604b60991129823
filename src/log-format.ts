/**
 * The text log's format strings: read once, when a guard is made, into a list
 * of pieces; put together for each event.
 *
 * `{name}` is a specifier, `{{` and `}}` are literal braces. What stands for a
 * specifier is escaped (event/text.ts), so that no file name forges a line; the
 * text between is taken as it is written.
 *
 * No line is longer than LINE_LIMIT: container runtimes cut there, and whoever
 * chose the length of a path would choose what the rest reads as.
 */
import { Buffer } from "node:buffer";
import type { FileEventView } from "./event/decode.js";
import { FLAG, RESPONSES } from "./event/layout.js";
import { printableString } from "./event/text.js";
import { type Deniers, guardName, type SubjectContext } from "./subject.js";

/** The original daemon's. */
export const DEFAULT_LOG_FORMAT = "<{response}> {event} {ftype} '{path}' ({pod}:{node}) {tags}";

/** Where several guards deny, and the guard that the line is of has no format of its own. */
export const SEVERAL_LOG_FORMAT = `${DEFAULT_LOG_FORMAT} denied by {guards}`;

/** Where several guards would, and none that enforces does. */
export const SEVERAL_AUDIT_LOG_FORMAT = `${DEFAULT_LOG_FORMAT} would be denied by {guards}`;

/** Where both names of a rename are known. */
export const RENAME_LOG_FORMAT = DEFAULT_LOG_FORMAT.replace("'{path}'", "'{oldPath}' -> '{newPath}'");

/** Of a line with its newline; containerd and CRI-O cut at 16 KiB. Bytes. */
export const LINE_LIMIT = 16_384;

/** What stands for what was left out: no escaped text contains it, since a backslash in a name is `\\x5c`. */
const LEFT_OUT = "\\...";

/** Of each specifier, in a line that is too long: all of them together leave room for the text between. Bytes. */
const PART_LIMIT = 4096;

/** A format string that makes no sense. */
export class LogFormatError extends Error {
  override readonly name = "LogFormatError";

  constructor(
    /** Index of the offending character in the format string, from 0. */
    readonly position: number,
    message: string,
  ) {
    super(message);
  }
}

export interface LogFormat {
  /** One line, without its newline. */
  render(view: FileEventView, subject: SubjectContext, deniers: Deniers): string;
}

type EventPart = (view: FileEventView, subject: SubjectContext, deniers: Deniers) => string;
type SubjectPart = (subject: SubjectContext) => string;

const RESPONSE_NAMES = RESPONSES.map((name) => name.toUpperCase());

/** By FileEventKind, as fanotify names them. */
const EVENT_NAMES = [
  "OPEN",
  "ACCESS",
  "OPEN_EXEC",
  "MODIFY",
  "CLOSE_WRITE",
  "CLOSE_NOWRITE",
  "ATTRIB",
  "CREATE",
  "DELETE",
  "DELETE_SELF",
  "MOVED_FROM",
  "MOVED_TO",
  "MOVE_SELF",
  "MOVE",
  "LINK",
  "TRUNCATE",
  "WRITE",
] as const;

/** The kinds that allow and deny paths ask about. Fanotify has no such names of the rest, also where they are denied. */
const PERMISSION_NAMES = ["OPEN_PERM", "ACCESS_PERM", "OPEN_EXEC_PERM"] as const;

/**
 * A permission name for what an allow or deny path judges, also where no answer
 * was needed and the kernel was only asked to tell: the log line is the same.
 */
export function eventName(view: FileEventView): string {
  const { kind } = view;
  const permission = (view.flags & FLAG.watched) === 0 ? PERMISSION_NAMES[kind] : undefined;
  return permission ?? EVENT_NAMES[kind] ?? `UNKNOWN_${kind}`;
}

export function responseName(view: FileEventView): string {
  return RESPONSE_NAMES[view.response] ?? `UNKNOWN_${view.response}`;
}

export function fileType(view: FileEventView): string {
  return view.isDirectory ? "directory" : "file";
}

/** Of a rename: what it was called before. Empty: not known, or nothing was renamed. */
export function oldPathText(view: FileEventView): string {
  return view.otherIsOld ? view.otherText : view.hasOther ? view.pathText : "";
}

/** ... and what it is called now. */
export function newPathText(view: FileEventView): string {
  return view.otherIsOld ? view.pathText : view.otherText;
}

const EVENT_PARTS: ReadonlyMap<string, EventPart> = new Map<string, EventPart>([
  ["response", responseName],
  ["event", eventName],
  ["path", (view) => view.pathText],
  ["oldPath", oldPathText],
  ["newPath", newPathText],
  ["ftype", fileType],
  ["pid", (view) => String(view.pid)],
  ["start", (view) => view.start],
  ["ppid", (view) => String(view.ppid)],
  ["uid", (view) => String(view.uid)],
  ["comm", (view) => view.commText],
  ["exe", (view) => view.exeText],
  ["asked", (view) => view.askedText],
  ["argv0", (view) => view.argv0Text],
  ["ancestry", (view) => view.ancestryText],
  ["inside", (view) => String((view.flags & FLAG.inside) !== 0)],
  ["time", (view) => view.time],
  ["seq", (view) => String(view.seq)],
  ["guards", guardsText],
]);

const SUBJECT_PARTS: ReadonlyMap<string, SubjectPart> = new Map<string, SubjectPart>([
  ["pod", (subject) => subject.pod],
  ["node", (subject) => subject.node],
  ["tags", tagsText],
  ["name", (subject) => subject.guard],
  ["namespace", (subject) => subject.namespace],
  ["container", (subject) => subject.containerId],
]);

/** What may stand between braces. */
export const LOG_FORMAT_SPECIFIERS: readonly string[] = [...SUBJECT_PARTS.keys(), ...EVENT_PARTS.keys()];

/** The guard that decided; all that deny, if several do. Of a denial, those that only audit are marked. */
function guardsText(view: FileEventView, subject: SubjectContext, { others, cut }: Deniers): string {
  const denied = RESPONSES[view.response] === "deny";
  const names = [subject, ...others].map((one) => {
    const name = printableString(guardName(one)).replaceAll(",", "\\x2c");
    return denied && one.mode === "audit" ? `${name} (audit)` : name;
  });
  return [...names, ...(cut ? ["..."] : [])].join(", ");
}

function tagsText(subject: SubjectContext): string {
  return Object.entries(subject.tags)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, value]) => `${key}=${value}`)
    .join(",");
}

/** Throws LogFormatError. */
export function compileLogFormat(format: string): LogFormat {
  return new CompiledFormat(parse(format));
}

type Piece = { readonly literal: string } | { readonly specifier: string };

function parse(format: string): Piece[] {
  const pieces: Piece[] = [];
  let literal = "";
  let at = 0;
  while (at < format.length) {
    const character = format.charAt(at);
    if (character !== "{" && character !== "}") {
      literal += character;
      at += 1;
    } else if (format.charAt(at + 1) === character) {
      literal += character;
      at += 2;
    } else if (character === "}") {
      throw new LogFormatError(at, "'}' without '{' before it; a literal brace is written '}}'");
    } else {
      const end = format.indexOf("}", at);
      if (end === -1) throw new LogFormatError(at, "'{' is never closed; a literal brace is written '{{'");
      const specifier = format.slice(at + 1, end);
      if (!LOG_FORMAT_SPECIFIERS.includes(specifier)) {
        throw new LogFormatError(
          at,
          `unknown specifier ${JSON.stringify(specifier)}; known are ${LOG_FORMAT_SPECIFIERS.join(", ")}`,
        );
      }
      if (literal !== "") pieces.push({ literal });
      pieces.push({ specifier });
      literal = "";
      at = end + 1;
    }
  }
  if (literal !== "") pieces.push({ literal });
  return pieces;
}

/** What is left to do per event for one subject: text, part, text, part, ..., text. */
interface Bound {
  /** Before each part. */
  readonly texts: readonly string[];
  readonly parts: readonly EventPart[];
  readonly tail: string;
}

class CompiledFormat implements LogFormat {
  readonly #pieces: readonly Piece[];
  /** A subject never changes, so all that it contributes is folded into the literals once. */
  readonly #bound = new WeakMap<SubjectContext, Bound>();
  #lastSubject: SubjectContext | undefined;
  #lastBound: Bound | undefined;

  constructor(pieces: readonly Piece[]) {
    this.#pieces = pieces;
  }

  render(view: FileEventView, subject: SubjectContext, deniers: Deniers): string {
    const bound = this.#bind(subject);
    const text = (part: EventPart) => part(view, subject, deniers);
    const line = join(bound, text);
    // A character has three bytes at most in UTF-8 (four for a surrogate pair).
    if (line.length * 3 < LINE_LIMIT || Buffer.byteLength(line) < LINE_LIMIT) return line;
    const limit = Math.min(PART_LIMIT, Math.floor(LINE_LIMIT / 2 / Math.max(1, bound.parts.length)));
    const shorter = join(bound, (part) => shorten(text(part), limit));
    // What is still too long is the guard's own: its format, its tags.
    return shorten(shorter, LINE_LIMIT - 1);
  }

  #bind(subject: SubjectContext): Bound {
    if (subject === this.#lastSubject && this.#lastBound !== undefined) return this.#lastBound;
    let bound = this.#bound.get(subject);
    if (bound === undefined) {
      bound = fold(this.#pieces, subject);
      this.#bound.set(subject, bound);
    }
    this.#lastSubject = subject;
    this.#lastBound = bound;
    return bound;
  }
}

function join({ texts, parts, tail }: Bound, text: (part: EventPart) => string): string {
  let line = "";
  for (let i = 0; i < parts.length; i++) {
    line += texts[i] as string;
    line += text(parts[i] as EventPart);
  }
  return line + tail;
}

/** What is not cut in two: an escape, the mark of what was left out, a character. */
const UNIT = /\\x[0-9a-f]{2}|\\\.\.\.|./gsu;

/** Takes out of the middle what is more than so many bytes. */
function shorten(text: string, limit: number): string {
  if (Buffer.byteLength(text) <= limit) return text;
  const units = text.match(UNIT) ?? [];
  const half = Math.floor((limit - LEFT_OUT.length) / 2);
  return firstOf(units, half).join("") + LEFT_OUT + firstOf(units.reverse(), half).reverse().join("");
}

/** As many of the first units as have so many bytes. */
function firstOf(units: readonly string[], bytes: number): string[] {
  let left = bytes;
  const end = units.findIndex((unit) => {
    left -= Buffer.byteLength(unit);
    return left < 0;
  });
  return units.slice(0, end === -1 ? units.length : end);
}

function fold(pieces: readonly Piece[], subject: SubjectContext): Bound {
  const texts: string[] = [];
  const parts: EventPart[] = [];
  let tail = "";
  for (const piece of pieces) {
    if ("literal" in piece) {
      tail += piece.literal;
      continue;
    }
    const part = EVENT_PARTS.get(piece.specifier);
    if (part === undefined) {
      tail += printableString(SUBJECT_PARTS.get(piece.specifier)?.(subject) ?? "");
    } else {
      texts.push(tail);
      parts.push(part);
      tail = "";
    }
  }
  return { texts, parts, tail };
}
