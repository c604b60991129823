import { mkdtempSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import t from "tap";
import { JanusdConfigSchema } from "../../src/gen/janus_pb.js";
import { FileGuards, openGuardFile } from "../../src/guard/file-guards.js";
import { GuardRegistry } from "../../src/guard/registry.js";
import { workspaceDirectory } from "../support/cleanup.js";
import { EngineRecorder, LogRecorder } from "../support/engine-recorder.js";

const document = (
  name: string,
  path = "/a",
  container = "web",
) => `apiVersion: januscontroller.clustergarage.io/v1alpha1
kind: JanusGuard
metadata: { name: ${name} }
spec:
  containers: [${container}]
  subjects:
    - deny: [${path}]
      events: [open]
`;

async function setUp(...documents: readonly string[]) {
  const file = join(mkdtempSync(join(workspaceDirectory(), "file-guards-")), "guards.yaml");
  const write = (...next: readonly string[]) => writeFileSync(file, next.join("---\n"));
  write(...documents);
  const engine = new EngineRecorder();
  const log = new LogRecorder();
  const registry = new GuardRegistry({ engine, node: "n", log });
  const guards = new FileGuards(await openGuardFile(file), { registry, engine, log });
  return { file, write, engine, log, registry, guards };
}

t.test("a guard is held when its container appears, and again when it is back; a change is logged once", async (t) => {
  const { engine, log, registry, guards } = await setUp(document("g"));
  for (let round = 0; round < 2; round++) {
    guards.holdAll();
    guards.holdAll();
    t.equal(registry.size, 0);
    t.equal(guards.failure, undefined, "a container that doesn't run is no fault of the file");
    engine.run("web");
    guards.holdAll();
    guards.holdAll();
    t.equal(registry.size, 1);
    engine.end("web");
    registry.ended(["web"]);
  }
  const cycle = ["guard of the file cannot be held yet", "guard created", "guard removed"];
  t.same(log.messages, [...cycle, ...cycle]);
});

t.test("what the file says anew is taken up at one moment, the rest isn't touched", async (t) => {
  const { file, write, engine, log, registry, guards } = await setUp(
    ...[document("kept"), document("changed"), document("gone"), document("waits", "/a", "other")],
  );
  engine.run("web");
  guards.holdAll();
  engine.take();
  log.entries.splice(0);
  write(document("new"), document("changed", "/b"), `# a line more\n${document("kept")}`, document("late", "/a", "db"));
  await guards.reload("SIGHUP");
  t.same(engine.take(), ["apply 4 4", "apply 2 5", "remove 3"], "one call for all that is new, before what is gone");
  t.match(
    log.entries.filter((entry) => "by" in entry),
    [
      { level: "info", message: "guard created", guard: "new", source: "file", by: "SIGHUP" },
      { level: "info", message: "guard replaced", guard: "changed", source: "file", by: "SIGHUP" },
      { level: "info", message: "guard removed", guard: "gone", source: "file", by: "SIGHUP" },
      {
        ...{ level: "info", message: "the guard file is in force", file, by: "SIGHUP", unchanged: 1 },
        ...{ created: ["new", "late"], replaced: ["changed"], removed: ["gone", "waits"] },
      },
    ],
  );
  t.same(
    guards.waiting().map(({ config, source }) => [config.name, source]),
    [["late", "file"]],
  );
  for (const [change, count] of [
    ["created", 4],
    ["replaced", 1],
    ["removed", 1],
  ] as const)
    t.equal(registry.audit.count(change, "file"), count, change);

  await guards.reload("file");
  t.equal(log.messages.at(-1), "the guard file is in force", "nothing changed, nobody asked");
  const lines = log.entries.length;
  await guards.reload("SIGHUP");
  t.match(log.entries.slice(lines), [{ created: [], replaced: [], removed: [], unchanged: 4 }], "somebody asked");
  t.same(engine.take(), []);
  write(document("late", "/a", "db"), document("changed", "/b", "db"));
  await guards.reload("file");
  t.equal(registry.size, 0, "its container doesn't run: the old one is none of the file's any more");
});

t.test("what cannot be read or makes no sense changes nothing, and fails the check until it does", async (t) => {
  const { file, write, engine, log, guards } = await setUp(document("g"));
  engine.run("web");
  guards.holdAll();
  engine.take();
  write(document("g", "/b"), document("h").replace("[open]", "[opne]"));
  await guards.reload("file");
  await guards.reload("file");
  t.match(guards.failure, `${file}:17: document 2: spec.subjects[0].events[0]: unknown event`);
  const told = () => log.messages.filter((message) => message.startsWith("the guard file cannot be applied")).length;
  t.equal(told(), 1, "once");
  await guards.reload("SIGHUP");
  t.equal(told(), 2, "and to whoever asks");
  write("kind: [");
  await guards.reload("file");
  t.match(guards.failure, `${file}:1: document 1: `);
  const nowhere = await setUp(document("g"));
  nowhere.engine.run("web");
  nowhere.guards.holdAll();
  nowhere.write("");
  await nowhere.guards.reload("file");
  t.equal(nowhere.registry.size, 0, "a file without a document is a file without guards");
  t.same(engine.take(), []);
  write(document("g"));
  await guards.reload("file");
  t.equal(guards.failure, undefined);
  t.same(engine.take(), [], "what it says again was in force all the time");
});

t.test("what the engine refuses changes nothing, whatever else the file says", async (t) => {
  const { file, write, engine, registry, guards } = await setUp(document("g"), document("gone"));
  engine.run("web");
  guards.holdAll();
  const held = registry.stored();
  const [before] = registry.list();
  engine.take();
  write(document("g", "/b"), document("bad", "/dev/null"));
  const refuse = (code: "INVALID" | "UNSUPPORTED" | "EXHAUSTED", guardKey: number) =>
    engine.refuse(code, { guardKey, subjectIndex: 0, path: "/dev/null" });
  for (const code of ["INVALID", "UNSUPPORTED"] as const) {
    refuse(code, 3);
    await guards.reload("file");
    t.equal(guards.failure, `${file}:16: guard bad: spec.subjects[0].deny[0]: native ${code}`);
  }
  refuse("EXHAUSTED", 0);
  await guards.reload("file");
  t.equal(guards.failure, `${file}: native EXHAUSTED`, "about all of them together");
  t.same(registry.stored(), held);
  t.match(registry.list(), [before, { name: "gone" }]);
  t.notOk(engine.take().some((call) => call.startsWith("remove")));
  await guards.reload("file");
  t.equal(guards.failure, undefined);
  t.match(registry.list(), [{ name: "g" }, { name: "bad" }]);
});

t.test("a guard of a client is not the file's to take, and stays as it is", async (t) => {
  const { file, write, engine, registry, guards } = await setUp(document("g"));
  engine.run("web");
  guards.holdAll();
  const subject = [{ deny: ["/client"], event: ["open"] }];
  registry.create(create(JanusdConfigSchema, { name: "client", cid: ["web"], subject }));
  engine.take();
  write(document("g", "/b"), document("client"));
  await guards.reload("SIGHUP");
  t.match(guards.failure, `${file}:10: guard client: a guard of this name was made over gRPC`);
  t.same(engine.take(), []);
  write(document("other"));
  await guards.reload("SIGHUP");
  t.match(registry.details(), [{ source: "rpc", config: { name: "client" } }, { source: "file" }]);
  registry.destroy({ name: "client", namespace: "", podName: "", pid: [] });
  write(document("client"));
  await guards.reload("SIGHUP");
  t.match(registry.details(), [{ source: "file", config: { name: "client" } }]);
});

t.test("a guard that cannot be held when its container comes fails the check, with its line", async (t) => {
  const { file, engine, guards } = await setUp(document("good"), document("bad", "/dev/null", "db"));
  engine.run("web");
  guards.holdAll();
  engine.run("db");
  engine.refuse("INVALID", { subjectIndex: 0, path: "/dev/null" });
  guards.holdAll();
  t.equal(guards.failure, `${file}:16: guard bad: spec.subjects[0].deny[0]: native INVALID`);
  guards.holdAll();
  t.equal(guards.failure, undefined);
});
