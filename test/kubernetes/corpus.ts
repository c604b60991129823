/**
 * Guards, good and bad, that the API server, gRPC and the guard file must judge alike. A case is a
 * guard's spec without its selector; most are one subject.
 */
import { LIMITS } from "../../deploy/crds/guard.ts";

type Spec = Readonly<Record<string, unknown>>;

export type Judge = "api" | "grpc" | "file";

export interface Case {
  readonly name: string;
  readonly spec: Spec;
  /** The fields that are refused, as the resource calls them. None: a good guard. */
  readonly refused: readonly string[];
  /** The judges that refuse it, if they aren't all, and why the others can't. */
  readonly only?: { readonly by: readonly Judge[]; readonly since: string };
}

/** A deny path is added where the subject has no path of its own. */
function subject(name: string, fields: Spec, ...refused: readonly string[]): Case {
  const pathless = !("allow" in fields || "deny" in fields || "watch" in fields);
  const whole = {
    ...(pathless ? { deny: ["/etc/app"] } : {}),
    ...("events" in fields ? {} : { events: ["open"] }),
    ...fields,
  };
  return { name, spec: { subjects: [whole] }, refused: refused.map((field) => `spec.subjects[0]${field}`) };
}

const guard = (name: string, fields: Spec, ...refused: readonly string[]): Case => ({
  name,
  spec: { subjects: [{ deny: ["/etc/app"], events: ["open"] }], ...fields },
  refused: refused.map((field) => `spec.${field}`),
});

const only = (by: readonly Judge[], since: string, one: Case): Case => ({ ...one, only: { by, since } });

const CHANGES = ["create", "delete", "move", "movedfrom", "movedto", "attrib", "link", "truncate", "write"];
const CHANGE = { deny: ["/a"], events: ["create"], scope: "container" };
const ALLOWED = { allow: ["/a"], scope: "container" };
const OPENS = { deny: ["/a"], events: ["open"] };

const NAMES = "a schema counts characters, the kernel bytes";
const SIZE = "a resource is stored as one object, and its rules have a budget";

const times = (count: number, make: (index: number) => unknown): unknown[] =>
  Array.from({ length: count }, (_, index) => make(index));
const long = (count: number, text = "a"): string => text.repeat(count);

const GOOD: readonly Case[] = [
  guard("the least", {}),
  guard("in audit mode", { mode: "audit" }),
  guard("enforced, said", { mode: "enforce" }),
  guard("with a log format", { logFormat: "<{response}> {{{path}}} {tags}" }),
  guard("with each specifier", {
    logFormat:
      "{pod}{node}{tags}{name}{namespace}{container}{response}{event}{path}{ftype}{pid}{start}{ppid}{uid}{comm}{exe}{asked}{argv0}{ancestry}{inside}{time}{seq}{guards}",
  }),
  guard("with an empty log format", { logFormat: "" }),
  guard("several subjects", {
    subjects: times(LIMITS.subjects, (index) => ({ deny: [`/srv/${index}`], events: ["open"] })),
  }),
  subject("all that allow and deny can have", {
    deny: ["/a"],
    allow: ["/a/b"],
    events: ["open", "access", "exec", "all"],
  }),
  subject("all that can be watched", {
    watch: ["/a"],
    events: [
      ...[
        "open",
        "access",
        "exec",
        "all",
        "modify",
        "closewrite",
        "closenowrite",
        "close",
        "attrib",
        "create",
        "delete",
      ],
      ...["deleteself", "move", "movedfrom", "movedto", "moveself"],
    ],
  }),
  subject("all changes denied", { events: CHANGES, scope: "container" }),
  subject("opens and changes denied", { events: ["exec", "create", "all", "write"], scope: "container" }),
  subject("a change denied, with all that is heeded", {
    ...{ events: ["delete"], scope: "container" },
    ...{ recursive: true, maxDepth: 0, exclude: [], allow: [], watch: [], onlyDir: false, audit: false },
    ...{ autoAllowOwner: true, exact: true, tags: { a: "b" }, deny: ["/a"] },
  }),
  guard("a change denied, and others watched and allowed in subjects of their own", {
    mode: "enforce",
    subjects: [
      { deny: ["/a"], events: ["create"], scope: "container" },
      { watch: ["/a"], events: ["create", "deleteself"], onlyDir: true },
      { deny: ["/b"], allow: ["/b/c"], exclude: ["*.tmp"], events: ["open"], audit: true },
    ],
  }),
  guard("changes watched in mode audit", { mode: "audit", subjects: [{ watch: ["/a"], events: ["create", "move"] }] }),
  subject("watched beside denied", { deny: ["/a"], watch: ["/b"], events: ["open"] }),
  subject("an event twice", { events: ["open", "open"] }),
  subject("a path twice", { deny: ["/a", "/a"] }),
  subject("the whole root", { deny: ["/"] }),
  subject("a path that isn't normal", { deny: ["//a///b/./c/", "/.", "/./"] }),
  subject("names that only look like dots", { deny: ["/...", "/..a", "/a..", "/.a/..b", "/a/...", "/. ./b"] }),
  subject("spaces, quotes, newlines, other scripts", {
    deny: ["/a b", "/\"'`$(x)", "/a\nb", "/ключ", "/鍵", "/🔑", "/\u0001\u007f"],
  }),
  subject("a long path", { deny: [`/${long(200)}`.repeat(5)] }),
  subject("the longest name", { deny: [`/${long(255)}`, `/a/${long(255)}/b`] }),
  subject("as many paths as there may be", { deny: times(LIMITS.paths, (index) => `/srv/${index}`) }),
  subject("recursive, to a depth", { recursive: true, maxDepth: 3 }),
  subject("a depth of 0 without recursive", { recursive: false, maxDepth: 0 }),
  subject("the largest depth", { recursive: true, maxDepth: 2 ** 31 - 1 }),
  subject("each flag", { onlyDir: true, autoAllowOwner: true, audit: true, exact: true }),
  subject("each scope: everyone", { scope: "everyone" }),
  subject("each scope: container", { scope: "container" }),
  subject("tags", { tags: { team: "shop", "": "empty key", "a b": "", ünï: "😀" } }),
  subject("no tags", { tags: {} }),
  subject("globs", {
    recursive: true,
    exclude: ["*.tmp", "cache/**", "[!a-z]?", "[]]", "[]x]", "[!]]", "[^]]", "\\[", "a\\\\", "[[]", "[a/b]"],
  }),
  subject("names with dots in a glob", { exclude: ["...", "..a", "a..", ".a/..b", "a/...", "a./b"] }),
  subject("a path but for itself", { recursive: true, exclude: ["."] }),
  subject("empty lists beside a full one", { deny: ["/a"], allow: [], watch: [], exclude: [] }),
];

const BAD: readonly Case[] = [
  guard("no subject", { subjects: [] }, "subjects"),
  guard("subjects left out", { subjects: undefined }, "subjects"),
  guard("an unknown mode", { mode: "sometimes" }, "mode"),
  only(["api", "file"], "an enum of protobuf is in capitals", guard("a mode in capitals", { mode: "ENFORCE" }, "mode")),
  guard("an unknown specifier", { logFormat: "{nobody}" }, "logFormat"),
  guard("a brace that isn't closed", { logFormat: "{path" }, "logFormat"),
  guard("a brace that isn't opened", { logFormat: "path}" }, "logFormat"),
  guard("a brace too many", { logFormat: "{path}}" }, "logFormat"),
  guard("a brace too many before", { logFormat: "{{path}" }, "logFormat"),
  guard("a specifier with a space", { logFormat: "{ path }" }, "logFormat"),
  guard("a specifier in capitals", { logFormat: "{PATH}" }, "logFormat"),
  subject("no path", { deny: [] }, ""),
  subject("no path, in three lists", { deny: [], allow: [], watch: [] }, ""),
  subject("no event", { events: [] }, ".events"),
  subject("events left out", { events: undefined }, ".events"),
  subject("an unknown event", { events: ["open", "read"] }, ".events[1]"),
  subject("an event in capitals", { events: ["OPEN"] }, ".events[0]"),
  subject("an empty event", { events: [""] }, ".events[0]"),
  ...["modify", "closewrite", "closenowrite", "close", "deleteself", "moveself"].map((event) =>
    subject(`denied, but can only be seen: ${event}`, { events: ["open", event] }, ".events[1]"),
  ),
  subject("allowed, but can only be seen", { allow: ["/a"], events: ["deleteself"] }, ".events[0]"),
  ...CHANGES.flatMap((event) => [
    subject(`allowed, but can only be denied: ${event}`, { ...ALLOWED, events: [event] }, ".allow"),
    subject(`denied to everyone, but decided by the kernel: ${event}`, { events: ["open", event] }, ".scope"),
    subject(`the same, said: ${event}`, { events: [event], scope: "everyone" }, ".scope"),
    guard(
      `denied in mode audit: ${event}`,
      { mode: "audit", subjects: [OPENS, { ...CHANGE, events: [event] }] },
      "mode",
    ),
  ]),
  ...["link", "truncate", "write"].map((event) =>
    subject(`watched, but can only be denied: ${event}`, { watch: ["/a"], events: ["open", event] }, ".events[1]"),
  ),
  subject("exceptions from a denied change", { ...CHANGE, allow: ["/a/b"] }, ".allow"),
  subject("watched beside a denied change", { ...CHANGE, watch: ["/b"] }, ".watch"),
  subject("globs with a denied change", { ...CHANGE, exclude: ["*.tmp"] }, ".exclude"),
  subject("a depth with a denied change", { ...CHANGE, recursive: true, maxDepth: 1 }, ".maxDepth"),
  subject("only directories with a denied change", { ...CHANGE, onlyDir: true }, ".onlyDir"),
  subject("an audit record of a denied change", { ...CHANGE, audit: true }, ".audit"),
  subject(
    "all of these at once",
    {
      ...{ deny: ["/a"], events: ["write"], allow: ["/a/b"], watch: ["/c"], exclude: ["b"] },
      ...{ recursive: true, maxDepth: 2, onlyDir: true, audit: true },
    },
    ...[".allow", ".watch", ".exclude", ".maxDepth", ".onlyDir", ".audit", ".scope"],
  ),
  subject(
    "watched beside denied, and can only be seen",
    { deny: ["/a"], watch: ["/b"], events: ["moveself"] },
    ".events[0]",
  ),
  subject("an empty path", { deny: [""] }, ".deny[0]"),
  subject("a relative path", { deny: ["/a", "etc/app"] }, ".deny[1]"),
  subject("a relative path to allow", { allow: ["etc/app"] }, ".allow[0]"),
  subject("a relative path to watch", { watch: ["./etc"] }, ".watch[0]"),
  subject("only a dot", { deny: ["."] }, ".deny[0]"),
  subject("a space before the slash", { deny: [" /etc"] }, ".deny[0]"),
  subject("..", { deny: ["/a/../b"] }, ".deny[0]"),
  subject(".. at the end", { deny: ["/a/.."] }, ".deny[0]"),
  subject(".. alone", { deny: ["/.."] }, ".deny[0]"),
  subject(".. between many slashes", { deny: ["/a//..//b"] }, ".deny[0]"),
  subject("a NUL", { deny: ["/a\u0000b"] }, ".deny[0]"),
  subject("a name that is too long", { deny: [`/${long(256)}`] }, ".deny[0]"),
  subject("a name that is too long below others", { deny: [`/a/${long(256)}/b`] }, ".deny[0]"),
  subject("a path that is too long", { deny: ["/a".repeat(2048)] }, ".deny[0]"),
  subject("several bad paths", { deny: ["a", "/b", "/c/.."], watch: ["d"] }, ".deny[0]", ".deny[2]", ".watch[0]"),
  subject("a depth without recursive", { maxDepth: 1 }, ".maxDepth"),
  subject("a depth with recursive switched off", { recursive: false, maxDepth: 1 }, ".maxDepth"),
  subject("a negative depth", { recursive: true, maxDepth: -1 }, ".maxDepth"),
  subject("a depth that is too large", { recursive: true, maxDepth: 2 ** 31 }, ".maxDepth"),
  subject("a depth that is no whole number", { recursive: true, maxDepth: 1.5 }, ".maxDepth"),
  subject("an unknown scope", { scope: "pod" }, ".scope"),
  subject("an empty glob", { exclude: [""] }, ".exclude[0]"),
  subject("an absolute glob", { exclude: ["/tmp"] }, ".exclude[0]"),
  subject("a glob that ends with a slash", { exclude: ["tmp/"] }, ".exclude[0]"),
  subject("a glob with two slashes", { exclude: ["a//b"] }, ".exclude[0]"),
  ...["./a", "a/./b", "a/.", "..", "../a", "a/../b", "a/.."].map((one) =>
    subject(`a glob with a dot component: ${one}`, { exclude: [one] }, ".exclude[0]"),
  ),
  ...["[", "[a", "[]", "[!]", "[^]", "a[b", "[]a", "x\\", "\\\\\\"].map((one) =>
    subject(`a glob that isn't finished: ${one}`, { exclude: [one] }, ".exclude[0]"),
  ),
  subject("a glob with a NUL", { exclude: ["a\u0000"] }, ".exclude[0]"),
  subject("a glob that is too long", { exclude: [long(4096)] }, ".exclude[0]"),
  subject("a list that is a text", { deny: "/etc/app" }, ".deny"),
  subject("a path that is a number", { deny: [1] }, ".deny[0]"),
  subject("a flag that is a text", { recursive: "yes" }, ".recursive"),
  subject("tags that are a list", { tags: ["a"] }, ".tags"),
  subject("a tag that is a number", { tags: { a: 1 } }, ".tags.a"),
  only(
    ["file", "grpc"],
    "the API server prunes unknown fields; kubectl warns, or refuses (--validate)",
    subject("an unknown field", { denied: ["/a"] }, ".denied"),
  ),
  only(["file", "grpc"], NAMES, subject("a name of too many bytes", { deny: [`/${long(128, "ü")}`] }, ".deny[0]")),
  only(
    ["api"],
    SIZE,
    subject("more paths than a resource can have", { deny: times(LIMITS.paths + 1, (index) => `/${index}`) }, ".deny"),
  ),
  only(
    ["api"],
    SIZE,
    subject("a longer path than a resource can have", { deny: ["/a".repeat(LIMITS.path)] }, ".deny[0]"),
  ),
  only(
    ["api"],
    SIZE,
    subject(
      "more globs than a resource can have",
      { exclude: times(LIMITS.globs + 1, (index) => `${index}`) },
      ".exclude",
    ),
  ),
  only(
    ["api"],
    SIZE,
    guard(
      "more subjects than a resource can have",
      { subjects: times(LIMITS.subjects + 1, (index) => ({ deny: [`/${index}`], events: ["open"] })) },
      "subjects",
    ),
  ),
  only(
    ["api"],
    SIZE,
    guard("a longer log format than a resource can have", { logFormat: long(LIMITS.logFormat + 1) }, "logFormat"),
  ),
];

export const CORPUS: readonly Case[] = [...GOOD, ...BAD];
