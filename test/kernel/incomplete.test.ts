/** A path that cannot be guarded now costs itself only: at a restart, from the guard file, and while the daemon runs. */
import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import t, { type Test } from "tap";
import { workspaceDirectory } from "../support/cleanup.js";
import { type Container, startContainer, staticProgram } from "../support/container.js";
import { type Daemon, eventually, rpcError, startDaemon } from "../support/daemon.js";
import { EPERM, guardOn } from "../support/guard.js";
import { WITHIN, withinRetry } from "../support/times.js";

const admin = { capabilities: "sys_admin" } as const;

async function guarded(t: Test, deny: readonly string[]) {
  const files = { "/app/secret": "s3cret", "/app/m/under": "s3cret", "/app/other": "s3cret" };
  const programs = { "/bin/fuse-server": staticProgram("fuse-server.c") };
  const container = await startContainer({ fuse: true, files, programs }, t);
  const guard = guardOn(container, { deny: [...deny] });
  return { container, guard, actor: await container.actor(), shell: await container.shell(admin) };
}

/** The server of what is mounted at /app/m has died: whoever goes there gets ENOTCONN. */
async function mountDead(container: Container): Promise<void> {
  await container.exec(["fuse-server", "/app/m", "dead"], admin);
  await eventually("it is mounted", () =>
    readFileSync(`/proc/${container.initPid}/mountinfo`, "utf8").includes(" - fuse "),
  );
}

const isReady = async (daemon: Daemon) => (await daemon.http("/readyz")).status === 200;

async function whole(daemon: Daemon): Promise<void> {
  await eventually("all of it is guarded", async () => (await daemon.metric("janusd_paths_unguarded")) === 0);
  await eventually("it is ready", () => isReady(daemon), WITHIN.report);
  t.match(await daemon.client.listGuards({}), [{ complete: true, reason: "" }]);
}

t.test("a dead server over one path of a guard, at a restart", async (t) => {
  const { container, guard, actor } = await guarded(t, ["/app/secret", "/app/m/under"]);
  const first = await startDaemon({}, t);
  await first.createGuard(guard);
  await mountDead(container);
  await first.stop();
  t.equal(await actor.open("/app/secret"), 0, "nobody guards");

  const daemon = await startDaemon({ stateFile: first.stateFile, until: "/livez" }, t);
  t.equal(await actor.open("/app/secret"), EPERM, "the other path is guarded");
  const [listed] = await daemon.client.listGuards({});
  t.match(listed, { state: 1, complete: false, reason: /^\/app\/m\/under in [0-9a-f]{12} is on a file system whose/ });
  t.match(await daemon.getGuardState(), [{ name: "guard" }]);
  await eventually("it is not ready", async () => !(await isReady(daemon)), WITHIN.report);
  const report = await (await daemon.http("/readyz")).text();
  t.match(report, /"name":"guards","ok":false,"detail":"guard: subject\[0\]\.deny\[1\] in [0-9a-f]{12}: /);
  t.notMatch(report, "/app/m/under", "no path is told to whoever asks");
  t.equal(await daemon.metric("janusd_paths_unguarded"), 1);
  t.equal(await daemon.metric("janusd_guards_pending"), 0);
  t.match(daemon.stderr, /"path":"\/app\/m\/under".*paths of the guard cannot be guarded now/);
  const kept = () => JSON.parse(`${readFileSync(first.stateFile, "utf8").split("\n]}")[0]}]}`).guards[0].config;
  t.match(kept(), { subject: [{ deny: ["/app/secret", "/app/m/under"] }] }, "the state file has all of it");
  const refused = await rpcError(daemon.createGuard({ ...guard, name: "anew" }));
  t.equal(refused.code, "FAILED_PRECONDITION", "CreateGuard is all or nothing");
  t.match(refused.message, "subject[0].deny[1]");

  t.match(await container.exec(["umount", "/app/m"], admin), { status: 0 });
  await eventually("it is guarded", async () => (await actor.open("/app/m/under")) === EPERM);
  await whole(daemon);
  t.match(daemon.stderr, "all paths of the guard are guarded now");
  await daemon.stop();
  const last = await startDaemon({ stateFile: first.stateFile }, t);
  t.equal(await actor.open("/app/m/under"), EPERM);
  await last.stop();
});

t.test("what a container makes of one path unguards no other", async (t) => {
  for (const [what, make] of [
    ["a pipe", "mkfifo /app/other"],
    ["a loop", "ln -s other /app/other"],
  ] as const) {
    const { guard, actor, shell } = await guarded(t, ["/app/secret", "/app/other"]);
    const first = await startDaemon({}, t);
    await first.createGuard(guard);
    await first.stop();
    t.match(await shell.run(`rm /app/other && ${make}`), { status: 0 }, what);

    const started = performance.now();
    const daemon = await startDaemon({ stateFile: first.stateFile, until: "/livez" }, t);
    t.equal(await actor.open("/app/secret"), EPERM, `${what}: the other path is guarded`);
    t.equal(await daemon.metric("janusd_paths_unguarded"), 1);
    // Nothing tells of the end of a loop that was never followed: it is looked at again.
    await shell.run("rm /app/other; echo s3cret > /app/other");
    await eventually(`${what}: guarded`, async () => (await actor.open("/app/other")) === EPERM, withinRetry(started));
    await whole(daemon);
    await daemon.stop();
  }
});

t.test("if none of its paths can be guarded, it is pending", async (t) => {
  const { guard, actor, shell } = await guarded(t, ["/app/other"]);
  const first = await startDaemon({}, t);
  await first.createGuard(guard);
  await first.stop();
  await shell.run("rm /app/other; mkfifo /app/other");
  const started = performance.now();
  const daemon = await startDaemon({ stateFile: first.stateFile, until: "/livez" }, t);
  t.equal(await daemon.metric("janusd_guards_pending"), 1);
  t.match(await daemon.client.listGuards({}), [{ state: 2, reason: /neither a file nor a directory/ }]);
  await shell.run("rm /app/other; echo s3cret > /app/other");
  await eventually("guarded", async () => (await actor.open("/app/other")) === EPERM, withinRetry(started));
  await whole(daemon);
  await daemon.stop();
});

t.test("a guard of the guard file, when its container is there", async (t) => {
  const { container, actor, shell } = await guarded(t, []);
  await shell.run("rm /app/other; mkfifo /app/other");
  const file = join(mkdtempSync(join(workspaceDirectory(), "guards-")), "guards.yaml");
  writeFileSync(
    file,
    `apiVersion: januscontroller.clustergarage.io/v1alpha1
kind: JanusGuard
metadata: { name: file }
spec:
  containers: [${container.id}]
  subjects: [{ deny: [/app/other, /app/secret], events: [open] }]
`,
  );
  const started = performance.now();
  const daemon = await startDaemon({ flags: ["--guards", file], until: "/livez" }, t);
  t.equal(await actor.open("/app/secret"), EPERM, "the other path is guarded");
  t.match(await daemon.client.listGuards({}), [{ complete: false, reason: /^\/app\/other in / }]);
  await shell.run("rm /app/other; echo s3cret > /app/other");
  await eventually("guarded", async () => (await actor.open("/app/other")) === EPERM, withinRetry(started));
  await whole(daemon);
  await daemon.stop();
});

t.test("while the daemon runs, a path that cannot be followed stops no other from being followed", async (t) => {
  const { guard, actor, shell } = await guarded(t, ["/app/other", "/app/link"]);
  await shell.run("echo a > /app/a; echo b > /app/b; ln -s a /app/link");
  const daemon = await startDaemon({}, t);
  await daemon.createGuard(guard);
  t.equal(await actor.open("/app/link"), EPERM);
  t.match(await shell.run("rm /app/other && ln -s other /app/other"), { status: 0 });
  t.match(await shell.run("ln -s b /app/new"), { status: 0 });
  t.equal(await actor.rename("/app/new", "/app/link"), 0);
  t.equal(await actor.open("/app/link"), EPERM, "where it leads now");
  t.equal(await actor.open("/app/b"), EPERM);
  t.match(await shell.run("ln -s secret /app/new"), { status: 0 });
  t.equal(await actor.rename("/app/new", "/app/other"), 0);
  t.equal(await actor.open("/app/other"), EPERM, "what could not be followed is watched all the time");
  t.equal(await daemon.metric("janusd_paths_unguarded"), 0, "it was guarded where it was");
  t.ok(await isReady(daemon));
  await daemon.stop();
});
