import { create, type MessageInitShape } from "@bufbuild/protobuf";
import t from "tap";
import { JanusdError } from "../../src/errors.js";
import { GuardMode, JanusdConfigSchema } from "../../src/gen/janus_pb.js";
import { GuardRegistry, identity } from "../../src/guard/registry.js";
import { EngineRecorder, LogRecorder } from "../support/engine-recorder.js";

type Init = MessageInitShape<typeof JanusdConfigSchema>;

const [A, B] = ["a".repeat(64), "b".repeat(64)];
const subject = { deny: ["/etc/secret"], event: ["open"] };
const config = (init: Init = {}) =>
  create(JanusdConfigSchema, { name: "g", podName: "pod", cid: [`containerd://${A}`], subject: [subject], ...init });
const request = (init: Init) => create(JanusdConfigSchema, init);

function setUp() {
  const engine = new EngineRecorder();
  const log = new LogRecorder();
  const clock = { now: 0, changes: 0 };
  const registry = new GuardRegistry({
    engine,
    node: "node",
    log,
    onChange: () => {
      clock.changes++;
    },
    now: () => clock.now,
  });
  const [a, b] = [engine.run(A), engine.run(B)];
  return { engine, registry, log, clock, a, b };
}

function failure(work: () => unknown): JanusdError {
  try {
    work();
  } catch (error) {
    if (error instanceof JanusdError) return error;
    throw error;
  }
  throw new Error("did not throw");
}

t.test("creating again with the same configuration makes no native call and changes no state", async (t) => {
  const { engine, registry, clock } = setUp();
  const first = registry.create(config());
  t.same(engine.take(), ["apply 1 1"]);
  t.same(registry.create(config({ cid: [A] })), first, "another spelling of the same id");
  t.same(registry.create(config({ subject: [{ ...subject, deny: ["/etc//secret/"] }] })), first, "of the same path");
  t.same(engine.take(), []);
  t.equal(clock.changes, 1);
  t.equal(registry.size, 1);
});

t.test("a changed configuration replaces under the same key; unchanged subjects keep their ids", async (t) => {
  const { engine, registry } = setUp();
  const other = { allow: ["/tmp"], event: ["access"] };
  registry.create(config({ subject: [subject, other] }));
  const { subjectIds } = registry.create(config({ subject: [subject, { ...other, tags: { a: "b" } }] }));
  t.same(subjectIds, [1, 3]);
  t.same(engine.take(), ["apply 1 1,2", "apply 1 1,3"]);
  t.same(registry.lookup(3)?.tags, { a: "b" });
  t.same(registry.lookup(2)?.tags, {}, "its events may still come");
});

t.test("a subject that is gone can be looked up for ten minutes", async (t) => {
  const { registry, clock } = setUp();
  registry.create(config());
  registry.destroy(request({ name: "g" }));
  clock.now += 599_000;
  registry.create(config({ name: "h" }));
  t.equal(registry.lookup(1)?.guard, "g");
  clock.now += 2_000;
  registry.destroy(request({ name: "h" }));
  t.equal(registry.lookup(1), undefined);
  t.equal(registry.lookup(2)?.guard, "h");
});

t.test("guards differ by name, namespace and pod", async (t) => {
  const { engine, registry } = setUp();
  for (const init of [{}, { name: "h" }, { namespace: "ns" }, { podName: "other" }]) registry.create(config(init));
  t.equal(registry.size, 4);
  t.same(engine.take(), ["apply 1 1", "apply 2 2", "apply 3 3", "apply 4 4"]);
});

t.test("a native refusal leaves all as it was, and is said in the request's fields", async (t) => {
  const { engine, registry, clock } = setUp();
  const two = { cid: [A, B], subject: [subject, { allow: ["/x/"], event: ["open"] }] };
  const before = registry.create(config());
  engine.refuse("INVALID", { subjectIndex: 3, path: "/x" });
  t.match(failure(() => registry.create(config(two))).data, {
    kind: "invalid",
    violations: [{ field: "subject[1].allow[0]", description: "native INVALID" }],
  });
  engine.refuse("INVALID", { subjectIndex: 2 });
  t.match(failure(() => registry.create(config(two))).data, { violations: [{ field: "subject[0]" }] });
  engine.refuse("NOT_FOUND", { target: B });
  t.match(failure(() => registry.create(config(two))).data, { kind: "not_found", container: B });
  engine.refuse("EXHAUSTED", { operation: "fanotify_mark", errno: 28 });
  t.match(failure(() => registry.create(config(two))).data, {
    kind: "exhausted",
    operation: "fanotify_mark",
    errno: 28,
  });
  t.same(registry.list(), [before]);
  t.equal(clock.changes, 1);
  t.same(registry.lookup(2), undefined);
  engine.take();
  t.same(registry.create(config(two)).subjectIds.length, 4);
});

t.test("all containers or none, and which one is wrong is said", async (t) => {
  const { engine, registry } = setUp();
  const gone = "c".repeat(64);
  t.match(failure(() => registry.create(config({ cid: [A, gone] }))).data, { kind: "not_found", container: gone });
  engine.run(`${A.slice(0, 12)}${"0".repeat(52)}`);
  t.match(failure(() => registry.create(config({ cid: [B, `docker://${A.slice(0, 12)}`] }))).data, {
    kind: "invalid",
    violations: [{ field: "cid[1]" }],
  });
  t.equal(registry.size, 0);
  t.same(engine.take(), []);
});

t.test("destroy: the pod's name decides, pids only break a tie", async (t) => {
  const { registry, a, b } = setUp();
  const make = () => {
    registry.create(config());
    registry.create(config({ name: "h" }));
    registry.create(config({ podName: "other", cid: [B] }));
  };
  const left = () => registry.list().map(({ name, podName }) => `${name}/${podName}`);
  make();
  registry.destroy(request({ podName: "pod", pid: [b.initPid] }));
  t.same(left(), ["g/other"], "another pod's pids");
  make();
  registry.destroy(request({ name: "g", podName: "pod" }));
  t.same(left(), ["g/other", "h/pod"]);
  make();
  t.equal(registry.destroy(request({ name: "g" })), 2, "by name alone, in any pod");
  make();
  registry.destroy(request({ name: "g", pid: [a.initPid] }));
  t.same(left(), ["h/pod", "g/other"], "of several pods that fit, the one of the pids");
  t.equal(registry.destroy(request({})), 0, "nothing named is nothing removed");
  t.equal(registry.destroy(request({ namespace: "x", podName: "pod" })), 0);
  t.equal(registry.destroy(request({ pid: [b.initPid] })), 1, "pids alone");
  t.equal(registry.destroy(request({ podName: "never" })), 0);
});

t.test("destroy: one pod name in two namespaces", async (t) => {
  const { registry, b } = setUp();
  const make = () => {
    registry.create(config({ namespace: "one" }));
    registry.create(config({ namespace: "two", cid: [B] }));
  };
  make();
  registry.destroy(request({ podName: "pod", pid: [b.initPid] }));
  t.same(
    registry.list().map(({ namespace }) => namespace),
    ["one"],
  );
  make();
  t.equal(registry.destroy(request({ podName: "pod", pid: [1] })), 2, "pids that fit neither say nothing");
});

t.test("a guard whose containers ended is gone; one that has some left keeps those", async (t) => {
  const { engine, registry } = setUp();
  const whole = registry.create(config({ cid: [A, B] }));
  t.equal(whole.complete, true);
  engine.take();
  engine.end(A);
  registry.ended([A, "somebody else's"]);
  t.same(engine.take(), [], "the engine knows");
  t.match(registry.list(), [{ containerIds: [B], subjectIds: [2], complete: false }]);
  t.equal(registry.lookup(1)?.containerId, A, "its events may still come");
  engine.end(B);
  t.same(registry.list(), [], "looks for itself");
  t.same(engine.take(), ["remove 1"]);
});

t.test("a container that started again under its id is another one", async (t) => {
  const { engine, registry } = setUp();
  const before = registry.create(config());
  engine.end(A);
  const again = engine.run(A);
  t.same(registry.list(), []);
  const { pids, subjectIds } = registry.create(config());
  t.same(pids, [again.initPid]);
  t.not(subjectIds[0], before.subjectIds[0]);
  registry.ended([A]);
  t.equal(registry.size, 1, "a late notice of the first one's end");
});

t.test("a guard that lost a container is made whole by creating it again", async (t) => {
  const { engine, registry } = setUp();
  registry.create(config({ cid: [A, B] }));
  engine.end(A);
  registry.ended([A]);
  const successor = "d".repeat(64);
  engine.run(successor);
  t.match(registry.create(config({ cid: [successor, B] })), { complete: true, containerIds: [successor, B] });
  t.equal(registry.size, 1);
});

t.test("a container's end asks the engine for that container only, and changes nothing that is stored", async (t) => {
  const { engine, registry, clock } = setUp();
  const others = Array.from({ length: 20 }, (_, index) => engine.run(`${index}`.padStart(64, "0")).id);
  for (let guard = 0; guard < 50; ++guard) registry.create(config({ name: `g${guard}`, cid: [A, ...others] }));
  const stored = registry.stored();
  engine.take();
  const { finds } = engine;
  const { changes } = clock;
  engine.end(A);
  registry.ended([A]);
  t.equal(engine.finds - finds, 1);
  t.same(engine.take(), []);
  t.equal(clock.changes, changes);
  t.strictSame(registry.stored(), stored);
  t.ok(registry.list().every(({ containerIds, complete }) => !complete && containerIds.length === 20));
  registry.create(config({ name: "g7", cid: others }));
  t.equal(engine.take().length, 0, "what is left is what is wanted");
  t.match(
    registry.list().find(({ name }) => name === "g7"),
    { complete: true },
  );
});

t.test("restored with the same ids, on what is still there", async (t) => {
  const { engine, registry } = setUp();
  registry.create(config({ name: "first" }));
  const whole = registry.create(config({ cid: [A, B] }));
  registry.create(config({ name: "file" }), "file");
  const stored = registry.stored();
  t.equal(stored.length, 2, "what comes from a file is read from there again");

  const next = new GuardRegistry({ engine, node: "node", log: new LogRecorder() });
  const [first, second] = stored;
  if (first === undefined || second === undefined) throw new Error("not stored");
  t.ok(next.restore(first));
  t.same(next.restore(second), whole);
  t.equal(next.create(config({ name: "new" })).subjectIds[0], 4, "ids go on after those");
  t.match([...engine.applied.keys()], [1, 2, 3]);

  engine.end(A);
  const third = new GuardRegistry({ engine, node: "node", log: new LogRecorder() });
  t.equal(third.restore(first), undefined);
  t.match(third.restore(second), { complete: false, containerIds: [B], subjectIds: [whole.subjectIds[1]] });
});

t.test("what sinks are told about a subject", async (t) => {
  const { registry } = setUp();
  const named = { nodeName: "elsewhere", namespace: "ns", podUid: "uid", logFormat: "{path}" };
  registry.create(config({ ...named, containerNames: { [`docker://${A}`]: "web" } }));
  t.same(registry.lookup(1), {
    id: 1,
    guard: "g",
    subjectIndex: 0,
    tags: {},
    node: "elsewhere",
    pod: "pod",
    namespace: "ns",
    podUid: "uid",
    containerId: A,
    containerName: "web",
    logFormat: "{path}",
    mode: "enforce",
  });
  registry.create(config({ name: "h" }));
  t.equal(registry.lookup(2)?.node, "node");
});

t.test("a guard that only audits: said to engine, sinks and clients; to switch is to replace", async (t) => {
  const { engine, registry } = setUp();
  const auditing = registry.create(config({ mode: GuardMode.AUDIT }));
  t.equal(engine.applied.get(1)?.policies[0]?.enforced, false);
  t.same([auditing.mode, registry.lookup(1)?.mode], ["audit", "audit"]);
  t.equal(registry.create(config()).mode, "enforce");
  t.same(engine.take(), ["apply 1 1", "apply 1 2"], "another subject: its counts are its own");
  t.same([engine.applied.get(1)?.policies[0]?.enforced, registry.lookup(1)?.mode], [true, "audit"]);
});

t.test("a state file that is older than modes keeps its subjects' ids", async (t) => {
  const { registry } = setUp();
  registry.create(config());
  t.same([...(registry.stored()[0]?.ids.keys() ?? [])], ["gTUNy4LOnE39YR1KBYrtfZO_zKGvtLWj8jNsw7SkvDo"]);
});

t.test("what the engine is told", async (t) => {
  const { engine, registry } = setUp();
  registry.create(
    config({ subject: [{ watch: ["/w"], exclude: ["*.x"], event: ["create"], recursive: true, maxDepth: 2 }] }),
  );
  t.same(engine.applied.get(1), {
    key: 1,
    partial: false,
    policies: [
      {
        ...{ allow: [], deny: [], watch: ["/w"], exclude: ["*.x"], events: 128, maxDepth: 2 },
        ...{ onlyDir: false, autoAllowOwner: false, audit: false, recursive: true, onlyContainer: false, exact: false },
        enforced: true,
      },
    ],
    subjects: [{ id: 1, containerId: A, policy: 0 }],
  });
});

t.test(
  "what cannot be restored now stays pending: kept, tried again, and gone if it is destroyed or made anew",
  async (t) => {
    const { registry } = setUp();
    registry.create(config({ name: "first" }));
    registry.create(config({ name: "second", podName: "other" }));
    const stored = registry.stored();
    const { engine, registry: next, clock } = setUp();
    for (const each of stored) {
      engine.refuse("EXHAUSTED");
      t.throws(() => next.restore(each));
    }
    t.match(next.pending(), [{ guard: "first" }, { guard: "second" }]);
    t.equal(next.size, 0);
    t.same(next.stored(), stored, "the state file keeps them");
    next.retryPending();
    t.equal(next.pending().length, 2, "not yet");
    engine.refuse("EXHAUSTED");
    clock.now = 2000;
    next.retryPending();
    t.match(next.pending(), [{ guard: "first" }], "one failed again, the other did not");
    t.match(next.list(), [{ name: "second" }]);
    next.create(config({ name: "first" }));
    t.same(next.pending(), []);
    engine.refuse("EXHAUSTED");
    const [first] = stored;
    if (first === undefined) throw new Error("not stored");
    const { engine: another, registry: last } = setUp();
    another.refuse("EXHAUSTED");
    t.throws(() => last.restore(first));
    t.equal(last.destroy({ name: "first", namespace: "", podName: "", pid: [] }), 1);
    t.same(last.stored(), []);
  },
);

t.test("what another daemon with the same state file makes, replaces and removes", async (t) => {
  const { registry: other } = setUp();
  other.create(config({ name: "first" }));
  other.create(config());
  const [, made] = other.stored();
  other.create(config({ subject: [subject, { ...subject, deny: ["/etc/more"] }] }));
  const [, replaced] = other.stored();
  if (made === undefined || replaced === undefined) throw new Error("not stored");

  const { engine, registry } = setUp();
  const own = registry.create(config({ name: "own" }));
  const mine = registry.create(config({ name: "mine" }));
  engine.take();
  registry.adopt(made);
  t.same(engine.take(), ["apply 3 3"], "under a key and an id that are free here");
  registry.adopt(made);
  t.same(engine.take(), [], "the same again changes nothing");
  registry.adopt(replaced);
  t.same(engine.take(), ["apply 3 3,4"], "in its place, without an unguarded moment");
  engine.refuse("EXHAUSTED");
  registry.adopt({ ...made, config: config({ name: "refused" }) });
  t.match(registry.pending(), [{ guard: "refused" }]);
  engine.take();
  registry.abandon(identity(made.config));
  t.same(engine.take(), ["remove 3"]);
  registry.abandon(identity(config({ name: "refused" })));
  t.same(registry.pending(), []);
  t.same(registry.list(), [own, mine]);

  registry.create(config({ name: "file" }), "file");
  engine.take();
  registry.adopt({ ...made, config: config({ name: "file", subject: [{ ...subject, deny: ["/else"] }] }) });
  registry.abandon(identity(config({ name: "file" })));
  t.same(engine.take(), [], "a guard of the guard file is the guard file's");
  registry.adopt({ ...made, config: config({ cid: ["c".repeat(64)] }) });
  t.same(engine.take(), [], "its container is gone");
});

t.test("a guard of the file is the file's", async (t) => {
  const { engine, registry } = setUp();
  registry.create(config({ name: "file" }), "file");
  const calls = engine.calls.length;
  const message = /comes from the guard file/;
  t.throws(() => registry.create(config({ name: "file", logFormat: "{path}" })), {
    message,
    data: { kind: "unsupported" },
  });
  t.throws(() => registry.destroy({ name: "file", namespace: "", podName: "", pid: [] }), { message });
  t.equal(
    registry.destroy({ name: "", namespace: "", podName: "p", pid: [] }),
    0,
    "a pod's guards are those of clients",
  );
  t.equal(engine.calls.length, calls, "nothing was changed");
  t.equal(registry.size, 1);
});

t.test("a guard of the file is held on those of its containers that run", async (t) => {
  const { engine, registry } = setUp();
  engine.end(B);
  t.match(registry.create(config({ name: "file", cid: [A, B] }), "file"), { complete: false, containerIds: [A] });
  engine.run(B);
  t.match(registry.create(config({ name: "file", cid: [A, B] }), "file"), { complete: true, containerIds: [A, B] });
  engine.end(B);
  t.throws(() => registry.create(config({ name: "rpc", cid: [A, B] })), { message: new RegExp(B) });
});

t.test("what is pending is tried ever more rarely, and at once when asked", async (t) => {
  const { registry: before } = setUp();
  before.create(config());
  const [stored] = before.stored();
  if (stored === undefined) throw new Error("not stored");
  const { engine, registry, clock } = setUp();
  const refused = () => {
    engine.refuse("EXHAUSTED");
    registry.retryPending();
    return engine.take().length === 1;
  };
  engine.refuse("EXHAUSTED");
  t.throws(() => registry.restore(stored));
  engine.take();
  const tried: number[] = [];
  for (; clock.now < 300_000; clock.now += 1000) if (refused()) tried.push(clock.now / 1000);
  t.same(tried, [2, 6, 14, 30, 62, 122, 182, 242]);
  const [details] = registry.details();
  t.match(details, { pending: "native EXHAUSTED", source: "state", config: { name: "g" } });
  t.ok(Math.abs((details?.sinceMs ?? 0) - Date.now()) < 60_000);
  engine.refuse("EXHAUSTED");
  registry.retryPending(true);
  t.equal(registry.size, 0);
  registry.retryPending(true);
  t.equal(registry.size, 1);
});

t.test("each change is a line with who asked, and is counted", async (t) => {
  const { engine, registry, log } = setUp();
  const by = { peer: "10.0.0.1:4711", names: ["controller"] };
  const about = { guard: "g", namespace: "", pod: "pod" };
  registry.create(config(), "rpc", by);
  registry.create(config(), "rpc", by); // changes nothing
  registry.create(config({ subject: [{ ...subject, deny: ["/etc"] }] }), "rpc", by);
  const [stored] = registry.stored();
  if (stored === undefined) throw new Error("not stored");
  registry.destroy({ name: "g", namespace: "", podName: "", pid: [] }, by);
  registry.destroy({ name: "g", namespace: "", podName: "", pid: [] }, by); // nothing is there
  registry.create(config(), "file");
  engine.end(A);
  registry.ended([A]);
  registry.restore(stored);
  const line = (message: string, rest: object) => ({ level: "info", message, ...about, ...rest });
  t.same(log.entries, [
    line("guard created", { source: "rpc", by }),
    line("guard replaced", { source: "rpc", by }),
    line("guard removed", { source: "rpc", by }),
    line("guard created", { source: "file" }),
    line("guard removed", { source: "container" }),
    line("guard removed", { source: "container" }),
  ]);
  t.equal(registry.audit.count("created", "rpc"), 1);
  t.equal(registry.audit.count("removed", "container"), 2);
  t.equal(registry.audit.count("removed", "file"), 0);
});

t.test("what a guard may not mean is told in its details, and logged when it comes and when it changes", async (t) => {
  const { engine, registry, log } = setUp();
  const plain = { path: "/etc/secret", program: "", names: 0, fault: "" };
  engine.notes.push({ ...plain, subjectId: 2, missing: true }, { ...plain, subjectId: 3, missing: true });
  const both = { cid: [A, B], containerNames: { [B]: "side" } };
  registry.create(config(both));
  const warning = { field: "subject[0].deny[0]", description: /^no such path yet in side: / };
  t.match(registry.details(), [{ warnings: [warning] }]);
  const logged = () => log.messages.splice(0).filter((message) => message.includes("may not mean")).length;
  t.equal(logged(), 1);
  registry.create(config(both));
  t.equal(logged(), 0, "the same again");
  registry.create(config({ ...both, subject: [{ ...subject, recursive: true }] }));
  t.match(registry.details(), [{ warnings: [{ ...warning, description: /^no such path yet in [0-9a-f]{12}: / }] }]);
  t.equal(logged(), 1);
  engine.notes.splice(0);
  t.same(registry.details()[0]?.warnings, [], "it has appeared");
});

t.test("restored without the paths that cannot be guarded now: told, kept whole, and tried again", async (t) => {
  const { registry: before } = setUp();
  before.create(config({ cid: [A, B], subject: [{ ...subject, deny: ["/etc/secret", "/mnt//dead/"] }] }));
  const [stored] = before.stored();
  if (stored === undefined) throw new Error("not stored");
  const { engine, registry, log, clock } = setUp();
  const fault = { subjectId: 2, path: "/mnt/dead", missing: false, program: "", names: 0, fault: "is served" };
  engine.notes.push(fault);
  t.match(registry.restore(stored), { complete: false, containerIds: [A, B] });
  t.equal(engine.applied.get(1)?.partial, true);
  t.same(registry.stored(), [stored], "the state file keeps all of it");
  const container = B.slice(0, 12);
  const unguarded = [{ field: "subject[0].deny[1]", path: "/mnt/dead", container, reason: "is served" }];
  t.match(registry.details(), [{ complete: false, pending: undefined, unguarded, warnings: [] }]);
  t.same(registry.pending(), [{ guard: "g", reason: `subject[0].deny[1] in ${container}: is served` }]);
  t.equal(registry.pendingCount, 0);
  t.equal(registry.unguardedPaths, 1);
  t.match(log.entries, [{ message: "guard created" }, { level: "warn", unguarded }]);
  engine.take();
  const tried: number[] = [];
  for (; clock.now < 130_000; clock.now += 1000) {
    registry.retryPending();
    if (engine.take().length > 0) tried.push(clock.now / 1000);
  }
  t.same(tried, [2, 6, 14, 30, 62, 122], "as what is pending");
  registry.retryPending(true);
  t.same(engine.take(), ["retry 1"]);
  engine.notes.splice(0);
  registry.retryPending();
  t.equal(log.messages.at(-1), "all paths of the guard are guarded now");
  t.same(registry.pending(), []);
  t.match(registry.list(), [{ complete: true }]);

  engine.notes.push(fault);
  registry.create(config({ name: "file", cid: [B] }), "file");
  t.equal(engine.applied.get(2)?.partial, true, "a file says what to guard as far as it can be");
  registry.create(config({ name: "rpc" }));
  t.equal(engine.applied.get(3)?.partial, false, "a request is done as a whole or not at all");
  registry.exchange([config({ name: "new" })], [], "SIGHUP");
  t.equal(engine.applied.get(4)?.partial, false, "and so is what the file says anew");
});

t.test("a guard that lacks paths is not looked for once it is gone", async (t) => {
  const { engine, registry } = setUp();
  engine.notes.push({ subjectId: 1, path: "/etc/secret", missing: false, program: "", names: 0, fault: "is served" });
  registry.create(config(), "file");
  t.equal(registry.unguardedPaths, 1);
  engine.end(A);
  registry.ended([A]);
  t.equal(registry.unguardedPaths, 0);
  t.same(registry.pending(), []);
});

t.test("a resource's guard and a client's of the same name are two, and each side has its own alone", async (t) => {
  const { engine, registry } = setUp();
  registry.create(config());
  const { kind } = registry.hold(config({ podUid: "uid" }), "JanusGuard");
  t.equal(kind, "JanusGuard");
  registry.hold(config({ podUid: "uid" }), "ClusterJanusGuard");
  registry.hold(config({ podUid: "successor" }), "JanusGuard");
  t.equal(registry.size, 4);
  t.equal(registry.destroy(request({ podName: "pod" })), 1, "a client removes its own");
  t.equal(registry.size, 3);
  t.match(failure(() => registry.destroy(request({ name: "g" }))).message, /comes from a JanusGuard of the cluster/);
  t.equal(registry.release(identity(config())), false, "and the cluster its own");
  const ids = registry.ofResources().map(({ id }) => id);
  t.equal(ids.length, 3);
  for (const id of ids) t.ok(registry.release(id));
  t.equal(registry.size, 0);
  t.equal(engine.calls.filter((call) => call.startsWith("remove")).length, 4);
});

t.test("a resource's guard is held on what runs of it, and left as it was if nothing does", async (t) => {
  const { engine, registry } = setUp();
  t.same(registry.hold(config({ cid: [A, "c".repeat(64)] }), "JanusGuard").containerIds, [A]);
  const nothing = config({ cid: ["c".repeat(64)] });
  t.equal(failure(() => registry.hold(nothing, "JanusGuard")).data.kind, "not_found");
  t.same(registry.list()[0]?.containerIds, [A]);
  t.same(engine.take(), ["apply 1 1"]);
});
