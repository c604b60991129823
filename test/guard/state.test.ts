import {
  appendFileSync,
  closeSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { create } from "@bufbuild/protobuf";
import t, { type Test } from "tap";
import { JanusdConfigSchema } from "../../src/gen/janus_pb.js";
import { identity, idOf, type StoredGuard } from "../../src/guard/registry.js";
import { StateFile } from "../../src/guard/state.js";
import { loadAddon } from "../../src/native.js";
import { eventually } from "../support/daemon.js";
import { LogRecorder } from "../support/engine-recorder.js";
import { WITHIN } from "../support/times.js";

const { tryLock } = loadAddon();

const guard = (key: number, deny = "/ü"): StoredGuard => ({
  key,
  config: create(JanusdConfigSchema, { name: `g${key}`, cid: ["c"], subject: [{ deny: [deny], event: ["open"] }] }),
  ids: new Map([["signature", key + 10]]),
});

/** A daemon as the file sees it: holds what it is told to. */
class Side {
  readonly held = new Map<string, StoredGuard>();
  readonly told: string[] = [];
  declines = false;

  private constructor(
    readonly state: StateFile,
    readonly log: LogRecorder,
  ) {
    for (const stored of state.guards) this.held.set(idOf(stored), stored);
    state.follow({
      guards: () => [...this.held.values()],
      adopt: (stored) => {
        this.told.push(`adopt ${stored.config.name}`);
        if (this.declines) return;
        // As the registry may: under a key of its own.
        this.held.set(idOf(stored), { ...stored, key: stored.key + 100 });
      },
      abandon: (id) => {
        this.told.push(`abandon ${JSON.parse(id)[0]}`);
        this.held.delete(id);
      },
    });
  }

  static async open(t: Test, file: string): Promise<Side> {
    const log = new LogRecorder();
    const side = new Side(await StateFile.open({ file, log, tryLock }), log);
    t.teardown(() => side.state.close());
    return side;
  }

  get names(): string[] {
    return [...this.held.values()].map(({ config }) => config.name).sort();
  }

  create(stored: StoredGuard): void {
    this.held.set(idOf(stored), stored);
    this.state.save();
  }

  destroy(stored: StoredGuard): void {
    this.held.delete(idOf(stored));
    this.state.save();
  }
}

/** What the next start would find. */
async function guardsOf(file: string): Promise<StoredGuard[]> {
  return (await StateFile.open({ file, log: new LogRecorder(), tryLock })).guards;
}

const namesOf = async (file: string) => (await guardsOf(file)).map(({ config }) => config.name).sort();

t.test("what is saved is found, and nothing else is left in the directory", async (t) => {
  const file = join(t.testdir(), "deep", "er", "guards.json");
  const side = await Side.open(t, file);
  t.same(side.names, [], "there is none yet");
  const guards = [guard(1), guard(2)];
  for (const stored of guards) side.create(stored);
  await side.state.close();
  t.same(await guardsOf(file), guards);
  t.same(readdirSync(dirname(file)), ["guards.json"]);
  t.equal(statSync(file).mode & 0o777, 0o600);
  t.equal(statSync(dirname(file)).mode & 0o777, 0o700);
  t.same(side.log.messages, []);
  t.equal(side.state.failures, 0);
});

t.test("after a clean end it is one JSON document; before, changes follow it", async (t) => {
  const file = join(t.testdir(), "guards.json");
  const side = await Side.open(t, file);
  side.create(guard(1));
  side.create(guard(2));
  await eventually("it is written", async () => (await namesOf(file)).length === 2);
  side.destroy(guard(1));
  await eventually("it is written", async () => (await namesOf(file)).length === 1);
  const lines = readFileSync(file, "utf8").split("\n");
  t.match(lines, [/^\{"version":1,/, "]}", /^\{"set":.*"g1"/, /^\{"set":.*"g2"/, '{"remove":["g1","",""]}', ""]);
  await side.state.close();
  t.match(JSON.parse(readFileSync(file, "utf8")), { version: 1, guards: [{ key: 2, config: { name: "g2" } }] });
});

t.test("changes made while one is written are written, the last of them last", async (t) => {
  const file = join(t.testdir(), "guards.json");
  const side = await Side.open(t, file);
  for (let key = 1; key <= 100; key++) {
    side.create(guard(key));
    if (key % 10 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  await side.state.close();
  t.equal((await guardsOf(file)).length, 100);
});

t.test("a change costs its own size", async (t) => {
  const file = join(t.testdir(), "guards.json");
  const side = await Side.open(t, file);
  const pad = "x".repeat(5000);
  for (let key = 1; key <= 500; key++) side.create(guard(key, `/${pad}`));
  await eventually("all are written", async () => (await namesOf(file)).length === 500);
  const { ino, size } = statSync(file);
  side.create(guard(501, "/short"));
  await eventually("it is written", async () => (await namesOf(file)).length === 501);
  t.equal(statSync(file).ino, ino, "not replaced");
  t.ok(statSync(file).size - size < 500, "one line longer");
});

t.test("ids of subjects that are gone are no change", async (t) => {
  const file = join(t.testdir(), "guards.json");
  const side = await Side.open(t, file);
  const before = { ...guard(1), ids: new Map([["a", 1], ["b", 2]]) }; // biome-ignore format: a pair each
  side.create(before);
  await eventually("it is written", async () => (await namesOf(file)).length === 1);
  const { size } = statSync(file);
  side.create({ ...before, ids: new Map([["a", 1]]) });
  side.create(guard(2));
  await eventually("the other is written", () => statSync(file).size > size);
  t.equal(readFileSync(file, "utf8").match(/"set"/g)?.length, 2);
});

t.test("a file that changes have made long is replaced by a snapshot", async (t) => {
  const file = join(t.testdir(), "guards.json");
  const side = await Side.open(t, file);
  const { ino } = statSync(file);
  const deny = `/${"x".repeat(200_000)}`;
  for (let round = 0; statSync(file).ino === ino; round++) {
    if (round > 20) throw new Error(`${statSync(file).size} bytes for one guard`);
    side.create(guard(1, deny + round));
    await eventually("it is written", () => readFileSync(file, "utf8").includes(deny + round));
  }
  t.ok(statSync(file).size < 250_000);
  t.same(await namesOf(file), ["g1"]);
});

t.test("a file that makes no sense is kept aside and said", async (t) => {
  for (const text of [
    "{",
    "[]",
    "null",
    JSON.stringify({ version: 2, guards: [] }),
    JSON.stringify({ version: 1, guards: {} }),
  ]) {
    const directory = t.testdir({ "guards.json": text });
    const file = join(directory, "guards.json");
    const side = await Side.open(t, file);
    t.same(side.names, [], text);
    t.match(side.log.messages, [/makes no sense/]);
    const [aside = ""] = readdirSync(directory).filter((name) => /^guards\.json\.corrupt-\d+$/.test(name));
    t.equal(readFileSync(join(directory, aside), "utf8"), text);
    side.create(guard(1));
    await side.state.close();
    t.same(await namesOf(file), ["g1"]);
  }
});

t.test("fields of a newer version cost no guard", async (t) => {
  const config = { name: "g", someday: true };
  const text = JSON.stringify({ version: 1, guards: [{ key: 1, config, ids: {}, more: 1 }] });
  const file = join(t.testdir({ "guards.json": text }), "guards.json");
  t.match(await guardsOf(file), [{ key: 1, config: { name: "g" } }]);
});

t.test("the file of an earlier version, and one that somebody formatted", async (t) => {
  const state = { version: 1, guards: [1, 2].map((key) => ({ key, config: { name: `g${key}` }, ids: { a: key } })) };
  const [first, second] = state.guards.map((entry) => JSON.stringify(entry));
  for (const text of [`{"version":1,"guards":[\n${first},\n${second}\n]}\n`, JSON.stringify(state, undefined, 2)]) {
    const file = join(t.testdir({ "guards.json": text }), "guards.json");
    const side = await Side.open(t, file);
    t.same(side.names, ["g1", "g2"]);
    side.create(guard(3));
    await eventually("it is written", () => readFileSync(file, "utf8").includes("g3"));
    t.same(await namesOf(file), ["g1", "g2", "g3"]);
    await side.state.close();
  }
});

t.test("a guard or a line that makes no sense costs itself only, and the file is kept aside", async (t) => {
  const good = { key: 1, config: { name: "g" }, ids: {} };
  const bad = [
    { ...good, key: 0 },
    { ...good, ids: { a: "1" } },
    { ...good, config: { name: 7 } },
    { key: 1, ids: {} },
  ];
  const texts = bad.map((entry) => JSON.stringify({ version: 1, guards: [entry, good] }));
  const snapshot = '{"version":1,"guards":[\n\n]}\n';
  const set = `{"set":${JSON.stringify(good)}}\n`;
  for (const line of [
    '{"set":1}',
    '{"remove":["a"]}',
    "{}",
    "1",
    '{"set":{"key":2,"con',
    ...bad.map((entry) => JSON.stringify({ set: entry })),
  ]) {
    texts.push(`${snapshot}${line}\n${set}`, `${snapshot}${set}${line}`);
  }
  for (const text of texts) {
    const directory = t.testdir({ "guards.json": text });
    const file = join(directory, "guards.json");
    const side = await Side.open(t, file);
    t.same(side.names, ["g"], text);
    t.match(side.log.messages, [/makes no sense/]);
    const aside = readdirSync(directory).find((name) => name.startsWith("guards.json.corrupt-")) ?? "";
    t.equal(readFileSync(join(directory, aside), "utf8"), text);
    await side.state.close();
    t.match(JSON.parse(readFileSync(file, "utf8")), { guards: [good] });
  }
});

t.test("a file that cannot be kept is an error at once, which names it", async (t) => {
  const directory = t.testdir({ file: "", directory: {} });
  symlinkSync("file", join(directory, "link"));
  const rejected: [string, RegExp][] = [
    [join(directory, "file", "guards.json"), /ENOTDIR/],
    [join(directory, "directory"), /not a regular file/],
    [join(directory, "link"), /not a regular file/],
    ["/dev/null", /not a regular file/],
    ["/proc/nope/guards.json", /ENOENT/],
    ["/sys/nope/guards.json", /EPERM|EACCES/],
    ["/proc/guards.json", /ENOENT|EACCES/],
  ];
  for (const [file, reason] of rejected) {
    const opened = StateFile.open({ file, log: new LogRecorder(), tryLock });
    await t.rejects(opened, { message: new RegExp(`^--state-file ${file}: cannot keep guards there: `) });
    await t.rejects(opened, { message: reason });
  }
});

t.test("writing that fails later is said once, counted, tried again, and says when it works", async (t) => {
  const file = join(t.testdir({ deep: {} }), "deep", "guards.json");
  const side = await Side.open(t, file);
  await eventually("the first turn is over", async () => (await namesOf(file)).length === 0);
  side.create(guard(1));
  await eventually("it is written", async () => (await namesOf(file)).length === 1);
  rmSync(dirname(file), { recursive: true });
  writeFileSync(dirname(file), "in the way");
  side.create(guard(2));
  await eventually("it failed twice", () => side.state.failures >= 2);
  t.match(side.state.failure, /ENOTDIR/);
  t.match(side.log.messages, [/^cannot write the state file/]);
  rmSync(dirname(file));
  mkdirSync(dirname(file));
  await eventually("it works again", () => side.state.failure === undefined);
  t.match(side.log.messages, [/^cannot write/, /written again/]);
  t.same(await namesOf(file), ["g1", "g2"]);
});

t.test("a file that is taken away or emptied is written again", async (t) => {
  const file = join(t.testdir(), "guards.json");
  const side = await Side.open(t, file);
  side.create(guard(1));
  await eventually("it is written", async () => (await namesOf(file)).length === 1);
  rmSync(file);
  await eventually("it is there again", () => statSync(file, { throwIfNoEntry: false }) !== undefined);
  await eventually("with its guard", async () => (await namesOf(file)).length === 1);
  truncateSync(file);
  await eventually("it is written again", async () => statSync(file).size > 0 && (await namesOf(file)).length === 1);
  t.same(side.names, ["g1"]);
  t.same(side.told, []);
});

t.test("a lock that somebody keeps fails the write, and no longer than that", async (t) => {
  const file = join(t.testdir(), "guards.json");
  const side = await Side.open(t, file);
  side.create(guard(1));
  await eventually("it is written", async () => (await namesOf(file)).length === 1);
  const fd = openSync(file, "r");
  t.equal(tryLock(fd), true);
  const other = openSync(file, "r");
  t.equal(tryLock(other), false);
  side.create(guard(2));
  await eventually("it fails", () => side.state.failure !== undefined);
  t.match(side.state.failure, /another process has it locked/);
  closeSync(fd);
  closeSync(other);
  await eventually("it is written", () => side.state.failure === undefined);
  t.same(await namesOf(file), ["g1", "g2"]);
  t.throws(() => tryLock(-1), { code: "SYSTEM", operation: "flock" });
});

t.test("two daemons on one file: each takes up what the other does, and nothing is lost", async (t) => {
  const file = join(t.testdir(), "guards.json");
  const old = await Side.open(t, file);
  old.create(guard(1));
  await eventually("it is written", async () => (await namesOf(file)).length === 1);
  const next = await Side.open(t, file);
  t.same(next.names, ["g1"]);

  next.create(guard(2));
  old.create(guard(3));
  await eventually(
    "both know all",
    () => [old, next].every(({ names }) => names.join() === "g1,g2,g3"),
    WITHIN.otherDaemon,
  );
  old.destroy(guard(1));
  next.create(guard(3, "/changed"));
  await eventually("both know", () => [old, next].every(({ names }) => names.join() === "g2,g3"), WITHIN.otherDaemon);
  const denied = (side: Side) => side.held.get(identity(guard(3).config))?.config.subject[0]?.deny[0];
  await eventually("the change is known", () => denied(old) === "/changed", WITHIN.otherDaemon);
  t.same(old.told, ["adopt g2", "adopt g3"]);
  t.same(next.told, ["adopt g3", "abandon g1"]);

  next.create(guard(4));
  await old.state.close();
  t.same(await namesOf(file), ["g2", "g3", "g4"], "the end of one takes nothing away");
  next.create(guard(5));
  await next.state.close();
  t.same(await namesOf(file), ["g2", "g3", "g4", "g5"]);
  t.same([...old.log.messages, ...next.log.messages], []);
});

t.test("two daemons: a storm on both, with snapshots in between", async (t) => {
  const file = join(t.testdir(), "guards.json");
  const sides = [await Side.open(t, file), await Side.open(t, file)];
  const deny = `/${"x".repeat(20_000)}`;
  for (let round = 0; round < 40; round++) {
    for (const [index, side] of sides.entries()) {
      side.create(guard(1 + index, deny + round));
      side.create(guard(10 + 2 * round + index));
    }
    await new Promise((resolve) => setTimeout(resolve, 30));
  }
  for (const side of sides) await eventually("all are known", () => side.names.length === 82, WITHIN.otherDaemon);
  for (const side of sides) await side.state.close();
  t.equal((await namesOf(file)).length, 82);
  for (const side of sides) t.same(side.log.messages, []);
});

t.test("two daemons: what one cannot hold stays in the file for the other", async (t) => {
  const file = join(t.testdir(), "guards.json");
  const [old, next] = [await Side.open(t, file), await Side.open(t, file)];
  // As a registry whose guard file has a guard of this name.
  next.declines = true;
  old.create(guard(1));
  await eventually("the other was told", () => next.told.length === 1, WITHIN.otherDaemon);
  next.create(guard(2));
  await next.state.close();
  t.same(await namesOf(file), ["g1", "g2"]);
});

t.test("a line of another process that is not whole yet costs that process nothing", async (t) => {
  const file = join(t.testdir(), "guards.json");
  const side = await Side.open(t, file);
  appendFileSync(file, '{"set":{"key":1,');
  side.create(guard(2));
  await eventually("it is written", async () => (await namesOf(file)).length === 1);
  t.same(await namesOf(file), ["g2"]);
  t.match(side.log.messages, [/makes no sense/]);
});

t.test("a resource's guard is kept as such, and so is its removal", async (t) => {
  const file = join(t.testdir(), "guards.json");
  const side = await Side.open(t, file);
  const [plain, ofResource] = [guard(1), { ...guard(1), key: 2, kind: "ClusterJanusGuard" as const }];
  side.create(plain);
  side.create(ofResource);
  await eventually("both are written", async () => (await guardsOf(file)).length === 2);
  t.same(await guardsOf(file), [plain, ofResource]);
  side.destroy(ofResource);
  await eventually("one is removed, as a line", async () => (await guardsOf(file)).length === 1);
  t.match(readFileSync(file, "utf8"), /\{"remove":\["g1","","","ClusterJanusGuard",""\]\}\n$/);
  t.same(await guardsOf(file), [plain]);
});
