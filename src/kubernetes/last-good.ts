/**
 * The last version of each resource that made sense, kept across restarts: a daemon that starts while a resource makes
 * none goes on with it, on pods that come later, too. One JSON document, replaced as a whole.
 */
import { readFileSync } from "node:fs";
import { rename, rm, writeFile } from "node:fs/promises";
import { hasCode } from "../errors.js";
import { RESOURCE_KINDS, type ResourceKind } from "../guard/registry.js";
import type { Log } from "../log.js";
import { type ApiObject, type GuardResource, readResource } from "./resource.js";

/** Changes that come together are written together. Milliseconds. */
const DELAY_MS = 1000;

export interface LastGoodOptions {
  /** Undefined: nothing is kept. */
  readonly file: string | undefined;
  readonly log: Log;
}

export class LastGood {
  readonly #options: LastGoodOptions;
  #resources: readonly GuardResource[] = [];
  /** What the file has. */
  #written = "";
  #timer: NodeJS.Timeout | undefined;
  #writing: Promise<void> | undefined;
  #failure: string | undefined;

  constructor(options: LastGoodOptions) {
    this.#options = options;
  }

  /** What the last run kept. What cannot be read is as if there were none. */
  read(): readonly GuardResource[] {
    const { file, log } = this.#options;
    if (file === undefined) return [];
    try {
      const content: unknown = JSON.parse(readFileSync(file, "utf8"));
      this.#resources = Array.isArray(content) ? content.flatMap(resourceOf) : [];
      this.#written = fingerprintOf(this.#resources);
    } catch (error) {
      if (!hasCode(error, "ENOENT"))
        log.warn({ file, err: error }, "what resources said before they made no sense is not known");
    }
    return this.#resources;
  }

  /** They are kept from now on, soon. */
  keep(resources: readonly GuardResource[]): void {
    this.#resources = resources;
    if (this.#options.file === undefined || this.#timer !== undefined) return;
    if (fingerprintOf(resources) === this.#written) return;
    this.#timer = setTimeout(() => void this.#write(), DELAY_MS);
  }

  /** All is written, or logged as not. Never rejects. */
  async close(): Promise<void> {
    const isDue = this.#timer !== undefined;
    clearTimeout(this.#timer);
    await this.#writing;
    if (isDue) await this.#write();
  }

  async #write(): Promise<void> {
    this.#timer = undefined;
    await this.#writing;
    this.#writing = this.#replace();
    await this.#writing;
  }

  async #replace(): Promise<void> {
    const { file = "", log } = this.#options;
    const resources = this.#resources;
    const temporary = `${file}.${process.pid}`; // of two daemons, each has its own
    try {
      await writeFile(temporary, JSON.stringify(resources.map(contentOf)), { mode: 0o600, flag: "wx", flush: true });
      await rename(temporary, file);
      this.#written = fingerprintOf(resources);
      this.#failure = undefined;
    } catch (error) {
      await rm(temporary, { force: true }).catch(() => undefined);
      const failure = String(error);
      if (failure !== this.#failure) log.error({ file, err: error }, "what resources say is not kept for a restart");
      this.#failure = failure;
    }
  }
}

function contentOf({ kind, namespace, name, uid, generation, spec }: GuardResource): object {
  return { kind, metadata: { namespace, name, uid, generation }, spec };
}

function resourceOf(content: unknown): GuardResource[] {
  if (!isKept(content)) return [];
  const { guard } = readResource(content.kind, content);
  return guard === undefined ? [] : [guard];
}

function isKept(content: unknown): content is ApiObject & { readonly kind: ResourceKind } {
  if (typeof content !== "object" || content === null || !("kind" in content) || !("metadata" in content)) return false;
  const { kind, metadata } = content;
  if (typeof metadata !== "object" || metadata === null || !RESOURCE_KINDS.some((known) => known === kind))
    return false;
  const has = (type: string, ...fields: readonly string[]): boolean =>
    fields.every((field) => typeof Reflect.get(metadata, field) === type);
  return has("string", "name", "namespace", "uid") && has("number", "generation");
}

function fingerprintOf(resources: readonly GuardResource[]): string {
  return JSON.stringify(resources.map(({ uid, generation }) => [uid, generation]).sort());
}
