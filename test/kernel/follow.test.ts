import { spawn } from "node:child_process";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import { cgroupParent, killAtExit } from "../support/cleanup.js";
import { Actor, type Container, startContainer, staticProgram } from "../support/container.js";
import { type Daemon, eventually, startDaemon } from "../support/daemon.js";
import { standStill } from "../support/freeze.js";
import { EPERM, guardOn } from "../support/guard.js";

const secret = "/etc/secret";
const none = { podName: "pod" };

/** What the tests look at in an event of the JSON log. */
interface Event {
  readonly response: string;
  readonly path: string;
  readonly time: string;
  readonly pid: number;
  readonly start: string;
  readonly ppid: number;
  readonly comm: string;
  readonly exe: string;
  readonly inside: boolean;
  readonly container: string;
  readonly ancestry: readonly { readonly pid: number; readonly comm: string; readonly exe: string }[];
  readonly ancestryCut: boolean;
}

const daemon = await startDaemon({ flags: ["--log-format=json"] }, t);

/** The next event that `act` brings about. */
async function eventOf(act: () => Promise<unknown>, path: string = secret, from: Daemon = daemon): Promise<Event> {
  const start = from.lines.length;
  await act();
  return JSON.parse(await from.waitForLine((line) => line.includes(`"path":"${path}"`), start)) as Event;
}

const v2 = existsSync("/sys/fs/cgroup/cgroup.controllers") ? "/sys/fs/cgroup" : "/sys/fs/cgroup/unified";

/** The container's own cgroup v2. */
function cgroupOf(container: Container): string {
  return join(v2, cgroupParent(), container.id);
}

/** An actor that is none of the container's processes: on the node, or in the container's mount namespace only. */
async function stranger(container?: Container): Promise<Actor & { readonly pid: number }> {
  const program = container === undefined ? [staticProgram("actor.c")] : ["/bin/actor"];
  const enter = container === undefined ? [] : ["nsenter", `--mount=/proc/${container.initPid}/ns/mnt`, "--"];
  const [command = "", ...args] = [...enter, ...program];
  const child = spawn(command, args, { stdio: "pipe" });
  if (child.pid !== undefined) killAtExit(child.pid);
  const actor = new Actor(child);
  const [, pid = 0] = await actor.command("pid");
  return Object.assign(actor, { pid });
}

t.test("an event says who, since when, and from whom they descend", async (t) => {
  const container = await startContainer({ init: "actor", files: { [secret]: "" } }, t);
  const { init } = container;
  await daemon.createGuard(guardOn(container, { deny: [secret] }));
  const first = { pid: container.initPid, comm: "actor", exe: "/bin/actor" };

  const own = await eventOf(() => init.open(secret));
  t.match(own, { ...first, response: "DENY", inside: true, container: container.id, ancestry: [], ancestryCut: false });
  t.equal((await eventOf(() => init.open(secret))).start, own.start, "the same process has the same start");
  t.ok(own.start < own.time);

  const grandchild = await eventOf(() => init.command("child", "child", "open", secret));
  t.equal(grandchild.ancestry.length, 2);
  t.equal(grandchild.ancestry[0]?.pid, grandchild.ppid);
  t.same(grandchild.ancestry[1], first);
  t.ok(grandchild.start > own.start);

  const deep = await eventOf(() => init.command(...Array<string>(20).fill("child"), "open", secret));
  t.equal(deep.ancestry.length, 16);
  t.equal(deep.ancestryCut, true);

  const program = await eventOf(() => init.command("child", "exec", "/bin/cat", secret));
  t.match(program, { comm: "cat", exe: "/bin/busybox" });
  t.same(program.ancestry.at(-1), first);

  // Its forker is gone, and another adopted it: the ancestry stays what it was.
  const [, orphan = 0] = await init.command("linger", "orphan");
  const event = await eventOf(() => init.command("tell", orphan, "open", secret));
  t.equal(event.ppid, container.initPid);
  t.equal(event.ancestry.length, 2);
  t.not(event.ancestry[0]?.pid, container.initPid);
  t.same(event.ancestry[1], first);

  const visitor = await container.actor();
  const visit = await eventOf(() => visitor.command("child", "open", secret));
  t.match(visit, { inside: true, ancestryCut: false });
  t.equal(visit.ancestry.length, 1, "up to the one that was put in from outside");
  await daemon.destroyGuard(none);
});

t.test("asynchronous events of processes that are gone", async (t) => {
  const container = await startContainer({ init: "actor", files: { "/etc/seen": "" } }, t);
  const { init } = container;
  await daemon.createGuard(guardOn(container, { watch: ["/etc/seen"], scope: 1 }));
  const gone = await eventOf(() => init.command("child", "child", "open", "/etc/seen"), "/etc/seen");
  t.match(gone, { comm: "actor", exe: "/bin/actor", inside: true });
  t.equal(gone.ancestry.at(-1)?.pid, container.initPid);

  // Numbers that nobody has: the kernel's next, far away from where it is.
  const free = (pid: number): number => (existsSync(`/proc/${pid}`) ? free(pid + 1) : pid);
  for (const survives of [true, false]) {
    const a = await container.actor({ capabilities: "sys_admin" });
    const b = await container.actor({ capabilities: "sys_admin" });
    await a.comm("first");
    await b.comm("second");
    const [own, above] = [survives ? 7001 : 7002, free(31_000)];
    const lines = daemon.lines.length;
    await standStill(daemon.pid);
    try {
      t.same(await a.command("childas", own, above, "open", "/etc/seen"), [0]);
      await a.command("pid"); // it has reaped it by then
      const second = b.command("childas", own, above, survives ? "pause" : "pid");
      if (survives) await eventually("the number is used again", () => existsSync(`/proc/${above}`));
      else t.equal((await second)[0], 0, "the number was used again");
      process.kill(daemon.pid, "SIGCONT");
      const event = JSON.parse(await daemon.waitForLine((line) => line.includes(`"pid":${above}`), lines)) as Event;
      t.match(event, { inside: true, container: container.id });
      // The living one it was not. If neither lives, it may have been either.
      t.equal(event.comm, survives ? "first" : "");
      if (survives) {
        process.kill(above, "SIGKILL");
        await Promise.all([b.stop(), t.rejects(second, "killed, it gives no answer")]);
      }
    } finally {
      process.kill(daemon.pid, "SIGCONT");
    }
  }
  await daemon.destroyGuard(none);
});

t.test("moved in, moved out, born in: the cgroup decides at once, and for ever", async (t) => {
  const container = await startContainer({ files: { [secret]: "" } }, t);
  const cgroup = cgroupOf(container);
  await daemon.createGuard(guardOn(container, { deny: [secret] }));

  const mover = await stranger(container);
  const [, child = 0] = await mover.command("linger", "child");
  t.equal((await eventOf(() => mover.open(secret))).inside, false);
  writeFileSync(join(cgroup, "cgroup.procs"), String(mover.pid));
  t.match(await eventOf(() => mover.open(secret)), { response: "DENY", pid: mover.pid, inside: true });
  t.match(await eventOf(() => mover.command("inthread", "open", secret)), { pid: mover.pid, inside: true });
  t.equal((await eventOf(() => mover.command("tell", child, "open", secret))).inside, false, "its child stayed out");
  t.equal((await eventOf(() => mover.command("child", "open", secret))).inside, true, "the next one is born in");
  writeFileSync(join(v2, "cgroup.procs"), String(mover.pid));
  t.equal((await eventOf(() => mover.open(secret))).inside, true, "whoever leaves the cgroup stays the container's");
  t.equal((await eventOf(() => mover.command("child", "open", secret))).inside, true);

  const node = await stranger();
  const path = join(container.rootfs, secret);
  t.equal((await eventOf(() => node.open(path))).inside, false);
  t.match(await eventOf(() => node.command("childin", cgroup, "open", path)), { response: "DENY", inside: true });
  await daemon.createGuard(guardOn(container, { deny: [secret], scope: 1 }));
  t.equal(await node.open(path), 0, "only the container's processes");
  t.same(await node.command("childin", cgroup, "open", path), [EPERM]);
  t.equal(await mover.open(secret), EPERM);
  await mover.stop();
  await node.stop();
  await daemon.destroyGuard(none);
});

t.test("a container lasts as long as its last process", async (t) => {
  const container = await startContainer({ files: { [secret]: "" } }, t);
  await daemon.createGuard(guardOn(container, { deny: [secret] }));
  const last = await stranger(container);
  writeFileSync(join(cgroupOf(container), "cgroup.procs"), String(last.pid));
  process.kill(container.initPid, "SIGKILL");
  await eventually("the first process is gone", () => !existsSync(`/proc/${container.initPid}/exe`));
  t.equal((await daemon.getGuardState()).length, 1);
  t.equal(await last.open(secret), EPERM);
  await last.stop();
  await eventually("the guard is not listed", async () => (await daemon.getGuardState()).length === 0);
});

t.test("nothing is left of containers that ended", async (t) => {
  const own = await startDaemon({}, t);
  const marks = () =>
    readdirSync(`/proc/${own.pid}/fdinfo`).reduce((sum, fd) => sum + fanotifyMarks(`/proc/${own.pid}/fdinfo/${fd}`), 0);
  const held = async () => ({
    descriptors: readdirSync(`/proc/${own.pid}/fd`).length,
    marks: marks(),
    processes: await own.metric("janusd_processes"),
    tasks: await own.metric("janusd_ebpf_map_bytes", { map: "tasks" }),
    cgroups: await own.metric("janusd_ebpf_map_bytes", { map: "cgroups" }),
    identities: await own.metric("janusd_ebpf_map_bytes", { map: "identities" }),
  });
  await own.getGuardState(); // its connection stays
  const before = await held();
  const cycle = async (how: "kill" | "crash") => {
    const container = await startContainer({ init: "actor", files: { [secret]: "" }, volumes: [{ target: "/data" }] });
    await own.createGuard(guardOn(container, { deny: [secret, "/data"], recursive: true }));
    const actor = await container.actor();
    t.equal(await actor.open(secret), EPERM);
    await actor.command("linger", "child");
    t.ok((await held()).tasks > before.tasks);
    if (how === "crash") process.kill(container.initPid, "SIGKILL");
    else await container.kill();
    await eventually("the guard is not listed", async () => (await own.getGuardState()).length === 0);
    await container.stop();
  };
  for (let round = 0; round < 5; round++) {
    await cycle("kill");
    await cycle("crash");
  }
  await eventually("all is given back", async () => JSON.stringify(await held()) === JSON.stringify(before)).catch(
    async () => t.same(await held(), before),
  );
  await own.stop();
});

function fanotifyMarks(fdinfo: string): number {
  if (!existsSync(fdinfo)) return 0; // closed meanwhile
  return readFileSync(fdinfo, "utf8").match(/^fanotify (ino|mnt_id|sdev):/gm)?.length ?? 0;
}
