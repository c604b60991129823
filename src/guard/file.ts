/**
 * Guards without a controller: YAML in the shape of the JanusGuard resource,
 * with container ids where a selector would need Kubernetes.
 *
 *     apiVersion: januscontroller.clustergarage.io/v1alpha1
 *     kind: JanusGuard
 *     metadata: { name: secrets }
 *     spec:
 *       containers: [containerd://4f0c...]
 *       subjects:
 *         - deny: [/etc/secret]
 *           events: [open]
 *           recursive: true
 */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { type Document, isNode, LineCounter, parseAllDocuments } from "yaml";
import { JanusdError } from "../errors.js";
import {
  GuardMode,
  type JanusdConfig,
  JanusdConfigSchema,
  type JanusGuardSubjectSchema,
  Scope,
} from "../gen/janus_pb.js";
import { parseGuard } from "./guard.js";

export const API_VERSION = "januscontroller.clustergarage.io/v1alpha1";
export const KIND = "JanusGuard";

export interface GuardFileProblem {
  /** From 1. */
  readonly line: number;
  /** From 1. */
  readonly document: number;
  /** For example `spec.subjects[0].deny[1]`; "" if the document as a whole is wrong. */
  readonly field: string;
  readonly description: string;
}

/** Everything that is wrong with a guard file: one line each in the message. */
export class GuardFileError extends Error {
  override readonly name = "GuardFileError";

  constructor(
    readonly file: string,
    readonly problems: readonly GuardFileProblem[],
  ) {
    const lines = problems.map(({ line, document, field, description }) =>
      [`${file}:${line}`, `document ${document}`, field, description].filter((part) => part !== "").join(": "),
    );
    super(lines.join("\n"));
  }
}

/** One document of a guard file. */
export interface GuardDocument {
  readonly config: JanusdConfig;
  /** Where the file says what the request says in `field` (`subject[0].deny[1]`; "": the document as a whole). */
  readonly locate: (field: string) => Pick<GuardFileProblem, "line" | "field">;
}

type Path = readonly (string | number)[];
type Refuse = (path: Path, description: string) => void;

/** One configuration for each document. `file` only names it in errors. Throws GuardFileError. */
export function parseGuardFile(text: string, file?: string): JanusdConfig[] {
  return readGuardFile(text, file).map(({ config }) => config);
}

/** Its documents, checked as the daemon checks requests. `file` only names it in errors. Throws GuardFileError. */
export function readGuardFile(text: string, file = "guard file"): GuardDocument[] {
  const lines = new LineCounter();
  const problems: GuardFileProblem[] = [];
  const documents: GuardDocument[] = [];
  const seen = new Set<string>();

  for (const [index, document] of [...parseAllDocuments(text, { lineCounter: lines })].entries()) {
    const before = problems.length;
    const refuse: Refuse = (path, description) => {
      problems.push({ line: lineOf(document, path, lines), document: index + 1, field: fieldOf(path), description });
    };
    for (const { pos, message } of document.errors) {
      // The library's message goes on with an excerpt of the file.
      const description = (message.split("\n")[0] ?? message).replace(/ at line \d+, column \d+:?$/, "");
      problems.push({ line: lines.linePos(pos[0]).line, document: index + 1, field: "", description });
    }
    if (document.errors.length > 0) continue;
    const content = contentOf(document, refuse);
    if (content === undefined) continue;
    const config = readDocument(content, refuse);
    if (problems.length > before) continue;
    check(config, refuse);
    const identity = JSON.stringify([config.name, config.namespace, config.podName]);
    if (seen.has(identity)) refuse(["metadata", "name"], "another document of this file is of the same guard");
    seen.add(identity);
    documents.push({
      config,
      locate: (field) => ({ line: lineOf(document, filePath(field), lines), field: fileField(field) }),
    });
  }
  if (problems.length > 0) throw new GuardFileError(file, problems);
  return documents;
}

/** Undefined: nothing to read. */
function contentOf(document: Document.Parsed, refuse: Refuse): Mapping | undefined {
  let content: unknown;
  try {
    content = document.toJS();
  } catch (error) {
    refuse([], error instanceof Error ? error.message : String(error));
    return undefined;
  }
  if (content === null || content === undefined) return undefined;
  if (isMapping(content)) return content;
  refuse([], "must be a mapping");
  return undefined;
}

function readDocument(content: Mapping, refuse: Refuse): JanusdConfig {
  const document = new Fields(content, [], refuse);
  if (document.text("apiVersion") !== API_VERSION) refuse(["apiVersion"], `must be ${API_VERSION}`);
  if (document.text("kind") !== KIND) refuse(["kind"], `must be ${KIND}`);
  const metadata = document.mapping("metadata");
  const name = metadata.text("name");
  const namespace = metadata.text("namespace");
  metadata.ignore("labels", "annotations", "uid", "generation", "resourceVersion", "creationTimestamp");
  document.ignore("status");

  const spec = document.mapping("spec");
  if (spec.has("selector")) {
    refuse(["spec", "selector"], "needs Kubernetes; name the containers' ids in spec.containers");
    spec.ignore("selector");
  }
  const containerNames: Record<string, string> = {};
  const cid = spec.list("containers").map((item, index): string => {
    if (typeof item === "string") return item;
    const container = new Fields(item, ["spec", "containers", index], refuse);
    const id = container.text("id");
    const containerName = container.text("name");
    container.done();
    if (containerName !== "") containerNames[id] = containerName;
    return id;
  });
  const subject = spec
    .list("subjects")
    .map((item, index) => readSubject(new Fields(item, ["spec", "subjects", index], refuse), refuse));
  const mode = (): GuardMode => {
    const known = MODES.get(spec.text("mode"));
    if (known === undefined) refuse(["spec", "mode"], "must be enforce or audit");
    return known ?? GuardMode.ENFORCE;
  };
  const config = create(JanusdConfigSchema, {
    ...{ name, namespace, cid, containerNames, subject },
    podName: spec.text("podName"),
    podUid: spec.text("podUid"),
    nodeName: spec.text("nodeName"),
    logFormat: spec.text("logFormat"),
    mode: mode(),
  });
  for (const fields of [spec, metadata, document]) fields.done();
  return config;
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
function check(config: JanusdConfig, refuse: Refuse): void {
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
function filePath(field: string): Path {
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

function fieldOf(path: Path): string {
  return path.reduce<string>(
    (text, part) => (typeof part === "number" ? `${text}[${part}]` : text === "" ? part : `${text}.${part}`),
    "",
  );
}

/** Of the innermost part of `path` that is there. */
function lineOf(document: Document.Parsed, path: Path, lines: LineCounter): number {
  for (let depth = path.length; depth >= 0; depth--) {
    const node = document.getIn(path.slice(0, depth), true);
    if (isNode(node) && node.range) return lines.linePos(node.range[0]).line;
  }
  return 1;
}

type Mapping = Readonly<Record<string, unknown>>;

function isMapping(value: unknown): value is Mapping {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Reads one mapping field by field; what is left unread at the end is a mistake. */
class Fields {
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

  text(key: string): string {
    return this.#value(key, "a string", isText) ?? "";
  }

  flag(key: string): boolean {
    return this.#value(key, "true or false", (value) => typeof value === "boolean") ?? false;
  }

  integer(key: string): number {
    const fits = (value: unknown): value is number => Number.isInteger(value) && Math.abs(Number(value)) < 2 ** 31;
    return this.#value(key, "a whole number", fits) ?? 0;
  }

  list(key: string): readonly unknown[] {
    return this.#value(key, "a list", Array.isArray) ?? [];
  }

  texts(key: string): string[] {
    return this.list(key).map((item, index) => {
      if (isText(item)) return item;
      this.#refuse([...this.path, key, index], "must be a string; quote it");
      return "";
    });
  }

  textMap(key: string): Record<string, string> {
    const map = this.#value(key, "a mapping", isMapping) ?? {};
    return Object.fromEntries(
      Object.entries(map).map(([name, value]) => {
        if (isText(value)) return [name, value];
        this.#refuse([...this.path, key, name], "must be a string; quote it");
        return [name, ""];
      }),
    );
  }

  mapping(key: string): Fields {
    return new Fields(this.#value(key, "a mapping", isMapping) ?? {}, [...this.path, key], this.#refuse);
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

  #value<T>(key: string, what: string, fits: (value: unknown) => value is T): T | undefined {
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
