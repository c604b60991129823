/**
 * The guards, kept across restarts, in one file. A change is appended and costs its own size, whatever the
 * number of guards. A snapshot replaces the file atomically when changes have made it long, and at the end.
 *
 * Two daemons may have one file, as in an upgrade that starts the new one first: each turn is made under
 * flock(2), and takes up what the other wrote before it writes.
 */
import { constants, copyFileSync, lstatSync, mkdirSync } from "node:fs";
import { type FileHandle, open, rename, rm, stat } from "node:fs/promises";
import { dirname } from "node:path";
import { equals } from "@bufbuild/protobuf";
import { hasCode } from "../errors.js";
import { JanusdConfigSchema } from "../gen/janus_pb.js";
import type { Log } from "../log.js";
import type { Addon } from "../native.js";
import { idOf, type StoredGuard } from "./registry.js";
import {
  type Change,
  covers,
  type Entry,
  entryOf,
  lineOf,
  parseChanges,
  parseState,
  snapshotOf,
} from "./state-format.js";

/**
 * A single change is written at once; a storm of them at this pace, or the
 * writing would cost more than the guarding. Milliseconds.
 */
const WRITE_INTERVAL_MS = 100;

/** How often somebody else's changes are looked for, and what failed is tried again. Milliseconds. */
const LOOK_INTERVAL_MS = 1000;

/** How long somebody else may have the lock: a turn takes milliseconds. */
const LOCK_MS = 2000;
const LOCK_PAUSE_MS = 10;

/** A snapshot is due when the file is longer than two of them and this. Bytes. */
const SLACK_BYTES = 256 * 1024;

/** What is written at once, about. Bytes. */
const CHUNK_BYTES = 64 * 1024;

const { O_APPEND, O_CREAT, O_EXCL, O_NOFOLLOW, O_RDWR, O_WRONLY } = constants;

export interface StateFileOptions {
  readonly file: string;
  readonly log: Log;
  readonly tryLock: Addon["tryLock"];
}

export interface Following {
  /** What is to be kept. */
  readonly guards: () => readonly StoredGuard[];
  /** Called with what another daemon made or replaced ... */
  readonly adopt: (stored: StoredGuard) => void;
  /** ... or removed, by identity(). */
  readonly abandon: (id: string) => void;
}

export class StateFile {
  readonly #file: string;
  readonly #log: Log;
  readonly #tryLock: StateFileOptions["tryLock"];
  /** What the file says, by identity(), as of the last turn. */
  readonly #entries = new Map<string, Entry>();
  /** What was to be kept at the last turn, by identity(). */
  #kept = new Map<string, StoredGuard>();
  #following: Following | undefined;
  #timer: NodeJS.Timeout | undefined;
  #turns: Promise<void> | undefined;
  #dirty = false;
  #closing = false;
  /** Of the file, as of the last turn. */
  #inode = 0;
  #bytes = 0;
  /** Of what the entries say. */
  #live = 0;
  /** The file is a snapshot and nothing else. */
  #plain = false;
  /** The file says what it should not, or not all: it has to be replaced. */
  #due = false;
  #failures = 0;
  #failure: string | undefined;

  private constructor({ file, log, tryLock }: StateFileOptions) {
    this.#file = file;
    this.#log = log;
    this.#tryLock = tryLock;
  }

  /**
   * Makes the file if there is none. What makes no sense in it is logged and left out; a copy of the file is kept.
   * Rejects, naming the flag, if guards cannot be kept there.
   */
  static async open(options: StateFileOptions): Promise<StateFile> {
    const state = new StateFile(options);
    try {
      await state.#open();
    } catch (cause) {
      throw new Error(`--state-file ${options.file}: cannot keep guards there: ${messageOf(cause)}`, { cause });
    }
    return state;
  }

  /** The guards that the file names. */
  get guards(): StoredGuard[] {
    return [...this.#entries.values()].map(({ stored }) => stored);
  }

  /** Turns that failed so far. */
  get failures(): number {
    return this.#failures;
  }

  /** Why the last turn failed. Undefined: the file says what is to be kept. */
  get failure(): string | undefined {
    return this.#failure;
  }

  /** From now on the file follows `guards`, which are those of the file as far as they could be taken up. */
  follow(following: Following): void {
    this.#following = following;
    this.#timer = setInterval(() => void this.#look(), LOOK_INTERVAL_MS);
    this.save();
  }

  /** What is to be kept changed: it is written soon. */
  save(): void {
    this.#dirty = true;
    if (this.#failure === undefined) this.#start();
  }

  /** All is written, as a snapshot, or logged as not. Never rejects. */
  async close(): Promise<void> {
    this.#closing = true;
    clearInterval(this.#timer);
    await this.#turns;
    if (this.#following !== undefined) await this.#turn();
  }

  async #open(): Promise<void> {
    const there = lstatSync(this.#file, { throwIfNoEntry: false });
    if (there === undefined) makeDirectory(dirname(this.#file));
    else if (!there.isFile()) throw new Error("not a regular file");
    const handle = await this.#openLocked();
    try {
      // Snapshots need the directory, which is found out here rather than by the first of them.
      await (await this.#openTemporary()).close();
      await rm(this.#temporary);
      await this.#takeUp(handle);
      this.#kept = new Map(this.guards.map((stored) => [idOf(stored), stored]));
      if (this.#bytes === 0) await this.#replace(this.#entries);
    } finally {
      await handle.close();
    }
  }

  async #look(): Promise<void> {
    if (this.#turns !== undefined || this.#closing) return;
    const found = await stat(this.#file).catch(() => undefined);
    if (found?.ino !== this.#inode || found.size !== this.#bytes) this.#dirty = true;
    if (this.#dirty && !this.#closing) this.#start();
  }

  #start(): void {
    if (this.#following === undefined || this.#closing) return;
    this.#turns ??= this.#takeTurns().finally(() => {
      this.#turns = undefined;
    });
  }

  async #takeTurns(): Promise<void> {
    while (this.#dirty && !this.#closing && (await this.#turn())) {
      await new Promise((resolve) => setTimeout(resolve, WRITE_INTERVAL_MS));
    }
  }

  /** False: it failed, which is logged if that is new. */
  async #turn(): Promise<boolean> {
    this.#dirty = false;
    try {
      await this.#exchange();
      if (this.#failure !== undefined) this.#log.info({ file: this.#file }, "the state file is written again");
      this.#failure = undefined;
      return true;
    } catch (error) {
      this.#dirty = true;
      this.#due = true;
      this.#failures++;
      const failure = messageOf(error);
      if (this.#failure !== failure) {
        this.#log.error({ file: this.#file, err: error }, "cannot write the state file: a restart would lose guards");
      }
      this.#failure = failure;
      return false;
    }
  }

  async #exchange(): Promise<void> {
    const handle = await this.#openLocked();
    let theirs: Change[] = [];
    try {
      theirs = await this.#takeUp(handle);
      const { kept, changes } = this.#own();
      theirs = theirs.filter(({ id }) => !changes.has(id));
      const tooLong = this.#bytes > 2 * this.#live + SLACK_BYTES;
      const last = this.#closing && !(this.#plain && changes.size === 0);
      if (this.#due || tooLong || last) {
        const next = new Map(this.#entries);
        for (const change of changes.values()) put(next, change);
        await this.#replace(next);
      } else if (changes.size > 0) {
        await this.#append(handle, changes.values());
      }
      for (const change of changes.values()) this.#put(change);
      this.#kept = kept;
    } finally {
      await handle.close();
      this.#tell(theirs);
    }
  }

  /** What the file says and did not at the last turn; the entries say it, too, from here on. */
  async #takeUp(handle: FileHandle): Promise<Change[]> {
    const { ino, size } = await handle.stat();
    const before = { ino: this.#inode, size: this.#bytes };
    this.#inode = ino;
    this.#bytes = size;
    if (size === 0) this.#due = true; // somebody took it away: ours is written again
    if (size === 0 || (ino === before.ino && size === before.size)) return [];
    const said =
      ino === before.ino && size > before.size ? await this.#readOn(handle, before.size) : await this.#read(handle);
    const news = said.filter(({ id, entry }) => {
      const known = this.#entries.get(id)?.stored.config;
      if (entry === undefined || known === undefined) return known !== entry?.stored.config;
      return !equals(JanusdConfigSchema, known, entry.stored.config);
    });
    for (const change of news) this.#put(change);
    return news;
  }

  /** The changes after `from`. */
  async #readOn(handle: FileHandle, from: number): Promise<Change[]> {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(this.#bytes - from), { position: from });
    const text = buffer.toString("utf8", 0, bytesRead);
    const { changes, faults } = parseChanges(text);
    this.#plain = false;
    this.#complain(faults);
    return changes;
  }

  /** What the whole file says, against the entries. */
  async #read(handle: FileHandle): Promise<Change[]> {
    try {
      const { entries, faults, form } = parseState(await handle.readFile("utf8"));
      this.#plain = form === "plain";
      if (form === "foreign") this.#due = true;
      this.#complain(faults);
      const gone = [...this.#entries.keys()].filter((id) => !entries.has(id));
      return [...gone.map((id) => ({ id, entry: undefined })), ...[...entries].map(([id, entry]) => ({ id, entry }))];
    } catch (error) {
      this.#complain([messageOf(error)]);
      return [];
    }
  }

  /** Of parts of the file, which are left out. */
  #complain(faults: readonly string[]): void {
    if (faults.length === 0) return;
    this.#due = true;
    const aside = `${this.#file}.corrupt-${Date.now()}`;
    try {
      copyFileSync(this.#file, aside, constants.COPYFILE_EXCL);
    } catch (error) {
      // Another daemon has found it in the same millisecond: its copy is there.
      if (!hasCode(error, "EEXIST"))
        this.#log.error({ file: this.#file, aside, err: error }, "cannot copy the state file");
    }
    this.#log.error({ file: this.#file, aside, faults }, "what makes no sense in the state file is left out");
  }

  /** What has to be kept from now on, and in which the file differs. */
  #own(): { readonly kept: Map<string, StoredGuard>; readonly changes: Map<string, Change> } {
    const guards = this.#following?.guards() ?? [];
    const kept = new Map(guards.map((stored) => [idOf(stored), stored]));
    const changes = new Map<string, Change>();
    for (const [id, stored] of kept) {
      const known = this.#kept.get(id) === stored || covers(this.#entries.get(id), stored);
      if (!known) changes.set(id, { id, entry: entryOf(stored) });
    }
    for (const id of this.#kept.keys()) {
      if (!kept.has(id) && this.#entries.has(id)) changes.set(id, { id, entry: undefined });
    }
    return { kept, changes };
  }

  /** What others changed is not ours to write, whatever became of it here. */
  #tell(theirs: readonly Change[]): void {
    if (theirs.length === 0 || this.#following === undefined || this.#closing) return;
    const { adopt, abandon, guards } = this.#following;
    for (const { id, entry } of theirs) {
      if (entry === undefined) abandon(id);
      else adopt(entry.stored);
    }
    const now = new Map(guards().map((stored) => [idOf(stored), stored]));
    for (const { id } of theirs) {
      const stored = now.get(id);
      if (stored === undefined) this.#kept.delete(id);
      else this.#kept.set(id, stored);
    }
  }

  #put(change: Change): void {
    this.#live += (change.entry?.text.length ?? 0) - (this.#entries.get(change.id)?.text.length ?? 0);
    put(this.#entries, change);
  }

  async #append(handle: FileHandle, changes: Iterable<Change>): Promise<void> {
    try {
      await handle.writeFile(chunks(map(changes, lineOf)));
      await handle.datasync();
    } catch (error) {
      // No half of a line, and nothing that may be withdrawn before the next turn.
      await handle.truncate(this.#bytes).catch(() => undefined);
      throw error;
    }
    this.#bytes = (await handle.stat()).size;
    this.#plain = false;
  }

  /** On disk before it has the name. */
  async #replace(entries: ReadonlyMap<string, Entry>): Promise<void> {
    const handle = await this.#openTemporary();
    try {
      await handle.writeFile(chunks(snapshotOf(entries.values())));
      await handle.sync();
      const { ino, size } = await handle.stat();
      await rename(this.#temporary, this.#file);
      this.#inode = ino;
      this.#bytes = size;
    } finally {
      await handle.close();
    }
    this.#plain = true;
    this.#due = false;
    const directory = await open(dirname(this.#file));
    await directory.sync().finally(() => directory.close());
  }

  /** The file, which nobody else writes or replaces until it is closed. */
  async #openLocked(): Promise<FileHandle> {
    const deadline = performance.now() + LOCK_MS;
    for (;;) {
      const handle = await open(this.#file, O_RDWR | O_APPEND | O_CREAT | O_NOFOLLOW, 0o600);
      try {
        // Whoever had the lock may have replaced the file.
        if (this.#tryLock(handle.fd) && (await handle.stat()).ino === (await stat(this.#file)).ino) return handle;
      } catch (error) {
        await handle.close();
        throw error;
      }
      await handle.close();
      if (performance.now() > deadline) throw new Error("another process has it locked");
      await new Promise((resolve) => setTimeout(resolve, LOCK_PAUSE_MS));
    }
  }

  get #temporary(): string {
    return `${this.#file}.new`;
  }

  async #openTemporary(): Promise<FileHandle> {
    await rm(this.#temporary, { force: true });
    return await open(this.#temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
  }
}

/** As mkdir -p, which in Node goes on for ever where mkdir(2) says ENOENT, as in /proc. */
function makeDirectory(directory: string): void {
  try {
    mkdirSync(directory, 0o700);
  } catch (error) {
    if (hasCode(error, "EEXIST")) return;
    if (!hasCode(error, "ENOENT") || dirname(directory) === directory) throw error;
    makeDirectory(dirname(directory));
    mkdirSync(directory, 0o700);
  }
}

function put(entries: Map<string, Entry>, { id, entry }: Change): void {
  if (entry === undefined) entries.delete(id);
  else entries.set(id, entry);
}

function* map<From, To>(items: Iterable<From>, to: (item: From) => To): Generator<To> {
  for (const item of items) yield to(item);
}

/** Joined up to what is written at once. */
function* chunks(texts: Iterable<string>): Generator<string> {
  let chunk = "";
  for (const text of texts) {
    chunk += text;
    if (chunk.length < CHUNK_BYTES) continue;
    yield chunk;
    chunk = "";
  }
  yield chunk;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
