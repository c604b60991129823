import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { Client, credentials, status } from "@grpc/grpc-js";
import t, { type Test } from "tap";
import { loadAddon } from "../../src/native.js";
import { BESIDE, beside } from "../support/beside.js";
import { startContainer, staticProgram } from "../support/container.js";
import { type Daemon, eventually, rpcError, startDaemon } from "../support/daemon.js";
import { freeze } from "../support/freeze.js";
import { EPERM, guardOn } from "../support/guard.js";
import { stoppablePipeline } from "../support/stop-pipeline.js";
import { WITHIN } from "../support/times.js";

t.jobs = BESIDE;

/** Checks, and the names of their threads. */
const threads = {
  gate: "gate",
  observer: "observer",
  dirents: "dirents",
  planner: "planner",
  mounts: "mounts",
  tracker: "tracker",
  watchdog: "watchdog",
  scanner: "scanner",
  waker: "waker",
  last_resort: "last resort",
};

const ofKernelTier = { denials: "denials" };

async function threadsOf(daemon: Daemon): Promise<typeof threads> {
  const kernelDecides = (await daemon.metric("janusd_kernel_decides")) === 1;
  return kernelDecides ? { ...threads, ...ofKernelTier } : threads;
}

t.test("readiness is made of what can be proven", async (t) => {
  const daemon = await startDaemon({}, t);
  const response = await daemon.http("/readyz");
  const text = await response.text();
  t.equal(response.status, 200, text);
  t.match(response.headers.get("content-type"), /json/);
  const { holdTier, kernel } = JSON.parse(text);
  t.equal(await daemon.metric("janusd_hold_tier", { tier: holdTier }), 1);
  for (const [feature, { works }] of Object.entries<{ works: boolean }>(kernel.features)) {
    t.equal(await daemon.metric("janusd_feature", { feature }), works ? 1 : 0, feature);
  }
  t.equal((await daemon.http("/livez")).status, 200);
  const metrics = await daemon.metrics();
  for (const thread of Object.keys(await threadsOf(daemon)))
    t.match(metrics, `janusd_thread_heartbeat_age_seconds{thread="${thread}"}`);
  t.ok((await daemon.metric("janusd_ebpf_program_attached")) >= 5);
  await daemon.stop();
});

t.test("a link of an eBPF program that is gone is told by its name", async (t) => {
  const daemon = await startDaemon({}, t);
  const link = linkOf(daemon, "on_exec");
  execFileSync(staticProgram("close-descriptor.c"), [String(daemon.pid), "scanner", link]);
  await eventually("it is not ready", async () => (await daemon.http("/readyz")).status === 503, WITHIN.report);
  t.match(
    await (await daemon.http("/readyz")).text(),
    '"name":"ebpf","ok":false,"detail":"not attached any more: on_exec"',
  );
  t.equal(await daemon.metric("janusd_ebpf_program_attached", { program: "on_exec" }), 0);
  t.equal((await daemon.http("/livez")).status, 200);
});

/** The descriptor of the daemon that keeps the program attached. */
function linkOf(daemon: Daemon, program: string): string {
  for (const fd of readdirSync(`/proc/${daemon.pid}/fd`)) {
    const [, id] = /^link_id:.*^prog_id:\s+(\d+)$/ms.exec(textOf(`/proc/${daemon.pid}/fdinfo/${fd}`)) ?? [];
    if (id === undefined) continue;
    const { name } = JSON.parse(execFileSync("bpftool", ["-j", "prog", "show", "id", id], { encoding: "utf8" }));
    if (name === program) return fd;
  }
  throw new Error(`no link of ${program}`);
}

function textOf(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return ""; // it is closed meanwhile
  }
}

/** The names of its checks, and those that fail. */
async function checksOf(daemon: Daemon): Promise<{ all: string[]; failed: string[] }> {
  const { checks }: { checks: { name: string; ok: boolean }[] } = JSON.parse(
    await (await daemon.http("/readyz")).text(),
  );
  const names = (some: typeof checks) => some.map(({ name }) => name).sort();
  return { all: names(checks), failed: names(checks.filter(({ ok }) => !ok)) };
}

t.test("each thread is looked at, and what else there is", async (t) => {
  const daemon = await startDaemon({}, t);
  const { all } = await checksOf(daemon);
  const of = Object.keys(await threadsOf(daemon));
  t.same(all, [...of, "canary", "ebpf", "ring", "guards", "state-file", "loop"].sort());
  await daemon.stop();
});

t.test("threads that stand still are told by their names", beside, async (t) => {
  const daemon = await startDaemon({ flags: ["--canary=0"] }, t);
  // Not the gate and its watchdog at once: the keeper would end the daemon.
  const { watchdog, ...others } = await threadsOf(daemon);
  for (const some of [others, { watchdog }]) {
    const thaws: (() => Promise<unknown>)[] = [];
    for (const thread of Object.values(some)) thaws.push(await freeze(daemon, thread));
    await eventually(
      "all are told",
      async () => (await checksOf(daemon)).failed.length === thaws.length,
      WITHIN.standingStill,
    );
    t.same((await checksOf(daemon)).failed, Object.keys(some).sort());
    t.equal((await daemon.http("/livez")).status, 200);
    for (const thaw of thaws) await thaw();
    await eventually("it is ready again", async () => (await daemon.http("/readyz")).status === 200, WITHIN.report);
  }
  await daemon.stop();
});

t.test("a pipeline that has stopped: nobody reads the ring, which is told; guards hold", beside, async (t) => {
  const { env, stop } = stoppablePipeline();
  const daemon = await startDaemon({ flags: ["--canary=0"], env }, t);
  const container = await startContainer({ files: { "/etc/secret": "" } }, t);
  const actor = await container.actor();
  await daemon.createGuard(guardOn(container, { deny: ["/etc/secret"] }));
  t.equal(await actor.open("/etc/secret"), EPERM);
  await daemon.waitForLine((line) => line.includes("/etc/secret"));
  stop();
  // A timer that was on its way has come by now.
  await new Promise((resolve) => setTimeout(resolve, 1_000));
  t.equal(await actor.open("/etc/secret"), EPERM);
  await eventually("it is told", async () => (await checksOf(daemon)).failed.length > 0, WITHIN.standingStill);
  t.same((await checksOf(daemon)).failed, ["ring"]);
  t.equal((await daemon.http("/livez")).status, 200);
  t.equal(await actor.open("/etc/secret"), EPERM);
});

/** HealthCheckRequest{service = 1}, HealthCheckResponse{status = 1}: small enough to write by hand. */
function grpcHealth(daemon: Daemon, t: Test): (service: string) => Promise<Buffer> {
  const client = new Client(daemon.grpcAddress, credentials.createInsecure());
  t.teardown(() => client.close());
  return (service) =>
    new Promise((resolve, reject) => {
      const bytes = Buffer.from(service);
      client.makeUnaryRequest(
        "/grpc.health.v1.Health/Check",
        () => (bytes.length === 0 ? bytes : Buffer.concat([Buffer.of(0x0a, bytes.length), bytes])),
        (answer) => answer,
        null,
        (error, answer) => (answer === undefined ? reject(error) : resolve(answer)),
      );
    });
}

const serving = Buffer.of(0x08, 1);
const notServing = Buffer.of(0x08, 2);

t.test("gRPC health: known names, and others", beside, async (t) => {
  const daemon = await startDaemon({}, t);
  const check = grpcHealth(daemon, t);
  t.same(await check(""), serving);
  t.same(await check("janus.Janusd"), serving);
  await t.rejects(check("somebody.Else"), { code: status.NOT_FOUND });
  await daemon.stop();
});

t.test("gRPC health: not serving while the gate stands still", beside, async (t) => {
  const daemon = await startDaemon({}, t);
  const check = grpcHealth(daemon, t);
  const thaw = await freeze(daemon, "gate");
  for (const service of ["", "janus.Janusd"])
    await eventually("it is not serving", async () => (await check(service)).equals(notServing), WITHIN.standingStill);
  await thaw();
  for (const service of ["", "janus.Janusd"])
    await eventually("it is serving again", async () => (await check(service)).equals(serving), WITHIN.report);
  await daemon.stop();
});

// The record itself isn't read back: the kernel writes it only for tasks with an audit context that some rule fills
// (audit_dummy_context(), include/linux/audit.h), and once auditing was enabled, every new task of the machine has one until
// the next boot (audit_alloc(), kernel/auditsc.c). That is not a test's to do to the machine that it runs on.
t.test("audit: asked of the kernel where it can, FAILED_PRECONDITION where it cannot", async (t) => {
  const daemon = await startDaemon({}, t);
  const container = await startContainer({ files: { "/etc/secret": "" } }, t);
  const actor = await container.actor();
  const create = daemon.createGuard(guardOn(container, { deny: ["/etc/secret"], audit: true }));
  if (loadAddon().probe().features.fanotify_audit.works) {
    await create;
    t.equal(await actor.open("/etc/secret"), EPERM);
  } else {
    const error = await rpcError(create);
    t.equal(error.code, "FAILED_PRECONDITION");
    t.match(error.message, /audit/i);
    t.same(await daemon.getGuardState(), []);
    t.equal(await actor.open("/etc/secret"), 0);
  }
  await daemon.stop();
});
