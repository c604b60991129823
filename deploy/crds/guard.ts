/**
 * The spec of JanusGuard and ClusterJanusGuard. It refuses what src/guard/guard.ts refuses, and in the
 * same words; test/kubernetes/corpus.test.ts has the API server and the daemon judge the same guards.
 *
 * CEL rules have a budget: the API server multiplies what a rule may cost by how often it may be
 * asked, so every list that rules look into has an upper limit.
 */
import { flag, list, object, type Rule, type Schema, string, text } from "./schema.ts";

/** Of one resource. A guard over gRPC, or in a file, has no such limits. */
export const LIMITS = { subjects: 32, paths: 512, globs: 256, path: 1023, logFormat: 4096 } as const;

/** As src/guard/guard.ts has them: what allow and deny paths can have, what watch paths can, and what only deny paths can. */
const ANSWERED = ["open", "access", "exec", "all"] as const;
const SEEN = [
  ...["modify", "closewrite", "closenowrite", "close", "attrib", "create", "delete", "deleteself"],
  ...["move", "movedfrom", "movedto", "moveself"],
] as const;
const DENIED = ["link", "truncate", "write"] as const;
/** What deny paths can have, and no allow paths. */
const CHANGES = ["create", "delete", "move", "movedfrom", "movedto", "attrib", ...DENIED] as const;

const SPECIFIERS = [
  ...["pod", "node", "tags", "name", "namespace", "container", "response", "event", "path", "oldPath", "newPath"],
  ...["ftype", "pid", "start", "ppid", "uid", "comm", "exe", "asked", "argv0", "ancestry", "inside"],
  ...["time", "seq", "guards"],
] as const;

const path: Schema = {
  type: "string",
  minLength: 1,
  // Characters of up to four bytes: PATH_MAX, which the daemon goes by, is never exceeded.
  maxLength: LIMITS.path,
  // No NUL, and no name that is longer than NAME_MAX (which is in bytes: the daemon has the last word).
  pattern: "^/*[^/\\x00]{0,255}(/+[^/\\x00]{0,255})*$",
  "x-kubernetes-validations": [
    { rule: "self.startsWith('/')", message: "is relative; paths are absolute, as the container sees them" },
    {
      rule: "!self.contains('/../') && !self.endsWith('/..') && !self.startsWith('../') && self != '..'",
      message: "holds a .. component; write the path that is meant",
    },
  ],
};

const paths = (description: string): Schema => list(description, path, { maxItems: LIMITS.paths });

const glob: Schema = {
  type: "string",
  minLength: 1,
  maxLength: LIMITS.path,
  // No NUL; each \ quotes a character, and each [ is closed: a ] that comes first in a set stands for itself.
  pattern: "^([^\\\\\\[\\x00]|\\\\[^\\x00]|\\[([!^][^\\x00]|[^!^\\x00])[^\\]\\x00]*\\])*$",
  "x-kubernetes-validations": [
    { rule: "!self.startsWith('/')", message: "begins with /: globs are relative to the subject's paths" },
    { rule: "!self.endsWith('/') && !self.contains('//')", message: "ends with / or holds //" },
    {
      rule:
        "!self.contains('/./') && !self.startsWith('./') && !self.endsWith('/.') && " +
        "!self.contains('/../') && !self.startsWith('../') && !self.endsWith('/..') && self != '..'",
      message: "holds a . or .. component",
    },
  ],
};

const has = (field: string, of = "self"): string => `(has(${of}.${field}) && size(${of}.${field}) > 0)`;
const answers = (of = "self"): string => `(${has("allow", of)} || ${has("deny", of)})`;
const oneOf = (names: readonly string[]): string => `['${names.join("', '")}']`;
/** Of a subject: it denies a change. */
const changes = (of = "self"): string =>
  `(${answers(of)} && has(${of}.events) && ${of}.events.exists(e, e in ${oneOf(CHANGES)}))`;
const BESIDES = `can't be with ${CHANGES.join(", ")}, which the kernel decides by itself`;

/** A field of a subject that the kernel can't heed where it decides by itself. `given`: whether it says anything. */
const besides = (field: string, given: string, why: string): Rule => ({
  rule: `!(${given}) || !${changes()}`,
  message: `${BESIDES}: ${why}`,
  fieldPath: `.${field}`,
});

const subject: Schema = object(
  text(
    `Paths, and what is judged there. At least one path in allow, deny or watch. Paths are absolute, as the
    container sees them. A path that isn't there yet is guarded from the moment it appears.`,
    "The most specific path wins; on a tie, deny wins. So `deny: [/etc/app]` with `allow: [/etc/app/public]` works.",
  ),
  {
    allow: paths("Paths that may be opened, although a path above them is denied."),
    deny: paths(
      "Paths that may not be opened: it fails with EPERM, and so do changes that events name. By any name: links, mounts and renames don't matter.",
    ),
    watch: paths("Paths that are only observed and never answered. Give them a subject of their own."),
    exclude: list(
      "Globs, relative to the paths, that the subject leaves alone: `*.tmp`, `cache/**`. `.` is the path itself.",
      glob,
      { maxItems: LIMITS.globs },
    ),
    events: list(
      text(
        `What is judged. Of allow and deny paths: open, access (reads), exec, all (open and access; not exec).
        Of watch paths also what can only be seen: modify, closewrite, closenowrite, close, attrib, create, delete,
        deleteself, move, movedfrom, movedto, moveself.`,
        `Of deny paths also changes, on nodes whose kernel can: create (any new entry), delete, move (movedfrom and
        movedto), attrib, link (a further hard link), truncate, write (opens for writing). Then scope must be
        container, and allow, watch, exclude, maxDepth, onlyDir and audit must be left out.`,
      ),
      { type: "string", enum: [...ANSWERED, ...SEEN, ...DENIED] },
      { minItems: 1, maxItems: 64 },
    ),
    onlyDir: flag("Judge directories only, and no files."),
    autoAllowOwner: flag("The container's first process and its direct children may pass."),
    audit: flag("Have the kernel write an audit record of each decision, too (auditd)."),
    recursive: flag(
      "The whole tree below each path. Without it: the path and, if that is a directory, its own entries.",
    ),
    maxDepth: {
      description: "How many levels below a path recursive reaches. 0, or none: no limit.",
      type: "integer",
      format: "int32",
      minimum: 0,
      maximum: 2 ** 31 - 1,
    },
    scope: string(
      text(
        `Whose opens are judged. everyone: also the node's own tools, the kubelet and other containers that have the
        same volume. container: only processes of this container. Most guards want container.`,
      ),
      { enum: ["everyone", "container"], default: "everyone" },
    ),
    exact: flag(
      "Every open is an event of its own. Without it, the kernel merges equal opens that nobody has read yet.",
    ),
    tags: {
      description: "Copied into each event, as key=value.",
      type: "object",
      additionalProperties: { type: "string" },
    },
  },
  {
    required: ["events"],
    "x-kubernetes-validations": [
      { rule: `${answers()} || ${has("watch")}`, message: "has no path: give allow, deny or watch" },
      {
        rule: `!${answers()} || !has(self.events) || self.events.all(e, e in ${oneOf([...ANSWERED, ...CHANGES])})`,
        message: `allow can have the events ${ANSWERED.join(", ")}, deny these and ${CHANGES.join(", ")}; the others can only be seen: use a subject of its own with watch`,
        fieldPath: ".events",
      },
      {
        rule: `${answers()} || !has(self.events) || !self.events.exists(e, e in ${oneOf(DENIED)})`,
        message: `${DENIED.join(", ")} can only be denied, not seen: nothing tells of them`,
        fieldPath: ".events",
      },
      {
        rule: "!has(self.maxDepth) || self.maxDepth == 0 || (has(self.recursive) && self.recursive)",
        message: "limits nothing without recursive",
        fieldPath: ".maxDepth",
      },
      besides("allow", has("allow"), "it makes no exceptions; deny narrower paths, and allow in a subject of its own"),
      besides("watch", has("watch"), "use a subject of its own with watch"),
      besides("exclude", has("exclude"), "it compares no globs; deny narrower paths"),
      besides(
        "maxDepth",
        "has(self.maxDepth) && self.maxDepth > 0",
        "it counts no levels; leave it out, and deny narrower paths",
      ),
      besides("onlyDir", "has(self.onlyDir) && self.onlyDir", "it treats files and directories alike; leave it out"),
      besides(
        "audit",
        "has(self.audit) && self.audit",
        "it writes no audit records; leave it out, each denial is in the event log",
      ),
      besides(
        "scope",
        "!has(self.scope) || self.scope == 'everyone'",
        "it does so for the container's own processes only; say container",
      ),
    ],
  },
);

const labelKey: Schema = {
  minLength: 1,
  maxLength: 317,
  pattern: "^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$",
};
const labelValue: Schema = { type: "string", maxLength: 63, pattern: "^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$" };

const selector = (description: string): Schema =>
  object(
    description,
    {
      matchLabels: {
        description: "Labels with exactly these values. All of them.",
        type: "object",
        maxProperties: 64,
        additionalProperties: labelValue,
      },
      matchExpressions: list(
        "Requirements for labels. All of them.",
        object(
          "One requirement.",
          {
            key: string("The label's name.", labelKey),
            operator: string("In and NotIn compare with values; Exists and DoesNotExist don't.", {
              enum: ["In", "NotIn", "Exists", "DoesNotExist"],
            }),
            values: list("For In and NotIn.", labelValue, { maxItems: 256 }),
          },
          {
            required: ["key", "operator"],
            "x-kubernetes-validations": [
              {
                rule: `!(self.operator in ['In', 'NotIn']) || ${has("values")}`,
                message: "In and NotIn need values",
              },
              {
                rule: `!(self.operator in ['Exists', 'DoesNotExist']) || !${has("values")}`,
                message: "Exists and DoesNotExist take no values",
              },
            ],
          },
        ),
        { maxItems: 64 },
      ),
    },
    { "x-kubernetes-map-type": "atomic" },
  );

const names = (description: string): Schema =>
  list(
    description,
    { type: "string", minLength: 1, maxLength: 63, pattern: "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$" },
    { maxItems: 64, "x-kubernetes-list-type": "set" },
  );

const spec: Readonly<Record<string, Schema>> = {
  containers: object(
    text(
      `Which containers of a selected pod are guarded, by their names in the pod. Left out: all of them. Init containers,
      sidecars, ordinary and ephemeral containers (kubectl debug) are all meant; the pod's sandbox never is.`,
    ),
    {
      include: names("Only these. Empty or left out: all."),
      exclude: names("All but these."),
    },
    {
      "x-kubernetes-validations": [
        {
          rule: "!has(self.include) || !has(self.exclude) || !self.include.exists(name, name in self.exclude)",
          message: "include and exclude name the same container",
        },
      ],
    },
  ),
  mode: string(
    text(
      `enforce: what is denied fails with EPERM. audit: judged, recorded and counted in the same way, and allowed. Both can
      be switched with no unguarded moment.`,
    ),
    { enum: ["enforce", "audit"], default: "enforce" },
  ),
  subjects: list("What is guarded. A guard holds with all of its subjects, or not at all.", subject, {
    minItems: 1,
    maxItems: LIMITS.subjects,
  }),
  logFormat: string(
    text(
      `A line of the text log, with specifiers in braces, e.g. <{response}> {event} {path} ({pod}:{node}). {{ and }} are
      braces. Empty or left out: the daemon's default. Specifiers: ${SPECIFIERS.join(", ")}.`,
    ),
    {
      maxLength: LIMITS.logFormat,
      "x-kubernetes-validations": [
        {
          rule: `self.matches('^([^{}]|[{][{]|[}][}]|[{](${SPECIFIERS.join("|")})[}])*$')`,
          message: "has an unknown specifier or a brace that isn't closed; literal braces are written {{ and }}",
        },
      ],
    },
  ),
};

const ENFORCES: Rule = {
  rule: `!has(self.mode) || self.mode != 'audit' || !has(self.subjects) || !self.subjects.exists(s, ${changes("s")})`,
  message: `audit ${BESIDES}: it denies, or has no say; use a guard of its own, in mode enforce`,
  fieldPath: ".mode",
};

export const guardSpec: Schema = object(
  "Which pods are guarded, and what in them.",
  {
    selector: selector(
      "Pods of the guard's own namespace, by their labels. An empty selector ({}) selects every pod of the namespace.",
    ),
    ...spec,
  },
  { required: ["selector", "subjects"], "x-kubernetes-validations": [ENFORCES] },
);

export const clusterGuardSpec: Schema = object(
  "Which pods are guarded, and what in them.",
  {
    namespaceSelector: selector(
      text(
        `Namespaces, by their labels. An empty selector ({}) selects every namespace, kube-system too. A namespace's name
        is its label kubernetes.io/metadata.name.`,
      ),
    ),
    selector: selector("Pods in these namespaces, by their labels. An empty selector ({}) selects all of them."),
    ...spec,
  },
  { required: ["namespaceSelector", "selector", "subjects"], "x-kubernetes-validations": [ENFORCES] },
);
