/** A container has a permission group of its own that never answers: only itself waits, and its scans; all others go on. */
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import t, { type Test } from "tap";
import { BESIDE, beside } from "../support/beside.js";
import { type Container, startContainer, staticProgram } from "../support/container.js";
import { type Daemon, eventually, startDaemon } from "../support/daemon.js";
import { EPERM, guardOn } from "../support/guard.js";

t.jobs = BESIDE;

const listener = staticProgram("listener.c");
const many = 700; // more than CreateGuard itself looks at

async function hostile(t: Test): Promise<Container> {
  const container = await startContainer(
    {
      files: { "/own/a/secret": "", "/own/b/file": "" },
      programs: { "/bin/listener": listener },
      volumes: [{ target: "/data" }],
    },
    t,
  );
  container.writeVolume(0, "s/token", "");
  container.writeVolume(0, "s/below/file", "");
  return container;
}

/** Ends with the container. */
async function listen(container: Container, ...args: readonly string[]): Promise<void> {
  void container.exec(["sh", "-c", `listener ${args.join(" ")} > /data/listening`], { capabilities: "sys_admin" });
  const said = join(container.volumes[0] ?? "", "listening");
  await eventually("it listens", () => existsSync(said) && readFileSync(said, "utf8") === "listening\n");
}

async function guarded(daemon: Daemon, container: Container, name: string, ...deny: readonly string[]): Promise<void> {
  await daemon.createGuard(guardOn(container, { deny: [...deny], recursive: true }, { name, podName: name }));
}

/** A neighbour with a tree so large that a thread goes on with it. All of it is pinned. */
async function neighbourIsServed(t: Test, daemon: Daemon, name: string): Promise<void> {
  const container = await startContainer({ volumes: [{ target: "/data" }] }, t);
  const tree = join(container.volumes[0] ?? "", "tree");
  mkdirSync(tree);
  for (let i = 0; i < many; ++i) writeFileSync(join(tree, String(i)), "");
  await guarded(daemon, container, name, "/data/tree");
  const links = `for i in $(seq 0 ${many - 1}); do ln /data/tree/$i /data/link$i; done`;
  t.equal((await container.exec(["sh", "-c", links])).status, 0);
  const actor = await container.actor();
  for (let i = 0; i < many; ++i) {
    await eventually(`file ${i} is pinned`, async () => (await actor.open(`/data/link${i}`)) === EPERM);
  }
  t.equal(await actor.open("/etc/passwd"), 0, "what nobody guards is open");
  await actor.stop();
}

async function refused(daemon: Daemon, container: Container): Promise<number> {
  return daemon.metric("janusd_share_refused_total", { container: container.id, resource: "listings" });
}

async function isWell(t: Test, daemon: Daemon): Promise<void> {
  t.equal((await daemon.http("/livez")).status, 200);
  t.equal((await daemon.http("/readyz")).status, 200);
  t.equal(await daemon.metric("janusd_exposure_total", { cause: "deadline" }), 0);
}

t.test("control: nobody listens, and nothing is given up", async (t) => {
  const daemon = await startDaemon({}, t);
  const container = await hostile(t);
  await guarded(daemon, container, "bad", "/data/s", "/own");
  await neighbourIsServed(t, daemon, "neighbour");
  await eventually("all is scanned", async () => (await daemon.metric("janusd_scans_pending")) === 0);
  t.equal(await refused(daemon, container), 0);
  await daemon.stop();
});

// "+": a process of the container waits there, too.
for (const [group, wait] of [
  ["content", ""],
  ["pre", "+"],
] as const) {
  const title = `a group of class ${group} on its own directories never answers${wait && ", nor its own process"}`;
  t.test(title, { ...beside, timeout: 90_000 }, async (t) => {
    const daemon = await startDaemon({}, t);
    const container = await hostile(t);
    await guarded(daemon, container, "before", "/own/b");
    const directories = ["/data/s", "/data/s/below", "/own", "/own/a", "/own/b"].map((path) => wait + path);
    await listen(container, "inode", group, ...directories);
    await guarded(daemon, container, "bad", "/data/s", "/own");
    await neighbourIsServed(t, daemon, "neighbour");
    await isWell(t, daemon);
    await eventually("it is named", async () => (await refused(daemon, container)) >= 2);
    await eventually("its scans are given up", async () => (await daemon.metric("janusd_scans_pending")) === 0);
    t.ok((await daemon.metric("janusd_exposure_total", { cause: "identity_limit" })) >= 2, "its scans are incomplete");
    // What appears in its tree has a scan of its own.
    container.writeVolume(0, "later/file", "");
    const volume = container.volumes[0] ?? "";
    renameSync(join(volume, "later"), join(volume, "s/later"));
    await neighbourIsServed(t, daemon, "second");
    await isWell(t, daemon);
    await daemon.stop();

    const next = await startDaemon({ stateFile: daemon.stateFile }, t);
    t.equal((await next.getGuardState()).length, 4, "all guards are restored");
    await neighbourIsServed(t, next, "third");
    await isWell(t, next);
    await next.stop();
  });
}
