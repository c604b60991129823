import { readdirSync } from "node:fs";
import t from "tap";
import { startContainer } from "../support/container.js";
import { eventually, startDaemon } from "../support/daemon.js";
import { EPERM, guardOn } from "../support/guard.js";

const descriptors = (pid: number) => readdirSync(`/proc/${pid}/fd`).length;

t.test("a container that ended is no longer listed, and its descriptors are given back", async (t) => {
  const daemon = await startDaemon({}, t);
  const cycle = async (name: string) => {
    const container = await startContainer({ files: { "/etc/secret": "" }, volumes: [{ target: "/data" }] }, t);
    await daemon.createGuard(
      guardOn(container, { deny: ["/etc/secret", "/data"], recursive: true }, { podName: name }),
    );
    t.same(
      (await daemon.getGuardState()).map((guard) => guard.podName),
      [name],
    );
    await container.stop();
    await eventually("the guard is not listed", async () => (await daemon.getGuardState()).length === 0);
  };
  await cycle("first");
  const marks = () =>
    Promise.all(["superblock", "mount", "identity", "watch"].map((kind) => daemon.metric("janusd_marks", { kind })));
  await eventually("no marks are held", async () => (await marks()).every((count) => count === 0));
  const baseline = descriptors(daemon.pid);
  for (const name of ["second", "third", "fourth"]) await cycle(name);
  await eventually("its descriptors are as before", () => descriptors(daemon.pid) <= baseline);
  t.equal(await daemon.metric("janusd_guards"), 0);
  await daemon.stop();
});

t.test("a container that keeps its id and starts again is guarded again by the same request", async (t) => {
  const daemon = await startDaemon({}, t);
  const options = { id: "ab".repeat(32), files: { "/etc/secret": "" } };
  for (let round = 0; round < 2; round++) {
    const container = await startContainer(options);
    await daemon.createGuard(guardOn(container, { deny: ["/etc/secret"] }));
    const actor = await container.actor();
    t.equal(await actor.open("/etc/secret"), EPERM);
    await container.stop();
    await eventually("the guard is not listed", async () => (await daemon.getGuardState()).length === 0);
  }
  await daemon.stop();
});

t.test("concurrent create and destroy leave no orphan that still denies", async (t) => {
  const daemon = await startDaemon({}, t);
  const container = await startContainer({ files: { "/etc/secret": "" } }, t);
  const actor = await container.actor();
  const guard = guardOn(container, { deny: ["/etc/secret"] });
  for (let round = 0; round < 50; round++) {
    await Promise.all(
      Array.from({ length: 8 }, (_, index) =>
        index % 2 === 0 ? daemon.createGuard(guard) : daemon.destroyGuard({ name: "guard", podName: "pod" }),
      ),
    );
    const listed = (await daemon.getGuardState()).length;
    const errno = await actor.open("/etc/secret");
    if ((listed === 1) !== (errno === EPERM)) t.fail(`listed ${listed}, open ended with ${errno}`);
  }
  await daemon.destroyGuard({ podName: "pod" });
  t.equal(await actor.open("/etc/secret"), 0);
  t.same(await daemon.getGuardState(), []);
  t.equal(await daemon.metric("janusd_marks", { kind: "superblock" }), 0);
  await daemon.stop();
});
