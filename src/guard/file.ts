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
import { create } from "@bufbuild/protobuf";
import { type Document, isNode, LineCounter, parseAllDocuments } from "yaml";
import { type JanusdConfig, JanusdConfigSchema } from "../gen/janus_pb.js";
import {
  API_VERSION,
  check,
  Fields,
  fieldOf,
  fileField,
  filePath,
  isMapping,
  KIND,
  type Mapping,
  type Path,
  type Refuse,
  readPolicy,
} from "./document.js";

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
  const config = create(JanusdConfigSchema, {
    ...{ name, namespace, cid, containerNames, ...readPolicy(spec, refuse) },
    podName: spec.text("podName"),
    podUid: spec.text("podUid"),
    nodeName: spec.text("nodeName"),
  });
  for (const fields of [spec, metadata, document]) fields.done();
  return config;
}

/** Of the innermost part of `path` that is there. */
function lineOf(document: Document.Parsed, path: Path, lines: LineCounter): number {
  for (let depth = path.length; depth >= 0; depth--) {
    const node = document.getIn(path.slice(0, depth), true);
    if (isNode(node) && node.range) return lines.linePos(node.range[0]).line;
  }
  return 1;
}
