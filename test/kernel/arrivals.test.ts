/** A container of a pod is guarded before its first own instruction. */

import { spawn } from "node:child_process";
import { randomBytes, randomUUID } from "node:crypto";
import { mkdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import t, { type Test } from "tap";
import type { Arrival } from "../../src/native.js";
import { keeperOf } from "../support/children.js";
import { cgroupParent, killAtExit, workspaceDirectory } from "../support/cleanup.js";
import type { Container } from "../support/container.js";
import { eventually, realEnvironment } from "../support/daemon.js";
import { mountNamespace, onlyV2 } from "../support/namespace.js";
import {
  couldRead,
  guarding,
  hasRun,
  oneShot,
  type PodEngine,
  type PodOptions,
  podCgroup,
  startInPod,
  startPodEngine,
} from "../support/pods.js";

const CONTAINERS = Number(process.env["ARRIVALS"] ?? 40);

/** This machine may run other pods: of `unheld` and `admitted` there may be more. */
function outcomes({ engine }: PodEngine) {
  const { admitted = 0, expired = 0, unheld = 0 } = engine.stats().arrivals.outcomes;
  return { admitted, expired, unheld };
}

const exposure = ({ engine }: PodEngine) => engine.stats().exposure["pod_unknown"];

/** One after the other. Returns how many could read what is denied to them. */
async function readers(count: number, options: PodOptions): Promise<number> {
  let reads = 0;
  for (let i = 0; i < count; ++i) {
    await using container = await startInPod({ ...oneShot, ...options });
    if (await couldRead(container)) ++reads;
  }
  return reads;
}

/** Arrivals gather in the returned list; nobody is admitted. */
function gather({ pods }: PodEngine): Arrival[] {
  const all: Arrival[] = [];
  pods.hold((arrivals) => all.push(...arrivals));
  return all;
}

async function arrivalOf(container: Container, all: readonly Arrival[]): Promise<Arrival> {
  const own = () => all.find(({ containerId }) => containerId === container.id);
  await eventually("it arrives", () => own() !== undefined);
  const found = own();
  if (found === undefined) throw new Error("it is gone");
  return found;
}

t.test(`${CONTAINERS} containers that read at once what is denied: none can`, async (t) => {
  const node = startPodEngine(["--pod-wait=20000"], t);
  node.pods.hold(guarding(node));
  t.equal(await readers(CONTAINERS, {}), 0);
  t.ok(outcomes(node).admitted >= CONTAINERS);
  t.equal(exposure(node), 0);
});

t.test("the same by crun and the systemd driver's names, on a node with cgroup v2 alone", async (t) => {
  const node = startPodEngine(["--pod-wait=20000"], t);
  node.pods.hold(guarding(node));
  const enter = await mountNamespace(onlyV2, t);
  t.equal(await readers(10, { runtime: "crun", driver: "systemd", enter }), 0);
  t.ok(outcomes(node).admitted >= 10);
  t.equal(exposure(node), 0);
});

t.test("without holding they can, and each is counted", async (t) => {
  for (const flags of [["--pod-wait=0"], ["--hold=off"]]) {
    const node = startPodEngine(flags, t);
    node.pods.hold(guarding(node));
    const reads = await readers(5, {});
    t.ok(reads > 0, `${reads} of 5`);
    await eventually("all are guarded then", () => exposure(node) === 5);
    t.match(outcomes(node), { admitted: 0, expired: 0 });
    t.ok(outcomes(node).unheld >= 5);
  }
});

t.test("nobody admits it: it goes on after --pod-wait, and is counted", async (t) => {
  const node = startPodEngine(["--pod-wait=1500"], t);
  const arrivals = gather(node);
  const container = await startInPod({ ...oneShot, podUid: "0123456789abcdef0123456789abcdef" }, t);
  const arrival = await arrivalOf(container, arrivals);
  t.match(arrival, {
    podUid: "0123456789abcdef0123456789abcdef",
    cgroupPath: podCgroup(container.id, "0123456789abcdef0123456789abcdef"),
    held: true,
  });
  t.equal(node.engine.findContainer(container.id).cgroupId, arrival.cgroupId);
  t.notOk(hasRun(container));
  t.equal(await couldRead(container), true);
  t.match(outcomes(node), { expired: 1, unheld: 0 });
  t.equal(exposure(node), 1);
  t.equal(node.pods.admit(arrival.cgroupId, true), false, "too late");
  t.equal(exposure(node), 1);
});

t.test("two of a pod at once: each waits for its own", async (t) => {
  const node = startPodEngine(["--pod-wait=20000"], t);
  const arrivals = gather(node);
  const podUid = randomUUID();
  const [sandbox, container] = await Promise.all([
    startInPod({ ...oneShot, podUid }, t),
    startInPod({ ...oneShot, podUid }, t),
  ]);
  const [first, second] = [await arrivalOf(sandbox, arrivals), await arrivalOf(container, arrivals)];
  t.equal(first.podUid, second.podUid);
  t.ok(node.pods.admit(first.cgroupId, false));
  t.equal(await couldRead(sandbox), true);
  t.notOk(hasRun(container));
  node.guard(container.id);
  t.ok(node.pods.admit(second.cgroupId, true));
  t.equal(await couldRead(container), false);
  t.equal(node.pods.admit(second.cgroupId, true), false, "twice does nothing");
  const { waited, waitedSeconds } = node.engine.stats().arrivals;
  t.match(outcomes(node), { admitted: waited.reduce((sum, count) => sum + count, 0), expired: 0, unheld: 0 });
  t.ok(outcomes(node).admitted >= 2 && waitedSeconds > 0);
});

t.test("holding is switched off: all go on", async (t) => {
  const node = startPodEngine(["--pod-wait=20000"], t);
  const arrivals = gather(node);
  const container = await startInPod(oneShot, t);
  await arrivalOf(container, arrivals);
  t.notOk(hasRun(container));
  node.pods.release();
  t.equal(await couldRead(container), true);
  await startInPod(oneShot, t).then(couldRead);
  t.equal(arrivals.length, 1, "and nobody is told of");
});

t.test("what is run in a container that was there, or is admitted, isn't held", async (t) => {
  const node = startPodEngine(["--pod-wait=20000"], t);
  const before = await startInPod({}, t);
  const arrivals = gather(node);
  const after = await startInPod({}, t);
  const { cgroupId } = await arrivalOf(after, arrivals);
  node.pods.admit(cgroupId, false);
  const other = await startInPod({ ...oneShot }, t); // while this one waits
  await arrivalOf(other, arrivals);
  for (const container of [before, after]) {
    t.match(await container.exec(["sh", "-c", "true && exec echo hi"]), { status: 0, stdout: "hi\n" });
    await inOwnCgroup(container, async () => {
      t.match(await container.exec(["true"]), { status: 0 });
    });
  }
  t.equal(arrivals.length, 2);
  t.notOk(hasRun(other));
  node.pods.release();
});

t.test("two daemons, as in an upgrade: it waits for both, whichever is first", async (t) => {
  for (const hold of ["--hold=auto", "--hold=scheduler"]) {
    const nodes = [startPodEngine([hold, "--pod-wait=20000"], t), startPodEngine([hold, "--pod-wait=20000"], t)];
    for (const node of nodes) node.pods.hold(guarding(node));
    t.equal(await readers(10, {}), 0);
    for (const node of nodes) {
      t.ok(outcomes(node).admitted >= 10);
      t.match([outcomes(node).expired, exposure(node)], [0, 0], hold);
      node.pods.release();
    }
  }
});

t.test("two that stop it: the second lets it go, before the first and after", async (t) => {
  const flags = ["--hold=scheduler", "--pod-wait=20000"];
  const nodes = [startPodEngine(flags, t), startPodEngine(flags, t)];
  const all = nodes.map(gather);
  for (const order of [
    [0, 1],
    [1, 0],
  ]) {
    const container = await startInPod(oneShot, t);
    const arrivals = await Promise.all(all.map((each) => arrivalOf(container, each)));
    t.match(arrivals, [{ held: true }, { held: true }]);
    for (const [turn, which] of order.entries()) {
      const [node, arrival] = [nodes[which], arrivals[which]];
      if (node === undefined || arrival === undefined) continue;
      if (turn === 1) node.guard(container.id);
      t.ok(node.pods.admit(arrival.cgroupId, true));
      if (turn === 1) continue;
      t.match(readFileSync(`/proc/${arrival.pid}/status`, "utf8"), /^State:\tT/m);
    }
    t.equal(await couldRead(container), false);
  }
  t.match(nodes.map(exposure), [0, 0]);
});

t.test("the other daemon is switched off, or ends: it is held on, or counted", async (t) => {
  const flags = ["--hold=scheduler", "--pod-wait=20000"];
  const [first, second] = [startPodEngine(flags, t), startPodEngine(flags, t)];
  const arrivals = [gather(first), gather(second)];
  const container = await startInPod(oneShot, t);
  const [, arrival] = await Promise.all(arrivals.map((each) => arrivalOf(container, each)));
  if (arrival === undefined) return;
  first.pods.release();
  first.engine.stop();
  second.guard(container.id);
  t.ok(second.pods.admit(arrival.cgroupId, true));
  t.equal(await couldRead(container), false);
  t.equal(exposure(second), 0);
  second.pods.release();

  const killed = await startHolding(flags, t);
  const all = gather(second);
  const late = await startInPod(oneShot, t);
  const { cgroupId } = await arrivalOf(late, all);
  await killed.hears(`arrived ${late.id}`);
  process.kill(killed.pid, "SIGKILL");
  t.equal(await couldRead(late), true);
  t.equal(second.pods.admit(cgroupId, true), false);
  t.equal(exposure(second), 1);
});

t.test("whatever ends the daemon, and its keeper with it: who is held goes on", async (t) => {
  for (const withKeeper of [false, true]) {
    const daemon = await startHolding(["--pod-wait=60000"], t);
    const container = await startInPod(oneShot, t);
    await daemon.hears(`arrived ${container.id}`);
    t.notOk(hasRun(container));
    const keeper = keeperOf(daemon);
    process.kill(daemon.pid, "SIGSTOP");
    if (withKeeper && keeper > 0) process.kill(keeper, "SIGKILL");
    process.kill(daemon.pid, "SIGKILL");
    t.equal(await couldRead(container), true);
  }
});

t.test("an event loop that is blocked costs a container one delay, and soon nobody any", async (t) => {
  const daemon = await startHolding(["--pod-wait=2000"], t);
  const file = join(workspaceDirectory(), "go");
  daemon.write(`${file}\n`);
  await daemon.hears("blocked");
  const late = await startInPod(oneShot, t);
  t.equal(await couldRead(late), true);
  await sleep(2 * 2000 + 2000);
  const next = await startInPod(oneShot, t);
  t.equal(await couldRead(next), true);
  writeFileSync(file, "");
  t.match(JSON.parse((await daemon.hears("outcomes")).slice("outcomes ".length)), { admitted: 0, expired: 1 });
});

/** hold-arrivals.cjs. */
async function startHolding(flags: readonly string[], t: Test) {
  const script = new URL("../support/hold-arrivals.cjs", import.meta.url).pathname;
  const [command, ...prefix] = realEnvironment;
  const child = spawn(command, [...prefix, process.execPath, script, ...flags], {
    stdio: ["pipe", "pipe", "inherit"],
    env: { ...process.env, PODS_BELOW: cgroupParent() },
  });
  const { pid } = child;
  if (pid === undefined) throw new Error("cannot start it");
  const forget = killAtExit(pid);
  t.teardown(() => {
    child.kill("SIGKILL");
    forget();
  });
  const lines: string[] = [];
  createInterface({ input: child.stdout }).on("line", (line) => lines.push(line));
  const hears = async (start: string): Promise<string> => {
    await eventually(start, () => lines.some((line) => line.startsWith(start)));
    return lines.find((line) => line.startsWith(start)) ?? "";
  };
  await hears("holds");
  return { pid, hears, write: (text: string) => child.stdin.write(text) };
}

/** Calls `body` while the container's processes are in a cgroup below its own that is named as a pod's container. */
async function inOwnCgroup(container: Container, body: () => Promise<void>): Promise<void> {
  const of = readFileSync(`/proc/${container.initPid}/cgroup`, "utf8");
  const [, inV1] = /^\d+:pids:(.*)$/m.exec(of) ?? [];
  const [, inV2 = ""] = /^0::(.*)$/m.exec(of) ?? [];
  const own = inV1 === undefined ? join("/sys/fs/cgroup", inV2) : join("/sys/fs/cgroup/pids", inV1);
  const nested = ["kubepods", `pod${randomUUID()}`, randomBytes(32).toString("hex")];
  const deepest = join(own, ...nested);
  mkdirSync(deepest, { recursive: true });
  const shell = await container.shell();
  const move = (to: string) => {
    for (const pid of readFileSync(join(own, "cgroup.procs"), "utf8").trim().split("\n").filter(Boolean))
      writeFileSync(join(to, "cgroup.procs"), pid);
  };
  move(deepest);
  const { status } = await shell.run("true && sh -c 'echo nested'");
  if (status !== 0) throw new Error("nothing runs there");
  await body();
  await shell.stop();
  for (const pid of readFileSync(join(deepest, "cgroup.procs"), "utf8").trim().split("\n").filter(Boolean))
    writeFileSync(join(own, "cgroup.procs"), pid);
  for (let depth = nested.length; depth > 0; --depth) rmdirSync(join(own, ...nested.slice(0, depth)));
}
