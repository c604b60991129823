/** What is guarded stays guarded while pins are made: by two threads at once, for two guards, and of what was there before. */
import { openSync } from "node:fs";
import t from "tap";
import { startContainer, staticProgram } from "../support/container.js";
import { type Daemon, startDaemon } from "../support/daemon.js";
import { freeze } from "../support/freeze.js";
import { EPERM, guardOn } from "../support/guard.js";
import { CLONE_NEWNS, seen, volumeContainer } from "../support/new-mounts.js";
import { seconds } from "./length.js";

const later = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** How many opens were allowed; if they aren't all counted yet, after a while. */
async function opens(daemon: Daemon, wanted: number): Promise<number> {
  for (let i = 0; ; ++i) {
    const got = await daemon.metric("janusd_events_total", { event: "open", response: "allow" });
    if (got >= wanted || i === 30) return got;
    await later(100);
  }
}

t.test("gate and scanner pin one inode at once: once denied, always denied", async (t) => {
  const programs = { "/bin/pinrace": staticProgram(new URL("pinrace.c", import.meta.url).pathname) };
  const daemon = await startDaemon({ stdout: openSync("/dev/null", "w") }, t);
  const container = await startContainer({ programs, volumes: [{ target: "/data" }] }, t);
  container.writeVolume(0, "s/token", "");
  container.writeVolume(0, "free/x", "");
  await daemon.createGuard(guardOn(container, { deny: ["/data/s"], recursive: true }));
  const all = await Promise.all(
    ["0", "1"].map((id) => container.exec(["pinrace", "/data/s", "/data/free", String(4 * seconds), id])),
  );
  for (const { stdout } of all) {
    t.match(stdout, /EPERM [1-9]\d* \(allowed 0\)/, "by its guarded path");
    t.match(stdout, /link opened 0, later 0/, "by a link");
  }
  await daemon.stop();
});

t.test("a mount namespace that is older than the guard is marked when CreateGuard returns", async (t) => {
  for (const how of ["process", "thread"] as const) {
    const daemon = await startDaemon({}, t);
    const container = await volumeContainer(t);
    const actor = await container.actor({ capabilities: "sys_admin" });
    if (how === "process") t.equal(await actor.unshare(CLONE_NEWNS), 0);
    else t.same(await actor.command("thread", CLONE_NEWNS), [0]);
    const thaw = await freeze(daemon, "tracker"); // which would find it a little later
    await daemon.createGuard(seen(container));
    t.equal((await actor.repeat("/data/file", 1000)).opened, 1000);
    await thaw();
    t.equal(await opens(daemon, 1000), 1000, how);
    await daemon.stop();
  }
});

t.test("a deny of exec takes no events of open from an allow of the same directory", async (t) => {
  const daemon = await startDaemon({}, t);
  const container = await startContainer({ files: { "/app/conf": "", "/app/sub/conf": "" } }, t);
  const actor = await container.actor();
  await daemon.createGuard(
    guardOn(container, [
      { deny: ["/app"], event: ["exec"], recursive: true },
      { allow: ["/app"], exact: true, recursive: true },
    ]),
  );
  for (const path of ["/app/conf", "/app/sub/conf"]) t.equal((await actor.repeat(path, 500)).opened, 500);
  t.equal(await opens(daemon, 1000), 1000);
  await daemon.stop();
});

t.test("what is pinned for exec is not silent for a later guard on open", async (t) => {
  const daemon = await startDaemon({ flags: ["--identity-limit=1000000"] }, t);
  const container = await startContainer({}, t);
  const shell = await container.shell();
  await shell.run(
    "mkdir /tree && cd /tree && for d in $(seq 40); do mkdir d$d; cd d$d; for e in $(seq 20); do mkdir e$e; cd e$e; touch $(seq 20); cd ..; done; cd ..; done",
  );
  const actor = await container.actor();
  const exec = guardOn(
    container,
    { deny: ["/tree"], recursive: true, event: ["exec"] },
    { name: "exec", podName: "exec" },
  );
  await daemon.createGuard(exec);
  while ((await daemon.metric("janusd_scans_pending")) > 0) await later(50);
  await daemon.createGuard(guardOn(container, { deny: ["/tree"], recursive: true }));
  let slipped = 0;
  for (let f = 1; f <= 20; f += 4)
    for (let e = 1; e <= 20; e += 3)
      for (let d = 1; d <= 40; d += 3)
        for (let again = 0; again < 2; ++again) if ((await actor.open(`/tree/d${d}/e${e}/${f}`)) !== EPERM) ++slipped;
  t.equal(slipped, 0);
  await daemon.stop();
});
