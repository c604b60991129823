import { readFileSync } from "node:fs";
import t from "tap";
import { type Container, startContainer } from "../support/container.js";
import { startDaemon } from "../support/daemon.js";
import { EPERM, guardOn } from "../support/guard.js";
import { namespacedPid } from "../support/pids.js";

const daemon = await startDaemon({}, t);

t.test("autoAllowOwner: the first process and its direct children, nobody else", async (t) => {
  const container = await startContainer({ init: "actor", files: { "/etc/secret": "" } }, t);
  const { init } = container;
  const visitor = await container.actor();
  const attempts = async () => ({
    first: await init.open("/etc/secret"),
    child: (await init.command("child", "open", "/etc/secret", 0))[0],
    grandchild: (await init.command("child", "child", "open", "/etc/secret", 0))[0],
    visitor: await visitor.open("/etc/secret"),
    "visitor's child": (await visitor.command("child", "open", "/etc/secret", 0))[0],
  });
  await daemon.createGuard(guardOn(container, { deny: ["/etc/secret"] }));
  t.same(await attempts(), { first: EPERM, child: EPERM, grandchild: EPERM, visitor: EPERM, "visitor's child": EPERM });
  await daemon.createGuard(guardOn(container, { deny: ["/etc/secret"], autoAllowOwner: true }));
  const owners = { first: 0, child: 0, grandchild: EPERM, visitor: EPERM, "visitor's child": EPERM };
  t.same(await attempts(), owners);

  // The original split /proc/PID/stat at spaces: field 4, the parent, was then the process's to choose.
  for (const name of [") 1 (x", ") S 1 1", "a b c", "(actor)", `) S ${container.initPid} (`]) {
    t.equal(await visitor.comm(name), 0);
    t.equal(await visitor.open("/etc/secret"), EPERM, `comm ${name}`);
  }
  const late = await container.actor();
  t.equal(await late.open("/etc/secret"), EPERM, "a process that comes later");
  await daemon.destroyGuard({ podName: "pod" });
});

t.test(
  "children that the first process had before the guard are owners; those of `runc exec` before it are not",
  async (t) => {
    // Two shells below the first: one a direct child, one a grandchild, both there before the guard.
    const script =
      "cd /tmp; mkfifo c g; (while :; do read path <c; cat $path >/tmp/c.out 2>&1; done) & exec sleep 1000000";
    const container = await startContainer({ init: ["/bin/sh", "-c", script], files: { "/etc/secret": "s3cret" } }, t);
    const early = await container.actor();
    await daemon.createGuard(guardOn(container, { deny: ["/etc/secret"], autoAllowOwner: true }));
    t.equal(await early.open("/etc/secret"), EPERM);
    // The subshell is a child; the `cat` that it forks is not.
    const denied = await container.exec([
      "sh",
      "-c",
      "echo /etc/secret >/tmp/c; while [ ! -s /tmp/c.out ]; do sleep 0.05; done; cat /tmp/c.out",
    ]);
    t.match(denied.stdout, /not permitted/);
    await daemon.destroyGuard({ podName: "pod" });
  },
);

t.test("an orphan that the first process adopts does not become an owner", async (t) => {
  const container = await startContainer({ files: { "/etc/secret": "s3cret" } }, t);
  await daemon.createGuard(guardOn(container, { deny: ["/etc/secret"], autoAllowOwner: true }));
  const result = await container.exec([
    "sh",
    "-c",
    "(sh -c 'while [ $(cut -d\" \" -f4 /proc/$$/stat) != 1 ]; do sleep 0.01; done; cat /etc/secret >/tmp/out 2>&1; echo done >>/tmp/out' &); while ! grep -q done /tmp/out; do sleep 0.05; done; cat /tmp/out",
  ]);
  t.match(result.stdout, /not permitted\ndone/);
  await daemon.destroyGuard({ podName: "pod" });
});

const secret = "/etc/secret";
const ownersOnly = { deny: [secret], autoAllowOwner: true };
const none = { podName: "pod" };

/** Leaves a process of the first process's making; see `linger` in actor.c. Returns its number there. */
async function linger(container: Container, mode: string): Promise<number> {
  const [errno, number = -1] = await container.init.command("linger", mode);
  if (errno !== 0) throw new Error(`linger ${mode}: ${errno}`);
  return number;
}

/** What comes of opening the secret, by mode. */
async function attempts(
  container: Container,
  lingering: ReadonlyMap<string, number>,
): Promise<Record<string, unknown>> {
  const results: Record<string, unknown> = {};
  for (const [mode, number] of lingering) {
    results[mode] = (await container.init.command("tell", number, "open", secret))[0];
  }
  return results;
}

async function lingerAll(container: Container, modes: readonly string[]): Promise<Map<string, number>> {
  const lingering = new Map<string, number>();
  for (const mode of modes) lingering.set(mode, await linger(container, mode));
  return lingering;
}

t.test("however a process came to be: what counts is who forked it", async (t) => {
  const container = await startContainer({ init: "actor", files: { [secret]: "" } }, t);
  const { init } = container;
  await daemon.createGuard(guardOn(container, ownersOnly));
  const lingering = await lingerAll(container, ["child", "thread", "orphan", "session", "exec", "late", "sibling"]);
  t.same(await attempts(container, lingering), {
    child: 0,
    thread: 0,
    orphan: EPERM,
    session: EPERM,
    exec: EPERM,
    late: EPERM,
    sibling: EPERM,
  });
  t.equal((await init.command("inthread", "open", secret))[0], 0, "a thread of the first process");
  t.equal((await init.command("child", "inthread", "open", secret))[0], 0, "a thread of a child");
  t.same(await init.command("spawn", "/bin/cat", secret), [0, 0], "a child by posix_spawn");
  t.same(await init.command("child", "spawn", "/bin/cat", secret), [0, 1], "a grandchild by posix_spawn");
  const child = lingering.get("child") ?? -1;
  await init.command("tell", child, "become", "/bin/actor");
  t.equal((await init.command("tell", child, "open", secret))[0], 0, "a child that executed something");
  t.equal((await init.command("tell", child, "child", "open", secret))[0], EPERM, "its child");
  await init.command("become", "/bin/actor");
  t.equal(await init.open(secret), 0, "the first process, having executed something");
  t.equal((await init.command("child", "open", secret))[0], 0, "its child then");
  await daemon.destroyGuard(none);
});

t.test("processes that were there before the guard, and before a restart of the daemon", async (t) => {
  const container = await startContainer({ init: "actor", files: { [secret]: "" } }, t);
  const lingering = await lingerAll(container, ["child", "session", "exec", "late"]);
  const expected = { child: 0, session: EPERM, exec: EPERM, late: EPERM };
  const own = await startDaemon({}, t);
  await own.createGuard(guardOn(container, ownersOnly));
  t.same(await attempts(container, lingering), expected);
  await own.stop();
  const restarted = await startDaemon({ stateFile: own.stateFile }, t);
  t.same(await attempts(container, lingering), expected, "after a restart");
  await restarted.stop();
});

t.test("numbers: lower ones of `runc exec`, and an owner's that is used again", async (t) => {
  const container = await startContainer({ init: "actor", files: { [secret]: "" } }, t);
  const { init } = container;
  const visitor = await container.actor({ capabilities: "sys_admin" });
  await daemon.createGuard(guardOn(container, ownersOnly));

  t.equal(await visitor.write("/proc/sys/kernel/ns_last_pid", "500"), 0);
  const child = await linger(container, "child");
  const [, own = 0] = await init.command("tell", child, "pid");
  t.ok(own > 500);
  t.equal(await visitor.write("/proc/sys/kernel/ns_last_pid", "300"), 0);
  const shell = await container.actor();
  const [, lower = 0] = await shell.command("pid");
  t.ok(lower > 300 && lower < own);
  t.equal(await shell.open(secret), EPERM, "a lower number than the child's");
  t.equal((await init.command("tell", child, "open", secret))[0], 0);

  const children = readFileSync(`/proc/${container.initPid}/task/${container.initPid}/children`, "utf8");
  const onNode = children
    .split(" ")
    .map(Number)
    .find((pid) => namespacedPid(pid) === own);
  if (onNode === undefined) throw new Error(`no child ${own} among ${children}`);
  process.kill(onNode, "SIGKILL");
  t.equal((await init.command("reap"))[0], 0);
  const reused = await visitor.command("childas", own, onNode, "pid");
  await visitor.command("pid"); // it has reaped it by then
  t.same(reused[1], own, "the kernel gave the number again");
  t.same(await visitor.command("childas", own, onNode, "open", secret), [EPERM]);
  await daemon.destroyGuard(none);
});
