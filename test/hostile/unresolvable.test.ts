/** A guarded path that cannot be followed any more costs that path, and not what else is guarded. */
import t from "tap";
import { startContainer, staticProgram } from "../support/container.js";
import { eventually, startDaemon } from "../support/daemon.js";
import { EPERM, guardOn } from "../support/guard.js";
import { CLONE_NEWNS } from "../support/new-mounts.js";

const programs = { "/bin/chain": staticProgram(new URL("chain.c", import.meta.url).pathname) };

t.test("uid 1000 makes one guarded path an endless one: new mounts are marked all the same", async (t) => {
  const daemon = await startDaemon({}, t);
  const container = await startContainer({ programs, volumes: [{ target: "/data" }] }, t);
  container.writeVolume(0, "file", "seen");
  container.writeVolume(0, "kept", "denied");
  await container.exec(["chmod", "777", "/data"]);
  await daemon.createGuard(
    guardOn(container, [
      { allow: ["/data/file"], exact: true },
      { deny: ["/data/kept", "/data/s"], recursive: true },
    ]),
  );
  const opens = () => daemon.metric("janusd_events_total", { event: "open", response: "allow" });
  const unresolved = () => daemon.metric("janusd_exposure_total", { cause: "unresolved_path" });

  t.equal((await container.exec(["chain", "/data", "40", "0"], { uid: 1000 })).status, 0);
  await eventually("it is counted", async () => (await unresolved()) > 0);

  const before = await opens();
  const actor = await container.actor({ capabilities: "sys_admin" });
  t.equal(await actor.unshare(CLONE_NEWNS), 0);
  t.equal(await actor.bind("/data", "/mnt"), 0);
  const tries = 100;
  await eventually("what is opened by the new mount is an event", async () => {
    const then = await opens();
    await actor.open("/mnt/file");
    return (await opens()) > then;
  });
  const then = await opens();
  for (let i = 0; i < tries; ++i) {
    t.equal(await actor.open("/data/file"), 0);
    t.equal(await actor.open("/mnt/file"), 0);
  }
  t.equal((await opens()) - then, 2 * tries, "each open is an event");
  t.ok((await opens()) > before);
  t.equal(await actor.open("/data/kept"), EPERM);
  t.equal(await actor.open("/mnt/kept"), EPERM);
  await actor.stop();
  await daemon.stop();
});
