/** Marks and scans that fail, or overtake each other, take nothing from what was guarded before. */
import { openSync } from "node:fs";
import t from "tap";
import { startContainer, staticProgram } from "../support/container.js";
import { startDaemon } from "../support/daemon.js";
import { freeze } from "../support/freeze.js";
import { EPERM, guardOn } from "../support/guard.js";

const later = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

t.test("a mount that cannot be marked leaves the others marked", async (t) => {
  // The daemon may have 20,000 descriptors, and needs one for each component of the mount point.
  const programs = { "/bin/deepmount": staticProgram(new URL("deepmount.c", import.meta.url).pathname) };
  const flags = ["--identity-limit=1"];
  const daemon = await startDaemon({ flags, stdout: openSync("/dev/null", "w") }, t);
  const container = await startContainer({ programs, volumes: [{ target: "/data" }] }, t);
  for (let i = 0; i < 20; ++i) container.writeVolume(0, `s/${i}/token`, "");
  await daemon.createGuard(guardOn(container, { deny: ["/data/s"], recursive: true }));
  const actor = await container.actor();
  const { stdout } = await container.exec(["deepmount", "/tmp", "20100", "/data"], { capabilities: "sys_admin" });
  t.match(stdout, "20100 levels, bind: ok");
  await later(2000);
  for (let i = 0; i < 20; ++i) t.equal(await actor.open(`/data/s/${i}/token`), EPERM);
  await daemon.stop();
});

t.test("a guard that was destroyed while it was scanned, and made again, learns once all is pinned", async (t) => {
  const daemon = await startDaemon({ flags: ["--identity-limit=1000000"], stdout: openSync("/dev/null", "w") }, t);
  const container = await startContainer({ files: { "/opt/app/pub": "" } }, t);
  const shell = await container.shell();
  await shell.run(
    "mkdir /tree && cd /tree && for d in $(seq 20); do mkdir d$d; cd d$d; for e in $(seq 20); do mkdir e$e; cd e$e; touch $(seq 40); cd ..; done; cd ..; done",
  );
  const guard = guardOn(container, { deny: ["/tree"], recursive: true });
  const thaw = await freeze(daemon, "scanner");
  await daemon.createGuard(guard);
  await daemon.destroyGuard({ name: "guard", podName: "pod" });
  await daemon.createGuard(guard);
  t.equal(await daemon.metric("janusd_scans_pending"), 2, "both scans are under way");
  await thaw();
  while ((await daemon.metric("janusd_scans_pending")) > 0) await later(100);
  await later(300);
  const actor = await container.actor();
  const asked = () => daemon.metric("janusd_asked_total", { outcome: "unguarded" });
  await actor.open("/opt/app/pub");
  await later(100);
  const before = await asked();
  t.equal((await actor.repeat("/opt/app/pub", 1000)).opened, 1000);
  t.equal(await asked(), before, "nothing asks outside");
  await daemon.stop();
});
