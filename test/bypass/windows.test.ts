/** The windows that remain are counted: whatever is mounted over or below what is guarded. */
import t from "tap";
import type { Actor } from "../support/container.js";
import { startContainer } from "../support/container.js";
import { eventually, startDaemon } from "../support/daemon.js";
import { EPERM, guardOn } from "../support/guard.js";

const CLONE_NEWNS = 0x20000;

const daemon = await startDaemon({}, t);
// Each test has a directory of its own, guarded before anything is mounted.
const container = await startContainer(
  {
    files: {
      "/data/in1/secret": "",
      "/data/in2/below/secret": "",
      "/data/in3/secret": "",
      "/data/in4/secret": "",
      "/data/other/secret": "",
    },
  },
  t,
);
const deny = ["/data/in1", "/data/in2", "/data/in3", "/data/in4"];
await daemon.createGuard(guardOn(container, { deny, recursive: true }));

const exposure = () => daemon.metric("janusd_exposure_total", { cause: "mount_changed" });

function counted(what: string, point: string, change: (actor: Actor) => Promise<number>): void {
  void t.test(`counted: ${what}`, async (t) => {
    const actor = await container.actor({ capabilities: "sys_admin" });
    const before = await exposure();
    t.equal(await change(actor), 0);
    await eventually("the mount is denied", async () => (await actor.open(point)) === EPERM);
    await eventually("it is counted", async () => (await exposure()) > before);
    await actor.stop();
  });
}

counted("another file system over a guarded path", "/data/in1", (actor) => actor.bind("/dev/shm", "/data/in1"));
counted("another file system below one", "/data/in2/below", (actor) => actor.bind("/dev/shm", "/data/in2/below"));
counted("a bind of an open directory of the same file system", "/data/in3/secret", (actor) =>
  actor.bind("/data/other", "/data/in3"),
);
counted("one in a mount namespace of its own", "/data/in4", async (actor) => {
  const unshared = await actor.unshare(CLONE_NEWNS);
  return unshared === 0 ? await actor.bind("/dev/shm", "/data/in4") : unshared;
});
