/** Events on directories and attributes: what a storm of creates loses, and what being watched costs who makes files. */
import { mkdirSync, openSync } from "node:fs";
import { join } from "node:path";
import { type Container, startContainer } from "../test/support/container.js";
import { type Daemon, eventually, startDaemon } from "../test/support/daemon.js";
import { type Figures, median } from "./figures.js";
import { threadTimes, timesSince } from "./process.js";

const rounds = 3;
const storm = 100_000;

/** In seconds. */
async function create(container: Container, directory: string, count: number): Promise<number> {
  await container.exec(["mkdir", directory]);
  const start = performance.now();
  const script = `i=0; while [ $i -lt ${count} ]; do : > ${directory}/$i; i=$((i+1)); done`;
  const { status, stderr } = await container.exec(["sh", "-c", script]);
  if (status !== 0) throw new Error(stderr);
  const seconds = (performance.now() - start) / 1000;
  await container.exec(["rm", "-rf", directory]);
  return seconds;
}

const created = (daemon: Daemon) => daemon.metric("janusd_events_total", { event: "create" });

async function lost(daemon: Daemon): Promise<number> {
  const causes = ["dirent_queue", "ring_full", "kernel_queue_overflow"];
  const counts = await Promise.all(causes.map((cause) => daemon.metric("janusd_events_lost_total", { cause })));
  return counts.reduce((sum, count) => sum + count, 0);
}

export async function dirents(figures: Figures): Promise<void> {
  const daemon = await startDaemon({ stdout: openSync("/dev/null", "w") });
  const container = await startContainer({ volumes: [{ target: "/data" }] });
  try {
    mkdirSync(join(container.volumes[0] ?? "", "watched"));
    const subject = [{ watch: ["/data/watched"], recursive: true, event: ["create"] }];
    const guard = { name: "g", podName: "p", nodeName: "testnode", cid: [container.id], subject };
    const beside: number[] = [];
    const ratio: number[] = [];
    for (let round = 0; round < rounds; ++round) {
      const unwatched = await create(container, "/data/outside", storm);
      await daemon.createGuard(guard);
      beside.push((await create(container, "/data/outside", storm)) / unwatched);
      const before = await created(daemon);
      const lostBefore = await lost(daemon);
      const cpuBefore = threadTimes(daemon.pid);
      ratio.push((await create(container, "/data/watched/storm", storm)) / unwatched);
      const seen = async () => (await created(daemon)) - before + (await lost(daemon)) - lostBefore >= storm;
      await eventually("all are accounted for", seen);
      figures.add("dirent_storm_lost", (await lost(daemon)) - lostBefore);
      figures.add("dirent_cpu_us_per_event", timesSince(daemon.pid, cpuBefore).total / 1000 / storm);
      await daemon.destroyGuard(guard);
    }
    figures.add("dirent_create_vs_unwatched", median(ratio));
    figures.add("dirent_beside_vs_unwatched", median(beside));
  } finally {
    await daemon.stop();
    await container.stop();
  }
}
