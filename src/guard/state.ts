/**
 * The guards, kept across restarts: one file, replaced atomically, so that a
 * reader (the next start) sees the old guards or the new ones.
 */

import { copyFileSync, readFileSync, renameSync } from "node:fs";
import { mkdir, open, rename } from "node:fs/promises";
import { dirname } from "node:path";
import { fromJson, toJson } from "@bufbuild/protobuf";
import { JanusdConfigSchema } from "../gen/janus_pb.js";
import type { Log } from "../log.js";
import type { StoredGuard } from "./registry.js";

const VERSION = 1;

/**
 * A single change is written at once; a storm of them at this pace, or the
 * writing would cost more than the guarding. Milliseconds.
 */
const WRITE_INTERVAL_MS = 100;

export class StateFile {
  readonly #file: string;
  readonly #log: Log;
  readonly #texts = new WeakMap<StoredGuard, string>();
  #read: (() => readonly StoredGuard[]) | undefined;
  #writing: Promise<void> | undefined;
  #dirty = false;

  constructor(file: string, log: Log) {
    this.#file = file;
    this.#log = log;
  }

  /** Never throws: a file that makes no sense is put aside, and the daemon starts without guards. */
  load(): StoredGuard[] {
    let text: string;
    try {
      text = readFileSync(this.#file, "utf8");
    } catch (error) {
      if (!isMissing(error)) this.#log.error({ file: this.#file, err: error }, "cannot read the state file");
      return [];
    }
    try {
      const { guards, faults } = parseState(text);
      if (faults.length > 0) this.#keepAside(faults);
      return guards;
    } catch (error) {
      const aside = `${this.#file}.corrupt-${Date.now()}`;
      this.#log.error({ file: this.#file, aside, err: error }, "the state file makes no sense: put aside");
      try {
        renameSync(this.#file, aside);
      } catch (cause) {
        this.#log.error({ file: this.#file, err: cause }, "cannot put the state file aside");
      }
      return [];
    }
  }

  /** Entries that make no sense cost themselves only; the whole file is kept for whoever wants to know. */
  #keepAside(faults: readonly string[]): void {
    const aside = `${this.#file}.corrupt-${Date.now()}`;
    try {
      copyFileSync(this.#file, aside);
    } catch (error) {
      this.#log.error({ file: this.#file, aside, err: error }, "cannot copy the state file");
    }
    this.#log.error({ file: this.#file, aside, faults }, "guards of the state file that make no sense are left out");
  }

  /** The guards changed: writes what `read` then returns, soon. */
  save(read: () => readonly StoredGuard[]): void {
    this.#read = read;
    this.#dirty = true;
    this.#writing ??= this.#write().finally(() => {
      this.#writing = undefined;
    });
  }

  /** Everything is written, or logged as not. Never rejects. */
  async close(): Promise<void> {
    await this.#writing;
    if (this.#dirty) await this.#writeOnce();
  }

  async #write(): Promise<void> {
    while (this.#dirty) {
      await this.#writeOnce();
      await new Promise((resolve) => setTimeout(resolve, WRITE_INTERVAL_MS));
    }
  }

  async #writeOnce(): Promise<void> {
    this.#dirty = false;
    const guards = (this.#read?.() ?? []).map((stored) => this.#textOf(stored));
    const text = `{"version":${VERSION},"guards":[\n${guards.join(",\n")}\n]}\n`;
    try {
      await replaceFile(this.#file, text);
    } catch (error) {
      this.#log.error({ file: this.#file, err: error }, "cannot write the state file: a restart would lose guards");
    }
  }

  #textOf(stored: StoredGuard): string {
    let text = this.#texts.get(stored);
    if (text === undefined) {
      const { key, config, ids } = stored;
      text = JSON.stringify({ key, config: toJson(JanusdConfigSchema, config), ids: Object.fromEntries(ids) });
      this.#texts.set(stored, text);
    }
    return text;
  }
}

/**
 * Renamed first and synced after: what the file has to survive is our own
 * sudden death, and that at once. (A power cut ends the containers as well; if
 * it tears the file, the next start puts it aside.)
 */
async function replaceFile(file: string, text: string): Promise<void> {
  await mkdir(dirname(file), { recursive: true, mode: 0o700 });
  const temporary = `${file}.new`;
  const handle = await open(temporary, "w", 0o600);
  try {
    await handle.writeFile(text);
    await rename(temporary, file);
    await handle.sync();
  } finally {
    await handle.close();
  }
}

function parseState(text: string): { readonly guards: StoredGuard[]; readonly faults: string[] } {
  const state: unknown = JSON.parse(text);
  if (!isObject(state) || !Array.isArray(state["guards"])) throw new Error("not a state file");
  if (state["version"] !== VERSION) throw new Error(`version ${String(state["version"])}, expected ${VERSION}`);
  const guards: StoredGuard[] = [];
  const faults: string[] = [];
  for (const [index, entry] of state["guards"].entries()) {
    try {
      guards.push(parseEntry(entry));
    } catch (error) {
      faults.push(`guards[${index}]: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
  return { guards, faults };
}

function parseEntry(entry: unknown): StoredGuard {
  if (!isObject(entry) || !isId(entry["key"]) || !isObject(entry["ids"])) throw new Error("not a guard");
  const ids = new Map<string, number>();
  for (const [signature, id] of Object.entries(entry["ids"])) {
    if (!isId(id)) throw new Error("not a subject id");
    ids.set(signature, id);
  }
  // A newer version's fields must not cost a guard after a downgrade.
  const config = fromJson(JanusdConfigSchema, toJsonValue(entry["config"]), { ignoreUnknownFields: true });
  return { key: entry["key"], config, ids };
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

function isId(value: unknown): value is number {
  return typeof value === "number" && Number.isInteger(value) && value > 0 && value < 2 ** 31;
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "ENOENT";
}
