import t from "tap";
import { startContainer } from "../support/container.js";
import { startDaemon } from "../support/daemon.js";
import { EPERM, guardOn } from "../support/guard.js";

const daemon = await startDaemon({}, t);

t.test("several guards on one pod all hold; a name removes one, a pod's name all", async (t) => {
  const container = await startContainer({ files: { "/etc/one": "", "/etc/two": "", "/etc/three": "" } }, t);
  const actor = await container.actor();
  const denied = async () => ({
    one: await actor.open("/etc/one"),
    two: await actor.open("/etc/two"),
    three: await actor.open("/etc/three"),
  });
  for (const name of ["one", "two", "three"])
    await daemon.createGuard(guardOn(container, { deny: [`/etc/${name}`] }, { name }));
  t.same(await denied(), { one: EPERM, two: EPERM, three: EPERM });
  t.equal((await daemon.getGuardState()).length, 3);
  await daemon.destroyGuard({ name: "two", podName: "pod" });
  t.same(await denied(), { one: EPERM, two: 0, three: EPERM });
  await daemon.destroyGuard({ podName: "pod" });
  t.same(await denied(), { one: 0, two: 0, three: 0 });
  t.same(await daemon.getGuardState(), []);
  await daemon.destroyGuard({ podName: "pod" });
  await daemon.destroyGuard({ name: "never", podName: "was" });
});

t.test("two pods: DestroyGuard with another pod's pids removes only the named pod's guard", async (t) => {
  const a = await startContainer({ files: { "/etc/secret": "" } }, t);
  const b = await startContainer({ files: { "/etc/secret": "" } }, t);
  const [inA, inB] = [await a.actor(), await b.actor()];
  await daemon.createGuard(guardOn(a, { deny: ["/etc/secret"] }, { name: "g", podName: "pod-a" }));
  const handle = await daemon.createGuard(guardOn(b, { deny: ["/etc/secret"] }, { name: "g", podName: "pod-b" }));
  t.same(handle.pid, [b.initPid]);
  await daemon.destroyGuard({ nodeName: "testnode", podName: "pod-a", pid: handle.pid });
  t.equal(await inA.open("/etc/secret"), 0);
  t.equal(await inB.open("/etc/secret"), EPERM);
  t.same(
    (await daemon.getGuardState()).map((guard) => guard.podName),
    ["pod-b"],
  );
  await daemon.destroyGuard({ podName: "pod-b" });
});

t.test("one guard on two containers of a pod", async (t) => {
  const a = await startContainer({ files: { "/etc/secret": "" } }, t);
  const b = await startContainer({ files: { "/etc/secret": "" } }, t);
  const [inA, inB] = [await a.actor(), await b.actor()];
  await daemon.createGuard(guardOn(a, { deny: ["/etc/secret"] }, { cid: [a.id, `docker://${b.id}`] }));
  t.equal(await inA.open("/etc/secret"), EPERM);
  t.equal(await inB.open("/etc/secret"), EPERM);
  await daemon.destroyGuard({ podName: "pod" });
});

t.test("GetGuardState tells a container's first process, whatever else runs in it", async (t) => {
  const container = await startContainer({ files: { "/etc/secret": "" } }, t);
  const guard = guardOn(container, { deny: ["/etc/secret"] }, { nodeName: "a-node" });
  const created = await daemon.createGuard(guard);
  t.match(created, { nodeName: "a-node", podName: "pod", pid: [container.initPid] });
  t.equal(created.processEventfd.length, 1);
  await container.actor();
  t.same(await daemon.getGuardState(), [created]);
  t.same(await daemon.createGuard(guard), created, "the same config again changes nothing");
  await daemon.destroyGuard({ podName: "pod" });
});
