/**
 * `struct FileEvent` of native/record/file_event.h, as numbers. A test compares them
 * with the C++ compiler's, and the daemon does so again at start.
 */
import type { NativeLayout } from "../native.js";

/** Byte offsets, under the C field names; `sizeof` is what precedes the strings. */
export const FILE_EVENT = {
  sizeof: 96,
  size: 0,
  path_len: 4,
  exe_len: 6,
  seq: 8,
  time_ns: 16,
  cgroup_id: 24,
  subject_id: 32,
  blocked_ns: 36,
  pid: 40,
  ppid: 44,
  uid: 48,
  kind: 52,
  response: 53,
  flags: 54,
  comm: 56,
  start_ns: 72,
  ancestry_len: 80,
  deniers: 82,
  asked_len: 84,
  argv0_len: 86,
  other_len: 88,
} as const;

/** `struct FileEventAncestor`, which its two strings follow. Not aligned. */
export const ANCESTOR = { sizeof: 7, pid: 0, comm_len: 4, exe_len: 5 } as const;

/** A subject's id, of each other guard that denies, or only audits and would. Not aligned. */
export const DENIER_BYTES = 4;
/** `kDeniers`. */
export const DENIERS = 15;

/** Records start and end on this boundary. */
export const RECORD_ALIGNMENT = 8;
export const COMM_BYTES = 16;

/** `enum FileEventFlag`. */
export const FLAG = {
  directory: 1,
  answered: 2,
  audited: 4,
  owner: 8,
  late: 16,
  /** Of a `watch` path: nobody was going to be asked. */
  watched: 32,
  /** The actor is a process of the subject's container. */
  inside: 64,
  /** There are more ancestors than the record has. */
  cut: 128,
  /** More guards deny it, or would, than the record has. */
  deniersCut: 256,
  /** The kernel told of several events on the object at once: this is one of them. */
  merged: 512,
  /** It was in a new directory before that was watched: nothing told of it, and who did it is a guess. */
  found: 1024,
} as const;

/** `enum Response`, by number. `audit`: allowed, by guards that only audit and would have denied it. */
export const RESPONSES = ["allow", "deny", "audit"] as const;

/** `kCanarySubject`. */
export const CANARY_SUBJECT = 2 ** 31;

/** `enum FileEventKind`, by number: the names that a guard's `event` list uses. */
export const EVENT_KINDS = [
  "open",
  "access",
  "exec",
  "modify",
  "closewrite",
  "closenowrite",
  "attrib",
  "create",
  "delete",
  "deleteself",
  "movedfrom",
  "movedto",
  "moveself",
  "move",
  "link",
  "truncate",
  "write",
] as const;

/** A guard's event names of renames, and which kinds each stands for: of one who watches both names, one event says both. */
export const RENAME_KINDS: Readonly<Record<"move" | "movedfrom" | "movedto", readonly (typeof EVENT_KINDS)[number][]>> =
  {
    move: ["move", "movedfrom", "movedto"],
    movedfrom: ["movedfrom", "move"],
    movedto: ["movedto", "move"],
  };

/** Those that a permission event asks about. */
export const ANSWERED_KINDS = ["open", "access", "exec"] as const satisfies readonly (typeof EVENT_KINDS)[number][];

/** Those of changes, which the kernel denies by itself where it can: nothing asks about them (docs/tiers.md). */
export const CHANGE_KINDS = [
  ...["create", "delete", "movedfrom", "movedto", "attrib"],
  ...["link", "truncate", "write"],
] as const satisfies readonly (typeof EVENT_KINDS)[number][];

/** Whose judgement can be explained. */
export const EXPLAINED_KINDS = [...ANSWERED_KINDS, ...CHANGE_KINDS] as const;

/** Throws if the addon was built from another `struct FileEvent` than this file describes. */
export function assertLayout(native: NativeLayout): void {
  const wrong = Object.entries(FILE_EVENT).filter(([field, offset]) => native[field] !== offset);
  const unknown = Object.keys(native).filter((field) => !(field in FILE_EVENT));
  if (wrong.length === 0 && unknown.length === 0) return;
  const details = [
    ...wrong.map(([field, offset]) => `${field}: ${native[field] ?? "missing"}, expected ${offset}`),
    ...unknown.map((field) => `${field}: not known here`),
  ];
  throw new Error(
    `the native addon's FileEvent does not match src/event/layout.ts (${details.join("; ")}): rebuild it`,
  );
}
