import { readdirSync } from "node:fs";
import t from "tap";
import { startContainer } from "../support/container.js";
import { startDaemon } from "../support/daemon.js";
import { EPERM, guardOn } from "../support/guard.js";

// The original: silently not enforced past 64 subjects.
const guards = 1000;
const containers = 4;

t.test("1,000 guards of 5 subjects on one node, each enforced", async (t) => {
  const daemon = await startDaemon({}, t);
  const running = await Promise.all(Array.from({ length: containers }, () => startContainer({}, t)));
  const actors = await Promise.all(running.map((container) => container.actor()));
  for (const actor of actors) {
    for (const directory of ["/data/deny", "/data/free"]) t.equal(await actor.mkdir(directory), 0);
    for (let guard = 0; guard < guards; guard++) {
      await actor.write(`/data/deny/${guard}`, "");
      await actor.write(`/data/free/${guard}`, "");
    }
  }
  const baseline = readdirSync(`/proc/${daemon.pid}/fd`).length;
  for (let guard = 0; guard < guards; guard++) {
    const container = running[guard % containers];
    const subjects = [0, 1, 2, 3, 4].map((subject) => ({
      deny: subject === 0 ? [`/data/deny/${guard}`] : [`/data/later/${guard}/${subject}`],
      recursive: subject % 2 === 1,
    }));
    if (container)
      await daemon.createGuard(guardOn(container, subjects, { name: `guard-${guard}`, podName: `pod-${guard % 50}` }));
  }
  t.equal((await daemon.getGuardState()).length, guards);
  t.equal(await daemon.metric("janusd_guards"), guards);
  let slipped = 0;
  let stuck = 0;
  for (let guard = 0; guard < guards; guard++) {
    const actor = actors[guard % containers];
    if ((await actor?.open(`/data/deny/${guard}`)) !== EPERM) slipped++;
    if ((await actor?.open(`/data/free/${guard}`)) !== 0) stuck++;
  }
  t.same({ slipped, stuck }, { slipped: 0, stuck: 0 });
  t.ok(readdirSync(`/proc/${daemon.pid}/fd`).length < baseline + 100, "descriptors do not grow with the guards");
  const series = (await daemon.metrics()).split("\n").filter((line) => line.startsWith("janusd_"));
  t.ok(series.length < 20_000, `${series.length} series: bounded`);
  for (let pod = 0; pod < 50; pod++) await daemon.destroyGuard({ podName: `pod-${pod}` });
  t.same(await daemon.getGuardState(), []);
  t.equal(await actors[0]?.open("/data/deny/0"), 0);
  await daemon.stop();
});

t.test("metrics: after more guards than have labels, a new one has its own", async (t) => {
  const daemon = await startDaemon({}, t);
  const names = Array.from({ length: 200 }, (_, index) => `g${index}`);
  const files = Object.fromEntries([...names, "new"].map((name) => [`/guarded/${name}`, ""]));
  const container = await startContainer({ files }, t);
  const actor = await container.actor();
  const guard = (name: string) => guardOn(container, { deny: [`/guarded/${name}`] }, { name });
  const denied = (name: string) => daemon.metric("janusd_events_total", { guard: name });
  const deny = async (name: string) => {
    await daemon.createGuard(guard(name));
    t.equal(await actor.open(`/guarded/${name}`), EPERM);
  };
  for (const name of names) await deny(name);
  t.same([await denied("g0"), await denied("g199")], [1, 1]);
  for (const name of names.slice(1)) await daemon.destroyGuard(guard(name));
  await deny("new");
  t.same([await denied("new"), await denied("g0"), await denied("other")], [1, 1, 0]);
  await daemon.stop();
});
