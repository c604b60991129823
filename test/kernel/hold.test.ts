/**
 * Processes that make themselves a new view of the file system are held until it is guarded, and let go whatever
 * happens. What tells is not pinned here (an `allow` path), so that only marks on the new mounts see it.
 */
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import { keeperOf } from "../support/children.js";
import { workspaceDirectory } from "../support/cleanup.js";
import { type Container, startContainer } from "../support/container.js";
import { type Daemon, eventually, startDaemon } from "../support/daemon.js";
import { freeze, standStill } from "../support/freeze.js";
import { guardOn } from "../support/guard.js";
import { CLONE_NEWNS, neverUnseen, seen, unlistedUnseen, volumeContainer } from "../support/new-mounts.js";
import { SLOW } from "../support/times.js";

const TRACEFS = "/sys/kernel/tracing";

function field(pid: number, name: string): string {
  try {
    return new RegExp(`^${name}:\\s*(.*)$`, "m").exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? "";
  } catch {
    return ""; // it has ended
  }
}

/** Processes of the container that stand still. */
function stoppedOf(container: Container): number[] {
  const cgroupOf = (pid: number | string) => {
    try {
      return readFileSync(`/proc/${pid}/cgroup`, "utf8");
    } catch {
      return undefined; // it has ended
    }
  };
  const own = cgroupOf(container.initPid);
  return readdirSync("/proc")
    .filter((entry) => /^\d+$/.test(entry) && cgroupOf(entry) === own && isStopped(Number(entry)))
    .map(Number);
}

function isStopped(pid: number): boolean {
  return field(pid, "State").startsWith("T");
}

/** Long enough to find who is held, and no more than the daemon takes. */
const LIMIT = `--hold-limit=${Math.min(10_000, 3000 * SLOW)}`;
/** By a stop, as it is done on every kernel. */
const PATIENT = { flags: ["--hold=scheduler", LIMIT] };

/** Starts a process that is held at its exec, and waits until it stands still. */
async function startHeld(container: Container): Promise<{ pid: number; done: Promise<unknown> }> {
  const done = container.exec(["unshare", "-m", "true"], { capabilities: "sys_admin" });
  let pid = 0;
  await eventually("somebody is held", () => {
    pid = stoppedOf(container)[0] ?? 0;
    return pid !== 0;
  });
  return { pid, done };
}

t.test("an exec in a new mount namespace waits until its volumes are marked", async (t) => {
  const daemon = await startDaemon(PATIENT, t);
  const container = await volumeContainer(t);
  await daemon.createGuard(seen(container));
  const shell = await container.shell({ capabilities: "sys_admin" });
  const tries = 100;
  const held = () => daemon.metric("janusd_holds_total", { outcome: "held" });
  // A look, one each 100 ms, may meet one between its unshare(2) and its exec. Then it is not held, which is counted,
  // and another one is run.
  let runs = 0;
  while (runs < tries || (runs < 2 * tries && (await held()) < tries)) {
    t.match(await shell.run("unshare -m cat /data/file"), { status: 0, output: "seen" });
    ++runs;
  }
  t.equal(await daemon.metric("janusd_events_total", { event: "open" }), runs, "every open was asked about");
  const met = await daemon.metric("janusd_exposure_total", { cause: "mount_changed" });
  t.ok((await held()) >= tries);
  t.ok((await held()) + met >= runs, "each is held, or counted");
  t.equal(await daemon.metric("janusd_holds_total", { outcome: "expired" }), 0);
  t.equal(await daemon.metric("janusd_exposure_total"), met);
  await shell.stop();
  await daemon.stop();
});

t.test("whom a look meets before its exec is counted, each time", async (t) => {
  const daemon = await startDaemon(PATIENT, t);
  const container = await volumeContainer(t);
  await daemon.createGuard(seen(container));
  const met = () => daemon.metric("janusd_exposure_total", { cause: "mount_changed" });
  // The next one's mounts have the numbers of those that are gone.
  for (let tries = 1; tries <= 3; ++tries) {
    const actor = await container.actor({ capabilities: "sys_admin" });
    t.equal(await actor.unshare(CLONE_NEWNS), 0);
    await eventually("a look has met it", async () => (await met()) === tries);
    await actor.stop();
  }
  t.equal(await daemon.metric("janusd_holds_total"), 0);
  await daemon.stop();
});

t.test("a namespace that is known, and a container without a guarded volume, hold nobody", async (t) => {
  const daemon = await startDaemon({}, t);
  const [guarded, overlay] = [await volumeContainer(t), await startContainer({ files: { "/etc/secret": "" } }, t)];
  await daemon.createGuard(seen(guarded));
  await daemon.createGuard({ ...guardOn(overlay, { deny: ["/etc/secret"] }), name: "other", podName: "other" });
  t.match(await guarded.exec(["cat", "/data/file"]), { status: 0 });
  t.match(await overlay.exec(["unshare", "-m", "true"], { capabilities: "sys_admin" }), { status: 0 });
  t.equal(await daemon.metric("janusd_holds_total"), 0);
  await daemon.stop();
});

t.test("a daemon that does not answer: its keeper lets go", async (t) => {
  const daemon = await startDaemon(PATIENT, t);
  const container = await volumeContainer(t);
  await daemon.createGuard(seen(container));
  const thaw = await freeze(daemon, "tracker");
  const { done } = await startHeld(container);
  t.match(await done, { status: 0 });
  await thaw();
  await eventually(
    "it is counted",
    async () => (await daemon.metric("janusd_holds_total", { outcome: "expired" })) === 1,
  );

  await standStill(daemon.pid);
  const { done: again } = await startHeld(container);
  t.match(await again, { status: 0 }, "all of it stopped");
  process.kill(daemon.pid, "SIGCONT");
  await daemon.stop();
});

t.test("one of a container was held for too long: another container's are held all the same", async (t) => {
  const daemon = await startDaemon(PATIENT, t);
  const [late, other] = [await volumeContainer(t), await volumeContainer(t)];
  await daemon.createGuard(seen(late));
  await daemon.createGuard({ ...seen(other), name: "other", podName: "other" });
  const thaw = await freeze(daemon, "tracker");
  const { done } = await startHeld(late);
  t.match(await done, { status: 0 });
  t.match(await late.exec(["unshare", "-m", "true"], { capabilities: "sys_admin" }), { status: 0 });
  t.match(
    [
      await daemon.metric("janusd_holds_total", { outcome: "held" }),
      await daemon.metric("janusd_holds_total", { outcome: "expired" }),
    ],
    [1, 1],
    "the same container waits no second time",
  );
  const { done: again } = await startHeld(other);
  t.equal(await daemon.metric("janusd_holds_total", { outcome: "held" }), 2);
  await thaw();
  t.match(await again, { status: 0 });
  t.match(await late.exec(["unshare", "-m", "true"], { capabilities: "sys_admin" }), { status: 0 });
  t.equal(await daemon.metric("janusd_holds_total", { outcome: "held" }), 3, "the daemon answers: it is held again");
  await daemon.stop();
});

t.test("a container has a share of those that wait for the daemon", async (t) => {
  const daemon = await startDaemon(PATIENT, t);
  const [many, other] = [await volumeContainer(t), await volumeContainer(t)];
  await daemon.createGuard(seen(many));
  await daemon.createGuard({ ...seen(other), name: "other", podName: "other" });
  const thaw = await freeze(daemon, "tracker");
  const script = "for i in $(seq 100); do unshare -m true & done; wait";
  const storm = many.exec(["sh", "-c", script], { capabilities: "sys_admin" });
  await eventually(
    "all have been there",
    async () => (await daemon.metric("janusd_holds_total", { outcome: "skipped" })) >= 36,
  );
  t.equal(await daemon.metric("janusd_holds_total", { outcome: "held" }), 64);
  const { done } = await startHeld(other);
  t.equal(await daemon.metric("janusd_holds_total", { outcome: "held" }), 65);
  await thaw();
  t.match(await done, { status: 0 });
  t.match(await storm, { status: 0 });
  const refused = (container: Container) =>
    daemon.metric("janusd_share_refused_total", { container: container.id, resource: "holds" });
  await eventually("it is named", async () => (await refused(many)) === 36);
  t.equal(await refused(other), 0);
  await daemon.stop();
});

t.test("with the event loop blocked, who is held is marked and goes on", async (t) => {
  const file = join(workspaceDirectory(), "block");
  const preload = new URL("../support/block-loop.cjs", import.meta.url).pathname;
  const env = { NODE_OPTIONS: `--require=${preload}`, BLOCK_LOOP: file };
  const daemon = await startDaemon({ flags: PATIENT.flags, env }, t);
  const container = await volumeContainer(t);
  await daemon.createGuard(seen(container));
  writeFileSync(`${file}.new`, String(5000 * SLOW));
  renameSync(`${file}.new`, file);
  await eventually("the loop is blocked", () => !existsSync(file));
  const result = await container.exec(["unshare", "-m", "cat", "/data/file"], { capabilities: "sys_admin" });
  t.notOk(existsSync(`${file}.over`), "the loop was blocked all the while");
  t.match(result, { status: 0, stdout: "seen" });
  // Figures are of before the block until then.
  await eventually("the loop goes on", () => existsSync(`${file}.over`));
  t.equal(await daemon.metric("janusd_events_total", { event: "open" }), 1);
  t.equal(await daemon.metric("janusd_holds_total", { outcome: "expired" }), 0);
  await daemon.stop();
});

for (const [name, end] of [
  ["killed", (daemon: Daemon) => process.kill(daemon.pid, "SIGKILL")],
  [
    "killed with its keeper",
    (daemon: Daemon) => [daemon.pid, keeperOf(daemon)].map((pid) => process.kill(pid, "SIGKILL")),
  ],
] as const) {
  t.test(`a daemon that is ${name} leaves nobody stopped`, async (t) => {
    const daemon = await startDaemon(PATIENT, t);
    const container = await volumeContainer(t);
    await daemon.createGuard(seen(container));
    const keeper = keeperOf(daemon);
    const thaw = await freeze(daemon, "tracker");
    const { done } = await startHeld(container);
    end(daemon);
    t.match(await done, { status: 0 });
    await thaw();
    await eventually("the keeper has ended", () => !existsSync(`/proc/${keeper}`));
    await daemon.kill();
  });
}

t.test("without a keeper nobody is held, and there is another soon", async (t) => {
  const daemon = await startDaemon({}, t);
  const container = await volumeContainer(t);
  await daemon.createGuard(seen(container));
  const keeper = keeperOf(daemon);
  const thaw = await freeze(daemon, "tracker"); // it would start another
  await standStill(keeper);
  t.match(await container.exec(["unshare", "-m", "true"], { capabilities: "sys_admin" }), { status: 0 });
  process.kill(keeper, "SIGKILL");
  t.match(await container.exec(["unshare", "-m", "true"], { capabilities: "sys_admin" }), { status: 0 });
  t.equal(await daemon.metric("janusd_holds_total", { outcome: "held" }), 0);
  t.equal(await daemon.metric("janusd_holds_total", { outcome: "skipped" }), 2);
  await thaw();
  await eventually("another keeper", () => ![0, keeper].includes(keeperOf(daemon)));
  t.match(await container.exec(["unshare", "-m", "true"], { capabilities: "sys_admin" }), { status: 0 });
  t.equal(await daemon.metric("janusd_holds_total", { outcome: "held" }), 1);
  await daemon.stop();
});

t.test("who is stopped by somebody else meanwhile stays stopped", async (t) => {
  const daemon = await startDaemon(PATIENT, t);
  const container = await volumeContainer(t);
  await daemon.createGuard(seen(container));
  const thaw = await freeze(daemon, "tracker");
  const { pid, done } = await startHeld(container);
  process.kill(pid, "SIGSTOP");
  await eventually(
    "the keeper has been there",
    async () => (await daemon.metric("janusd_holds_total", { outcome: "expired" })) === 1,
  );
  await thaw();
  await eventually(
    "the daemon has been there",
    async () => (await daemon.metric("janusd_marks", { kind: "mount" })) > 1,
  );
  t.ok(isStopped(pid));
  process.kill(pid, "SIGCONT");
  t.match(await done, { status: 0 });
  await daemon.stop();
});

t.test("a thread with a mount namespace of its own is found", async (t) => {
  const daemon = await startDaemon({}, t);
  const container = await volumeContainer(t);
  await daemon.createGuard(seen(container));
  const marks = await daemon.metric("janusd_marks", { kind: "mount" });
  const actor = await container.actor({ capabilities: "sys_admin" });
  t.same(await actor.command("thread", CLONE_NEWNS), [0]);
  await eventually(
    "its mounts are marked",
    async () => (await daemon.metric("janusd_marks", { kind: "mount" })) > marks,
  );
  t.equal(await actor.open("/data/file"), 0);
  t.equal(await daemon.metric("janusd_events_total", { event: "open" }), 1);
  await actor.stop();
  await daemon.stop();
});

t.test("a new namespace without an exec: syscall tracepoints tell, where they are allowed", async (t) => {
  const mounted = existsSync(`${TRACEFS}/events`);
  if (!mounted) execFileSync("mount", ["-t", "tracefs", "tracefs", TRACEFS]);
  const daemon = await startDaemon({ flags: ["--hold=syscalls", LIMIT] }, t).finally(() => {
    if (!mounted) execFileSync("umount", [TRACEFS]);
  });
  await neverUnseen(t, daemon);
  await unlistedUnseen(t, daemon);
  await daemon.stop();
});
