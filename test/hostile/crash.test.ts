/** What a container makes as large as it likes costs it something, and never the daemon its life. */
import { mkdirSync, openSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import t from "tap";
import { startContainer, staticProgram } from "../support/container.js";
import { eventually, startDaemon } from "../support/daemon.js";
import { EPERM, guardOn } from "../support/guard.js";
import { seconds } from "./length.js";

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

for (const [limit, links] of [
  ["default", 40],
  ["1024", 3],
] as const) {
  t.test(`a guarded path is a chain of ${links} symlinks with 816 components each (nofile: ${limit})`, async (t) => {
    const chain = staticProgram(new URL("chain.c", import.meta.url).pathname);
    const enter = limit === "default" ? [] : ["prlimit", `--nofile=${limit}:${limit}`];
    const daemon = await startDaemon({ enter, stdout: openSync("/dev/null", "w") }, t);
    const victim = await startContainer({ files: { "/secrets/token": "" } }, t);
    const attacker = await startContainer({ programs: { "/bin/chain": chain } }, t);
    await daemon.createGuard({ ...guardOn(victim, { deny: ["/secrets"], recursive: true }), name: "v", podName: "v" });
    await attacker.exec(["sh", "-c", "mkdir -p /data; chmod 777 /data"]);
    await daemon.createGuard(guardOn(attacker, { deny: ["/data/s"], recursive: true }));
    const actor = await victim.actor();
    const attack = attacker.exec(["chain", "/data", String(links), String(3 + seconds)], { uid: 1000 });
    const during = await actor.repeat("/secrets/token", 1e9, 2000 + seconds * 1000);
    t.match(during, { opened: 0 }, "the neighbour's secret stays denied");
    t.ok(during.denied > 0);
    await attack;
    t.equal(await actor.open("/secrets/token"), EPERM);
    t.ok((await daemon.metric("janusd_exposure_total", { cause: "unresolved_path" })) > 0, "it is counted");
    await daemon.stop();
  });
}

t.test("no thread can be made: a change of mounts is followed, and CreateGuard guards", async (t) => {
  const daemon = await startDaemon({}, t);
  const files = { "/secrets/token": "" };
  const container = await startContainer({ volumes: [{ target: "/data" }], files }, t);
  const other = await startContainer({ volumes: [{ target: "/data" }], files }, t);
  container.writeVolume(0, "s/token", "");
  const actor = await container.actor({ capabilities: "sys_admin" });
  await daemon.createGuard(guardOn(container, { deny: ["/data/s", "/secrets"], recursive: true }));
  // As when the node's pid table, or the pod's, is full.
  const cgroup = `/sys/fs/cgroup/pids/janusd-test-hostile-${process.pid}`;
  mkdirSync(cgroup);
  try {
    writeFileSync(`${cgroup}/cgroup.procs`, String(daemon.pid));
    await pause(300);
    writeFileSync(`${cgroup}/pids.max`, readFileSync(`${cgroup}/pids.current`, "utf8"));
    t.equal(await actor.bind("/data", "/mnt"), 0);
    const guard = { ...guardOn(other, { deny: ["/data", "/secrets"], recursive: true }), name: "o", podName: "o" };
    await daemon.createGuard(guard);
    t.equal(await (await other.actor()).open("/secrets/token"), EPERM);
    t.equal(await actor.open("/secrets/token"), EPERM);
    t.equal(await actor.open("/data/s/token"), EPERM);
    t.equal(await actor.open("/mnt/s/token"), EPERM, "by the new mount");
    t.equal(await daemon.metric("janusd_exposure_total", { cause: "thread_failed" }), 0);
    await daemon.stop();
  } finally {
    await daemon.kill();
    await eventually("the cgroup is empty", () => readFileSync(`${cgroup}/cgroup.procs`, "utf8") === "");
    rmdirSync(cgroup);
  }
});
