/** Waiting for containers, and who overtakes whom. What a container is, is in test/kernel. */
import { setTimeout as passed } from "node:timers/promises";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import t from "tap";
import { JanusdError } from "../../src/errors.js";
import { JanusdConfigSchema } from "../../src/gen/janus_pb.js";
import { GuardIntake } from "../../src/guard/intake.js";
import { GuardRegistry } from "../../src/guard/registry.js";
import { EngineRecorder, LogRecorder } from "../support/engine-recorder.js";

const [A, B] = ["a".repeat(64), "b".repeat(64)];
const PATIENT = 60_000;
const requester = { peer: "test" };

function config(rest: MessageInitShape<typeof JanusdConfigSchema> = {}) {
  const subject = [{ deny: ["/etc/secret"], event: ["open"] }];
  return create(JanusdConfigSchema, { name: "g", podName: "pod", cid: [`docker://${A}`], subject, ...rest });
}

function setUp(waitMs = PATIENT) {
  const engine = new EngineRecorder();
  const registry = new GuardRegistry({ engine, node: "node", log: new LogRecorder() });
  const intake = new GuardIntake({ registry, engine, waitMs });
  const patiently = { requester, signal: new AbortController().signal, patienceMs: Number.POSITIVE_INFINITY };
  return { engine, registry, intake, patiently };
}

async function failure(call: Promise<unknown>): Promise<JanusdError> {
  const thrown = await call.then(
    () => undefined,
    (error: unknown) => error,
  );
  if (thrown instanceof JanusdError) return thrown;
  throw new Error(`expected a JanusdError, got ${String(thrown)}`);
}

t.test("a container that is there is not waited for", async (t) => {
  const { engine, intake, patiently } = setUp();
  engine.run(A);
  t.same((await intake.create(config(), patiently)).containerIds, [A]);
  t.equal(engine.looks, 0);
});

t.test("all containers of a request are waited for together, and nothing is held before", async (t) => {
  const { engine, registry, intake, patiently } = setUp();
  const held = intake.create(config({ cid: [A, B] }), patiently);
  engine.run(A);
  await passed(250);
  t.equal(registry.size, 0);
  engine.run(B);
  t.same((await held).containerIds, [A, B]);
});

t.test("one look serves all who wait; nobody looks when nobody waits", async (t) => {
  const { engine, intake, patiently } = setUp();
  const held = ["one", "two", "three"].map((name) => intake.create(config({ name }), patiently));
  while (engine.looks < 2) await passed(10);
  engine.run(A);
  await Promise.all(held);
  const { looks } = engine;
  t.ok(looks < 6, "not three times as many");
  await passed(250);
  t.equal(engine.looks, looks);
});

t.test("not there in time: NOT_FOUND, with how long it was waited", async (t) => {
  const { intake, patiently } = setUp(120);
  const error = await failure(intake.create(config(), patiently));
  t.same(error.data, { kind: "not_found", container: A });
  t.match(error.message, /no running container "a{64}" on this node: native NOT_FOUND; waited \d+ ms$/);
});

t.test("not longer than the caller waits; 0 doesn't wait", async (t) => {
  const { engine, intake, patiently } = setUp();
  t.match(await failure(intake.create(config(), { ...patiently, patienceMs: 120 })), { message: /waited \d+ ms$/ });
  engine.looks = 0;
  const hurried = await failure(intake.create(config(), { ...patiently, patienceMs: -1 }));
  const never = setUp(0);
  for (const error of [hurried, await failure(never.intake.create(config(), never.patiently))])
    t.match(error, { data: { kind: "not_found" }, message: /native NOT_FOUND$/ });
  t.equal(engine.looks, 0);
});

t.test("what makes no sense is refused at once", async (t) => {
  const { engine, intake, patiently } = setUp();
  t.match(await failure(intake.create(config({ subject: [] }), patiently)), { data: { kind: "invalid" } });
  t.equal(engine.looks, 0);
});

t.test("a client that gives up ends its wait", async (t) => {
  const { engine, registry, intake } = setUp();
  const client = new AbortController();
  const call = failure(intake.create(config(), { requester, signal: client.signal, patienceMs: PATIENT }));
  client.abort(new JanusdError("the client gave up", { kind: "aborted" }));
  t.match(await call, { message: "the client gave up" });
  engine.run(A);
  await passed(250);
  t.equal(engine.looks, 0);
  t.equal(registry.size, 0);
});

t.test("so does the end of the daemon", async (t) => {
  const { intake, patiently } = setUp();
  const call = failure(intake.create(config(), patiently));
  intake.close();
  t.match(await call, { data: { kind: "unavailable" } });
});

t.test("a newer create of the same guard overtakes one that waits, whether it has to wait or not", async (t) => {
  const { engine, registry, intake, patiently } = setUp();
  const first = failure(intake.create(config(), patiently));
  const second = failure(intake.create(config(), patiently));
  t.match(await first, { data: { kind: "aborted" } });
  engine.run(B);
  await intake.create(config({ cid: [B] }), patiently);
  t.match(await second, { data: { kind: "aborted" } });
  engine.run(A);
  await passed(250);
  t.same(
    registry.list().map(({ containerIds }) => containerIds),
    [[B]],
  );
});

t.test("one that makes no sense overtakes nothing; another guard's doesn't either", async (t) => {
  const { engine, intake, patiently } = setUp();
  const waiting = intake.create(config(), patiently);
  await failure(intake.create(config({ subject: [] }), patiently));
  engine.run(B);
  await intake.create(config({ podName: "other", cid: [B] }), patiently);
  engine.run(A);
  t.same((await waiting).containerIds, [A]);
});

t.test("a destroy ends the creates that it means", async (t) => {
  const { engine, registry, intake, patiently } = setUp();
  const one = failure(intake.create(config({ name: "one" }), patiently));
  const two = failure(intake.create(config({ name: "two" }), patiently));
  const other = intake.create(config({ podName: "other" }), patiently);
  const request = { name: "", namespace: "", podName: "pod", pid: [] };
  t.equal(intake.destroy({ ...request, podName: "", pid: [7] }, requester), 0, "by pids alone: none has any yet");
  t.equal(intake.destroy(request, requester), 2);
  for (const error of [await one, await two]) t.match(error, { data: { kind: "aborted" } });
  engine.run(A);
  t.same((await other).containerIds, [A]);
  t.same(
    registry.list().map(({ podName }) => podName),
    ["other"],
  );
});
