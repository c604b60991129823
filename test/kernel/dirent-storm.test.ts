/** Storms of events on entries of watched trees: each is recorded or counted. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, openSync } from "node:fs";
import { join } from "node:path";
import t, { type Test } from "tap";
import { workspaceDirectory } from "../support/cleanup.js";
import { type ContainerOptions, startContainer } from "../support/container.js";
import { eventually, startDaemon } from "../support/daemon.js";
import { guardOn } from "../support/guard.js";

const run = (command: string, ...args: string[]) => execFileSync(command, args, { stdio: "pipe" });

function tmpfs(t: Test): string {
  const at = mkdtempSync(join(workspaceDirectory(), "tmpfs-"));
  run("mount", "-t", "tmpfs", "tmpfs", at);
  t.teardown(() => run("umount", "--lazy", at));
  return at;
}

const places: readonly [string, number, (t: Test) => ContainerOptions][] = [
  ["overlay", 100_000, () => ({ files: { "/data/file": "" } })],
  ["tmpfs", 100_000, (t) => ({ volumes: [{ source: tmpfs(t), target: "/data" }] })],
  ["the node's own file system", 20_000, () => ({ volumes: [{ target: "/data" }] })],
];

for (const [name, creates, options] of places) {
  t.test(`${name}: a storm of ${creates} creates`, async (t) => {
    const daemon = await startDaemon({ stdout: openSync("/dev/null", "w") }, t);
    const container = await startContainer(options(t), t);
    await container.exec(["mkdir", "-p", "/data/s/storm"]);
    await daemon.createGuard(guardOn(container, { watch: ["/data/s"], recursive: true, event: ["create"] }));
    const recorded = () => daemon.metric("janusd_events_total", { event: "create" });
    const lost = () => daemon.metric("janusd_events_lost_total", { cause: "dirent_queue" });
    const script = `i=0; while [ $i -lt ${creates} ]; do : > /data/s/storm/$i; i=$((i+1)); done`;
    const { status, stderr } = await container.exec(["sh", "-c", script]);
    t.equal(status, 0, stderr);
    await eventually("all are accounted for", async () => (await recorded()) + (await lost()) >= creates);
    t.equal((await recorded()) + (await lost()), creates);
    t.equal(await lost(), 0, "nothing is lost");
    t.equal(await daemon.metric("janusd_events_lost_total", { cause: "kernel_queue_overflow" }), 0);
    await container.exec(["rm", "-rf", "/data/s"]);
  });
}
