/**
 * What a guard probably doesn't mean, though it can be held: in the request's
 * fields, as what is wrong is told.
 */
import type { FieldViolation } from "../errors.js";
import type { JanusdConfig, JanusGuardSubject } from "../gen/janus_pb.js";
import type { PathNote } from "../native.js";
import { CHANGES, normalisePath } from "./guard.js";

/** A note of the engine's on one container, and the subject of the guard that it is about. */
export interface SubjectNote {
  readonly note: PathNote;
  readonly subjectIndex: number;
  /** As the log names it. */
  readonly container: string;
}

/** What the daemon knows of a guard that it holds. */
export interface Sight {
  readonly notes: readonly SubjectNote[];
  /** How many containers were looked into. */
  readonly containers: number;
}

/** `sight`: undefined where nobody looked into the containers. The configuration must be valid. */
export function warningsOf(config: JanusdConfig, sight?: Sight): FieldViolation[] {
  const keyOf = (index: number, path: string): string => `${index} ${path}`;
  const notes = sight && Map.groupBy(sight.notes, ({ subjectIndex, note }) => keyOf(subjectIndex, note.path));
  return config.subject.flatMap((subject, index) => {
    const of = (field: "deny" | "allow" | "watch", path: string): string[] => {
      const here = notes && (notes.get(keyOf(index, normalisePath(path))) ?? []);
      return [
        ...missing(here ?? [], sight?.containers ?? 0),
        // What is there under this very name is meant.
        ...(here === undefined || here.some(({ note }) => note.missing) ? misread(path) : []),
        ...(field === "deny" ? [...everything(subject, path), ...otherNames(path, here ?? [])] : []),
      ];
    };
    return (["deny", "allow", "watch"] as const).flatMap((field) =>
      subject[field].flatMap((path, at) =>
        of(field, path).map((description) => ({ field: `subject[${index}].${field}[${at}]`, description })),
      ),
    );
  });
}

function missing(notes: readonly SubjectNote[], containers: number): string[] {
  const where = notes.filter(({ note }) => note.missing).map(({ container }) => container);
  if (where.length === 0) return [];
  const places = where.length === containers ? "" : ` in ${where.join(", ")}`;
  return [`no such path yet${places}: it is guarded from when it appears`];
}

function misread(path: string): string[] {
  const warnings: string[] = [];
  const [pattern] = /[*?[]/.exec(path) ?? [];
  if (pattern !== undefined)
    warnings.push(
      `${pattern} is part of the name here: a path is no pattern (recursive has all below, exclude takes globs)`,
    );
  if (/\s$/.test(path)) warnings.push("ends with white space, which is part of the name");
  return warnings;
}

function everything({ allow, event, recursive, maxDepth }: JanusGuardSubject, path: string): string[] {
  if (normalisePath(path) !== "/" || !recursive || maxDepth !== 0 || allow.length > 0) return [];
  // A container that may change nothing still runs.
  if (event.every((name) => CHANGES.has(name))) return [];
  return ["denies every file of the container: nothing in it can start any more"];
}

/** Of a program that has more names than the one that is denied. */
function otherNames(path: string, notes: readonly SubjectNote[]): string[] {
  const warnings = new Set<string>();
  for (const { note } of notes) {
    if (note.program === "") continue;
    // vi is vim.basic, python3 is python3.11: that one is meant. wget isn't busybox.
    if (!lastName(note.program).includes(lastName(path)))
      warnings.add(`is a link to ${note.program}: that is denied, by all of its names`);
    else if (note.names > 1) warnings.add(`is one of ${note.names} names of one program: it is denied by all of them`);
  }
  return [...warnings];
}

function lastName(path: string): string {
  return path.slice(path.replace(/\/+$/, "").lastIndexOf("/") + 1);
}
