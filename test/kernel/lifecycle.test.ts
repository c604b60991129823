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

t.test(
  "one container of a guard ends: the others stay guarded, what it counted stays, and the guard can be replaced",
  async (t) => {
    const daemon = await startDaemon({}, t);
    const options = { files: { "/etc/secret": "", "/etc/other": "" }, volumes: [{ target: "/data" }] };
    const [first, second] = await Promise.all([startContainer(options, t), startContainer(options, t)]);
    const cid = [first.id, second.id];
    const [left, right] = [await first.actor(), await second.actor()];
    for (const actor of [left, right]) t.equal(await actor.write("/data/secret", ""), 0);
    await daemon.createGuard(guardOn(first, { deny: ["/etc/secret", "/data/secret"] }, { cid }));
    for (const actor of [left, right])
      for (const path of ["/etc/secret", "/data/secret"]) t.equal(await actor.open(path), EPERM);
    const denied = () => daemon.metric("janusd_events_total", { guard: "guard", response: "deny" });
    await eventually("all are counted", async () => (await denied()) === 4);
    await first.stop();
    await eventually("it is out of the guard", async () => (await daemon.getGuardState())[0]?.cid.join() === second.id);
    await eventually(
      "its marks are gone",
      async () => (await daemon.metric("janusd_marks", { kind: "superblock" })) === 1,
    );
    t.equal(await denied(), 4);
    for (const path of ["/etc/secret", "/data/secret"]) t.equal(await right.open(path), EPERM);
    await daemon.createGuard(guardOn(second, { deny: ["/etc/other"] }));
    t.same([await right.open("/etc/secret"), await right.open("/etc/other")], [0, EPERM]);
    await eventually("none is counted twice", async () => (await denied()) === 7);
    await daemon.destroyGuard({ podName: "pod" });
    t.equal(await right.open("/etc/other"), 0);
    await daemon.stop();
  },
);

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
