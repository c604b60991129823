/**
 * A daemon that stands still as a whole: its keeper, a process of its own, kills it, so that nobody in a container
 * waits for it for longer. One that is slow, or that ends, is left alone.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, readlinkSync, renameSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import t, { type Test } from "tap";
import { keeperOf } from "../support/children.js";
import { workspaceDirectory } from "../support/cleanup.js";
import { type Actor, startContainer } from "../support/container.js";
import { type Daemon, eventually, runToEnd, startDaemon } from "../support/daemon.js";
import { freeze, standStill } from "../support/freeze.js";
import { EPERM, guardOn } from "../support/guard.js";
import { SLOW } from "../support/times.js";

t.setTimeout(300_000 * SLOW);

const LIMIT_MS = 2000 * Math.ceil(SLOW / 3);
const LIMIT = `--stall-limit=${LIMIT_MS}`;

/** What the keeper's looks, and the daemon's own rhythm, add at most. Milliseconds. */
const MORE_MS = 1000 * SLOW;

const v2 = existsSync("/sys/fs/cgroup/cgroup.controllers") ? "/sys/fs/cgroup" : "/sys/fs/cgroup/unified";

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** Each open is to wait for the daemon: where the kernel denies by itself, none would. */
const ASKED = "--kernel-decides=false";

async function guarded(t: Test, ...flags: string[]) {
  const container = await startContainer({ files: { "/etc/secret": "" } }, t);
  const daemon = await startDaemon({ flags: [ASKED, ...flags] }, t);
  const guard = guardOn(container, { deny: ["/etc/secret"] });
  await daemon.createGuard(guard);
  const actor = await container.actor();
  t.equal(await actor.open("/etc/secret"), EPERM);
  return { actor, daemon };
}

/** Who opens meanwhile goes on in time, and the daemon was killed. */
async function letsGo(t: Test, daemon: Daemon, actor: Actor, thaws: readonly (() => Promise<unknown>)[] = []) {
  const since = performance.now();
  t.equal(await actor.open("/etc/secret"), 0);
  const took = performance.now() - since;
  t.ok(took < LIMIT_MS + MORE_MS, `it waited for ${Math.round(took)} ms`);
  for (const thaw of thaws) await thaw();
  t.match(await daemon.ended(), { signal: "SIGKILL" });
  const told = /janusd-keeper: janusd has stood still for \d+\.\d s: killed/;
  await eventually("it is told", () => told.test(daemon.stderr));
}

for (const hold of ["auto", "off"]) {
  t.test(`stopped, with --hold=${hold}: killed within the limit, and the next start says so, once`, async (t) => {
    const { actor, daemon } = await guarded(t, LIMIT, `--hold=${hold}`);
    const keeper = keeperOf(daemon);
    const descriptors = readdirSync(`/proc/${keeper}/fd`).map((fd) => readlinkSync(`/proc/${keeper}/fd/${fd}`));
    t.same(
      descriptors.filter((what) => /fanotify|inotify|\/perf/.test(what)),
      [],
      "the keeper keeps no group alive",
    );
    await eventually("the guard is kept", () => readFileSync(daemon.stateFile, "utf8").includes("/etc/secret"));
    await standStill(daemon.pid);
    await letsGo(t, daemon, actor);
    await eventually("the keeper has ended, too", () => !existsSync(`/proc/${keeper}`));

    const next = await startDaemon({ stateFile: daemon.stateFile, flags: [LIMIT] }, t);
    t.equal(await actor.open("/etc/secret"), EPERM, "guarded again");
    t.match(next.stderr, /"stoodMs":\d+,"endedMs":\d+,.*the last run stood still/);
    t.equal(await next.metric("janusd_exposure_total", { cause: "stalled" }), 1);
    await next.stop();
    const another = await startDaemon({ stateFile: daemon.stateFile }, t);
    t.notMatch(another.stderr, /stood still/);
    t.equal(await another.metric("janusd_exposure_total", { cause: "stalled" }), 0);
    await another.stop();
  });
}

t.test("a gate and a watchdog that stand still are enough", async (t) => {
  const { actor, daemon } = await guarded(t, LIMIT);
  await letsGo(t, daemon, actor, [await freeze(daemon, "gate"), await freeze(daemon, "watchdog")]);
});

t.test("frozen with its cgroup: a keeper in another one kills it", async (t) => {
  const name = basename(workspaceDirectory());
  const [frozen, kept] = [join(v2, name, "frozen"), join(v2, name, "kept")];
  for (const directory of [frozen, kept]) mkdirSync(directory, { recursive: true });
  const { actor, daemon } = await guarded(t, LIMIT, `--keeper-cgroup=${kept}`);
  const keeper = keeperOf(daemon);
  writeFileSync(join(frozen, "cgroup.procs"), String(daemon.pid));
  writeFileSync(join(frozen, "cgroup.freeze"), "1");
  await eventually("it is frozen", () => readFileSync(join(frozen, "cgroup.events"), "utf8").includes("frozen 1"));
  await letsGo(t, daemon, actor);
  await eventually("the keeper has ended, too", () => !existsSync(`/proc/${keeper}`));
});

t.test("a cgroup that the keeper cannot move to: it does not start", async (t) => {
  const { status, lines } = runToEnd(["--keeper-cgroup=/sys/fs/cgroup/no-such"]);
  t.equal(status, 1);
  t.match(lines.join("\n"), "--keeper-cgroup /sys/fs/cgroup/no-such: No such file or directory");
});

t.test("slow is not still: a blocked event loop, a gate without a processor, a keeper that did not look", async (t) => {
  const file = join(workspaceDirectory(), "block-slow");
  const preload = new URL("../support/block-loop.cjs", import.meta.url).pathname;
  const container = await startContainer({ files: { "/etc/secret": "" } }, t);
  const env = { NODE_OPTIONS: `--require=${preload}`, BLOCK_LOOP: file };
  const daemon = await startDaemon({ flags: [LIMIT, ASKED], env }, t);
  await daemon.createGuard(guardOn(container, { deny: ["/etc/secret"] }));
  const actor = await container.actor();
  const keeper = keeperOf(daemon);

  writeFileSync(`${file}.new`, String(2 * LIMIT_MS));
  renameSync(`${file}.new`, file);
  const thaw = await freeze(daemon, "gate");
  await sleep(LIMIT_MS + MORE_MS);
  t.equal(await actor.open("/etc/secret"), EPERM, "the watchdog answers");
  await thaw();
  await eventually("the loop runs again", () => existsSync(`${file}.over`));

  // As in a cgroup that is frozen with both, or a machine that is paused.
  await standStill(keeper);
  await standStill(daemon.pid);
  await sleep(LIMIT_MS + MORE_MS);
  process.kill(keeper, "SIGCONT");
  await sleep(LIMIT_MS / 4);
  process.kill(daemon.pid, "SIGCONT");
  t.equal(await actor.open("/etc/secret"), EPERM);
  t.equal(keeperOf(daemon), keeper);
  await daemon.stop();
  t.notMatch(daemon.stderr, /stood still/);
});

t.test("a keeper that is gone is replaced; without a limit, and without stops, there is none", async (t) => {
  const { actor, daemon } = await guarded(t, LIMIT);
  const keeper = keeperOf(daemon);
  process.kill(keeper, "SIGKILL");
  await eventually("another keeper", () => ![0, keeper].includes(keeperOf(daemon)));
  await standStill(daemon.pid);
  await letsGo(t, daemon, actor);

  const free = await startDaemon({ flags: ["--stall-limit=0", "--hold=off"] }, t);
  t.equal(keeperOf(free), 0);
  await free.stop();
});
