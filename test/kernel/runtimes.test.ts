/** Containers of real runtimes: found, guarded, and left when they end. Layouts that cannot be started here are in layouts.test.ts. */
import t, { type Test } from "tap";
import { cgroupParent } from "../support/cleanup.js";
import { startContainer } from "../support/container.js";
import { eventually, rpcError, startDaemon } from "../support/daemon.js";
import { startEngine } from "../support/engine.js";
import { mountNamespace, onlyV1, onlyV2 } from "../support/namespace.js";
import { Containerd, Podman, type RuntimeContainer } from "../support/runtimes.js";

const engine = startEngine(t);
const daemon = await startDaemon({}, t);
let pods = 0;

const subject = [{ deny: ["/etc/secret"], event: ["open"] }];

/** Found by each of `ids`, guarded by it, and open again afterwards. */
async function isGuarded(t: Test, container: RuntimeContainer, ids = [container.id]) {
  for (const id of ids) {
    const podName = `pod-${++pods}`;
    const found = engine.findContainer(id);
    t.match(found, { id: container.id, initPid: container.initPid });
    t.same(found.pids, [container.initPid], "no monitor, shim or sandbox");
    t.equal((await container.exec("cat", "/etc/secret")).status, 0);
    const handle = await daemon.createGuard({ name: "guard", podName, cid: [id], subject });
    t.match(handle, { pid: [container.initPid], cid: [container.id] });
    const denied = await container.exec("cat", "/etc/secret");
    t.not(denied.status, 0);
    t.match(denied.stderr, /Operation not permitted/);
    await daemon.waitForLine((line) => line.startsWith(`<DENY> OPEN_PERM file '/etc/secret' (${podName}:testnode)`));
    await daemon.destroyGuard({ podName });
  }
}

const shortened = ({ id }: RuntimeContainer) => id.slice(0, 12);

t.test("runc: by an id, and by a name of its own", async (t) => {
  for (const id of [undefined, `web-${process.pid}`]) {
    const named = id === undefined ? {} : { id };
    const container = await startContainer({ ...named, files: { "/etc/secret": "" } }, t);
    const { initPid } = container;
    await isGuarded(t, { id: container.id, initPid, exec: (...argv) => container.exec(argv) });
  }
});

t.test("crun, on a node with cgroup v2 alone", async (t) => {
  const enter = await mountNamespace(onlyV2, t);
  const container = await startContainer({ runtime: "crun", enter, files: { "/etc/secret": "" } }, t);
  const { id, initPid } = container;
  await isGuarded(t, { id, initPid, exec: (...argv) => container.exec(argv) }, [id, id.slice(0, 12)]);
});

t.test("runc, on a node with cgroup v1 alone", async (t) => {
  const enter = await mountNamespace(onlyV1, t);
  const container = await startContainer({ enter, files: { "/etc/secret": "" } }, t);
  const { id, initPid } = container;
  await isGuarded(t, { id, initPid, exec: (...argv) => container.exec(argv) }, [id, id.slice(0, 12)]);
});

t.test("podman with runc; its conmon is no part of the container", async (t) => {
  const podman = new Podman("runc", t);
  const container = podman.run();
  await isGuarded(t, container, [container.id, shortened(container)]);
  t.notOk(engine.findContainer(container.id).pids.includes(podman.monitor(container)));

  const { pod, infra, container: member } = podman.pod();
  t.same(engine.findContainer(infra.id).pids, [infra.initPid], "the pod's pause container is another one");
  await isGuarded(t, member);
  // The pause container adopts an orphan that is pid 1 of a namespace of its own.
  await member.exec("sh", "-c", "unshare -U -p -f sleep 1000 >/dev/null 2>&1 & sleep 0.5; kill -9 $!");
  const { initPid, pids } = engine.findContainer(member.id);
  t.equal(pids.length, 2, "the orphan is one of the container's");
  t.equal(initPid, member.initPid);
  // What `podman exec` started for isGuarded() may be in the pod's own cgroup for a moment.
  await eventually("the pod itself is no container", () => isOnlyAPod(pod));
});

/** The search says that the cgroup of this id only holds other containers. */
function isOnlyAPod(pod: string): boolean {
  try {
    engine.findContainer(pod);
    return false;
  } catch (error) {
    return error instanceof Error && /only holds other containers/.test(error.message);
  }
}

t.test("podman with crun, on a node with cgroup v2 alone", async (t) => {
  const podman = new Podman("crun", t, await mountNamespace(onlyV2, t));
  const container = podman.run();
  await isGuarded(t, container, [container.id, shortened(container)]);
});

t.test("guarded before its first instruction: a container that is created, and not yet started", async (t) => {
  const podman = new Podman("runc", t);
  const container = podman.created("/bin/sh", "-c", "cat /etc/secret; exec sleep 1000000");
  await daemon.createGuard({ name: "guard", podName: "early", cid: [container.id], subject });
  podman.start(container.id);
  await daemon.waitForLine((line) => line.startsWith("<DENY> OPEN_PERM file '/etc/secret' (early:testnode)"));
  await daemon.destroyGuard({ podName: "early" });
});

t.test("containerd: ctr's containers by name; its shim is no part of them", async (t) => {
  const containerd = await Containerd.start(t);
  await isGuarded(t, containerd.run(`web-${process.pid}`));

  await t.test("and the CRI's by id; the pod's sandbox is another container", async (t) => {
    // The cgroupfs driver's path; and the systemd driver's, given to a runtime that is not told to use it.
    for (const pod of ["kubepods/burstable/pod1", "kubepods-burstable-pod2.slice"]) {
      const { sandbox, container } = await containerd.pod(`${cgroupParent()}/${pod}`, t);
      await isGuarded(t, container, [container.id, shortened(container)]);
      t.same(engine.findContainer(sandbox.id).pids, [sandbox.initPid]);
      t.ok(engine.findContainer(container.id).cgroupPath.endsWith(container.id));
    }
  });
});

t.test("a guard that comes before its container waits for it, and holds nobody up", async (t) => {
  const id = `late-${process.pid}`;
  const created = daemon.createGuard({ name: "guard", podName: "late", cid: [id], subject });
  t.same(await daemon.getGuardState(), []);
  const container = await startContainer({ id, files: { "/etc/secret": "" } }, t);
  t.match(await created, { pid: [container.initPid], cid: [id] });
  t.match(await container.exec(["cat", "/etc/secret"]), { stderr: /Operation not permitted/ });
  await daemon.destroyGuard({ podName: "late" });
});

t.test("one that never comes: what was searched, and for how long", async (t) => {
  const error = await rpcError(daemon.createGuard({ name: "guard", podName: "never", cid: ["f".repeat(64)], subject }));
  t.equal(error.code, "NOT_FOUND");
  t.match(error.message, /f{64}.*searched \d+ processes in \d+ cgroups \(.+\); waited \d+ ms$/);
});
