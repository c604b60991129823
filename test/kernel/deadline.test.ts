/** What happens when the gate stands still: nobody in a container waits for ever, and the daemon says so. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import { startContainer } from "../support/container.js";
import { eventually, startDaemon } from "../support/daemon.js";
import { freeze } from "../support/freeze.js";
import { ENOENT, EPERM, guardOn } from "../support/guard.js";
import { WITHIN } from "../support/times.js";

t.test("a gate that stands still: what waits past the deadline is judged all the same, and health tells", async (t) => {
  const daemon = await startDaemon({ flags: ["--deadline=300"] }, t);
  const container = await startContainer({ files: { "/etc/secret": "" } }, t);
  const actor = await container.actor();
  await daemon.createGuard(guardOn(container, { deny: ["/etc/secret"] }));
  t.equal(await actor.open("/etc/secret"), EPERM);
  t.equal(await daemon.metric("janusd_exposure_total"), 0);

  const thaw = await freeze(daemon, "gate");
  t.equal(await actor.open("/etc/secret"), EPERM, "denied, late, by the watchdog");
  t.equal(await actor.open("/etc/hostname"), ENOENT, "and who opens what nobody guards goes on");
  t.equal(await daemon.metric("janusd_exposure_total", { cause: "deadline" }), 0, "nothing went unjudged");
  t.equal(await daemon.metric("janusd_events_total", { event: "open", response: "deny" }), 2, "both are counted");
  await eventually("it is not ready", async () => (await daemon.http("/readyz")).status === 503, WITHIN.standingStill);
  const report = await (await daemon.http("/readyz")).text();
  t.match(report, /"name":"gate","ok":false/);
  t.match(report, /"name":"watchdog","ok":true/);
  t.match(await actor.repeat("/etc/secret", 20), { denied: 20 }, "one after the other");

  await thaw();
  await eventually("it is ready again", async () => (await daemon.http("/readyz")).status === 200, WITHIN.report);
  t.equal(await actor.open("/etc/secret"), EPERM, "denied again");
  await daemon.stop();
});

t.test("an observer that stands still delays no answer", async (t) => {
  const daemon = await startDaemon({}, t);
  const container = await startContainer({ files: { "/etc/secret": "", "/etc/seen": "" } }, t);
  const actor = await container.actor();
  await daemon.createGuard(guardOn(container, [{ deny: ["/etc/secret"] }, { allow: ["/etc/seen"] }]));
  const thaw = await freeze(daemon, "observer");
  t.match(await actor.repeat("/etc/seen", 1000), { opened: 1000 });
  t.match(await actor.repeat("/etc/secret", 1000), { denied: 1000 });
  t.equal(await daemon.metric("janusd_exposure_total"), 0);
  await thaw();
  await daemon.waitForLine((line) => line.includes("'/etc/seen'"));
  await daemon.stop();
});

t.test("the daemon never waits for itself: its own files below a guarded volume", async (t) => {
  const container = await startContainer({ volumes: [{ target: "/data" }] }, t);
  const actor = await container.actor();
  const [volume = ""] = container.volumes;
  const daemon = await startDaemon({ stateFile: join(volume, "state", "guards.json") }, t);
  await daemon.createGuard(guardOn(container, { deny: ["/data"], event: ["all", "exec"], recursive: true }));
  await eventually("the guard is in the state file", () => existsSync(daemon.stateFile));
  t.equal(await actor.open("/data/state/guards.json"), EPERM, "what the daemon may write, the container may not read");
  await daemon.createGuard(guardOn(container, { deny: ["/data", "/etc/passwd"], event: ["all"], recursive: true }));
  t.equal(await actor.open("/etc/passwd"), EPERM);
  t.equal(await daemon.metric("janusd_exposure_total", { cause: "deadline" }), 0);
  await daemon.stop();
  t.match(readFileSync(daemon.stateFile, "utf8"), "/etc/passwd");
});
