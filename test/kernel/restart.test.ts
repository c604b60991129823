import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import { workspaceDirectory } from "../support/cleanup.js";
import { startContainer } from "../support/container.js";
import { eventually, startDaemon } from "../support/daemon.js";
import { EPERM, guardOn } from "../support/guard.js";
import { WITHIN } from "../support/times.js";

for (const end of ["SIGTERM", "SIGKILL"] as const) {
  t.test(`guards are there again after ${end}, with no controller to ask`, async (t) => {
    const container = await startContainer({ files: { "/etc/secret": "" } }, t);
    const actor = await container.actor();
    const daemon = await startDaemon({}, t);
    await daemon.createGuard(guardOn(container, { deny: ["/etc/secret"], tags: { a: "b" } }));
    t.equal(await actor.open("/etc/secret"), EPERM);
    if (end === "SIGTERM") await daemon.stop();
    else {
      // The file is written beside the answer, a moment later.
      const written = () =>
        existsSync(daemon.stateFile) && readFileSync(daemon.stateFile, "utf8").includes("/etc/secret");
      await eventually("the guard is in the state file", written);
      await daemon.kill("SIGKILL");
    }
    t.equal(await actor.open("/etc/secret"), 0, "nobody guards");

    const next = await startDaemon({ stateFile: daemon.stateFile }, t);
    t.equal(await actor.open("/etc/secret"), EPERM);
    t.match(await next.getGuardState(), [{ podName: "pod", nodeName: "testnode" }]);
    await next.waitForLine((line) => line === "<DENY> OPEN_PERM file '/etc/secret' (pod:testnode) a=b");
    await next.destroyGuard({ podName: "pod" });
    await next.stop();

    const last = await startDaemon({ stateFile: daemon.stateFile }, t);
    t.same(await last.getGuardState(), [], "what was destroyed stays so");
    t.equal(await actor.open("/etc/secret"), 0);
    await last.stop();
  });
}

t.test("a guard whose container ended meanwhile does not come back", async (t) => {
  const container = await startContainer({ files: { "/etc/secret": "" } }, t);
  const daemon = await startDaemon({}, t);
  await daemon.createGuard(guardOn(container, { deny: ["/etc/secret"] }));
  await daemon.stop();
  await container.stop();
  const next = await startDaemon({ stateFile: daemon.stateFile }, t);
  t.same(await next.getGuardState(), []);
  await next.stop();
});

t.test("a state file that is cut off is no reason not to start", async (t) => {
  const daemon = await startDaemon({}, t);
  const container = await startContainer({ files: { "/etc/secret": "" } }, t);
  await daemon.createGuard(guardOn(container, { deny: ["/etc/secret"] }));
  await daemon.stop();
  truncateSync(daemon.stateFile, Math.floor(readFileSync(daemon.stateFile).length / 2));
  const next = await startDaemon({ stateFile: daemon.stateFile }, t);
  t.same(await next.getGuardState(), []);
  t.match(next.stderr, /state/);
  await next.stop();
});

t.test("a state file whose last line was cut off: the guards before it are there again", async (t) => {
  const daemon = await startDaemon({}, t);
  const container = await startContainer({ files: { "/etc/secret": "", "/etc/other": "" } }, t);
  const actor = await container.actor();
  for (const name of ["secret", "other"]) {
    await daemon.createGuard(guardOn(container, { deny: [`/etc/${name}`] }, { name }));
    await eventually("it is written", () => readFileSync(daemon.stateFile, "utf8").includes(`/etc/${name}`));
  }
  await daemon.kill("SIGKILL");
  truncateSync(daemon.stateFile, readFileSync(daemon.stateFile).length - 20);
  const next = await startDaemon({ stateFile: daemon.stateFile }, t);
  t.match(await next.getGuardState(), { length: 1 });
  t.equal(await actor.open("/etc/secret"), EPERM);
  t.match(next.stderr, /makes no sense in the state file/);
  await next.stop();
});

t.test("a disk that is full later: not ready, counted, and made good when there is room", async (t) => {
  const directory = mkdtempSync(join(workspaceDirectory(), "small-"));
  execFileSync("mount", ["-t", "tmpfs", "-o", "size=64k", "none", directory]);
  t.teardown(() => execFileSync("umount", [directory]));
  const daemon = await startDaemon({ stateFile: join(directory, "guards.json") }, t);
  const container = await startContainer({ files: { "/etc/secret": "" } }, t);
  writeFileSync(join(directory, "filler"), Buffer.alloc(60 * 1024));
  const long = "x".repeat(200);
  const denied = Array.from({ length: 40 }, (_, index) => `/etc/${long}${index}`);
  await daemon.createGuard(guardOn(container, { deny: ["/etc/secret", ...denied] }));
  await eventually("it is not ready", async () => (await daemon.http("/readyz")).status === 503, WITHIN.report);
  const check = { name: "state-file", ok: false, detail: /^cannot be written: ENOSPC/ };
  const { checks } = (await (await daemon.http("/readyz")).json()) as { checks: { name: string }[] };
  t.match(
    checks.find(({ name }) => name === check.name),
    check,
  );
  t.ok((await daemon.metric("janusd_state_file_errors_total")) > 0);
  rmSync(join(directory, "filler"));
  await eventually("it is ready", async () => (await daemon.http("/readyz")).status === 200);
  t.match(readFileSync(daemon.stateFile, "utf8"), "/etc/secret");
  await daemon.stop();
});

t.test("SIGTERM under load: ordered, no stack trace, exit 0", async (t) => {
  const daemon = await startDaemon({}, t);
  const container = await startContainer({ files: { "/etc/secret": "" } }, t);
  const actor = await container.actor();
  await daemon.createGuard(guardOn(container, { deny: ["/etc/secret"] }));
  const calm = actor.storm("/etc/secret");
  await eventually("the storm began", () => daemon.lines.length > 0);
  await daemon.stop();
  const { denied, other } = await calm();
  t.ok(denied > 0, "denied before");
  t.equal(other, 0);
  t.equal(await actor.open("/etc/secret"), 0, "free after");
  t.notMatch(daemon.stderr, /\n +at /);
  t.ok(existsSync(daemon.stateFile));
});
