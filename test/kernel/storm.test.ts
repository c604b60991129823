import { readFileSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import { cgroupParent } from "../support/cleanup.js";
import { type Container, startContainer, staticProgram } from "../support/container.js";
import { eventually, startDaemon } from "../support/daemon.js";
import { standStill } from "../support/freeze.js";
import { EPERM, guardOn } from "../support/guard.js";
import { SLOW } from "../support/times.js";

const secret = "/etc/secret";
const programs = { "/bin/storm": staticProgram("storm.c") };
const every = 50;
const count = every * Math.ceil(1000 / SLOW);

/** Who is in the container, as the kernel has it in the `pids` controller's files or v2's. */
function processesOf(container: Container): number {
  const path = join(cgroupParent(), container.id, "cgroup.procs");
  const roots = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
  for (const root of roots) {
    try {
      return readFileSync(join(root, path), "utf8").trim().split("\n").filter(Boolean).length;
    } catch {}
  }
  throw new Error(`no cgroup of ${container.id}`);
}

t.test("a storm of short processes: each deny is the container's, and the table is true in the end", async (t) => {
  const daemon = await startDaemon({ flags: ["--log-format=json"] }, t);
  const container = await startContainer({ files: { [secret]: "" }, programs }, t);
  // Only the container's processes are denied: one that was not known to be would open it.
  await daemon.createGuard(guardOn(container, { deny: [secret], scope: 1 }));
  const from = daemon.lines.length;
  const storm = await container.exec(["/bin/storm", String(count), "4", String(every), secret]);
  t.match(storm, { status: 0, stdout: `0 ${count / every} 0\n` });

  const denies = () => daemon.lines.slice(from).filter((line) => line.includes(`"path":"${secret}"`));
  await eventually("every deny is in the log", () => denies().length === count / every);
  const events = denies().map((line) => JSON.parse(line));
  t.same(
    events.filter(
      ({ inside, comm, exe, ppid, ancestry }) =>
        !inside || comm !== "storm" || exe !== "/bin/storm" || ancestry.length !== 2 || ancestry[0].pid !== ppid,
    ),
    [],
    "all say who it was, and from whom they descend",
  );
  await eventually("the table is what is there", async () => {
    return (await daemon.metric("janusd_processes")) === processesOf(container);
  });
  t.comment(`lost: ${await daemon.metric("janusd_events_lost_total", { cause: "bpf_ring_full" })}`);
  await daemon.stop();
});

t.test("what a full ring lost is counted and found again", async (t) => {
  const daemon = await startDaemon({ flags: ["--log-format=json"] }, t);
  const options = { init: "actor", files: { [secret]: "" } } as const;
  const [container, ending] = [await startContainer(options, t), await startContainer(options, t)];
  await daemon.createGuard(guardOn(container, { deny: [secret], autoAllowOwner: true, scope: 1 }));
  await daemon.createGuard(guardOn(ending, { deny: [secret] }, { name: "ending", podName: "ending" }));
  const visitor = await container.actor();
  await visitor.command("linger", "child");
  // Each process leaves two records of some 100 bytes: more than fit.
  const enough = Math.ceil((await daemon.metric("janusd_ebpf_map_max_entries", { map: "records" })) / 120);
  await standStill(daemon.pid);
  let orphan = -1;
  try {
    t.same(await container.init.command("flood", enough), [0, enough]);
    [, orphan = -1] = await container.init.command("linger", "orphan");
    await container.init.command("linger", "child");
    await visitor.stop();
    process.kill(ending.initPid, "SIGKILL");
  } finally {
    process.kill(daemon.pid, "SIGCONT");
  }
  await eventually(
    "it is counted",
    async () => (await daemon.metric("janusd_events_lost_total", { cause: "bpf_ring_full" })) > 0,
  );
  await eventually("the table is what is there", async () => {
    return (await daemon.metric("janusd_processes")) === processesOf(container);
  });
  t.same(
    (await daemon.getGuardState()).map(({ podName }) => podName),
    ["pod"],
    "the end of a container was not missed",
  );
  t.equal(
    (await container.init.command("tell", orphan, "open", secret))[0],
    EPERM,
    "who forked it was not lost: the kernel knows",
  );
  const line = await daemon.waitForLine((text) => text.includes(secret));
  t.match(JSON.parse(line), { inside: true, comm: "actor", exe: "/bin/actor" });
  await daemon.stop();
});
