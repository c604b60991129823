/**
 * The guard model: what a request (or a guard file) means, once it is checked
 * and normalised. All that is wrong with a request is found in one go.
 */
import { Buffer } from "node:buffer";
import { type FieldViolation, JanusdError } from "../errors.js";
import { GuardMode, type JanusdConfig, type JanusGuardSubject, Scope } from "../gen/janus_pb.js";
import { compileLogFormat, LogFormatError } from "../log-format.js";
import type { EventMask, SubjectPolicy } from "../native.js";
import type { Mode } from "../subject.js";

export interface Guard {
  readonly name: string;
  readonly namespace: string;
  readonly podName: string;
  readonly podUid: string;
  /** "" = the daemon's own. */
  readonly nodeName: string;
  /** "" = the default format. */
  readonly logFormat: string;
  readonly mode: Mode;
  /** At least one; no id twice. */
  readonly containers: readonly ContainerRef[];
  /** At least one. */
  readonly subjects: readonly Subject[];
}

export interface ContainerRef {
  /** Without its scheme: 12 or 64 hex characters, or a runtime's own name. */
  readonly id: string;
  /** In the pod; "" = not told. */
  readonly name: string;
}

/** Paths are absolute and normalised; each list holds a path once. */
export interface Subject extends SubjectPolicy {
  /** Sorted by key. */
  readonly tags: Readonly<Record<string, string>>;
}

/** Event names that an allow or deny path can answer. `exec` is not in `all`: the original has no exec. */
const ANSWERED_EVENTS: Readonly<Record<string, EventMask>> = { open: 1 << 0, access: 1 << 1, exec: 1 << 2, all: 0b11 };

/** Event names that a watch path can have besides. */
const SEEN_EVENTS: Readonly<Record<string, EventMask>> = {
  modify: 1 << 3,
  closewrite: 1 << 4,
  closenowrite: 1 << 5,
  close: (1 << 4) | (1 << 5),
  attrib: 1 << 6,
  create: 1 << 7,
  delete: 1 << 8,
  deleteself: 1 << 9,
  move: (1 << 10) | (1 << 11),
  movedfrom: 1 << 10,
  movedto: 1 << 11,
  moveself: 1 << 12,
};

/** Event names that only a deny path can have: nothing tells a watch of them. */
const DENIED_EVENTS: Readonly<Record<string, EventMask>> = { link: 1 << 14, truncate: 1 << 15, write: 1 << 16 };

/** Event names that a deny path can have, and no allow path: the kernel decides by itself (docs/tiers.md). */
export const CHANGES: ReadonlySet<string> = new Set([
  ...["create", "delete", "move", "movedfrom", "movedto", "attrib"],
  ...Object.keys(DENIED_EVENTS),
]);

/** By event name: the bits of native/record/file_event.h's kinds. */
export const EVENT_MASKS: ReadonlyMap<string, EventMask> = new Map(
  Object.entries({ ...ANSWERED_EVENTS, ...SEEN_EVENTS, ...DENIED_EVENTS }),
);

const ANSWERED_NAMES = Object.keys(ANSWERED_EVENTS).join(", ");
const CHANGE_NAMES = [...CHANGES].join(", ");
const ALL_NAMES = [...EVENT_MASKS.keys()].join(", ");

/** What a Kubernetes name can have at most. */
const NAME_LIMIT = 253;
/** PATH_MAX and NAME_MAX, without the NUL. Bytes. */
export const PATH_LIMIT = 4095;
const COMPONENT_LIMIT = 255;

/** Throws JanusdError (kind `invalid`) with every violation. */
export function parseGuard(config: JanusdConfig): Guard {
  const violations: FieldViolation[] = [];
  const refuse = (field: string, description: string): void => {
    violations.push({ field, description });
  };

  if (config.name === "" && config.podName === "") refuse("name", "a guard needs a name or a podName to be found by");
  for (const field of ["name", "namespace", "podName", "podUid", "nodeName"] as const) {
    const problem = nameProblem(config[field]);
    if (problem !== undefined) refuse(field, problem);
  }
  const containers = parseContainers(config, refuse);
  if (config.subject.length === 0) refuse("subject", "a guard needs at least one subject");
  const subjects = config.subject.map((subject, index) => parseSubject(subject, `subject[${index}]`, refuse));
  if (config.logFormat !== "") {
    const problem = logFormatProblem(config.logFormat);
    if (problem !== undefined) refuse("logFormat", problem);
  }

  const mode = modeOf(config);
  if (mode === undefined) refuse("mode", "unknown; known are GUARD_MODE_ENFORCE and GUARD_MODE_AUDIT");
  if (mode === "audit") {
    const change = config.subject.map(deniedChange).find((name) => name !== undefined);
    if (change !== undefined) {
      refuse("mode", `audit ${besides(change)}: it denies, or has no say; use a guard of its own, in mode enforce`);
    }
  }

  if (violations.length > 0 || mode === undefined) throw JanusdError.invalid(violations);
  const { name, namespace, podName, podUid, nodeName, logFormat } = config;
  return { name, namespace, podName, podUid, nodeName, logFormat, mode, containers, subjects };
}

type Refuse = (field: string, description: string) => void;

/** Undefined: none that is known. */
export function modeOf({ mode }: Pick<JanusdConfig, "mode">): Mode | undefined {
  if (mode === GuardMode.ENFORCE) return "enforce";
  return mode === GuardMode.AUDIT ? "audit" : undefined;
}

function parseContainers(config: JanusdConfig, refuse: Refuse): ContainerRef[] {
  if (config.cid.length === 0) refuse("cid", "a guard needs at least one container id");
  const names = new Map<string, string>();
  for (const [key, name] of Object.entries(config.containerNames)) {
    const id = containerId(key);
    if (id === undefined) refuse(`containerNames[${JSON.stringify(key)}]`, CONTAINER_ID_HELP);
    else names.set(id, name);
  }
  const refs = new Map<string, ContainerRef>();
  for (const [index, cid] of config.cid.entries()) {
    const id = containerId(cid);
    if (id === undefined) refuse(`cid[${index}]`, CONTAINER_ID_HELP);
    else refs.set(id, { id, name: names.get(id) ?? "" });
  }
  return [...refs.values()];
}

export const CONTAINER_ID_HELP =
  "not a container id: containerd://, docker://, cri-o:// or rkt:// and 12 or 64 lower-case hex characters, " +
  "or without a scheme also a runtime's own full name ([A-Za-z0-9_.-])";

/** `cid` without its scheme; undefined if it cannot be a container's id. Never a prefix of one, never a pattern. */
export function containerId(cid: string): string | undefined {
  const schemed = /^(?:containerd|docker|cri-o|rkt):\/\/((?:[0-9a-f]{12}|[0-9a-f]{64}))$/.exec(cid);
  if (schemed !== null) return schemed[1];
  return /^[A-Za-z0-9_.-]{1,255}$/.test(cid) && !/^\.+$/.test(cid) ? cid : undefined;
}

/** Of all containers that a guard names, as far as these can be ids. */
export function containerIds({ cid }: Pick<JanusdConfig, "cid">): string[] {
  return cid.flatMap((id) => containerId(id) ?? []);
}

function parseSubject(subject: JanusGuardSubject, at: string, refuse: Refuse): Subject {
  const paths = (field: "allow" | "deny" | "watch"): string[] => {
    const normal = new Set<string>();
    for (const [index, path] of subject[field].entries()) {
      const problem = pathProblem(path);
      if (problem === undefined) normal.add(normalisePath(path));
      else refuse(`${at}.${field}[${index}]`, problem);
    }
    return [...normal];
  };
  const [allow, deny, watch] = [paths("allow"), paths("deny"), paths("watch")];
  const answers = subject.allow.length + subject.deny.length > 0;
  if (!answers && subject.watch.length === 0) refuse(at, "has no path: give allow, deny or watch");

  for (const [index, glob] of subject.exclude.entries()) {
    const problem = excludeProblem(glob);
    if (problem !== undefined) refuse(`${at}.exclude[${index}]`, problem);
  }
  if (subject.maxDepth < 0) refuse(`${at}.maxDepth`, "must be 0 (no limit) or more");
  else if (subject.maxDepth > 0 && !subject.recursive) refuse(`${at}.maxDepth`, "limits nothing without recursive");
  if (subject.scope !== Scope.EVERYONE && subject.scope !== Scope.CONTAINER) {
    refuse(`${at}.scope`, "unknown; known are SCOPE_EVERYONE and SCOPE_CONTAINER");
  }

  const change = deniedChange(subject);
  if (change !== undefined) refuseBesides(change, subject, at, refuse);

  const { onlyDir, autoAllowOwner, audit, recursive, maxDepth, exact } = subject;
  return {
    ...{ allow, deny, watch, exclude: [...new Set(subject.exclude)] },
    events: parseEvents(subject.event, answers, at, refuse),
    ...{ onlyDir, autoAllowOwner, audit, recursive, maxDepth, exact },
    onlyContainer: subject.scope === Scope.CONTAINER,
    tags: sortedByKey(subject.tags),
  };
}

function parseEvents(names: readonly string[], answers: boolean, at: string, refuse: Refuse): EventMask {
  if (names.length === 0) refuse(`${at}.event`, `name at least one event; known are ${ALL_NAMES}`);
  let mask = 0;
  for (const [index, name] of names.entries()) {
    const bits = EVENT_MASKS.get(name);
    if (bits === undefined) {
      refuse(`${at}.event[${index}]`, `unknown event ${JSON.stringify(name)}; known are ${ALL_NAMES}`);
    } else if (answers && !Object.hasOwn(ANSWERED_EVENTS, name) && !CHANGES.has(name)) {
      refuse(
        `${at}.event[${index}]`,
        `${name} can only be seen: use a subject of its own with watch ` +
          `(allow can have ${ANSWERED_NAMES}; deny these, or ${CHANGE_NAMES})`,
      );
    } else if (!answers && Object.hasOwn(DENIED_EVENTS, name)) {
      refuse(`${at}.event[${index}]`, `${name} can only be denied, not seen: nothing tells of it`);
    }
    mask |= bits ?? 0;
  }
  return mask;
}

/** The first change among the events of a subject that doesn't only watch. */
function deniedChange({ allow, deny, event }: JanusGuardSubject): string | undefined {
  return allow.length + deny.length > 0 ? event.find((name) => CHANGES.has(name)) : undefined;
}

function besides(change: string): string {
  return `can't be with ${change}, which the kernel decides by itself`;
}

/** What the kernel can't heed where it decides by itself. */
function refuseBesides(change: string, subject: JanusGuardSubject, at: string, refuse: Refuse): void {
  const { allow, watch, exclude, maxDepth, onlyDir, audit, scope } = subject;
  const refuseIf = (given: boolean, field: string, why: string): void => {
    if (given) refuse(`${at}.${field}`, `${besides(change)}: ${why}`);
  };
  refuseIf(allow.length > 0, "allow", "it makes no exceptions; deny narrower paths, and allow in a subject of its own");
  refuseIf(watch.length > 0, "watch", "use a subject of its own with watch");
  refuseIf(exclude.length > 0, "exclude", "it compares no globs; deny narrower paths");
  refuseIf(maxDepth > 0, "maxDepth", "it counts no levels; leave it out, and deny narrower paths");
  refuseIf(onlyDir, "onlyDir", "it treats files and directories alike; leave it out");
  refuseIf(audit, "audit", "it writes no audit records; leave it out, each denial is in the event log");
  refuseIf(
    scope === Scope.EVERYONE,
    "scope",
    "it does so for the container's own processes only; say container (SCOPE_CONTAINER)",
  );
}

/** What is wrong with a path in a container. Undefined: nothing. */
export function pathProblem(path: string): string | undefined {
  if (path === "") return "is empty; the container's whole root is written /";
  if (path.includes("\0")) return "holds a NUL";
  if (!path.startsWith("/")) return "is relative; paths are absolute, as the container sees them";
  if (Buffer.byteLength(path) > PATH_LIMIT) return `is longer than ${PATH_LIMIT} bytes`;
  for (const component of path.split("/")) {
    if (component === "..") return "holds a .. component; write the path that is meant";
    if (Buffer.byteLength(component) > COMPONENT_LIMIT) return `holds a name longer than ${COMPONENT_LIMIT} bytes`;
  }
  return undefined;
}

/** Without `//`, `/./` and a trailing `/`. The path must be absolute and free of `..`. */
export function normalisePath(path: string): string {
  return `/${path
    .split("/")
    .filter((component) => component !== "" && component !== ".")
    .join("/")}`;
}

/** As `exclude`: the subject's path itself (native/policy/policy.cc). */
export const PATH_ITSELF = ".";

/** What is wrong with a text as `exclude`; undefined: nothing. */
function excludeProblem(glob: string): string | undefined {
  if (glob === PATH_ITSELF) return undefined;
  if (glob.startsWith("/")) return "begins with /: globs are relative to the subject's paths";
  if (Buffer.byteLength(glob) > PATH_LIMIT) return `is longer than ${PATH_LIMIT} bytes`;
  if (/\/$|\/\//.test(glob)) return "ends with / or holds //";
  if (glob.split("/").some((component) => component === "." || component === "..")) return "holds a . or .. component";
  return globProblem(glob);
}

/** The syntax of native/policy/glob.h, for any use of it. Undefined: fine. */
export function globProblem(glob: string): string | undefined {
  if (glob === "") return "is empty";
  if (glob.includes("\0")) return "holds a NUL";
  for (let at = 0; at < glob.length; at++) {
    if (glob[at] === "\\") {
      if (at + 1 === glob.length) return `ends with a \\ (position ${at}) that quotes nothing`;
      at++;
    } else if (glob[at] === "[") {
      const end = closingBracket(glob, at);
      if (end === -1) return `has a [ (position ${at}) that is never closed`;
      at = end;
    }
  }
  return undefined;
}

/** A `]` that comes first in a set, also after `!` or `^`, stands for itself. */
function closingBracket(glob: string, open: number): number {
  const next = glob[open + 1];
  return glob.indexOf("]", open + (next === "!" || next === "^" ? 3 : 2));
}

function nameProblem(name: string): string | undefined {
  if (name.length > NAME_LIMIT) return `is longer than ${NAME_LIMIT} characters`;
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  if (/[\u0000-\u001f\u007f]/.test(name)) return "holds a control character";
  return undefined;
}

function logFormatProblem(format: string): string | undefined {
  try {
    compileLogFormat(format);
    return undefined;
  } catch (error) {
    if (error instanceof LogFormatError) return `at position ${error.position}: ${error.message}`;
    throw error;
  }
}

function sortedByKey(tags: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(tags).sort(([a], [b]) => (a < b ? -1 : 1)));
}
