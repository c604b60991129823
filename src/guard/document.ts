/**
 * A guard as people write it, in a guard file or as a resource: one reader for both, so that both mean the same and are
 * refused for the same.
 */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { JanusdError } from "../errors.js";
import {
  GuardMode,
  type JanusdConfig,
  type JanusdConfigSchema,
  type JanusGuardSubjectSchema,
  Scope,
} from "../gen/janus_pb.js";
import { parseGuard } from "./guard.js";

export const GROUP = "januscontroller.clustergarage.io";
export const VERSION = "v1alpha1";
export const API_VERSION = `${GROUP}/${VERSION}`;
export const KIND = "JanusGuard";

export type Path = readonly (string | number)[];
export type Refuse = (path: Path, description: string) => void;

/** What says how the guard judges, whatever it judges. */
export function readPolicy(
  spec: Fields,
  refuse: Refuse,
): Pick<MessageInitShape<typeof JanusdConfigSchema>, "subject" | "logFormat" | "mode"> {
  const mode = MODES.get(spec.text("mode"));
  if (mode === undefined) refuse(["spec", "mode"], "must be enforce or audit");
  return {
    subject: spec
      .list("subjects")
      .map((item, index) => readSubject(new Fields(item, ["spec", "subjects", index], refuse), refuse)),
    logFormat: spec.text("logFormat"),
    mode: mode ?? GuardMode.ENFORCE,
  };
}

const MODES: ReadonlyMap<string, GuardMode> = new Map([
  ["", GuardMode.ENFORCE],
  ["enforce", GuardMode.ENFORCE],
  ["audit", GuardMode.AUDIT],
]);

export const SCOPES: ReadonlyMap<string, Scope> = new Map([
  ["", Scope.EVERYONE],
  ["everyone", Scope.EVERYONE],
  ["container", Scope.CONTAINER],
]);

function readSubject(subject: Fields, refuse: Refuse): MessageInitShape<typeof JanusGuardSubjectSchema> {
  const scope = (): Scope => {
    const known = SCOPES.get(subject.text("scope"));
    if (known === undefined) refuse([...subject.path, "scope"], "must be everyone or container");
    return known ?? Scope.EVERYONE;
  };
  const read = {
    allow: subject.texts("allow"),
    deny: subject.texts("deny"),
    watch: subject.texts("watch"),
    exclude: subject.texts("exclude"),
    event: subject.texts("events"),
    onlyDir: subject.flag("onlyDir"),
    autoAllowOwner: subject.flag("autoAllowOwner"),
    audit: subject.flag("audit"),
    recursive: subject.flag("recursive"),
    exact: subject.flag("exact"),
    maxDepth: subject.integer("maxDepth"),
    tags: subject.textMap("tags"),
    scope: scope(),
  };
  subject.done();
  return read;
}

/** The daemon's own validation, said in the file's fields. */
export function check(config: JanusdConfig, refuse: Refuse): void {
  try {
    parseGuard(config);
  } catch (error) {
    if (!(error instanceof JanusdError) || error.data.kind !== "invalid") throw error;
    for (const { field, description } of error.data.violations) {
      // In a file they come with the ids, and are refused as such.
      if (!field.startsWith("containerNames")) refuse(filePath(field), description);
    }
  }
}

const FILE_FIELDS: Readonly<Record<string, Path>> = {
  name: ["metadata", "name"],
  namespace: ["metadata", "namespace"],
  cid: ["spec", "containers"],
  subject: ["spec", "subjects"],
  event: ["events"],
};

/** `subject[0].event[1]` -> spec, subjects, 0, events, 1. */
export function filePath(field: string): Path {
  if (field === "") return [];
  return field.split(".").flatMap((part, depth): Path => {
    const [, name = part, index] = /^(\w+)(?:\[(\d+)\])?$/.exec(part) ?? [];
    const names = FILE_FIELDS[name] ?? (depth === 0 ? ["spec", name] : [name]);
    return index === undefined ? names : [...names, Number(index)];
  });
}

/** What a guard file calls a field of the request: `subject[0].event[1]` is `spec.subjects[0].events[1]`. */
export function fileField(field: string): string {
  return fieldOf(filePath(field));
}

export function fieldOf(path: Path): string {
  return path.reduce<string>(
    (text, part) => (typeof part === "number" ? `${text}[${part}]` : text === "" ? part : `${text}.${part}`),
    "",
  );
}

export type Mapping = Readonly<Record<string, unknown>>;

export function isMapping(value: unknown): value is Mapping {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Reads one mapping field by field; what is left unread at the end is a mistake. */
export class Fields {
  readonly path: Path;
  readonly #content: Mapping;
  readonly #refuse: Refuse;
  readonly #read = new Set<string>();

  constructor(content: unknown, path: Path, refuse: Refuse) {
    this.path = path;
    this.#refuse = refuse;
    this.#content = isMapping(content) ? content : {};
    if (!isMapping(content)) refuse(path, "must be a mapping");
  }

  has(key: string): boolean {
    return this.#content[key] !== undefined;
  }

  /** As it is; undefined: it is not there. */
  value(key: string): unknown {
    this.#read.add(key);
    return this.#content[key];
  }

  text(key: string): string {
    return this.#fitting(key, "a string", isText) ?? "";
  }

  flag(key: string): boolean {
    return this.#fitting(key, "true or false", (value) => typeof value === "boolean") ?? false;
  }

  integer(key: string): number {
    const fits = (value: unknown): value is number => Number.isInteger(value) && Math.abs(Number(value)) < 2 ** 31;
    return this.#fitting(key, "a whole number", fits) ?? 0;
  }

  list(key: string): readonly unknown[] {
    return this.#fitting(key, "a list", Array.isArray) ?? [];
  }

  texts(key: string): string[] {
    return this.list(key).map((item, index) => {
      if (isText(item)) return item;
      this.#refuse([...this.path, key, index], "must be a string; quote it");
      return "";
    });
  }

  textMap(key: string): Record<string, string> {
    const map = this.#fitting(key, "a mapping", isMapping) ?? {};
    return Object.fromEntries(
      Object.entries(map).map(([name, value]) => {
        if (isText(value)) return [name, value];
        this.#refuse([...this.path, key, name], "must be a string; quote it");
        return [name, ""];
      }),
    );
  }

  mapping(key: string): Fields {
    return new Fields(this.#fitting(key, "a mapping", isMapping) ?? {}, [...this.path, key], this.#refuse);
  }

  ignore(...keys: readonly string[]): void {
    for (const key of keys) this.#read.add(key);
  }

  done(): void {
    for (const key of Object.keys(this.#content)) {
      if (!this.#read.has(key)) {
        this.#refuse([...this.path, key], `unknown field; known are ${[...this.#read].join(", ")}`);
      }
    }
  }

  #fitting<T>(key: string, what: string, fits: (value: unknown) => value is T): T | undefined {
    this.#read.add(key);
    const value = this.#content[key];
    if (value === undefined || value === null) return undefined;
    if (fits(value)) return value;
    this.#refuse([...this.path, key], `must be ${what}`);
    return undefined;
  }
}

function isText(value: unknown): value is string {
  return typeof value === "string";
}
