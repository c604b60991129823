/** What is pinned below a guarded directory, and when. */
import t from "tap";
import { startContainer } from "../support/container.js";
import { type Daemon, eventually, startDaemon } from "../support/daemon.js";
import { freeze } from "../support/freeze.js";
import { EPERM, guardOn } from "../support/guard.js";

const pinned = (daemon: Daemon) => daemon.metric("janusd_marks", { kind: "identity" });
const exposure = (daemon: Daemon, cause: string) => daemon.metric("janusd_exposure_total", { cause });

t.test("a large tree: the rest is pinned after CreateGuard, and that is counted", async (t) => {
  const files = 3000;
  const daemon = await startDaemon({}, t);
  const container = await startContainer({ volumes: [{ target: "/data" }] }, t);
  for (let i = 0; i < files; i++) container.writeVolume(0, `keys/${i % 10}/${i}`, "");
  await daemon.createGuard(guardOn(container, { deny: ["/data/keys"], recursive: true }));
  t.equal(await exposure(daemon, "scan_pending"), 1);
  await eventually("all is pinned", async () => (await daemon.metric("janusd_scans_pending")) === 0);
  t.equal(await pinned(daemon), files + 11);
  await daemon.stop();
});

t.test("more than may be pinned: counted", async (t) => {
  const daemon = await startDaemon({ flags: ["--identity-limit", "100"] }, t);
  const container = await startContainer({ volumes: [{ target: "/data" }] }, t);
  for (let i = 0; i < 200; i++) container.writeVolume(0, `keys/${i}`, "");
  await daemon.createGuard(guardOn(container, { deny: ["/data/keys"], recursive: true }));
  t.equal(await exposure(daemon, "identity_limit"), 1);
  t.equal(await pinned(daemon), 100);
  await daemon.stop();
});

t.test("what is deleted doesn't count for ever: the limit is one of what is there", async (t) => {
  const daemon = await startDaemon({}, t);
  const container = await startContainer({ files: { "/data/keys/key": "" } }, t);
  const actor = await container.actor();
  await daemon.createGuard(guardOn(container, { deny: ["/data/keys"], recursive: true }));
  const outcomes = new Map<string, number>();
  for (let i = 0; i < 3000; i++) {
    const outcome = `${await actor.write("/data/keys/made", "x")} ${await actor.unlink("/data/keys/made")}`;
    outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
  }
  t.same([...outcomes], [[`${EPERM} 0`, 3000]], "each write is denied, each unlink is not");
  await eventually("those that are gone are forgotten", async () => (await pinned(daemon)) < 1100);
  t.equal(await actor.open("/data/keys/key"), EPERM);
  await daemon.stop();
});

t.test(
  "what appears in a guarded tree of a volume is pinned, also if there was more than the kernel tells",
  async (t) => {
    // fs.fanotify.max_queued_events, and what comes after.
    const before = 16_500;
    const daemon = await startDaemon({ flags: ["--identity-limit", "40000"] }, t);
    const container = await startContainer({ volumes: [{ target: "/data" }] }, t);
    container.writeVolume(0, "keys/key", "");
    await daemon.createGuard(guardOn(container, { deny: ["/data/keys"], recursive: true, scope: 1 }));
    t.equal(await pinned(daemon), 2);
    container.writeVolume(0, "keys/new/deep/key", "");
    await eventually("directories and file", async () => (await pinned(daemon)) === 5);

    const thaw = await freeze(daemon, "scanner");
    for (let i = 0; i < before; i++) container.writeVolume(0, `keys/${i}`, "");
    container.writeVolume(0, "keys/last/deep/key", "");
    await thaw();
    await eventually("all of it", async () => (await pinned(daemon)) === 5 + before + 3);
    await daemon.stop();
  },
);
