/** What a Watch request means for an event, and what is wrong with one. */
import { Buffer } from "node:buffer";
import { create, fromBinary, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import t from "tap";
import { JanusdError } from "../../src/errors.js";
import { FLAG } from "../../src/event/layout.js";
import {
  type EventFilterSchema,
  EventSchema,
  Response,
  WatchRequestSchema,
  WatchResponseSchema,
} from "../../src/gen/janus/v1/events_pb.js";
import { encodeEvent } from "../../src/rpc/event-message.js";
import { parseWatch } from "../../src/rpc/event-request.js";
import { NO_DENIERS, type SubjectContext } from "../../src/subject.js";
import { type RecordFields, subjectOf, viewOf } from "../support/records.js";

type Filter = MessageInitShape<typeof EventFilterSchema>;

const parse = (request: MessageInitShape<typeof WatchRequestSchema>) => parseWatch(create(WatchRequestSchema, request));

/** Whether a filter fits an event, as `include`; as `exclude`, it must say the opposite. */
function fits(
  filter: Filter,
  record: RecordFields = {},
  subject: Partial<SubjectContext> = {},
  others: readonly SubjectContext[] = [],
): boolean {
  const event = [viewOf(record), subjectOf(subject), { others, cut: false }] as const;
  const included = parse({ include: filter }).filter.matches(...event);
  t.equal(parse({ exclude: filter }).filter.matches(...event), !included, "exclude says the opposite");
  return included;
}

t.test("each field: what fits, and what doesn't", async (t) => {
  t.ok(fits({ guards: ["other", "passwords"] }));
  t.ok(fits({ guards: ["default/passwords"] }));
  t.notOk(fits({ guards: ["password"] }));
  t.notOk(fits({ guards: ["web/passwords"] }));
  t.ok(fits({ guards: ["b"] }, {}, {}, [subjectOf({ guard: "a" }), subjectOf({ guard: "b" })]), "denied by b, too");
  t.ok(fits({ namespaces: ["default"] }));
  t.notOk(fits({ namespaces: [""] }));
  t.ok(fits({ namespaces: [""] }, {}, { namespace: "" }), "none");
  t.ok(fits({ pods: ["foo-1-pod"] }));
  t.notOk(fits({ pods: ["foo"] }));
  for (const id of ["c".repeat(64), "c".repeat(12), `containerd://${"c".repeat(64)}`, "web"])
    t.ok(fits({ containers: [id] }), id);
  t.notOk(fits({ containers: ["c".repeat(13)] }), "a prefix of another length");
  t.ok(fits({ events: ["exec", "open"] }));
  t.notOk(fits({ events: ["exec"] }));
  t.ok(fits({ responses: [Response.DENY] }, { response: 1 }));
  t.notOk(fits({ responses: [Response.ALLOW] }, { response: 1 }));
  t.ok(fits({ responses: [Response.AUDIT] }, { response: 2 }));
  t.ok(fits({ paths: ["/etc/"] }));
  t.ok(fits({ paths: ["/"] }));
  t.ok(fits({ paths: ["**/pass*"] }));
  t.notOk(fits({ paths: ["/etc/pass"] }));
  t.ok(fits({ paths: ["/caf?"] }, { path: Buffer.from("/caf\xe9", "latin1") }), "bytes that are not UTF-8");
  t.ok(fits({ uids: [0] }));
  t.notOk(fits({ uids: [1] }));
  t.ok(fits({ uids: [4294967295] }, { uid: 4294967295 }));
  t.ok(fits({ executables: ["/bin/*"] }));
  t.notOk(fits({ executables: ["/bin/b"] }));
});

t.test("what a process says is compared as it wrote it; what is not known fits nothing", async (t) => {
  for (const asked of ["./secret", "./*", "**/secret", "./secret/"])
    t.ok(fits({ asked: [asked] }, { asked: "./secret" }), asked);
  for (const asked of ["secret", "/etc/secret"]) t.notOk(fits({ asked: [asked] }, { asked: "./secret" }), asked);
  t.ok(fits({ argv0: ["wget", "-sh"] }, { argv0: "-sh" }));
  t.ok(fits({ argv0: ["caf?"] }, { argv0: Buffer.from("caf\xe9", "latin1") }), "bytes that are not UTF-8");
  t.notOk(fits({ argv0: ["sh"] }, { argv0: "-sh" }));
  for (const filter of [{ asked: ["**"] }, { argv0: ["**"] }]) {
    t.ok(fits(filter, { asked: "x", argv0: "y" }));
    t.notOk(fits(filter), "not known");
  }
});

t.test("a rename fits by either name; and by the event of either end", async (t) => {
  const matches = (include: Filter, record: RecordFields) =>
    parse({ include }).filter.matches(viewOf(record), subjectOf(), NO_DENIERS);
  const renamed = { kind: 13, path: "/old/a", other: "/new/a" };
  for (const paths of [["/old"], ["/new/*"]]) t.ok(matches({ paths }, renamed));
  t.notOk(matches({ paths: ["/older"] }, renamed));
  t.notOk(matches({ paths: ["/new"] }, { path: "/old/a" }), "no other name");
  const fits = (kind: number) =>
    ["move", "movedfrom", "movedto", "moveself"].filter((name) => matches({ events: [name] }, { kind }));
  t.same(fits(13), ["move", "movedfrom", "movedto"]);
  t.same(fits(10), ["move", "movedfrom"]);
  t.same(fits(11), ["move", "movedto"]);
  t.same(fits(12), ["moveself"]);
});

t.test("all fields must fit, and nothing of what is left out may", async (t) => {
  const event = [viewOf({ response: 1 }), subjectOf(), NO_DENIERS] as const;
  const matches = (include: Filter, exclude: Filter) => parse({ include, exclude }).filter.matches(...event);
  t.ok(matches({ pods: ["foo-1-pod"], events: ["open"] }, { uids: [5] }));
  t.notOk(matches({ pods: ["foo-1-pod"], events: ["exec"] }, {}));
  t.notOk(matches({ pods: ["foo-1-pod"] }, { uids: [5], paths: ["/etc"] }));
  t.ok(matches({}, {}));
});

t.test("where it begins", async (t) => {
  t.same(parse({}).since, { kind: "oldest" });
  t.same(parse({ follow: true }).since, { kind: "now" });
  t.same(parse({ since: { case: "sinceSequence", value: 7n } }).since, { kind: "sequence", sequence: 7 });
  const value = timestampFromMs(1_700_000_000_500);
  t.same(parse({ since: { case: "sinceTime", value } }).since, { kind: "time", timeNs: 1_700_000_000_500_000_000n });
});

t.test("a time that is yet to come is refused, unless the client's clock may be ahead", async (t) => {
  const since = (ms: number) => ({ since: { case: "sinceTime" as const, value: timestampFromMs(Date.now() + ms) } });
  t.match(parse(since(30_000)).since, { kind: "time" });
  t.throws(() => parse(since(90_000)), /since_time: is in the future/);
});

t.test("equal filters have equal keys", async (t) => {
  const key = (include: Filter) => parse({ include, follow: true }).filterKey;
  t.equal(key({ pods: ["a"] }), key({ pods: ["a"] }));
  t.not(key({ pods: ["a"] }), key({ pods: ["b"] }));
  t.not(key({ pods: ["a"] }), parse({ exclude: { pods: ["a"] } }).filterKey);
});

t.test("what makes no sense is said field by field", async (t) => {
  const request = {
    include: {
      guards: [""],
      containers: ["*"],
      events: ["open", "OPEN"],
      responses: [Response.UNSPECIFIED],
      paths: ["etc", `/${"x".repeat(1024)}`, "/[a", "**/a\\"],
      pods: Array.from({ length: 65 }, (_, index) => `pod${index}`),
      asked: [""],
      argv0: ["sh", "x".repeat(1025)],
    },
    exclude: {
      executables: ["cat"],
      paths: [`/${"x".repeat(1000)}`],
      asked: ["y".repeat(1000)],
      argv0: ["z".repeat(50)],
    },
    since: { case: "sinceTime" as const, value: { ...timestampFromMs(0), nanos: -1 } },
  };
  const error = t.throws(() => parse(request));
  if (!(error instanceof JanusdError) || error.data.kind !== "invalid") throw new Error("not invalid");
  t.same(
    error.data.violations.map(({ field }) => field),
    [
      "include.paths",
      "include.guards[0]",
      "include.pods",
      "include.containers[0]",
      "include.events[1]",
      "include.responses[0]",
      "include.paths[0]",
      "include.paths[1]",
      "include.paths[2]",
      "include.paths[3]",
      "include.asked[0]",
      "include.argv0[1]",
      "exclude.paths",
      "exclude.executables[0]",
      "since_time.nanos",
    ],
  );
});

t.test("an event's message says all that the log knows", async (t) => {
  const record = {
    seq: 2n ** 40n,
    timeNs: 1_700_000_000_123_456_789n,
    blockedNs: 4_000_000_000,
    pid: 7,
    ppid: 6,
    uid: 4294967295,
    kind: 2,
    response: 1,
    flags: Object.values(FLAG).reduce((all, one) => all | one, 0),
    comm: "c\xe9", // not UTF-8
    path: Buffer.from("/caf\xe9", "latin1"),
    exe: "/bin/größe",
    asked: Buffer.from("./caf\xe9", "latin1"),
    argv0: "größe",
    other: Buffer.from("/n\xe9w", "latin1"),
    startNs: 1_600_000_000_000_000_001n,
    ancestry: [
      { pid: 5, comm: "sh", exe: "/bin/sh" },
      { pid: 1, comm: "", exe: "" },
    ],
  };
  const others = [subjectOf({ guard: "b", namespace: "", mode: "audit" })];
  const bytes = encodeEvent(viewOf(record), subjectOf({ subjectIndex: 3 }), { others, cut: true });
  const { items } = fromBinary(WatchResponseSchema, Buffer.concat([bytes, bytes]));
  t.equal(items.length, 2, "one after the other they are one message");
  const expected = create(EventSchema, {
    sequence: 2n ** 40n,
    time: { ...timestampFromMs(1_700_000_000_000), nanos: 123456789 },
    response: Response.DENY,
    event: "exec",
    path: "/caf\ufffd",
    pathBytes: Buffer.from("/caf\xe9", "latin1"),
    directory: true,
    answered: true,
    watched: true,
    owner: true,
    late: true,
    audited: true,
    blockedNs: 4_000_000_000,
    deniers: [{ name: "b", namespace: "", auditing: true }],
    deniersCut: true,
    asked: "./caf\ufffd",
    newPath: "/n\ufffdw",
    newPathBytes: Buffer.from("/n\xe9w", "latin1"),
    merged: true,
    found: true,
    subject: {
      guard: "passwords",
      namespace: "default",
      pod: "foo-1-pod",
      podUid: "b1a6",
      node: "barnode",
      container: "c".repeat(64),
      containerName: "web",
      index: 3,
      tags: { foo: "bar" },
    },
    process: {
      pid: 7,
      started: { ...timestampFromMs(1_600_000_000_000), nanos: 1 },
      ppid: 6,
      uid: 4294967295,
      comm: "c\ufffd",
      executable: "/bin/größe",
      inside: true,
      ancestry: [
        { pid: 5, comm: "sh", executable: "/bin/sh" },
        { pid: 1, comm: "", executable: "" },
      ],
      ancestryCut: true,
      argv0: "größe",
    },
  });
  t.same(items[0]?.item, { case: "event", value: expected });
  const plain = fromBinary(WatchResponseSchema, encodeEvent(viewOf({ flags: 0 }), subjectOf(), NO_DENIERS)).items[0];
  t.match(plain?.item, {
    case: "event",
    value: {
      response: Response.ALLOW,
      event: "open",
      path: "/etc/passwd",
      pathBytes: new Uint8Array(),
      answered: false,
    },
  });
});
