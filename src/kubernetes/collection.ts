/**
 * What the API server has of one kind, followed by the client's informer: listed once, then watched. A broken connection
 * costs nothing of what is known: it is listed again when the server is back, which may have gone back in time.
 */
import {
  type KubeConfig,
  type KubernetesListObject,
  type KubernetesObject,
  ListWatch,
  Watch,
} from "@kubernetes/client-node";
import type { Log } from "../log.js";
import { explainFailure } from "./failure.js";
import { backoff } from "./jitter.js";

/** The server sends a bookmark each minute: a watch that is silent for longer than this is dead. Milliseconds. */
const SILENCE_MS = 90_000;

/** Between two tries. Each daemon takes its own part of it, so that they don't all come at once. Milliseconds. */
const RETRY_MIN_MS = 1000;
const RETRY_MAX_MS = 30_000;

export interface CollectionOptions<Item> {
  /** Asked for at each start: credentials may have been renewed. */
  readonly kubeConfig: () => KubeConfig;
  /** As the API server names it, for people: `pods`. */
  readonly resource: string;
  /** `/api/v1/pods`. */
  readonly path: string;
  readonly fieldSelector?: string;
  readonly list: (kubeConfig: KubeConfig) => Promise<KubernetesListObject<KubernetesObject>>;
  /** What is kept of each. */
  readonly read: (object: KubernetesObject) => Item;
  /** Nobody has to be told of the difference. Left out: of each. */
  readonly isSame?: (before: Item, now: Item) => boolean;
  /** Something is different now. */
  readonly onChange: () => void;
  readonly log: Log;
}

/** Bookmarks keep a quiet watch alive, and tell that the server is there. */
class HeardWatch extends Watch {
  readonly #heard: () => void;

  constructor(kubeConfig: KubeConfig, heard: () => void) {
    super(kubeConfig);
    this.#heard = heard;
    // The client has no option for it, and its 30 s would have each quiet watch opened anew twice a minute.
    Object.assign(this, { requestTimeoutMs: SILENCE_MS });
  }

  override async watch(
    path: string,
    query: Record<string, string | number | boolean | undefined>,
    callback: (phase: string, object: unknown, whole?: unknown) => void,
    done: (error: unknown) => void,
  ): Promise<AbortController> {
    const heard = (phase: string, object: unknown, whole?: unknown): void => {
      this.#heard();
      callback(phase, object, whole);
    };
    try {
      return await super.watch(path, { ...query, allowWatchBookmarks: true }, heard, done);
    } catch (error) {
      // Credentials that cannot be read just now. The informer waits for nobody who would be told of it.
      done(error);
      return new AbortController();
    }
  }
}

export class Collection<Item> {
  readonly #options: CollectionOptions<Item>;
  readonly #items = new Map<string, Item>();
  #informer: ListWatch<KubernetesObject> | undefined;
  #timer: NodeJS.Timeout | undefined;
  #tries = 0;
  #synced = false;
  #failure: string | undefined;
  #failures = 0;
  #heardAt: number | undefined;
  #closed = false;

  constructor(options: CollectionOptions<Item>) {
    this.#options = options;
  }

  /** It was listed once. */
  get synced(): boolean {
    return this.#synced;
  }

  get size(): number {
    return this.#items.size;
  }

  /** As last known. */
  get items(): Iterable<Item> {
    return this.#items.values();
  }

  /** Why it is not followed now. Undefined: it is. */
  get failure(): string | undefined {
    return this.#failure;
  }

  /** Attempts that failed so far. */
  get failures(): number {
    return this.#failures;
  }

  /** When the server was heard last, by performance.now(). */
  get heardAt(): number | undefined {
    return this.#heardAt;
  }

  start(): void {
    if (this.#closed || this.#informer !== undefined) return;
    const { path, fieldSelector, list, resource } = this.#options;
    const kubeConfig = this.#options.kubeConfig();
    let verb = "list";
    const listAll = async (): Promise<KubernetesListObject<KubernetesObject>> => {
      verb = "list";
      const found = await list(kubeConfig);
      verb = "watch";
      if (this.#informer === informer) this.#replace(found.items);
      return found;
    };
    const watch = new HeardWatch(kubeConfig, () => this.#heard());
    const informer = new ListWatch<KubernetesObject>(path, watch, listAll, false, undefined, fieldSelector);
    const put = (object: KubernetesObject): void => {
      if (this.#informer !== informer) return;
      const [key, now] = [keyOf(object), this.#options.read(object)];
      const before = this.#items.get(key);
      this.#items.set(key, now);
      if (before === undefined || this.#options.isSame?.(before, now) !== true) this.#options.onChange();
    };
    informer.on("add", put);
    informer.on("update", put);
    informer.on("delete", (object) => {
      if (this.#informer === informer && this.#items.delete(keyOf(object))) this.#options.onChange();
    });
    informer.on("error", (error: unknown) => {
      if (this.#informer === informer) this.#retry(explainFailure(error, verb, resource));
    });
    this.#informer = informer;
    informer.start().catch((error: unknown) => {
      if (this.#informer === informer) this.#retry(explainFailure(error, verb, resource));
    });
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    const informer = this.#informer;
    this.#informer = undefined;
    void informer?.stop();
  }

  #heard(): void {
    this.#heardAt = performance.now();
    this.#tries = 0;
    if (this.#failure === undefined) return;
    this.#failure = undefined;
    this.#options.log.info({ resource: this.#options.resource }, "Kubernetes is followed again");
    this.#options.onChange();
  }

  #replace(objects: readonly KubernetesObject[]): void {
    this.#items.clear();
    for (const object of objects) this.#items.set(keyOf(object), this.#options.read(object));
    this.#synced = true;
    this.#heard();
    this.#options.onChange();
  }

  /** From a new list on: the server may have been restored from a backup, and its versions count anew. */
  #retry(failure: string): void {
    const { log, resource, onChange } = this.#options;
    const informer = this.#informer;
    this.#informer = undefined;
    void informer?.stop();
    this.#failures++;
    if (this.#failure !== failure) {
      log.warn({ resource, failure }, "Kubernetes cannot be followed: guards stay as they are");
      this.#failure = failure;
      onChange();
    }
    this.#timer = setTimeout(() => this.start(), backoff(this.#tries++, RETRY_MIN_MS, RETRY_MAX_MS));
  }
}

function keyOf({ metadata }: KubernetesObject): string {
  return `${metadata?.namespace ?? ""}/${metadata?.name ?? ""}`;
}
