/**
 * The text of the state file: a snapshot of all guards, which is one JSON document, then one line for each change.
 */
import { fromJson, toJson } from "@bufbuild/protobuf";
import { JanusdConfigSchema } from "../gen/janus_pb.js";
import { identity, idOf, RESOURCE_KINDS, type ResourceKind, type StoredGuard } from "./registry.js";

const VERSION = 1;

/** Ends a snapshot. No line within it is this: JSON escapes line ends. */
const SNAPSHOT_END = "\n]}\n";

/** What the file says of one guard. */
export interface Entry {
  readonly stored: StoredGuard;
  /** As it is written. */
  readonly text: string;
}

/** What a line says: the guard as it is from here on, or that there is none. */
export interface Change {
  /** The guard's identity(). */
  readonly id: string;
  /** Undefined: removed. */
  readonly entry: Entry | undefined;
}

export interface State {
  /** By identity(). */
  readonly entries: Map<string, Entry>;
  /** What made no sense and is left out. */
  readonly faults: readonly string[];
  /** `plain`: a snapshot and nothing else. `foreign`: not as we write it, so that no change may follow. */
  readonly form: "plain" | "changed" | "foreign";
}

export function entryOf(stored: StoredGuard): Entry {
  const { key, config, kind, ids } = stored;
  const text = JSON.stringify({ key, kind, config: toJson(JanusdConfigSchema, config), ids: Object.fromEntries(ids) });
  return { stored, text };
}

/** Whether `entry`, once restored, is `stored`. It may name ids of subjects that are gone. */
export function covers(entry: Entry | undefined, { key, config, ids }: StoredGuard): boolean {
  if (entry === undefined || entry.stored.config !== config || entry.stored.key !== key) return false;
  return [...ids].every(([signature, id]) => entry.stored.ids.get(signature) === id);
}

export function* snapshotOf(entries: Iterable<Entry>): Generator<string> {
  yield `{"version":${VERSION},"guards":[`;
  let separator = "\n";
  for (const { text } of entries) {
    yield separator + text;
    separator = ",\n";
  }
  yield SNAPSHOT_END;
}

export function lineOf({ id, entry }: Change): string {
  return entry === undefined ? `{"remove":${id}}\n` : `{"set":${entry.text}}\n`;
}

/** Throws if the snapshot as a whole makes no sense. */
export function parseState(text: string): State {
  const end = text.indexOf(SNAPSHOT_END);
  const cut = end === -1 ? text.length : end + SNAPSHOT_END.length;
  const form = end === -1 ? "foreign" : cut === text.length ? "plain" : "changed";
  const entries = new Map<string, Entry>();
  const faults: string[] = [];
  for (const [index, guard] of parseSnapshot(text.slice(0, cut)).entries()) {
    attempt(faults, `guards[${index}]`, () => {
      const entry = parseEntry(guard);
      entries.set(idOf(entry.stored), entry);
    });
  }
  const rest = parseChanges(text.slice(cut));
  for (const { id, entry } of rest.changes) {
    if (entry === undefined) entries.delete(id);
    else entries.set(id, entry);
  }
  return { entries, faults: [...faults, ...rest.faults], form };
}

/** Each line stands for itself; one that was cut off is a fault. */
export function parseChanges(text: string): { readonly changes: Change[]; readonly faults: string[] } {
  const changes: Change[] = [];
  const faults: string[] = [];
  for (const [index, line] of text.split("\n").entries()) {
    if (line !== "") attempt(faults, `change ${index + 1}`, () => changes.push(parseChange(line)));
  }
  return { changes, faults };
}

function attempt(faults: string[], where: string, parse: () => void): void {
  try {
    parse();
  } catch (error) {
    faults.push(`${where}: ${error instanceof Error ? error.message : String(error)}`);
  }
}

function parseSnapshot(text: string): readonly unknown[] {
  const state: unknown = JSON.parse(text);
  if (!isObject(state) || !Array.isArray(state["guards"])) throw new Error("not a state file");
  if (state["version"] !== VERSION) throw new Error(`version ${String(state["version"])}, expected ${VERSION}`);
  return state["guards"];
}

function parseChange(line: string): Change {
  const change: unknown = JSON.parse(line);
  if (!isObject(change)) throw new Error("not a change");
  const removed = change["remove"];
  if (isNames(removed)) {
    const [name, namespace, podName, kind, podUid = ""] = removed;
    return { id: identity({ name, namespace, podName, podUid }, kind), entry: undefined };
  }
  const entry = parseEntry(change["set"]);
  return { id: idOf(entry.stored), entry };
}

function parseEntry(entry: unknown): Entry {
  if (!isObject(entry) || !isId(entry["key"]) || !isObject(entry["ids"])) throw new Error("not a guard");
  const ids = new Map<string, number>();
  for (const [signature, id] of Object.entries(entry["ids"])) {
    if (!isId(id)) throw new Error("not a subject id");
    ids.set(signature, id);
  }
  // A newer version's fields must not cost a guard after a downgrade.
  const config = fromJson(JanusdConfigSchema, toJsonValue(entry["config"]), { ignoreUnknownFields: true });
  const kind = RESOURCE_KINDS.find((known) => known === entry["kind"]);
  return { stored: { key: entry["key"], config, ...(kind && { kind }), ids }, text: JSON.stringify(entry) };
}

type JsonValue = Parameters<typeof fromJson>[1];

/** What JSON.parse returned is one, but its type doesn't say so. */
function toJsonValue(value: unknown): JsonValue {
  if (!isObject(value)) throw new Error("a guard without its configuration");
  return value as JsonValue;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** As identity() puts them. */
function isNames(value: unknown): value is [string, string, string, ResourceKind?, string?] {
  if (!Array.isArray(value) || !value.every((name) => typeof name === "string")) return false;
  return value.length === 3 || (value.length === 5 && RESOURCE_KINDS.some((kind) => kind === value[3]));
}

function isId(value: unknown): value is number {
  return typeof value === "number" && Number.isInteger(value) && value > 0 && value < 2 ** 31;
}
