/** The canary: a denied open every two seconds. What breaks on its way is told, each with its reason. */
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readlinkSync } from "node:fs";
import t from "tap";
import { BESIDE, beside } from "../support/beside.js";
import { childrenOf } from "../support/children.js";
import { staticProgram } from "../support/container.js";
import { type Daemon, eventually, startDaemon } from "../support/daemon.js";
import { freeze } from "../support/freeze.js";
import { stoppablePipeline } from "../support/stop-pipeline.js";
import { WITHIN } from "../support/times.js";

t.jobs = BESIDE;

const openers = (daemon: Daemon) => childrenOf(daemon, "janusd-canary");

/** Its fanotify groups, highest first: the permission groups come first (native/os/fanotify_group.h). */
function groups(daemon: Daemon): number[] {
  const isGroup = (fd: string): boolean => {
    try {
      return readlinkSync(`/proc/${daemon.pid}/fd/${fd}`) === "anon_inode:[fanotify]";
    } catch {
      return false; // it is closed meanwhile
    }
  };
  return readdirSync(`/proc/${daemon.pid}/fd`)
    .filter(isGroup)
    .map(Number)
    .sort((a, b) => b - a);
}

/** What the check says; undefined: it is well. */
async function failureOf(daemon: Daemon): Promise<string | undefined> {
  const { checks } = JSON.parse(await (await daemon.http("/readyz")).text());
  const canary = checks.find(({ name }: { name: string }) => name === "canary");
  return canary.ok ? undefined : canary.detail;
}

const proofs = (daemon: Daemon) => daemon.metric("janusd_canary_seconds_count", {});

async function proves(daemon: Daemon): Promise<void> {
  const before = await proofs(daemon);
  await eventually("it proves again", async () => (await proofs(daemon)) > before, 2 * WITHIN.report + 2_000);
  await eventually("it is ready", async () => (await daemon.http("/readyz")).status === 200, WITHIN.report);
}

t.test("opens are denied again and again, and nobody else sees it", async (t) => {
  const daemon = await startDaemon({ flags: ["--canary=100"] }, t);
  await eventually("it has proven some", async () => (await proofs(daemon)) >= 5);
  t.ok((await daemon.metric("janusd_asked_total", { outcome: "canary" })) >= 5);
  t.equal(await daemon.metric("janusd_asked_total", { outcome: "guarded" }), 0);
  t.equal(await daemon.metric("janusd_marks", { kind: "superblock" }), 0);
  t.equal(await daemon.metric("janusd_marks", { kind: "identity" }), 0);
  t.same(daemon.lines, [], "it is in no log");
  const all = openers(daemon);
  t.equal(all.length, 1);
  await daemon.stop();
  await eventually("its process has ended", () => all.every((pid) => !existsSync(`/proc/${pid}`)));
});

t.test("its process is started again", async (t) => {
  const daemon = await startDaemon({}, t);
  await eventually("it has proven one", async () => (await proofs(daemon)) > 0);
  const [opener = 0, ...others] = openers(daemon);
  t.same(others, []);
  process.kill(opener, "SIGKILL");
  await eventually("there is another", () => openers(daemon).some((pid) => pid !== opener), 2_000 + 1_000);
  await proves(daemon);
  await daemon.stop();
});

t.test("an open that was allowed", beside, async (t) => {
  const daemon = await startDaemon({}, t);
  for (const fd of groups(daemon).slice(0, 2))
    execFileSync(staticProgram("close-descriptor.c"), [String(daemon.pid), "scanner", String(fd)]);
  await eventually("it is told", async () => (await failureOf(daemon)) !== undefined, WITHIN.unproven);
  t.equal(await failureOf(daemon), "an open of a denied file was allowed");
  t.equal((await daemon.http("/livez")).status, 200);
});

t.test("gate and watchdog stand still: an open waits", beside, async (t) => {
  const daemon = await startDaemon({ flags: ["--stall-limit=0"] }, t);
  await eventually("it has proven one", async () => (await proofs(daemon)) > 0);
  const thaws = [await freeze(daemon, "watchdog"), await freeze(daemon, "gate")];
  await eventually("it is told", async () => (await failureOf(daemon)) !== undefined, WITHIN.unproven);
  t.match(await failureOf(daemon), /^an open waits for its answer: not proven for \d+ s$/);
  for (const thaw of thaws) await thaw();
  await proves(daemon);
  await daemon.stop();
});

t.test("nobody reads the ring: no record arrives", beside, async (t) => {
  const { env, stop } = stoppablePipeline();
  const daemon = await startDaemon({ env }, t);
  await eventually("it has proven one", async () => (await proofs(daemon)) > 0);
  stop();
  await eventually("it is told", async () => (await failureOf(daemon)) !== undefined, WITHIN.unproven);
  t.match(await failureOf(daemon), /^opens are denied, no record arrives: not proven for \d+ s$/);
});

t.test("none is wanted", async (t) => {
  const daemon = await startDaemon({ flags: ["--canary=0"] }, t);
  const { checks } = JSON.parse(await (await daemon.http("/readyz")).text());
  t.notOk(checks.some(({ name }: { name: string }) => name === "canary"));
  t.notMatch(await daemon.metrics(), /^janusd_canary_seconds_count/m);
  t.same(openers(daemon), []);
  await daemon.stop();
});
