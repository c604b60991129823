/** What one container uses up of what all need is its own share: its neighbour's guard holds, and it is named. */
import t, { type Test } from "tap";
import { type Container, startContainer } from "../support/container.js";
import { type Daemon, eventually, rpcError, startDaemon } from "../support/daemon.js";
import { EPERM, guardOn } from "../support/guard.js";

const limit = 1000;

const refused = (daemon: Daemon, container: Container) =>
  daemon.metric("janusd_share_refused_total", { container: container.id, resource: "pins" });

/** So many directories below this one. */
async function fill(container: Container, directory: string, count: number): Promise<void> {
  const shell = await container.shell();
  await shell.run(
    `cd ${directory} && mkdir 1 2 3 && for i in $(seq ${count / 3}); do echo 1/$i 2/$i 3/$i; done | xargs -n 300 mkdir`,
  );
}

/** A guard is made on the neighbour's secrets. They leave the guarded place by a link, and in a directory that is moved. */
async function attempt(t: Test, daemon: Daemon, neighbour: Container, name: string): Promise<void> {
  neighbour.writeVolume(0, `${name}/token`, "s3cret");
  neighbour.writeVolume(0, `${name}/d/token`, "s3cret");
  const guard = guardOn(neighbour, { deny: [`/data/${name}`], recursive: true });
  await daemon.createGuard({ ...guard, name, podName: "neighbour" });
  const actor = await neighbour.actor();
  t.equal(await actor.link(`/data/${name}/token`, `/data/${name}-linked`), 0);
  t.equal(await actor.rename(`/data/${name}/d`, `/data/${name}-moved`), 0);
  for (const path of [`${name}-linked`, `${name}-moved/token`, `${name}/token`])
    t.equal(await actor.open(`/data/${path}`), EPERM, path);
}

for (const directory of ["/data", "/dev/shm"]) {
  t.test(`directories below the attacker's ${directory}, more than may be pinned`, async (t) => {
    const daemon = await startDaemon({ flags: [`--identity-limit=${limit}`] }, t);
    // Both volumes are of one superblock.
    const attacker = await startContainer({ volumes: [{ target: "/data" }] }, t);
    const neighbour = await startContainer({ volumes: [{ target: "/data" }] }, t);
    const guard = guardOn(attacker, { deny: [directory], recursive: true });
    await daemon.createGuard({ ...guard, name: "attacker", podName: "attacker" });
    const filled = fill(attacker, directory, 2 * limit);
    await attempt(t, daemon, neighbour, "meanwhile");
    await filled;
    await eventually("the attacker pays", async () => (await refused(daemon, attacker)) > 0);
    await attempt(t, daemon, neighbour, "afterwards");
    t.equal(await refused(daemon, neighbour), 0);

    const more = guardOn(attacker, [{ deny: ["/etc"] }, { deny: ["/bin", "/tmp"] }]);
    t.match(await rpcError(daemon.createGuard({ ...more, name: "more", podName: "attacker" })), {
      code: "RESOURCE_EXHAUSTED",
      message: /^subject\[0\]\.deny\[0\]: cannot be pinned: .*--identity-limit/,
    });
    t.equal((await daemon.getGuardState()).length, 3, "nothing is left of it");
    const said = () => daemon.stderr.split("\n").filter((line) => line.includes("has used up its share"));
    await eventually("its log tells", async () => said().length > 0);
    t.ok(
      said().every((line) => line.includes(attacker.id)),
      "of the attacker alone",
    );
    await daemon.stop();
  });
}

t.test("a guard is refused whole: what it could have pinned stays free", async (t) => {
  const daemon = await startDaemon({ flags: ["--identity-limit=4"] }, t);
  const container = await startContainer(
    { files: Object.fromEntries(["a", "b", "c", "d", "e"].map((name) => [`/etc/${name}`, ""])) },
    t,
  );
  const named = (name: string, deny: string[]) => ({ ...guardOn(container, { deny }), name });
  const two = named("two", ["/etc/a", "/etc/b"]);
  await daemon.createGuard(two);
  const three = named("three", ["/etc/c", "/etc/d", "/etc/e"]);
  t.match(await rpcError(daemon.createGuard(three)), {
    code: "RESOURCE_EXHAUSTED",
    message: /^subject\[0\]\.deny\[2\]/,
  });
  await daemon.createGuard(named("one", ["/etc/c"]));
  const actor = await container.actor();
  for (const path of ["/etc/a", "/etc/b", "/etc/c"]) t.equal(await actor.open(path), EPERM);
  t.equal(await actor.open("/etc/e"), 0);
  // What it has is its own to use again.
  await daemon.createGuard(named("two", ["/etc/a", "/etc/b"]));
  await daemon.destroyGuard({ name: "two", podName: "pod" });
  await eventually("room again", async () => {
    return daemon.createGuard(three).then(
      () => true,
      () => false,
    );
  });
  await daemon.stop();
});
