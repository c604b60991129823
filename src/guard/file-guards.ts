/**
 * The guards of the guard file. Keeps them held: their containers come and go without anybody telling us to create
 * them. And follows the file: what it says anew is taken up as a whole or not at all, on SIGHUP or because it changed.
 */
import { readFile } from "node:fs/promises";
import { equals } from "@bufbuild/protobuf";
import { ConfigError } from "../config.js";
import { JanusdError } from "../errors.js";
import { FollowedFiles } from "../followed-files.js";
import { type JanusdConfig, JanusdConfigSchema } from "../gen/janus_pb.js";
import type { Log } from "../log.js";
import type { Engine } from "../native.js";
import { missingOf } from "./arrivals.js";
import type { ReloadCause } from "./audit.js";
import type { GuardDocument, GuardFileProblem } from "./file.js";
import { containerIds } from "./guard.js";
import { ExchangeRefused, type GuardDetails, type GuardRegistry, identity, labelOf } from "./registry.js";
import { pauseAfter } from "./retry.js";

/** How often containers that are waited for and the file are looked at. Milliseconds. */
const LOOK_MS = 1000;

interface Parts {
  readonly registry: Pick<GuardRegistry, "create" | "exchange" | "notHeld">;
  readonly engine: Pick<Engine, "missingContainers">;
  readonly log: Log;
}

/** Why a guard isn't held. */
interface Waiting {
  readonly error: JanusdError;
  readonly sinceMs: number;
}

/** What the file says, and could not be taken up. */
interface Refused {
  readonly documents: readonly GuardDocument[];
  /** When to try again, and how long to wait after that. */
  readonly at: number;
  readonly pauseMs: number;
}

export class FileGuards {
  readonly #file: string;
  readonly #followed: FollowedFiles;
  readonly #registry: Parts["registry"];
  readonly #engine: Parts["engine"];
  readonly #log: Log;
  /** What is in force. */
  #documents: readonly GuardDocument[];
  /** By the configuration. */
  readonly #waiting = new Map<JanusdConfig, Waiting>();
  #refused: Refused | undefined;
  /** Why the file, as it is now, is not in force. Undefined: it is. */
  #failure: string | undefined;
  #turns: Promise<void> = Promise.resolve();
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  constructor({ file, followed, documents }: GuardFile, { registry, engine, log }: Parts) {
    this.#file = file;
    this.#followed = followed;
    this.#documents = documents;
    this.#registry = registry;
    this.#engine = engine;
    this.#log = log;
  }

  start(): void {
    this.holdAll();
    this.#timer = setInterval(() => this.#look(), LOOK_MS);
    this.#followed.follow(() => void this.reload("file"));
  }

  close(): void {
    this.#closed = true;
    clearInterval(this.#timer);
    this.#followed.close();
  }

  /** Why the file, as it is now, is not in force as far as its containers run. Undefined: it is. */
  get failure(): string | undefined {
    if (this.#failure !== undefined) return this.#failure;
    const refused = this.#documents.flatMap((document) => {
      const error = this.#waiting.get(document.config)?.error;
      return error === undefined || error.data.kind === "not_found" ? [] : this.#faultsOf(document, error);
    });
    return refused.length === 0 ? undefined : refused.join("; ");
  }

  /** Those that aren't held now, each with the reason. */
  waiting(): GuardDetails[] {
    return [...this.#waiting].map(([config, { error, sinceMs }]) =>
      this.#registry.notHeld(config, "file", error.message, sinceMs),
    );
  }

  /** Creates what can be created now; what is held already is left as it is. */
  holdAll(): void {
    // One look at the processes for all guards that aren't held.
    const missing = missingOf(this.#engine, [...this.#waiting.keys()].flatMap(containerIds));
    for (const { config } of this.#documents) {
      if (this.#waiting.has(config) && containerIds(config).some((id) => missing.has(id))) continue;
      try {
        this.#registry.create(config, "file");
        this.#waiting.delete(config);
      } catch (thrown) {
        this.#wait(config, JanusdError.from(thrown));
      }
    }
  }

  /** Reads the file, and takes up what it says. All of it or nothing, which is logged. Never rejects. */
  reload(by: ReloadCause): Promise<void> {
    this.#turns = this.#turns.then(() => this.#reload(by));
    return this.#turns;
  }

  async #reload(by: ReloadCause): Promise<void> {
    let documents: readonly GuardDocument[];
    try {
      documents = await readDocuments(this.#file);
    } catch (error) {
      this.#refused = undefined;
      this.#fail(messageOf(error), by);
      return;
    }
    if (!this.#closed) this.#take(documents, by);
  }

  /** `retried`: the pause before it. */
  #take(documents: readonly GuardDocument[], by: ReloadCause, retried?: number): void {
    const before = new Map(this.#documents.map((document) => [identity(document.config), document.config]));
    // What has not changed keeps its configuration, and so its place: nobody is asked to do anything about it.
    const next = documents.map((document): GuardDocument => {
      const was = before.get(identity(document.config));
      return was !== undefined && equals(JanusdConfigSchema, was, document.config)
        ? { ...document, config: was }
        : document;
    });
    const kept = new Set(next.map(({ config }) => config));
    const changed = next.filter(({ config }) => before.get(identity(config)) !== config);
    const names = new Set(next.map(({ config }) => identity(config)));
    const removed = [...before].flatMap(([id, config]) => (names.has(id) ? [] : [config]));
    try {
      const configs = changed.map(({ config }) => config);
      const absent = this.#registry.exchange(configs, removed, by);
      for (const config of this.#waiting.keys()) if (!kept.has(config)) this.#waiting.delete(config);
      for (const { config, error } of absent) this.#wait(config, error);
    } catch (error) {
      const pauseMs = pauseAfter(retried);
      this.#refused = { documents, at: performance.now() + pauseMs, pauseMs };
      this.#fail(this.#reasonOf(error, changed).join("; "), by);
      return;
    }
    const failed = this.#failure !== undefined;
    this.#documents = next;
    this.#refused = undefined;
    this.#failure = undefined;
    if (changed.length + removed.length === 0 && by === "file" && !failed) return;
    const isNew = ({ config }: GuardDocument): boolean => !before.has(identity(config));
    const diff = {
      created: changed.filter(isNew).map(({ config }) => labelOf(config)),
      replaced: changed.filter((document) => !isNew(document)).map(({ config }) => labelOf(config)),
      removed: removed.map(labelOf),
      unchanged: next.length - changed.length,
    };
    this.#log.info({ file: this.#file, by, ...diff }, "the guard file is in force");
  }

  #look(): void {
    this.holdAll();
    if (this.#refused === undefined || performance.now() < this.#refused.at) return;
    const { documents, pauseMs } = this.#refused;
    this.#take(documents, "file", pauseMs);
  }

  #wait(config: JanusdConfig, error: JanusdError): void {
    const before = this.#waiting.get(config);
    this.#waiting.set(config, { error, sinceMs: before?.sinceMs ?? Date.now() });
    if (before?.error.message === error.message) return;
    const about = { guard: config.name, namespace: config.namespace };
    this.#log.warn({ ...about, error: error.message, ...error.data }, "guard of the file cannot be held yet");
  }

  /** Logged if it is new, or asked for. */
  #fail(failure: string, by: ReloadCause): void {
    const known = this.#failure === failure && by === "file";
    this.#failure = failure;
    if (known) return;
    this.#log.error(
      { file: this.#file, by, reasons: failure.split("\n") },
      "the guard file cannot be applied: what it said before stays in force, all of it",
    );
  }

  #reasonOf(error: unknown, documents: readonly GuardDocument[]): string[] {
    if (!(error instanceof ExchangeRefused)) return [`${this.#file}: ${messageOf(error)}`];
    const document = documents.find(({ config }) => config === error.config);
    return document === undefined ? [`${this.#file}: ${error.message}`] : this.#faultsOf(document, error.error);
  }

  #faultsOf(document: GuardDocument, error: JanusdError): string[] {
    return problemsOf(document, error).map(({ line, field, description }) =>
      [`${this.#file}:${line}`, `guard ${labelOf(document.config)}`, field, description]
        .filter((part) => part !== "")
        .join(": "),
    );
  }
}

/** A guard file that was read. */
export interface GuardFile {
  readonly file: string;
  /** Since before it was read. */
  readonly followed: FollowedFiles;
  readonly documents: readonly GuardDocument[];
}

/** Rejects with ConfigError, GuardFileError. */
export async function openGuardFile(file: string): Promise<GuardFile> {
  const followed = new FollowedFiles([file], LOOK_MS);
  return { file, followed, documents: await readDocuments(file) };
}

async function readDocuments(file: string): Promise<GuardDocument[]> {
  let text: string;
  try {
    text = await readFile(file, "utf8");
  } catch (cause) {
    throw new ConfigError(`--guards: ${messageOf(cause)}`, { cause });
  }
  // Only now: most daemons have no guard file.
  const { readGuardFile } = await import("./file.js");
  return readGuardFile(text, file);
}

/** Where the file says what cannot be held. */
function problemsOf(
  { locate }: GuardDocument,
  { message, data, field = "" }: JanusdError,
): Omit<GuardFileProblem, "document">[] {
  if (data.kind === "invalid" && data.violations.length > 0) {
    return data.violations.map(({ field, description }) => ({ ...locate(field), description }));
  }
  const prefix = `${field}: `;
  return [{ ...locate(field), description: message.startsWith(prefix) ? message.slice(prefix.length) : message }];
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
