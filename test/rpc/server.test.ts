/** The gRPC edge, by a real server on a loopback port. What it does to the kernel is in test/kernel. */
import { Buffer } from "node:buffer";
import { once } from "node:events";
import { existsSync, mkdtempSync } from "node:fs";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { timestampFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import { Client, type ClientReadableStream, credentials, type ServiceError, status } from "@grpc/grpc-js";
import { service as health } from "grpc-health-check";
import t from "tap";
import { formatAddress } from "../../src/address.js";
import { SocketLocks } from "../../src/bind.js";
import { JanusClient, RpcError } from "../../src/cli/client.js";
import { EventHistory } from "../../src/event/history.js";
import { GuardSource, GuardState, ProcessRole } from "../../src/gen/janus/v1/inspection_pb.js";
import { Janusd, JanusdConfigSchema } from "../../src/gen/janus_pb.js";
import { GuardIntake } from "../../src/guard/intake.js";
import { GuardRegistry } from "../../src/guard/registry.js";
import { loadAddon, type NativeErrorCode } from "../../src/native.js";
import { serviceDefinition } from "../../src/rpc/definition.js";
import { EventStreams } from "../../src/rpc/event-streams.js";
import type { DaemonStatus } from "../../src/rpc/inspection-service.js";
import { Refusals } from "../../src/rpc/refusals.js";
import { openRpcServer } from "../../src/rpc/server.js";
import { workspaceDirectory } from "../support/cleanup.js";
import { EngineRecorder, LogRecorder } from "../support/engine-recorder.js";

const [A, B] = ["a".repeat(64), "b".repeat(64)];
const guard = {
  name: "g",
  podName: "pod",
  cid: [A],
  subject: [{ deny: ["/etc/secret"], event: ["open"] }],
};

const daemonStatus: DaemonStatus = {
  version: "1.2.3",
  commit: "abc",
  nodeName: "node",
  pid: 7,
  startedMs: 1_700_000_000_500,
  ready: false,
  checks: [{ name: "gate", ok: false, detail: "moved 9000 ms ago" }],
  features: loadAddon().probe().features,
  guards: 1,
  programs: ["on_fork"],
  exposure: { deadline: 3 },
  holdTier: "scheduler",
};

const locks = new SocketLocks(loadAddon());
t.teardown(() => locks.close());
const loopback = { host: "127.0.0.1", port: 0 };

async function serve(t: { teardown(handler: () => Promise<void>): unknown }, waitMs = 0) {
  const engine = new EngineRecorder();
  engine.run(A);
  engine.run(B);
  const log = new LogRecorder();
  const registry = new GuardRegistry({ engine, node: "node", log });
  const intake = new GuardIntake({ registry, engine, waitMs });
  const guards = () => registry.details();
  const access = { allowedClients: [], locks, peer: loadAddon().peer, refusals: new Refusals(log) };
  const history = new EventHistory(1024 * 1024, () => 0);
  const streams = new EventStreams(history);
  const parts = { engine, streams, history, intake, registry, guards, log, status: () => daemonStatus, ...access };
  const server = await openRpcServer({ listen: [loopback], tls: undefined, ...parts });
  const address = server.addresses.map(formatAddress).join();
  const client = new JanusClient(address, credentials.createInsecure());
  const raw = new Client(address, credentials.createInsecure());
  t.teardown(async () => {
    client.close();
    raw.close();
    await server.close();
  });
  return { engine, intake, registry, log, server, client, raw, parts };
}

async function failure(call: Promise<unknown>): Promise<RpcError> {
  const thrown = await call.then(
    () => undefined,
    (error: unknown) => error,
  );
  if (thrown instanceof RpcError) return thrown;
  throw new Error(`expected an RpcError, got ${String(thrown)}`);
}

t.test("create, state, destroy", async (t) => {
  const { client, engine } = await serve(t);
  const created = await client.createGuard(guard);
  t.match(created, { nodeName: "node", podName: "pod", name: "g", pid: [100], processEventfd: [1], cid: [A] });
  t.same(await client.createGuard(guard), created);
  t.same(await client.getGuardState(), [created]);
  await client.destroyGuard({ nodeName: "node", podName: "pod", pid: [1] });
  t.same(await client.getGuardState(), []);
  await client.destroyGuard({ nodeName: "node", podName: "pod" });
  t.same(engine.take(), ["apply 1 1", "remove 1"]);
});

t.test("the pod of a guard that lost a container looks unguarded, so that its successor gets one", async (t) => {
  const { client, engine } = await serve(t);
  await client.createGuard({ ...guard, cid: [A, B] });
  engine.end(A);
  t.match(await client.getGuardState(), [{ name: "g", podName: "", cid: [B] }]);
});

t.test("inspection: containers with their guards, processes with their roles, the daemon itself", async (t) => {
  const { client } = await serve(t);
  await client.createGuard(guard);
  t.match(await client.listContainers(true), [
    {
      id: A,
      cgroupPath: `/${A}`,
      cgroupVersion: 2,
      firstPid: 100,
      processCount: 1,
      started: { seconds: 100n },
      guards: [{ name: "g", namespace: "", podName: "pod" }],
    },
    { id: B, cgroupVersion: 1, guards: [] },
  ]);
  t.match(await client.listProcesses(`containerd://${A}`), [
    { pid: 100, role: ProcessRole.INIT, started: { seconds: 1n, nanos: 5e8 }, mountNamespace: 2n ** 40n },
    { pid: 101, role: ProcessRole.CHILD, comm: "child", executable: "/bin/child" },
    { pid: 102, role: ProcessRole.OTHER },
  ]);
  t.match(await failure(client.listProcesses("c".repeat(64))), { code: "NOT_FOUND" });
  t.match(await failure(client.listProcesses("a*")), {
    code: "INVALID_ARGUMENT",
    violations: [{ field: "container", description: /not a container id/ }],
  });
  t.match(await client.getStatus(), {
    version: "1.2.3",
    started: { seconds: 1_700_000_000n },
    checks: [{ name: "gate", ok: false, detail: "moved 9000 ms ago" }],
    features: { tp_btf: true },
    exposure: { deadline: 3n },
    holdTier: "scheduler",
  });
});

t.test("inspection: guards as they were applied, held or pending, with what they decided", async (t) => {
  const { client, engine, registry } = await serve(t);
  const config = { ...guard, namespace: "web", cid: [`containerd://${A}`, B], containerNames: { [B]: "side" } };
  const before = Date.now();
  await client.createGuard(config);
  const decision = { subjectId: 1, kind: 0, response: 0, answered: true, count: 2 };
  engine.notes.push({ subjectId: 1, path: "/etc/secret", missing: true, program: "", names: 0, fault: "" });
  engine.decisions.push(decision, { ...decision, subjectId: 2 }, { ...decision, response: 1, count: 3 });
  engine.decisions.push(
    { ...decision, kind: 2, response: 1 },
    { ...decision, answered: false },
    { ...decision, response: 2, count: 5 },
    { ...decision, subjectId: 9 },
  );
  const [held, ...rest] = await client.listGuards({});
  t.same(rest, []);
  t.same(held?.config, create(JanusdConfigSchema, config));
  t.match(held, {
    ...{ nodeName: "node", source: GuardSource.RPC, state: GuardState.ACTIVE, reason: "", complete: true },
    containers: [
      { id: A, name: "", firstPid: 100 },
      { id: B, name: "side", firstPid: 101 },
    ],
    decisions: [
      { event: "open", allowed: 4n, denied: 3n, audited: 5n },
      { event: "exec", allowed: 0n, denied: 2n },
    ],
    warnings: [{ field: "subject[0].deny[0]", description: /^no such path yet in a{12}: / }],
  });
  const since = timestampMs(held?.since ?? timestampFromMs(0));
  t.ok(since >= before && since <= Date.now());
  engine.end(A);
  const again = create(JanusdConfigSchema, { ...guard, name: "later", podName: "other" });
  engine.refuse("UNSUPPORTED");
  t.throws(() => registry.restore({ key: 7, config: { ...again, cid: [B] }, ids: new Map() }));
  registry.restore({ key: 8, config: { ...again, name: "kept", cid: [B] }, ids: new Map() });
  t.match(await client.listGuards({}), [
    { config: { name: "g" }, complete: false, containers: [{ id: B }], since: held?.since },
    { config: { name: "kept" }, source: GuardSource.STATE, state: GuardState.ACTIVE },
    {
      config: { name: "later", cid: [B] },
      ...{ source: GuardSource.STATE, state: GuardState.PENDING, reason: "native UNSUPPORTED", since: {} },
    },
  ]);
  const names = async (filter: { name?: string; podName?: string; namespace?: string }) =>
    (await client.listGuards(filter)).map(({ config }) => config?.name);
  t.same(await names({ podName: "other" }), ["kept", "later"]);
  t.same(await names({ name: "g", namespace: "web", podName: "pod" }), ["g"]);
  t.same(await names({ name: "g", namespace: "other" }), []);
});

t.test("a bad request: INVALID_ARGUMENT, with every field in google.rpc.BadRequest", async (t) => {
  const { client } = await serve(t);
  const error = await failure(client.createGuard({ ...guard, cid: ["*"], subject: [{ event: ["OPEN"] }] }));
  t.equal(error.code, "INVALID_ARGUMENT");
  t.same(
    error.violations.map(({ field }) => field),
    ["cid[0]", "subject[0]", "subject[0].event[0]"],
  );
  for (const { field, description } of error.violations)
    t.ok(error.message.includes(`${field}: ${description}`), field);
});

t.test("more violations than a trailer holds: the first ones, and how many more", async (t) => {
  const { client } = await serve(t);
  const deny = Array.from({ length: 5000 }, () => "relative");
  const error = await failure(client.createGuard({ ...guard, subject: [{ deny, event: ["open"] }] }));
  t.equal(error.code, "INVALID_ARGUMENT");
  t.match(error.violations[0], { field: "subject[0].deny[0]" });
  t.match(error.message, new RegExp(`; and ${5000 - error.violations.length} more$`));
});

t.test("each kind of failure has its status", async (t) => {
  const { client, engine, log } = await serve(t);
  const codes: Readonly<Record<NativeErrorCode, string>> = {
    NOT_FOUND: "NOT_FOUND",
    AMBIGUOUS: "INVALID_ARGUMENT",
    INVALID: "INVALID_ARGUMENT",
    UNSUPPORTED: "FAILED_PRECONDITION",
    EXHAUSTED: "RESOURCE_EXHAUSTED",
    SYSTEM: "INTERNAL",
  };
  for (const code of Object.keys(codes) as NativeErrorCode[]) {
    engine.refuse(code);
    const error = await failure(client.createGuard(guard));
    t.equal(error.code, codes[code]);
    t.notMatch(error.message, /\n/);
  }
  const unknown = await failure(client.createGuard({ ...guard, cid: ["c".repeat(64)] }));
  t.equal(unknown.code, "NOT_FOUND");
  t.match(unknown.message, "c".repeat(64));
  t.ok(log.messages.includes("request failed"), "SYSTEM is ours to look into");
  t.same(await client.getGuardState(), []);
});

t.test("a create that waits for its container holds up nobody, and ends with its client or the server", async (t) => {
  const { client, raw, engine, intake, parts, server } = await serve(t, 60_000);
  const absent = "c".repeat(64);
  const { createGuard } = serviceDefinition(Janusd);
  if (createGuard === undefined) throw new Error("no CreateGuard");
  const { path, requestSerialize, responseDeserialize } = createGuard;
  const asked = (name: string, deadline = Date.now() + 60_000) => {
    const message = create(JanusdConfigSchema, { ...guard, name, cid: [absent] });
    let answered: (error: ServiceError | null) => void = () => undefined;
    const answer = new Promise<ServiceError | null>((resolve) => {
      answered = resolve;
    });
    const call = raw.makeUnaryRequest(path, requestSerialize, responseDeserialize, message, { deadline }, answered);
    return { call, answer };
  };
  const [cancelled, hurried, stopped] = [asked("cancelled"), asked("hurried", Date.now() + 2000), asked("stopped")];
  while (engine.looks < 1) await new Promise((resolve) => setTimeout(resolve, 10));
  await client.createGuard(guard);
  t.match(await client.getGuardState(), [{ name: "g" }]);
  cancelled.call.cancel();
  t.match(await cancelled.answer, { code: status.CANCELLED });
  // Before the deadline, so that the client gets to know why.
  t.match(await hurried.answer, { code: status.NOT_FOUND, details: /waited \d+ ms$/ });
  const closing = Promise.all([intake.close(), server.close()]);
  t.match(await stopped.answer, { code: status.UNAVAILABLE, details: "the daemon is stopping" });
  await closing;
  t.equal(parts.registry.size, 1);
});

t.test("bytes that are no message", async (t) => {
  const { raw } = await serve(t);
  const call = new Promise((resolve, reject) => {
    const bytes = (value: Buffer) => value;
    raw.makeUnaryRequest("/janus.Janusd/CreateGuard", bytes, bytes, Buffer.from([0xff, 0xff]), (error, answer) =>
      error === null ? resolve(answer) : reject(error),
    );
  });
  await t.rejects(call, { code: status.INTERNAL });
});

interface HealthAnswer {
  readonly status: string;
}

function isHealthAnswer(answer: object): answer is HealthAnswer {
  return "status" in answer && typeof answer.status === "string";
}

t.test("health: Check and Watch say what setServing said; unknown names NOT_FOUND", async (t) => {
  const { raw, server } = await serve(t);
  const { Check, Watch } = { Check: health["Check"], Watch: health["Watch"] };
  if (Check === undefined || Watch === undefined) throw new Error("no health service");
  const read = (bytes: Buffer): HealthAnswer => {
    const answer = Watch.responseDeserialize(bytes);
    if (!isHealthAnswer(answer)) throw new Error("no status");
    return answer;
  };
  const check = (service: string): Promise<HealthAnswer> =>
    new Promise((resolve, reject) => {
      raw.makeUnaryRequest(
        Check.path,
        Check.requestSerialize,
        read,
        { service },
        (error: ServiceError | null, answer?: HealthAnswer) => (answer === undefined ? reject(error) : resolve(answer)),
      );
    });
  t.match(await check(""), { status: "NOT_SERVING" });
  await t.rejects(check("janus"), { code: status.NOT_FOUND });

  const watch: ClientReadableStream<HealthAnswer> = raw.makeServerStreamRequest(
    Watch.path,
    Watch.requestSerialize,
    read,
    { service: "janus.Janusd" },
  );
  watch.on("error", () => undefined);
  const next = async (): Promise<string> => {
    const [answer]: HealthAnswer[] = await once(watch, "data");
    return answer?.status ?? "none";
  };
  t.equal(await next(), "NOT_SERVING");
  for (const serving of [true, false]) {
    const change = next();
    server.setServing(serving);
    server.setServing(serving);
    t.equal(await change, serving ? "SERVING" : "NOT_SERVING");
    t.match(await check(""), { status: serving ? "SERVING" : "NOT_SERVING" });
  }
  watch.cancel();
});

t.test("closing ends streams that would never end", async (t) => {
  const { raw, server } = await serve(t);
  const { Watch } = { Watch: health["Watch"] };
  if (Watch === undefined) throw new Error("no health service");
  const watch = raw.makeServerStreamRequest(Watch.path, Watch.requestSerialize, Watch.responseDeserialize, {});
  const ended = once(watch, "error");
  await once(watch, "data");
  await server.close();
  t.ok(await ended);
});

t.test("several listeners; one that is taken, and none is left", async (t) => {
  const { server, parts } = await serve(t);
  const [taken] = server.addresses;
  if (taken === undefined) throw new Error("no address");
  const path = join(mkdtempSync(join(workspaceDirectory(), "rpc-")), "janusd.sock");
  const options = { tls: undefined, ...parts };
  await t.rejects(openRpcServer({ listen: [{ path }, taken], ...options }), { name: "ListenError", message: /in use/ });
  t.notOk(existsSync(path));

  const both = await openRpcServer({ listen: [{ path }, loopback], ...options });
  t.teardown(() => both.close());
  t.equal(both.addresses.length, 2);
  for (const address of both.addresses) {
    const client = new JanusClient(formatAddress(address), credentials.createInsecure());
    t.match(await client.getStatus(), { version: "1.2.3" });
    client.close();
  }
});

t.test("who made and removed a guard is logged: process and user of a Unix peer, else the address", async (t) => {
  const { parts, client, log } = await serve(t);
  const path = join(mkdtempSync(join(workspaceDirectory(), "rpc-")), "janusd.sock");
  const server = await openRpcServer({ listen: [{ path }], tls: undefined, ...parts });
  t.teardown(() => server.close());
  const unix = new JanusClient(`unix://${path}`, credentials.createInsecure());
  t.teardown(() => unix.close());
  await unix.createGuard(guard);
  await client.destroyGuard({ name: "g" });
  t.match(log.entries, [
    { level: "info", message: "guard created", by: { peer: "unix", pid: process.pid, uid: 0 }, guard: "g" },
    { level: "info", message: "guard removed", by: { peer: /^127\.0\.0\.1:\d+$/ }, guard: "g" },
  ]);
});
