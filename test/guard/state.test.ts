import { existsSync, mkdirSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import t from "tap";
import { JanusdConfigSchema } from "../../src/gen/janus_pb.js";
import type { StoredGuard } from "../../src/guard/registry.js";
import { StateFile } from "../../src/guard/state.js";
import { LogRecorder } from "../support/engine-recorder.js";

const guard = (key: number): StoredGuard => ({
  key,
  config: create(JanusdConfigSchema, { name: `g${key}`, cid: ["c"], subject: [{ deny: ["/ü"], event: ["open"] }] }),
  ids: new Map([["signature", key + 10]]),
});

t.test("what is saved is loaded, and nothing else is left in the directory", async (t) => {
  const file = join(t.testdir(), "deep", "guards.json");
  const log = new LogRecorder();
  const state = new StateFile(file, log);
  t.same(state.load(), [], "there is none yet");
  const guards = [guard(1), guard(2)];
  state.save(() => guards);
  await state.close();
  t.same(new StateFile(file, log).load(), guards);
  t.same(readdirSync(join(file, "..")), ["guards.json"]);
  t.equal(statSync(file).mode & 0o777, 0o600);
  t.same(log.messages, []);
});

t.test("changes made while one is written are written, the last of them last", async (t) => {
  const file = join(t.testdir(), "guards.json");
  const state = new StateFile(file, new LogRecorder());
  const guards: StoredGuard[] = [];
  for (let key = 1; key <= 100; key++) {
    guards.push(guard(key));
    state.save(() => guards);
    if (key % 10 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  await state.close();
  t.equal(new StateFile(file, new LogRecorder()).load().length, 100);
});

t.test("a file that makes no sense is put aside and said", async (t) => {
  for (const text of [
    "",
    "{",
    "[]",
    "null",
    JSON.stringify({ version: 2, guards: [] }),
    JSON.stringify({ version: 1, guards: {} }),
  ]) {
    const directory = t.testdir({ "guards.json": text });
    const file = join(directory, "guards.json");
    const log = new LogRecorder();
    t.same(new StateFile(file, log).load(), [], text);
    t.match(log.messages, [/put aside/]);
    t.notOk(existsSync(file));
    const [aside = ""] = readdirSync(directory);
    t.match(aside, /^guards\.json\.corrupt-\d+$/);
    t.equal(readFileSync(join(directory, aside), "utf8"), text);
  }
});

t.test("fields of a newer version cost no guard", async (t) => {
  const config = { name: "g", someday: true };
  const text = JSON.stringify({ version: 1, guards: [{ key: 1, config, ids: {}, more: 1 }] });
  const file = join(t.testdir({ "guards.json": text }), "guards.json");
  t.match(new StateFile(file, new LogRecorder()).load(), [{ key: 1, config: { name: "g" } }]);
});

t.test("a file that cannot be written or read is said, and stops nothing", async (t) => {
  const file = join(t.testdir(), "guards.json");
  mkdirSync(file);
  const log = new LogRecorder();
  const state = new StateFile(file, log);
  t.same(state.load(), []);
  state.save(() => [guard(1)]);
  await state.close();
  t.match(log.messages, [/cannot read/, /cannot write/]);
});

t.test("an entry that makes no sense costs itself only, and the file is kept aside", async (t) => {
  const good = { key: 1, config: { name: "g" }, ids: {} };
  const bad = [
    { ...good, key: 0 },
    { ...good, ids: { a: "1" } },
    { ...good, config: { name: 7 } },
    { key: 1, ids: {} },
  ];
  for (const entry of bad) {
    const text = JSON.stringify({ version: 1, guards: [entry, good] });
    const directory = t.testdir({ "guards.json": text });
    const log = new LogRecorder();
    t.match(new StateFile(join(directory, "guards.json"), log).load(), [{ key: 1, config: { name: "g" } }]);
    t.match(log.messages, [/make no sense/]);
    const aside = readdirSync(directory).find((name) => name.startsWith("guards.json.corrupt-")) ?? "";
    t.equal(readFileSync(join(directory, aside), "utf8"), text);
  }
});
