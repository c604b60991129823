/** The windows that remain are counted: whatever is mounted over or below what is guarded, leads elsewhere, or is new there. */
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

const exposure = (cause = "mount_changed") => daemon.metric("janusd_exposure_total", { cause });

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

t.test("counted: a guarded path becomes a symbolic link", async (t) => {
  const actor = await container.actor();
  await daemon.createGuard({ ...guardOn(container, { deny: ["/data/other/link"] }), name: "link" });
  const before = await exposure("path_changed");
  t.equal(await actor.symlink("/data/other/secret", "/data/other/link"), 0);
  await eventually("its target is denied", async () => (await actor.open("/data/other/secret")) === EPERM);
  t.equal(await exposure("path_changed"), before + 1);
  await actor.stop();
});

t.test("counted: the node makes a directory in a guarded tree of a volume", async (t) => {
  const shared = await startContainer({ volumes: [{ target: "/data" }] }, t);
  shared.writeVolume(0, "keys/key", "");
  await daemon.createGuard({
    ...guardOn(shared, { deny: ["/data/keys"], recursive: true, scope: 1 }),
    name: "volume",
    podName: "volume",
  });
  const before = await exposure("scan_pending");
  shared.writeVolume(0, "keys/new/key", "");
  await eventually("it is counted", async () => (await exposure("scan_pending")) === before + 1);
});
