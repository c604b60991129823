/**
 * The guards that are held: the one place that tells the engine what to
 * enforce.
 *
 * Every operation runs to its end without giving up the JavaScript thread
 * (engine calls are synchronous), so concurrent creates and destroys are
 * serialised by that alone. Each applies natively first and records after: a
 * failure leaves nothing changed.
 */
import { type FieldViolation, isNativeError, JanusdError } from "../errors.js";
import type { JanusdConfig } from "../gen/janus_pb.js";
import type { Log } from "../log.js";
import type { ContainerInfo, Engine, NativeError } from "../native.js";
import type { GuardName, Mode, SubjectContext } from "../subject.js";
import { AuditTrail, type ReloadCause, type Requester } from "./audit.js";
import { type CompiledSubject, compileGuard, contextOf, type LiveContainer, nativeGuard } from "./compile.js";
import { type ContainerRef, containerId, type Guard, normalisePath, parseGuard } from "./guard.js";
import { pauseAfter } from "./retry.js";
import { warningsOf } from "./warnings.js";

/** Of an id, for people: as docker has it. */
const SHORT_ID = 12;

/** Of one guard, at once. */
const LOGGED_WARNINGS = 10;

/** How long guards are gone through before the event loop serves others. Milliseconds. */
const SWEEP_MS = 5;

/** How long the events of a subject that is gone can still be named: as long as the engine keeps its counts. */
const RETIRED_MS = 10 * 60_000;

/** The engine's and the wire's ids are signed 32-bit numbers. */
const ID_LIMIT = 0x7fff_ffff;

export interface RegistryOptions {
  readonly engine: Pick<Engine, "findContainer" | "apply" | "remove" | "retry" | "pathNotes">;
  /** The node's name, for guards that come without one. */
  readonly node: string;
  readonly log: Log;
  /** Called after each change of what is held. */
  readonly onChange?: () => void;
  /** Milliseconds, monotonic. */
  readonly now?: () => number;
}

/**
 * Where a guard comes from decides who keeps it: ours to keep (`rpc`, `kubernetes`, `state`: one of those, by the state
 * file), or read again at each start (`file`).
 */
export type GuardSource = "rpc" | "file" | "kubernetes" | "state";

/** The kind of the resource in Kubernetes that a guard was made from. */
export const RESOURCE_KINDS = ["JanusGuard", "ClusterJanusGuard"] as const;
export type ResourceKind = (typeof RESOURCE_KINDS)[number];

/** A held guard, as callers may see it. */
export interface GuardHandle {
  readonly name: string;
  readonly namespace: string;
  readonly podName: string;
  readonly nodeName: string;
  /** First processes of its containers that are alive. */
  readonly pids: readonly number[];
  /** Stable: the same while guard and container are. */
  readonly subjectIds: readonly number[];
  /** Full ids of the containers that are alive. */
  readonly containerIds: readonly string[];
  /** False: a container of it ended, or a path cannot be guarded now; what is left is enforced. */
  readonly complete: boolean;
  readonly mode: Mode;
  /** Undefined: no resource's. */
  readonly kind: ResourceKind | undefined;
}

/** All that is known of a guard, held or not. */
export interface GuardDetails {
  /** As it was applied. */
  readonly config: JanusdConfig;
  readonly nodeName: string;
  readonly source: GuardSource;
  /** Why it isn't held; undefined: it is. */
  readonly pending: string | undefined;
  /** Since when this daemon holds a guard of its name, namespace and pod, or it is pending; by the wall clock. */
  readonly sinceMs: number;
  /** Those that are alive. */
  readonly containers: readonly { readonly id: string; readonly name: string; readonly firstPid: number }[];
  readonly subjectIds: readonly number[];
  readonly complete: boolean;
  /** Paths that cannot be guarded now, in the fields of `config`; tried again. The others are. */
  readonly unguarded: readonly UnguardedPath[];
  /** What it probably doesn't mean, in the fields of `config`. */
  readonly warnings: readonly FieldViolation[];
}

/** A path of a guard that is held without it. */
export interface UnguardedPath {
  /** `subject[0].deny[1]`. */
  readonly field: string;
  readonly path: string;
  /** As the log names it. */
  readonly container: string;
  readonly reason: string;
}

/** What is kept across restarts. Never changes: a changed guard is another object. */
export interface StoredGuard {
  readonly key: number;
  readonly config: JanusdConfig;
  /** Left out: no resource's. */
  readonly kind?: ResourceKind | undefined;
  /** Subject signature to id, so that ids are the same after a restart. */
  readonly ids: ReadonlyMap<string, number>;
}

/** A guard of a resource, as far as its owner has to know it. */
export interface ResourceGuard {
  /** Its identity(). */
  readonly id: string;
  readonly kind: ResourceKind;
  readonly config: JanusdConfig;
}

/** What could not be restored. */
interface Pending {
  readonly stored: StoredGuard;
  readonly reason: string;
  /** By the wall clock. */
  readonly sinceMs: number;
  /** By `now`: when to try again, and how long to wait after that. */
  readonly at: number;
  readonly pauseMs: number;
}

/** Why a configuration is not held. */
export interface NotHeld {
  readonly config: JanusdConfig;
  readonly error: JanusdError;
}

/** What the guard file says cannot be held: nothing of it is. */
export class ExchangeRefused extends Error {
  override readonly name = "ExchangeRefused";

  /** `config`: the one that it is about; undefined: all of them together. */
  constructor(
    readonly config: JanusdConfig | undefined,
    readonly error: JanusdError,
  ) {
    super(error.message, { cause: error });
  }
}

/** When what lacks paths is tried again, by `now`, and how long to wait after that. */
interface Retry {
  readonly at: number;
  readonly pauseMs: number;
}

interface Held {
  readonly key: number;
  readonly guard: Guard;
  readonly config: JanusdConfig;
  readonly source: GuardSource;
  readonly kind: ResourceKind | undefined;
  readonly containers: readonly LiveContainer[];
  readonly complete: boolean;
  readonly sinceMs: number;
  readonly subjects: readonly CompiledSubject[];
  readonly stored: StoredGuard;
}

/** What is to be held, and what it replaces. */
interface Wanted extends Omit<Held, "key" | "sinceMs" | "subjects" | "stored"> {
  /** A path that cannot be guarded now costs itself only. */
  readonly partial: boolean;
  /** Undefined: a new one. */
  readonly key: number | undefined;
  readonly before: Held | undefined;
  /** Those that subjects had before. Default: in `before`. */
  readonly ids?: ReadonlyMap<string, number>;
}

/** A container that has guards. */
interface ContainerEntry {
  /** As it was found last: all that know it by now share this. */
  info: LiveContainer["info"];
  /** The guards on it, by identity(), and which container of that name each means (a cgroup id). */
  readonly guards: Map<string, bigint>;
}

export class GuardRegistry {
  readonly #engine: RegistryOptions["engine"];
  readonly #node: string;
  readonly #log: Log;
  readonly audit: AuditTrail;
  readonly #onChange: () => void;
  readonly #now: () => number;
  /** By identity(). */
  readonly #guards = new Map<string, Held>();
  /** By container id. */
  readonly #byContainer = new Map<string, ContainerEntry>();
  readonly #subjects = new Map<number, CompiledSubject>();
  /** Of the subjects that events were about. */
  readonly #contexts = new Map<number, SubjectContext>();
  /** By identity(). */
  readonly #pending = new Map<string, Pending>();
  /** Held guards of which paths cannot be guarded now, by identity(). */
  readonly #incomplete = new Map<string, Retry>();
  /** In order of retirement. */
  readonly #retired = new Map<number, { readonly subject: CompiledSubject; readonly at: number }>();
  #nextKey = 1;
  #nextSubjectId = 1;

  constructor(options: RegistryOptions) {
    this.#engine = options.engine;
    this.#node = options.node;
    this.#log = options.log;
    this.audit = new AuditTrail(options.log);
    this.#onChange = options.onChange ?? (() => undefined);
    this.#now = options.now ?? (() => performance.now());
  }

  get size(): number {
    return this.#guards.size;
  }

  get names(): GuardName[] {
    return [...this.#guards.values()].map(({ guard }) => ({ namespace: guard.namespace, guard: guard.name }));
  }

  /** Also knows subjects that are gone, for some minutes: events are decoded later than decided. */
  readonly lookup = (id: number): SubjectContext | undefined => {
    const known = this.#contexts.get(id);
    const subject = this.#subjects.get(id) ?? this.#retired.get(id)?.subject;
    if (known !== undefined || subject === undefined) return known;
    const context = contextOf(subject, this.#node);
    this.#contexts.set(id, context);
    return context;
  };

  /**
   * Creates, or replaces without an unguarded moment. The same configuration
   * again changes nothing and makes no native call. Throws JanusdError, and
   * then has changed nothing. `by`: who asked.
   */
  create(config: JanusdConfig, source: GuardSource = "rpc", by?: Requester): GuardHandle {
    const handle = this.#hold({ ...this.#wanted(config, source), partial: source === "file" }, by);
    if (this.#pending.delete(identity(config))) this.#onChange();
    return handle;
  }

  /**
   * As `create`, of a resource: on those of its containers that run, and without paths that cannot be guarded now.
   * Throws JanusdError, and then has changed nothing: what was held of it is held.
   */
  hold(config: JanusdConfig, kind: ResourceKind): GuardHandle {
    const handle = this.#hold({ ...this.#wanted(config, "kubernetes", kind), partial: true });
    if (this.#pending.delete(identity(config, kind))) this.#onChange();
    return handle;
  }

  /** Removes a guard of a resource, by its identity(). False: there is none. */
  release(id: string): boolean {
    const held = this.#guards.get(id);
    const removed = held ?? this.#pending.get(id)?.stored;
    if (removed?.kind === undefined) return false;
    if (held !== undefined) this.#drop(held);
    this.#pending.delete(id);
    this.audit.record("removed", "kubernetes", removed.config);
    this.#onChange();
    return true;
  }

  /** Guards of resources, held or pending. Looks for no container. */
  ofResources(): ResourceGuard[] {
    const stored = [...this.#guards.values(), ...[...this.#pending.values()].map((pending) => pending.stored)];
    return stored.flatMap(({ kind, config }) =>
      kind === undefined ? [] : [{ id: identity(config, kind), kind, config }],
    );
  }

  /** Whether a guard of that identity() is held. */
  isHeld(id: string): boolean {
    return this.#guards.has(id);
  }

  /**
   * What the guard file says now and did not before: `hold` is created, or replaces, as far as its containers run;
   * `remove` is removed. All of it or nothing, with no unguarded moment. Returns what waits for its containers.
   * Throws ExchangeRefused. `by`: what had the file read.
   */
  exchange(hold: readonly JanusdConfig[], remove: readonly JanusdConfig[], by: ReloadCause): NotHeld[] {
    const absent: NotHeld[] = [];
    const wanted = hold.flatMap((config): Wanted[] => {
      try {
        return [{ ...this.#wanted(config, "file"), partial: false }];
      } catch (thrown) {
        const error = JanusdError.from(thrown);
        if (error.data.kind !== "not_found") throw new ExchangeRefused(config, error);
        absent.push({ config, error });
        return [];
      }
    });
    this.#holdAll(wanted, by);
    for (const config of [...remove, ...absent.map((each) => each.config)]) {
      const held = this.#guards.get(identity(config));
      if (held?.source !== "file") continue;
      this.#drop(held);
      this.audit.record("removed", "file", held.config, by);
    }
    return absent;
  }

  /** Throws JanusdError: it cannot be held. */
  #wanted(config: JanusdConfig, source: GuardSource, kind?: ResourceKind): Omit<Wanted, "partial"> {
    const guard = parseGuard(config);
    const id = identity(guard, kind);
    const before = this.#guards.get(id);
    if (source === "rpc" && before?.source === "file") throw ofTheFile(before.guard);
    const ofClients = this.#pending.has(id) || (before !== undefined && before.source !== "file");
    if (source === "file" && ofClients) throw ofAClient();
    // A request is done as a whole or not at all; the others say what to guard as far as it is there.
    const there = source === "rpc" ? [] : this.#present(guard.containers);
    const containers = there.length > 0 ? there : this.#resolve(guard.containers, config);
    const complete = containers.length === guard.containers.length;
    return { key: before?.key, guard, config, source, kind, containers, complete, before };
  }

  /**
   * Takes up a guard of an earlier run, on those of its containers that are
   * still there: what is gone is not waited for, since those that are left are
   * unguarded meanwhile. So it is with paths that cannot be guarded now: the others are, and `retryPending` tries
   * those again. Undefined if no container is left. Throws JanusdError; the guard is then
   * pending: it is kept, and `retryPending` tries it again.
   */
  restore(stored: StoredGuard): GuardHandle | undefined {
    const id = idOf(stored);
    try {
      const handle = this.#restore(stored);
      this.#pending.delete(id);
      if (handle === undefined) this.audit.record("removed", "container", stored.config);
      return handle;
    } catch (thrown) {
      const error = JanusdError.from(thrown);
      const before = this.#pending.get(id);
      const pauseMs = pauseAfter(before?.pauseMs);
      const at = this.#now() + pauseMs;
      const sinceMs = before?.sinceMs ?? Date.now();
      this.#pending.set(id, { stored, reason: error.message, sinceMs, at, pauseMs });
      throw error;
    }
  }

  /**
   * Holds what another daemon made that has the same state file, or replaces by it. Never throws: what cannot be
   * held is pending.
   */
  adopt(stored: StoredGuard): void {
    const id = idOf(stored);
    if (this.#guards.get(id)?.source === "file") return;
    try {
      if (this.restore(stored) === undefined) this.abandon(id);
    } catch (error) {
      const { name: guard, podName: pod, namespace } = stored.config;
      this.#log.error({ guard, pod, namespace, err: error }, "guard of the state file could not be held: tried again");
    }
  }

  /** Removes what another daemon removed that has the same state file; `id` is its identity(). */
  abandon(id: string): void {
    const held = this.#guards.get(id);
    if (held?.source === "file") return;
    if (held !== undefined) this.#drop(held);
    const removed = held?.config ?? this.#pending.get(id)?.stored.config;
    this.#pending.delete(id);
    if (removed !== undefined) this.audit.record("removed", "state", removed);
  }

  /** Guards that could not be taken up yet, or lack paths, each with the reason. No path is named. */
  pending(): { readonly guard: string; readonly reason: string }[] {
    const pending = [...this.#pending.values()].map(({ stored, reason }) => ({ guard: stored.config.name, reason }));
    const incomplete = [...this.#lacking()].map(({ held, unguarded }) => ({
      guard: held.config.name,
      reason: unguarded.map(({ field, container, reason }) => `${field} in ${container}: ${reason}`).join(", "),
    }));
    return [...pending, ...incomplete];
  }

  /** How many guards could not be taken up yet. */
  get pendingCount(): number {
    return this.#pending.size;
  }

  /** How many paths of held guards cannot be guarded now. */
  get unguardedPaths(): number {
    return [...this.#lacking()].reduce((sum, { unguarded }) => sum + unguarded.length, 0);
  }

  /** Tries what is pending or lacks paths once more, if it is time or `now`. Never throws. */
  retryPending(now = false): void {
    for (const [id, { stored, reason, at }] of [...this.#pending]) {
      if (!now && this.#now() < at) continue;
      const about = { guard: stored.config.name, pod: stored.config.podName, namespace: stored.config.namespace };
      try {
        this.restore(stored);
        this.#onChange();
      } catch (error) {
        if (this.#pending.get(id)?.reason !== reason)
          this.#log.warn({ ...about, err: error }, "guard of the last run is still pending");
      }
    }
    for (const { held, retry } of [...this.#lacking()]) {
      if (!now && this.#now() < retry.at) continue;
      const { name: guard, podName: pod, namespace } = held.guard;
      try {
        this.#engine.retry(held.key);
      } catch (error) {
        this.#log.warn({ guard, pod, namespace, err: error }, "the guard's paths could not be looked at again");
      }
      const pauseMs = pauseAfter(retry.pauseMs);
      this.#incomplete.set(idOf(held), { at: this.#now() + pauseMs, pauseMs });
    }
    for (const _ of this.#lacking()); // says so of those that lack none any more
  }

  /** Held guards that lack paths. Says so, and forgets it, of those that have them by now. */
  *#lacking(): Generator<{ held: Held; retry: Retry; unguarded: UnguardedPath[] }> {
    for (const [id, retry] of this.#incomplete) {
      const held = this.#guards.get(id);
      const unguarded = held === undefined ? [] : this.#unguarded(held);
      if (held !== undefined && unguarded.length > 0) {
        yield { held, retry, unguarded };
        continue;
      }
      this.#incomplete.delete(id);
      if (held === undefined) continue;
      const { name: guard, podName: pod, namespace } = held.guard;
      this.#log.info({ guard, pod, namespace }, "all paths of the guard are guarded now");
    }
  }

  #present(refs: readonly ContainerRef[]): LiveContainer[] {
    return refs.flatMap(({ id, name }) => {
      const info = this.#find(id);
      return info === undefined ? [] : [{ info: this.#shared(info), name }];
    });
  }

  #restore(stored: StoredGuard): GuardHandle | undefined {
    const guard = parseGuard(stored.config);
    const containers = this.#present(guard.containers);
    if (containers.length === 0) return undefined;
    const before = this.#guards.get(idOf(stored));
    const keys = new Set([...this.#guards.values()].map(({ key }) => key));
    const key = before?.key ?? (keys.has(stored.key) ? this.#nextKey : stored.key);
    const free = [...stored.ids].filter(([, id]) => !this.#subjects.has(id));
    const ids = new Map([...free, ...(before?.stored.ids ?? [])]);
    this.#nextSubjectId = Math.max(this.#nextSubjectId, ...[...ids.values()].map((id) => id + 1));
    const complete = containers.length === guard.containers.length;
    return this.#hold({
      key,
      guard,
      config: stored.config,
      source: "state",
      kind: stored.kind,
      containers,
      complete,
      before,
      ids,
      partial: true,
    });
  }

  /**
   * Removes what the request means, and returns how many guards that were.
   *
   * The controller sends no guard name, and the pids of whatever guard it made
   * last, perhaps in another pod. So the pod's name decides; pids choose only
   * between several pods that fit, or where there is no name at all. `by`: who asked.
   */
  destroy(request: Pick<JanusdConfig, "name" | "namespace" | "podName" | "pid">, by?: Requester): number {
    const named = request.name !== "" || request.podName !== "";
    const meant = [...this.#guards.values()].filter(({ guard }) => isMeant(guard, request));
    let matches = meant.filter(({ kind }) => kind === undefined);
    const ofPids = matches.filter(({ containers }) =>
      containers.some(({ info }) => request.pid.includes(info.initPid)),
    );
    const pods = new Set(matches.map(({ guard }) => `${guard.namespace}/${guard.podName}`));
    if (!named || (pods.size > 1 && ofPids.length > 0)) matches = ofPids;
    const [fromFile] = matches.filter(({ source }) => source === "file");
    matches = matches.filter(({ source }) => source !== "file");
    // Who names it is told. Who means all of a pod's means those that can be made the same way.
    if (fromFile !== undefined && request.name !== "" && matches.length === 0) throw ofTheFile(fromFile.guard);
    const ofResource = meant.find(({ kind }) => kind !== undefined);
    if (ofResource !== undefined && request.name !== "" && matches.length === 0) throw ofAResource(ofResource);
    for (const held of matches) this.#drop(held);
    const waiting = named
      ? [...this.#pending].filter(([, { stored }]) => stored.kind === undefined && isMeant(stored.config, request))
      : [];
    for (const [id] of waiting) this.#pending.delete(id);
    const removed = [...matches.map(({ config }) => config), ...waiting.map(([, { stored }]) => stored.config)];
    for (const config of removed) this.audit.record("removed", "rpc", config, by);
    if (removed.length > 0) this.#onChange();
    return removed.length;
  }

  /** Every guard of which a container is alive: looks, rather than remembers. */
  list(): GuardHandle[] {
    this.#sweep(this.#byContainer.keys());
    return [...this.#guards.values()].map((held) => this.#handle(held));
  }

  /** As `list`, with all that is known of each, and those that are pending. */
  details(): GuardDetails[] {
    this.#sweep(this.#byContainer.keys());
    const held = [...this.#guards.values()].map((one): GuardDetails => {
      const { guard, config, source, sinceMs, containers, subjects } = one;
      const unguarded = this.#incomplete.has(idOf(one)) ? this.#unguarded(one) : [];
      const complete = one.complete && unguarded.length === 0;
      return {
        ...{ config, source, sinceMs, complete, pending: undefined, unguarded, warnings: this.#warnings(one) },
        nodeName: guard.nodeName || this.#node,
        containers: containers.map(({ info, name }) => ({ id: info.id, name, firstPid: info.initPid })),
        subjectIds: subjects.map(({ id }) => id),
      };
    });
    const pending = [...this.#pending.values()].map(({ stored, reason, sinceMs }) =>
      this.notHeld(stored.config, "state", reason, sinceMs),
    );
    return [...held, ...pending];
  }

  /** Details of a guard that somebody else wants held, and `reason` keeps from it. */
  notHeld(config: JanusdConfig, source: GuardSource, reason: string, sinceMs: number): GuardDetails {
    const nodeName = config.nodeName || this.#node;
    return {
      config,
      nodeName,
      source,
      pending: reason,
      sinceMs,
      containers: [],
      subjectIds: [],
      complete: false,
      unguarded: [],
      warnings: warningsOf(config),
    };
  }

  /** The engine's word that containers ended. They are taken out of their guards at once, or, of many guards, soon. */
  ended(containerIds: readonly string[]): void {
    this.#sweepOn(this.#sweeping(containerIds));
  }

  /** What to keep for the next start. */
  stored(): StoredGuard[] {
    const held = [...this.#guards.values()].filter(({ source }) => source !== "file").map(({ stored }) => stored);
    return [...held, ...[...this.#pending.values()].map(({ stored }) => stored)];
  }

  #hold(wanted: Wanted, by?: Requester): GuardHandle {
    try {
      const [held] = this.#holdAll([wanted], by);
      if (held === undefined) throw new Error("nothing was held");
      return this.#handle(held);
    } catch (error) {
      throw error instanceof ExchangeRefused ? error.error : error;
    }
  }

  /** All of them, or none: throws ExchangeRefused. `by`: who asked. */
  #holdAll(wanted: readonly Wanted[], by?: Requester | ReloadCause): Held[] {
    const next = { key: this.#nextKey, id: this.#nextSubjectId };
    const all = wanted.map((each) => ({ before: each.before, held: this.#compile(each, next) }));
    const changed = all.filter(({ held, before }) => before === undefined || !sameSubjects(before, held));
    if (changed.length > 0)
      this.#apply(
        changed.map(({ held }) => held),
        wanted.some(({ partial }) => partial),
      );
    this.#nextKey = next.key;
    this.#nextSubjectId = next.id;
    return all.map(({ held, before }) => {
      if (before === undefined || !sameSubjects(before, held)) {
        this.#record(held, before);
        this.audit.record(before === undefined ? "created" : "replaced", held.source, held.config, by);
        this.#onChange();
        this.#lookAtPaths(held);
        this.#warn(held);
        return held;
      }
      const unchanged = before.source === held.source && before.complete === held.complete;
      const same = { ...held, subjects: before.subjects };
      this.#record(unchanged ? { ...same, stored: before.stored } : same, before);
      if (!unchanged) this.#onChange();
      return same;
    });
  }

  /** `next`: the key and the subject's id that are free; used up as far as they are needed. */
  #compile(
    { before, ids = before?.stored.ids ?? new Map(), ...wanted }: Wanted,
    next: { key: number; id: number },
  ): Held {
    const { guard, containers, config } = wanted;
    const key = wanted.key ?? next.key;
    next.key = Math.max(next.key, key + 1);
    const subjects = compileGuard(guard, containers, this.#node, (signature) => ids.get(signature) ?? next.id++);
    if (next.id > ID_LIMIT || key >= ID_LIMIT) {
      throw new JanusdError("out of ids: restart the daemon", { kind: "exhausted" });
    }
    const { kind } = wanted;
    const stored = {
      key,
      config,
      ...(kind && { kind }),
      ids: new Map(subjects.map(({ signature, id }) => [signature, id])),
    };
    return { ...wanted, key, sinceMs: before?.sinceMs ?? Date.now(), subjects, stored };
  }

  /** Of what has just been applied. */
  #lookAtPaths(held: Held): void {
    const unguarded = this.#unguarded(held);
    if (unguarded.length === 0) {
      this.#incomplete.delete(idOf(held));
      return;
    }
    const pauseMs = pauseAfter(undefined);
    this.#incomplete.set(idOf(held), { at: this.#now() + pauseMs, pauseMs });
    const { name: guard, podName: pod, namespace } = held.guard;
    this.#log.warn({ guard, pod, namespace, unguarded }, "paths of the guard cannot be guarded now: the others are");
  }

  #unguarded({ key, config, subjects }: Held): UnguardedPath[] {
    const byId = new Map(subjects.map((subject) => [subject.id, subject]));
    return this.#engine.pathNotes(key).flatMap(({ subjectId, path, fault }): UnguardedPath[] => {
      const subject = byId.get(subjectId);
      if (fault === "" || subject === undefined) return [];
      const field = fieldOf(config, subject.subjectIndex, path);
      return [{ field, path, container: labelOfContainer(subject.container), reason: fault }];
    });
  }

  #warn(held: Held): void {
    const warnings = this.#warnings(held).map(({ field, description }) => `${field}: ${description}`);
    if (warnings.length === 0) return;
    const { name, podName, namespace } = held.guard;
    const about = { guard: name, pod: podName, namespace, count: warnings.length };
    this.#log.warn({ ...about, warnings: warnings.slice(0, LOGGED_WARNINGS) }, "the guard may not mean what it says");
  }

  #warnings({ key, config, containers, subjects }: Held): FieldViolation[] {
    const byId = new Map(subjects.map((subject) => [subject.id, subject]));
    const notes = this.#engine.pathNotes(key).flatMap((note) => {
      const subject = byId.get(note.subjectId);
      if (subject === undefined) return [];
      return { note, subjectIndex: subject.subjectIndex, container: labelOfContainer(subject.container) };
    });
    return warningsOf(config, { notes, containers: containers.length });
  }

  #apply(all: readonly Held[], partial: boolean): void {
    try {
      this.#engine.apply(all.map(({ key, guard, subjects }) => nativeGuard(key, guard, subjects, partial)));
    } catch (error) {
      // Of one guard alone it is about that one.
      const held = all.length === 1 ? all[0] : isNativeError(error) && all.find(({ key }) => key === error.guardKey);
      if (!held) throw new ExchangeRefused(undefined, JanusdError.from(error));
      throw new ExchangeRefused(held.config, isNativeError(error) ? nameField(error, held) : JanusdError.from(error));
    }
  }

  #record(held: Held, before: Held | undefined): void {
    const id = idOf(held);
    if (before !== undefined) this.#forget(before);
    this.#guards.set(id, held);
    for (const { info } of held.containers) {
      const entry = this.#byContainer.get(info.id) ?? { info, guards: new Map<string, bigint>() };
      entry.info = info;
      entry.guards.set(id, info.cgroupId);
      this.#byContainer.set(info.id, entry);
    }
    for (const subject of held.subjects) {
      this.#retired.delete(subject.id);
      this.#contexts.delete(subject.id);
      this.#subjects.set(subject.id, subject);
    }
  }

  #drop(held: Held): void {
    this.#engine.remove(held.key);
    this.#guards.delete(idOf(held));
    this.#incomplete.delete(idOf(held));
    this.#forget(held);
  }

  /** All but its place among the guards, which a successor keeps. */
  #forget(held: Held): void {
    for (const { info } of held.containers) this.#leave(idOf(held), info.id);
    this.#retire(held.subjects);
  }

  #leave(id: string, containerId: string): void {
    const guards = this.#byContainer.get(containerId)?.guards;
    guards?.delete(id);
    if (guards?.size === 0) this.#byContainer.delete(containerId);
  }

  #retire(subjects: readonly CompiledSubject[]): void {
    const now = this.#now();
    for (const [retired, { at }] of this.#retired) {
      if (now - at < RETIRED_MS) break;
      this.#retired.delete(retired);
      this.#contexts.delete(retired);
    }
    for (const subject of subjects) {
      this.#subjects.delete(subject.id);
      this.#retired.set(subject.id, { subject, at: now });
    }
  }

  /** Takes containers that are gone (or another of the same name now) out of their guards, and guards that have none left. */
  #sweep(containerIds: Iterable<string>): void {
    for (const _ of this.#sweeping(containerIds));
  }

  /** One guard at a time: a container may have very many, and the event loop has others to serve meanwhile. */
  *#sweeping(containerIds: Iterable<string>): Generator<void> {
    for (const containerId of [...containerIds]) {
      const guards = this.#byContainer.get(containerId)?.guards;
      if (guards === undefined) continue;
      const now = this.#find(containerId)?.cgroupId;
      for (const [id, cgroupId] of [...guards]) {
        if (cgroupId === now || guards.get(id) !== cgroupId) continue;
        const held = this.#guards.get(id);
        if (held !== undefined) this.#reduce(held, containerId);
        yield;
      }
    }
  }

  #sweepOn(sweeping: Generator<void>): void {
    const until = performance.now() + SWEEP_MS;
    while (performance.now() < until) {
      if (sweeping.next().done) return;
    }
    setImmediate(() => this.#sweepOn(sweeping));
  }

  /**
   * The engine has dropped what it held for a container that ended, so it isn't
   * called for the rest. What is stored stays as it is: a restart finds the
   * ended container gone.
   */
  #reduce(held: Held, ended: string): void {
    const about = { guard: held.guard.name, pod: held.guard.podName, namespace: held.guard.namespace };
    const containers = held.containers.filter(({ info }) => info.id !== ended);
    if (containers.length === 0) {
      this.#drop(held);
      this.audit.record("removed", "container", held.config);
      this.#onChange();
      return;
    }
    const isGone = ({ container }: CompiledSubject): boolean => container.info.id === ended;
    const id = idOf(held);
    this.#guards.set(id, {
      ...held,
      containers,
      subjects: held.subjects.filter((subject) => !isGone(subject)),
      complete: false,
    });
    this.#leave(id, ended);
    this.#retire(held.subjects.filter(isGone));
    this.#log.info({ ...about, left: containers.length }, "a container of the guard ended; the rest is kept");
  }

  /** Many guards may be on one container. */
  #shared({ id, cgroupId, initPid }: ContainerInfo): LiveContainer["info"] {
    const known = this.#byContainer.get(id)?.info;
    return known?.cgroupId === cgroupId && known.initPid === initPid ? known : { id, cgroupId, initPid };
  }

  #find(id: string): ContainerInfo | undefined {
    try {
      return this.#engine.findContainer(id);
    } catch (error) {
      if (isNativeError(error) && error.code === "NOT_FOUND") return undefined;
      throw JanusdError.from(error);
    }
  }

  /** All or none: throws for the first that isn't there. */
  #resolve(refs: readonly ContainerRef[], config: JanusdConfig): LiveContainer[] {
    const found = new Map<string, LiveContainer>();
    for (const { id, name } of refs) {
      try {
        const info = this.#shared(this.#engine.findContainer(id));
        found.set(info.id, { info, name });
      } catch (error) {
        if (!isNativeError(error)) throw JanusdError.from(error);
        if (error.code === "NOT_FOUND") throw JanusdError.notFound(id, { cause: error });
        if (error.code !== "AMBIGUOUS") throw JanusdError.from(error);
        const field = `cid[${config.cid.findIndex((cid) => containerId(cid) === id)}]`;
        throw JanusdError.invalid([{ field, description: error.message }], { cause: error });
      }
    }
    return [...found.values()];
  }

  #handle(held: Held): GuardHandle {
    const { guard, containers, subjects, complete } = held;
    return {
      name: guard.name,
      namespace: guard.namespace,
      podName: guard.podName,
      nodeName: guard.nodeName || this.#node,
      pids: containers.map(({ info }) => info.initPid),
      subjectIds: subjects.map(({ id }) => id),
      containerIds: containers.map(({ info }) => info.id),
      complete: complete && !this.#incomplete.has(idOf(held)),
      mode: guard.mode,
      kind: held.kind,
    };
  }
}

type Names = Pick<Guard, "name" | "namespace" | "podName">;

function ofTheFile({ name }: Names): JanusdError {
  return new JanusdError(`guard ${name} comes from the guard file (--guards): change it there`, {
    kind: "unsupported",
  });
}

function ofAClient(): JanusdError {
  return new JanusdError(
    "a guard of this name was made over gRPC, and is not the guard file's: name the file's otherwise, or delete that one",
    { kind: "unsupported" },
  );
}

function ofAResource({ kind, guard }: Pick<Held, "kind" | "guard">): JanusdError {
  return new JanusdError(`guard ${guard.name} comes from a ${kind} of the cluster: change it there`, {
    kind: "unsupported",
  });
}

/**
 * A guard's key. A resource's are apart from all others, so that a guard of the same name over gRPC is another one, and
 * it tells a pod from its successor of the same name.
 */
export function identity({ name, namespace, podName, podUid }: Identified, kind?: ResourceKind): string {
  return JSON.stringify([name, namespace, podName, ...(kind === undefined ? [] : [kind, podUid ?? ""])]);
}

type Identified = Names & Partial<Pick<Guard, "podUid">>;

export function idOf({ config, kind }: Pick<StoredGuard, "config" | "kind">): string {
  return identity(config, kind);
}

/** How a guard is named in what is printed. */
export function labelOf({ namespace, name, podName }: Names): string {
  const label = name === "" ? `pod ${podName}` : name;
  return namespace === "" ? label : `${namespace}/${label}`;
}

/** Whether a request names the guard, as far as it names any. */
export function isMeant(guard: Names, { name, namespace, podName }: Names): boolean {
  return (
    (name === "" || guard.name === name) &&
    (podName === "" || guard.podName === podName) &&
    (namespace === "" || guard.namespace === namespace)
  );
}

function sameSubjects(a: Pick<Held, "subjects">, b: Pick<Held, "subjects">): boolean {
  return (
    a.subjects.length === b.subjects.length &&
    a.subjects.every(({ signature }, index) => signature === b.subjects[index]?.signature)
  );
}

/** `subject[0].deny[1]`, of a path as it was normalised; the subject, if it has no such path. */
function fieldOf(config: JanusdConfig, index: number, normal: string | undefined): string {
  let field = `subject[${index}]`;
  for (const list of ["deny", "allow", "watch"] as const) {
    const at = config.subject[index]?.[list].findIndex((path) => normalisePath(path) === normal) ?? -1;
    if (at !== -1) field = `subject[${index}].${list}[${at}]`;
  }
  return field;
}

function labelOfContainer({ info, name }: LiveContainer): string {
  return name || info.id.slice(0, SHORT_ID);
}

/** The engine speaks of its own subjects (container x subject) and of paths: say it in the request's fields. */
function nameField(error: NativeError, { guard, config, subjects }: Held): JanusdError {
  if (error.code === "NOT_FOUND") {
    const container = error.target ?? subjects[error.subjectIndex ?? 0]?.container.info.id ?? "";
    return JanusdError.notFound(container, { cause: error });
  }
  const index = (error.subjectIndex ?? 0) % guard.subjects.length;
  const field = fieldOf(config, index, error.path);
  if (error.code === "INVALID") {
    return JanusdError.invalid([{ field, description: error.message }], { cause: error });
  }
  const translated = JanusdError.from(error);
  if (error.subjectIndex === undefined || error.subjectIndex < 0) return translated;
  return new JanusdError(`${field}: ${error.message}`, translated.data, { cause: error, field });
}
