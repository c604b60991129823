/** What it costs to ask why, and how long a denied open takes from the request until its record has come the whole way. */
import { setTimeout as sleep } from "node:timers/promises";
import { startContainer } from "../test/support/container.js";
import { startDaemon } from "../test/support/daemon.js";
import { type Figures, median } from "./figures.js";

const rounds = 5;
const questions = 100;

async function explain(figures: Figures): Promise<void> {
  const daemon = await startDaemon({});
  const container = await startContainer({ files: { "/etc/secret": "" } });
  try {
    const subject = [{ deny: ["/etc/secret"], event: ["open"] }];
    await daemon.createGuard({ name: "g", podName: "p", nodeName: "testnode", cid: [container.id], subject });
    for (let round = 0; round < rounds; ++round) {
      const taken: number[] = [];
      for (let count = 0; count < questions; ++count) {
        const start = performance.now();
        await daemon.client.explain({ container: container.id, path: "/etc/secret", event: "open" });
        taken.push(performance.now() - start);
      }
      figures.add("explain_ms", median(taken));
    }
  } finally {
    await daemon.stop();
    await container.stop();
  }
}

async function canary(figures: Figures): Promise<void> {
  const daemon = await startDaemon({ flags: ["--canary=100"] });
  try {
    const proofs = async () => [
      await daemon.metric("janusd_canary_seconds_sum"),
      await daemon.metric("janusd_canary_seconds_count"),
    ];
    for (let round = 0; round < rounds; ++round) {
      const [sumBefore = 0, countBefore = 0] = await proofs();
      await sleep(2000);
      const [sum = 0, count = 0] = await proofs();
      figures.add("canary_ms", ((sum - sumBefore) / (count - countBefore)) * 1000);
    }
  } finally {
    await daemon.stop();
  }
}

export async function insight(figures: Figures): Promise<void> {
  await explain(figures);
  await canary(figures);
}
