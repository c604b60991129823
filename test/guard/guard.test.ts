import { create, type MessageInitShape } from "@bufbuild/protobuf";
import t from "tap";
import { JanusdError } from "../../src/errors.js";
import { EVENT_KINDS } from "../../src/event/layout.js";
import { GuardMode, JanusdConfigSchema, Scope } from "../../src/gen/janus_pb.js";
import { containerId, EVENT_MASKS, parseGuard } from "../../src/guard/guard.js";

type Init = MessageInitShape<typeof JanusdConfigSchema>;
type SubjectInit = NonNullable<Init["subject"]>[number];

const id = "0123456789ab".repeat(6).slice(0, 64);
const config = (init: Init) => create(JanusdConfigSchema, { name: "g", podName: "p", cid: [id], ...init });
const subject = (...subject: SubjectInit[]) => config({ subject });
const parse = (init: SubjectInit) => parseGuard(subject(init)).subjects[0];

/** Field -> description of all that is refused. */
function violations(message: ReturnType<typeof config>): Record<string, string> {
  try {
    parseGuard(message);
  } catch (error) {
    if (!(error instanceof JanusdError) || error.data.kind !== "invalid") throw error;
    return Object.fromEntries(error.data.violations.map(({ field, description }) => [field, description]));
  }
  return {};
}
const fields = (message: ReturnType<typeof config>) => Object.keys(violations(message));

const valid = { deny: ["/a"], event: ["open"] };

t.test("every fault is found in one go, each under its field", async (t) => {
  t.same(
    fields(
      config({
        name: "",
        podName: "",
        cid: ["containerd://*", id],
        logFormat: "{path} {",
        subject: [
          { deny: ["/ok", "relative"], allow: [""], event: ["open", "OPEN"] },
          { event: [] },
          { ...valid, maxDepth: -1, exclude: ["[a", "ok", "/abs"] },
        ],
      }),
    ),
    [
      "name",
      "cid[0]",
      "subject[0].allow[0]",
      "subject[0].deny[1]",
      "subject[0].event[1]",
      "subject[1]",
      "subject[1].event",
      "subject[2].exclude[0]",
      "subject[2].exclude[2]",
      "subject[2].maxDepth",
      "logFormat",
    ],
  );
});

t.test("no subject, no container", async (t) => {
  t.same(fields(config({ cid: [] })), ["cid", "subject"]);
});

t.test("a name or a pod's name is enough", async (t) => {
  t.same(fields(config({ name: "", subject: [valid] })), []);
  t.same(fields(config({ podName: "", subject: [valid] })), []);
  t.same(fields(config({ podName: "a\nb", namespace: "n".repeat(254), subject: [valid] })), ["namespace", "podName"]);
});

t.test("container ids: exact, with or without a known scheme", async (t) => {
  const [short, full] = [id.slice(0, 12), id];
  for (const good of [short, full, `containerd://${full}`, `docker://${short}`, `cri-o://${full}`, `rkt://${full}`]) {
    t.equal(containerId(good), good.replace(/^.*:\/\//, ""), good);
  }
  t.equal(containerId("my_runc.container-1"), "my_runc.container-1");
  for (const bad of [
    "",
    ".",
    "..",
    "*",
    "a/b",
    "containerd://",
    "containerd://*",
    `containerd://${id.slice(0, 11)}`,
    `containerd://${id.slice(0, 13)}`,
    `containerd://${id.toUpperCase()}`,
    `podman://${id}`,
    `containerd://containerd://${id}`,
    `${id}\n`,
    "containerd://my_runc",
  ]) {
    t.equal(containerId(bad), undefined, JSON.stringify(bad));
  }
});

t.test("one container named twice is one container, and has its name", async (t) => {
  const twice = config({
    cid: [`docker://${id}`, id],
    containerNames: { [`docker://${id}`]: "web" },
    subject: [valid],
  });
  t.same(parseGuard(twice).containers, [{ id, name: "web" }]);
});

t.test("paths are normalised; what could mean another place is refused", async (t) => {
  const paths = ["/", "//", "/a//b/", "/a/./b", "/a/b", "/.hidden/..x"];
  t.same(parse({ deny: paths, event: ["open"] })?.deny, ["/", "/a/b", "/.hidden/..x"]);
  const longest = `/${"a".repeat(255)}`;
  t.same(parse({ deny: [longest], event: ["open"] })?.deny, [longest]);
  const bad = ["", "a", "./a", "/a/../b", "/..", "/a\0b", `${longest}a`, "/a".repeat(2048), `/${"é".repeat(128)}`];
  t.same(
    fields(subject({ deny: bad, event: ["open"] })),
    bad.map((_, index) => `subject[0].deny[${index}]`),
  );
});

t.test("the same path may be allowed and denied: deny wins, natively", async (t) => {
  t.match(parse({ allow: ["/a"], deny: ["/a/"], event: ["open"] }), { allow: ["/a"], deny: ["/a"] });
});

t.test("event names become the bits of the native kinds", async (t) => {
  const bit = (name: (typeof EVENT_KINDS)[number]) => 1 << EVENT_KINDS.indexOf(name);
  for (const kind of EVENT_KINDS.filter((kind) => kind !== "move")) t.equal(EVENT_MASKS.get(kind), bit(kind), kind);
  t.equal(EVENT_MASKS.get("all"), bit("open") | bit("access"), "exec is separate");
  t.equal(EVENT_MASKS.get("close"), bit("closewrite") | bit("closenowrite"));
  t.equal(EVENT_MASKS.get("move"), bit("movedfrom") | bit("movedto"));
  t.equal(EVENT_MASKS.size, EVENT_KINDS.length + 2);
  t.equal(
    parse({ deny: ["/a"], event: ["move", "write"], scope: Scope.CONTAINER })?.events,
    bit("movedfrom") | bit("movedto") | bit("write"),
  );
  t.equal(
    parse({ watch: ["/a"], event: ["move", "open", "open"] })?.events,
    bit("movedfrom") | bit("movedto") | bit("open"),
  );
});

t.test("unknown, upper-case and inherited names are refused, with the known ones", async (t) => {
  for (const event of ["opened", "OPEN", "", "open ", "toString", "constructor"]) {
    const { "subject[0].event[0]": description } = violations(subject({ watch: ["/a"], event: [event] }));
    for (const known of EVENT_MASKS.keys()) t.match(description, new RegExp(`\\b${known}\\b`));
  }
});

t.test("an event that can only be seen needs a watch path", async (t) => {
  for (const event of ["modify", "close", "closenowrite", "deleteself", "moveself"]) {
    t.same(fields(subject({ watch: ["/a"], event: [event] })), [], event);
    t.same(fields(subject({ watch: ["/a"], deny: ["/b"], event: ["open", event] })), ["subject[0].event[1]"], event);
  }
  for (const event of ["open", "access", "exec", "all"]) t.same(fields(subject({ deny: ["/a"], event: [event] })), []);
});

const CHANGES = ["create", "delete", "move", "movedfrom", "movedto", "attrib", "link", "truncate", "write"];

t.test("changes may be denied, alone and beside opens, to the container's own processes", async (t) => {
  const denied = { deny: ["/a"], scope: Scope.CONTAINER };
  for (const event of CHANGES) {
    t.same(fields(subject({ ...denied, event: [event] })), [], event);
    t.same(fields(subject({ ...denied, event: ["open", event, "exec", "access"] })), [], event);
    t.same(fields(subject({ deny: ["/a"], event: [event] })), ["subject[0].scope"], event);
  }
  const heeded = { recursive: true, autoAllowOwner: true, exact: true, tags: { a: "b" } };
  t.same(fields(subject({ ...denied, ...heeded, event: CHANGES })), []);
  t.same(fields(subject({ ...denied, event: [] })), ["subject[0].event"]);
});

t.test("what the kernel can't heed with changes is refused, and what to do is said", async (t) => {
  const denied = { deny: ["/a"], scope: Scope.CONTAINER, event: ["open", "attrib"], recursive: true };
  const refused: Record<string, [init: SubjectInit, advice: RegExp]> = {
    allow: [{ allow: ["/a/b"] }, /deny narrower paths/],
    watch: [{ watch: ["/b"] }, /a subject of its own/],
    exclude: [{ exclude: ["*.tmp"] }, /compares no globs/],
    maxDepth: [{ maxDepth: 1 }, /counts no levels/],
    onlyDir: [{ onlyDir: true }, /files and directories alike/],
    audit: [{ audit: true }, /no audit records/],
    scope: [{ scope: Scope.EVERYONE }, /SCOPE_CONTAINER/],
  };
  for (const [field, [init, advice]] of Object.entries(refused)) {
    const found = violations(subject({ ...denied, ...init }));
    t.same(Object.keys(found), [`subject[0].${field}`]);
    t.match(found[`subject[0].${field}`], /^can't be with attrib, which the kernel decides by itself: /);
    t.match(found[`subject[0].${field}`], advice);
    t.same(fields(subject({ ...denied, ...init, event: ["open"] })), [], `${field} with opens only`);
  }
  t.same(fields(subject({ allow: ["/a"], event: ["create"], scope: Scope.CONTAINER })), ["subject[0].allow"]);
});

t.test("changes can't be denied in mode audit; a watch has those that something tells of", async (t) => {
  const changes = { deny: ["/a"], scope: Scope.CONTAINER, event: ["create"] };
  const audits = (...subject: SubjectInit[]) => config({ mode: GuardMode.AUDIT, subject });
  t.match(violations(audits(valid, changes)), { mode: /^audit can't be with create, .* in mode enforce$/ });
  t.same(fields(audits(valid, { watch: ["/a"], event: ["create"] })), []);
  for (const event of CHANGES) {
    const told = !["link", "truncate", "write"].includes(event);
    t.same(fields(subject({ watch: ["/a"], event: ["open", event] })), told ? [] : ["subject[0].event[1]"], event);
  }
});

t.test("globs: the syntax that the native matcher knows", async (t) => {
  const good = [".", "*.tmp", "**/cache", "[]a]x", "[!]]", "[a-z]", "\\[", "a\\*", "[^]]"];
  t.same(parse({ ...valid, exclude: good })?.exclude, good);
  const bad = ["", "/a", "a/", "a//b", "a/../b", "./a", "..", "[", "a[b", "[]", "[!]", "a\\", "a\0"];
  t.same(
    fields(subject({ ...valid, exclude: bad })),
    bad.map((_, index) => `subject[0].exclude[${index}]`),
  );
});

t.test("maxDepth needs recursive, scope a known value", async (t) => {
  t.same(fields(subject({ ...valid, maxDepth: 1 })), ["subject[0].maxDepth"]);
  t.same(fields(subject({ ...valid, maxDepth: 1, recursive: true, scope: Scope.CONTAINER })), []);
  t.same(fields(subject({ ...valid, scope: Number(7) })), ["subject[0].scope"]);
});

t.test("a bad log format is refused with its position", async (t) => {
  t.match(violations(config({ subject: [valid], logFormat: "{path} {nope}" }))["logFormat"], /position 7: .*nope/);
});
