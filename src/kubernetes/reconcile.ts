/**
 * Makes what the node holds what Kubernetes wants. What is uncertain stays as it is: a pod whose object is gone is guarded
 * until its containers end, a resource that makes no sense until it makes some again, and nothing is removed because
 * nobody could be asked.
 */
import { setImmediate as turn } from "node:timers/promises";
import { JanusdError } from "../errors.js";
import { Arrivals, missingOf } from "../guard/arrivals.js";
import { fileField } from "../guard/document.js";
import type { GuardRegistry, ResourceGuard, ResourceKind } from "../guard/registry.js";
import { pauseAfter } from "../guard/retry.js";
import type { Log } from "../log.js";
import type { Engine } from "../native.js";
import { configOf, type Desired, desiredGuards, fingerprintOf, type Pod, type Wishes } from "./desired.js";
import { type Fault, type GuardResource, nameOf, type ReadResource, type ResourceName, textOf } from "./resource.js";
import type { Labels } from "./selector.js";

/** Between the end of a pass and the next, at least, and as a share of how long the last one took. Milliseconds. */
const PAUSE_MS = 20;
const SHARE = 4;

/** How long guards are made before the event loop serves others. Milliseconds. */
const TURN_MS = 5;

/** How often it is looked whether the containers of pods whose object is gone have ended. Milliseconds. */
const GHOSTS_MS = 5000;

/** How long a container is waited for at once. Milliseconds. */
const ARRIVAL_MS = 60_000;

/** What is known of the cluster. */
export interface View {
  readonly resources: readonly ReadResource[];
  readonly pods: readonly Pod[];
  readonly namespaces: ReadonlyMap<string, Labels>;
  /** All there are of a kind: one that is not among them is gone. */
  readonly complete: { readonly [Kind in ResourceKind | "pods"]: boolean };
}

export interface ReconcilerOptions {
  readonly registry: Pick<GuardRegistry, "hold" | "release" | "ofResources" | "isHeld">;
  readonly engine: Pick<Engine, "missingContainers">;
  readonly view: () => View;
  /** Resources as they were when they last made sense, of the last run. */
  readonly good?: readonly GuardResource[];
  /** After each pass. */
  readonly onPass?: () => void;
  readonly log: Log;
}

/** What became of a resource on this node. */
export interface ResourceOutcome extends ResourceName {
  readonly uid: string;
  /** Of the resource as it is. */
  readonly generation: number;
  /** Of what is enforced: older than `generation` where that makes no sense. 0: nothing is. */
  readonly enforced: number;
  /** Of this node. */
  readonly selectedPods: number;
  readonly guardedPods: number;
  readonly containers: number;
  /** Why it is not enforced as it is. */
  readonly faults: readonly Fault[];
}

/** Containers of this node. */
export interface Coverage {
  /** By some resource. */
  readonly selected: number;
  /** Those of them that have all of their guards. */
  readonly guarded: number;
}
/**
 * How a container of a pod stands. `unselected`: no guard means it. `guarded`: all that do are held on it. `selected`:
 * its pod is meant, and whether it is itself is not known, or not done, yet. `unknown`: so is the pod, or it will be seen to
 * by a pass that is due.
 */
export type Standing = "unknown" | "unselected" | "selected" | "guarded";

/** A guard as it was made. */
interface Made {
  readonly fingerprint: string;
  /** Containers that did not run then. */
  readonly absent: ReadonlySet<string>;
  readonly failure: { readonly faults: readonly Fault[]; readonly at: number; readonly pauseMs: number } | undefined;
  /** Containers that it is held on. */
  readonly held: number;
}

export class Reconciler {
  readonly #options: ReconcilerOptions;
  readonly #arrivals: Arrivals;
  /** By nameOf(): the last that made sense. */
  readonly #good = new Map<string, GuardResource>();
  /** By nameOf(): what was said of faults. */
  readonly #told = new Map<string, string>();
  /** By identity(). */
  readonly #made = new Map<string, Made>();
  /** Of the last pass, by uid; also those whose object is gone while their containers run. */
  #pods = new Map<string, Pod>();
  /** Of these, how many have no object. */
  #ghosts = 0;
  /** By container id. */
  readonly #awaited = new Map<string, AbortController>();
  #outcomes: readonly ResourceOutcome[] = [];
  #coverage: Coverage = { selected: 0, guarded: 0 };
  /** Of the last pass. */
  #wishes: Wishes = { desired: [], undecided: new Set() };
  #complete = false;
  #timer: NodeJS.Timeout | undefined;
  #retry: NodeJS.Timeout | undefined;
  #running = false;
  #again = false;
  #earliest = 0;
  #passes = 0;
  #closed = false;

  constructor(options: ReconcilerOptions) {
    this.#options = options;
    this.#arrivals = new Arrivals(options.engine);
    for (const resource of options.good ?? []) this.#good.set(nameOf(resource), resource);
  }

  /** Of each resource, as of the last pass. */
  get outcomes(): readonly ResourceOutcome[] {
    return this.#outcomes;
  }

  /** As of the last pass. */
  get coverage(): Coverage {
    return this.#coverage;
  }

  /** Each resource, as it was when it last made sense. */
  get good(): readonly GuardResource[] {
    return [...this.#good.values()];
  }

  /** How often all was gone through. */
  get passes(): number {
    return this.#passes;
  }

  /** Some resource selects a pod of this node. */
  get selecting(): boolean {
    return this.#made.size > 0 || this.#outcomes.some(({ selectedPods }) => selectedPods > 0);
  }

  /** Some resource could select a pod of this node, now or later. */
  get hasGuards(): boolean {
    return this.#good.size > 0 || this.#options.registry.ofResources().length > 0;
  }

  /** As of the last pass. */
  standing(podUid: string, containerId: string): Standing {
    const pod = this.#pods.get(podUid);
    if (!this.#complete || this.#running || this.#timer !== undefined || pod === undefined) return "unknown";
    if (this.#wishes.undecided.size > 0) return "unknown";
    const selecting = this.#wishes.desired.filter((desired) => desired.pod.uid === pod.uid);
    if (selecting.length === 0) return "unselected";
    if (!pod.containers.some(({ id }) => id === containerId)) return "selected";
    const meaning = selecting.filter(({ containers }) => containers.some(({ id }) => id === containerId));
    if (meaning.length === 0) return "unselected";
    const { registry } = this.#options;
    const isHeld = ({ id }: Desired): boolean => {
      const made = this.#made.get(id);
      return made !== undefined && made.failure === undefined && !made.absent.has(containerId) && registry.isHeld(id);
    };
    return meaning.every(isHeld) ? "guarded" : "selected";
  }

  /** Something changed: all is gone through soon. */
  look(): void {
    if (this.#closed) return;
    if (this.#running) this.#again = true;
    else this.#timer ??= setTimeout(() => void this.#run(), Math.max(0, this.#earliest - performance.now()));
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    clearTimeout(this.#retry);
    for (const awaited of this.#awaited.values()) awaited.abort();
  }

  async #run(): Promise<void> {
    this.#timer = undefined;
    this.#running = true;
    this.#again = false;
    const start = performance.now();
    try {
      await this.#pass();
    } catch (error) {
      this.#options.log.error({ err: error }, "could not go through the guards of Kubernetes");
    }
    this.#running = false;
    this.#passes++;
    const now = performance.now();
    this.#earliest = now + Math.max(PAUSE_MS, (now - start) * SHARE);
    if (this.#closed) return;
    this.#options.onPass?.();
    if (this.#again) this.look();
  }

  async #pass(): Promise<void> {
    const view = this.#options.view();
    const resources = this.#usable(view);
    const held = this.#options.registry.ofResources();
    const pods = this.#withGhosts(view, held);
    const wishes = desiredGuards({ resources, pods, namespaces: view.namespaces });
    const { desired, undecided } = wishes;
    const wanted = new Map(desired.map((each) => [each.id, each]));
    for (const guard of held) {
      if (!this.#mayStay(guard, wanted.get(guard.id), undecided, view)) this.#options.registry.release(guard.id);
    }
    for (const id of this.#made.keys()) if (!wanted.has(id)) this.#made.delete(id);
    await this.#holdAll(desired);
    this.#await();
    this.#outcomes = this.#assess(view, desired);
    this.#coverage = this.#cover(desired);
    this.#wishes = wishes;
    this.#complete = Object.values(view.complete).every(Boolean);
  }

  /** The last good version of each resource. */
  #usable({ resources, complete }: View): GuardResource[] {
    const names = new Set(resources.map(nameOf));
    for (const [name, { kind }] of this.#good) if (complete[kind] && !names.has(name)) this.#good.delete(name);
    for (const name of this.#told.keys()) if (!names.has(name)) this.#told.delete(name);
    for (const resource of resources) {
      const name = nameOf(resource);
      if (resource.guard !== undefined) this.#good.set(name, resource.guard);
      // One that was deleted and made again is another.
      else if (this.#good.get(name)?.uid !== resource.uid) this.#good.delete(name);
      this.#tell(name, resource);
    }
    return [...this.#good.values()];
  }

  #tell(name: string, { faults }: ReadResource): void {
    const text = textOf(faults);
    if (text === (this.#told.get(name) ?? "")) return;
    this.#told.set(name, text);
    if (text === "") this.#options.log.info({ resource: name }, "the resource makes sense again");
    else
      this.#options.log.warn(
        { resource: name, faults: text },
        "the resource makes no sense: what it said before holds",
      );
  }

  /** Pods whose object is gone, and of which a container is guarded: they go on as they were. */
  #withGhosts({ pods, complete }: View, held: readonly ResourceGuard[]): Pod[] {
    const now = new Map(pods.map((pod) => [pod.uid, pod]));
    const guarded = new Set(held.map(({ config }) => config.podUid));
    for (const [uid, pod] of this.#pods) if (!now.has(uid) && guarded.has(uid)) now.set(uid, pod);
    this.#ghosts = now.size - pods.length;
    if (complete.pods) this.#pods = now;
    return [...now.values()];
  }

  /** Whether what is held stays, for now at least. */
  #mayStay(
    { id, kind, config }: ResourceGuard,
    desired: Desired | undefined,
    undecided: ReadonlySet<string>,
    { resources, complete }: View,
  ): boolean {
    if (desired !== undefined) {
      // One without containers dissolves when these end. Or the resource leaves out those that it had.
      return desired.containers.length > 0 || !desired.pod.containers.some((each) => config.cid.includes(each.id));
    }
    const { name } = config;
    const namespace = kind === "JanusGuard" ? config.namespace : "";
    const isThere = resources.some((each) => each.kind === kind && each.name === name && each.namespace === namespace);
    if (!isThere) return !complete[kind];
    if (undecided.has(id) || !this.#good.has(nameOf({ kind, name, namespace }))) return true;
    // Its pod is known, and not selected any more. Or it is not known: then its containers end, if they have not yet.
    return !this.#pods.has(config.podUid);
  }

  async #holdAll(desired: readonly Desired[]): Promise<void> {
    const absent = [...this.#made.values()].flatMap((made) => [...made.absent]);
    const missing = missingOf(this.#options.engine, absent);
    let until = performance.now() + TURN_MS;
    for (const each of desired) {
      if (each.containers.length === 0 || !this.#isDue(each, missing)) continue;
      this.#hold(each);
      if (performance.now() < until) continue;
      await turn();
      if (this.#closed) return;
      until = performance.now() + TURN_MS;
    }
  }

  #isDue(desired: Desired, missing: ReadonlySet<string>): boolean {
    const made = this.#made.get(desired.id);
    if (made === undefined || made.fingerprint !== fingerprintOf(desired)) return true;
    if (made.failure !== undefined) return performance.now() >= made.failure.at;
    if (made.absent.size > 0) return [...made.absent].some((id) => !missing.has(id));
    return !this.#options.registry.isHeld(desired.id); // its containers ended, and still seem to run
  }

  #hold(desired: Desired): void {
    const { id, resource, containers } = desired;
    const before = this.#made.get(id);
    const fingerprint = fingerprintOf(desired);
    try {
      const { containerIds } = this.#options.registry.hold(configOf(desired), resource.kind);
      const absent = containers.filter((each) => !containerIds.includes(each.id)).map((each) => each.id);
      this.#made.set(id, { fingerprint, absent: new Set(absent), failure: undefined, held: containerIds.length });
    } catch (thrown) {
      const error = JanusdError.from(thrown);
      if (error.data.kind === "not_found") {
        const absent = new Set(containers.map((each) => each.id));
        this.#made.set(id, { fingerprint, absent, failure: undefined, held: before?.held ?? 0 });
        return;
      }
      const faults = faultsOf(error);
      const pauseMs = pauseAfter(before?.fingerprint === fingerprint ? before.failure?.pauseMs : undefined);
      const failure = { faults, at: performance.now() + pauseMs, pauseMs };
      this.#made.set(id, { fingerprint, absent: new Set(), failure, held: before?.held ?? 0 });
      if (before?.failure !== undefined && textOf(before.failure.faults) === textOf(faults)) return;
      const about = { resource: nameOf(resource), pod: desired.pod.name, namespace: desired.pod.namespace };
      this.#options.log.error({ ...about, faults: textOf(faults) }, "the guard cannot be held: tried again");
    }
  }

  /** Waits for what is not there yet, for the time to try again, and for ends that nobody tells of. */
  #await(): void {
    const absent = new Set([...this.#made.values()].flatMap((made) => [...made.absent]));
    for (const [id, awaited] of this.#awaited) if (!absent.has(id)) awaited.abort();
    for (const id of absent) {
      if (this.#awaited.has(id)) continue;
      const awaited = new AbortController();
      this.#awaited.set(id, awaited);
      void this.#arrivals.wait([id], ARRIVAL_MS, awaited.signal).then(() => {
        this.#awaited.delete(id);
        if (!awaited.signal.aborted) this.look();
      });
    }
    clearTimeout(this.#retry);
    const times = [...this.#made.values()].flatMap(({ failure }) => failure?.at ?? []);
    if (this.#ghosts > 0) times.push(performance.now() + GHOSTS_MS);
    if (times.length === 0) return;
    const retry = Math.max(PAUSE_MS, Math.min(...times) - performance.now());
    this.#retry = setTimeout(() => this.look(), retry);
  }

  #cover(desired: readonly Desired[]): Coverage {
    const selected = new Set<string>();
    const unguarded = new Set<string>();
    for (const { id, containers } of desired) {
      const made = this.#made.get(id);
      const isHeld = made?.failure === undefined && this.#options.registry.isHeld(id);
      for (const container of containers) {
        selected.add(container.id);
        if (!isHeld || made?.absent.has(container.id) !== false) unguarded.add(container.id);
      }
    }
    return { selected: selected.size, guarded: selected.size - unguarded.size };
  }

  #assess({ resources }: View, desired: readonly Desired[]): ResourceOutcome[] {
    const byResource = Map.groupBy(desired, ({ resource }) => nameOf(resource));
    return resources.map(({ kind, namespace, name, uid, generation, faults }): ResourceOutcome => {
      const about = { kind, namespace, name };
      const selected = byResource.get(nameOf(about)) ?? [];
      const held = selected.flatMap((each) => {
        const made = this.#made.get(each.id);
        return made !== undefined && this.#options.registry.isHeld(each.id) ? made : [];
      });
      const failures = selected.flatMap(({ id }) => this.#made.get(id)?.failure?.faults ?? []);
      return {
        ...{ ...about, uid, generation, faults: faults.length > 0 ? faults : distinct(failures) },
        enforced: this.#good.get(nameOf(about))?.generation ?? 0,
        selectedPods: selected.length,
        guardedPods: held.filter(({ absent, failure }) => absent.size === 0 && failure === undefined).length,
        containers: held.reduce((sum, made) => sum + made.held, 0),
      };
    });
  }
}

/** In the resource's fields. */
function faultsOf({ message, data, field = "" }: JanusdError): Fault[] {
  if (data.kind === "invalid" && data.violations.length > 0) {
    return data.violations.map((violation) => ({ ...violation, field: fileField(violation.field) }));
  }
  const prefix = `${field}: `;
  return [
    { field: fileField(field), description: message.startsWith(prefix) ? message.slice(prefix.length) : message },
  ];
}

function distinct(faults: readonly Fault[]): Fault[] {
  return [...new Map(faults.map((fault) => [textOf([fault]), fault])).values()];
}
