/** Opens that wait until new mounts are guarded: where the kernel takes fmod_ret programs, which CI's does not. */
import t from "tap";
import { type Daemon, eventually, startDaemon } from "../support/daemon.js";
import { freeze } from "../support/freeze.js";
import { EPERM, guardOn } from "../support/guard.js";
import { CLONE_NEWNS, neverUnseen, seen, unlistedUnseen, volumeContainer } from "../support/new-mounts.js";

// Processors are emulated here.
const PATIENT = { flags: ["--hold-limit=10000"] };

/** Those that are counted, as `/metrics` has them. */
async function exposures(daemon: Daemon): Promise<string[]> {
  return (await daemon.metrics()).split("\n").filter((line) => /^janusd_exposure_total\{.* [1-9]/.test(line));
}

t.test("no moment in which a new mount is not guarded", async (t) => {
  const daemon = await startDaemon(PATIENT, t);
  t.equal(await daemon.metric("janusd_hold_tier", { tier: "fentry" }), 1);
  await neverUnseen(t, daemon);
  t.same(await exposures(daemon), []);
  await daemon.stop();
});

t.test("a process that isn't in the process table", async (t) => {
  const daemon = await startDaemon(PATIENT, t);
  await unlistedUnseen(t, daemon);
  t.same(await exposures(daemon), []);
  await daemon.stop();
});

t.test("a mount that is in no namespace", async (t) => {
  const daemon = await startDaemon(PATIENT, t);
  const container = await volumeContainer(t);
  await daemon.createGuard(seen(container));
  const actor = await container.actor({ capabilities: "sys_admin" });
  const tries = 20;
  for (let i = 0; i < tries; ++i) t.same(await actor.command("clone-open", "/data", "file"), [0]);
  t.equal(await daemon.metric("janusd_events_total", { event: "open" }), tries);
  t.same(await exposures(daemon), []);
  await actor.stop();
  await daemon.stop();
});

t.test("a handler of SIGCONT makes no difference", async (t) => {
  const daemon = await startDaemon(PATIENT, t);
  const container = await volumeContainer(t);
  await daemon.createGuard(seen(container));
  const script = "trap 'echo continued' CONT; read line < /data/file; echo $line";
  t.match(await container.exec(["unshare", "-m", "sh", "-c", script], { capabilities: "sys_admin" }), {
    stdout: /^(continued\n)*seen\n(continued\n)*$/,
  });
  t.equal(await daemon.metric("janusd_events_total", { event: "open" }), 1);
  t.same(await exposures(daemon), []);
  await daemon.stop();
});

t.test("what a container mounts beyond its share is denied to it, not held", async (t) => {
  const daemon = await startDaemon({ ...PATIENT, enter: ["sh", "-c", 'ulimit -n 1024 && exec "$0" "$@"'] }, t);
  const [many, other] = [await volumeContainer(t), await volumeContainer(t)];
  await daemon.createGuard(guardOn(many, [{ allow: ["/data/file"], exact: true }, { deny: ["/etc/secret"] }]));
  await daemon.createGuard({ ...seen(other), name: "other", podName: "other" });
  const actors = await Promise.all(Array.from({ length: 60 }, () => many.actor({ capabilities: "sys_admin" })));
  const results: number[] = [];
  for (const actor of actors) {
    t.equal(await actor.unshare(CLONE_NEWNS), 0);
    results.push(await actor.open("/data/file"));
  }
  const opened = results.filter((result) => result === 0).length;
  t.ok(opened > 0, "within its share");
  t.ok(
    results.slice(opened).every((result) => result === EPERM),
    "and beyond",
  );
  t.ok(opened < results.length);
  t.equal(await daemon.metric("janusd_events_total", { event: "open" }), opened, "each that opened was asked about");
  t.ok((await daemon.metric("janusd_holds_total", { outcome: "denied" })) >= results.length - opened);
  t.ok((await daemon.metric("janusd_share_refused_total", { container: many.id, resource: "namespaces" })) > 0);
  const actor = await other.actor({ capabilities: "sys_admin" });
  t.equal(await actor.unshare(CLONE_NEWNS), 0);
  t.equal(await actor.open("/data/file"), 0, "another container's is held and marked");
  t.equal(await daemon.metric("janusd_events_total", { event: "open" }), opened + 1);
  t.equal(await daemon.metric("janusd_exposure_total", { cause: "hold_expired" }), 0);
  await Promise.all([...actors, actor].map((each) => each.stop()));
  await daemon.stop();
});

t.test("one container's open waited for too long: another's wait all the same", async (t) => {
  const daemon = await startDaemon({ flags: ["--hold-limit=2000"] }, t);
  const [late, other] = [await volumeContainer(t), await volumeContainer(t)];
  await daemon.createGuard(seen(late));
  await daemon.createGuard({ ...seen(other), name: "other", podName: "other" });
  const [first, second] = [
    await late.actor({ capabilities: "sys_admin" }),
    await other.actor({ capabilities: "sys_admin" }),
  ];
  const thaw = await freeze(daemon, "tracker");
  t.equal(await first.unshare(CLONE_NEWNS), 0);
  t.equal(await second.unshare(CLONE_NEWNS), 0);
  t.equal(await first.open("/data/file"), 0);
  t.equal(await daemon.metric("janusd_exposure_total", { cause: "hold_expired" }), 1);
  const waits = second.open("/data/file");
  await thaw();
  t.equal(await waits, 0);
  await eventually(
    "it was asked about",
    async () => (await daemon.metric("janusd_events_total", { event: "open" })) === 1,
  );
  t.equal(await daemon.metric("janusd_exposure_total", { cause: "hold_expired" }), 1);
  await Promise.all([first.stop(), second.stop()]);
  await daemon.stop();
});

t.test("a daemon that does not answer delays one open, and then none until it answers", async (t) => {
  const daemon = await startDaemon({ flags: ["--hold-limit=200"] }, t);
  const container = await volumeContainer(t);
  await daemon.createGuard(seen(container));
  const actor = await container.actor({ capabilities: "sys_admin" });
  const thaw = await freeze(daemon, "tracker");
  t.equal(await actor.unshare(CLONE_NEWNS), 0);
  t.equal(await actor.open("/data/file"), 0);
  t.equal(await actor.open("/data/file"), 0);
  t.equal(await daemon.metric("janusd_exposure_total", { cause: "hold_expired" }), 1);
  await thaw();
  await eventually("it is guarded", async () => {
    t.equal(await actor.open("/data/file"), 0);
    return (await daemon.metric("janusd_events_total", { event: "open" })) > 0;
  });
  await actor.stop();
  await daemon.stop();
});
