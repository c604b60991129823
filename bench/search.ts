/** What a look for a container costs: while CreateGuard waits for one, there is one each 100 ms. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { startEngine } from "../test/support/engine.js";
import type { Figures } from "./figures.js";

const processes = 1000;
const looks = 20;

/** By the difference that 1,000 more processes make; processor time. */
export async function search(figures: Figures): Promise<void> {
  const ends: (() => void)[] = [];
  const engine = startEngine({ teardown: (end) => ends.push(end) });
  const look = (): number => {
    const start = process.cpuUsage();
    for (let count = 0; count < looks; count++) engine.missingContainers(["f".repeat(64)]);
    const { user, system } = process.cpuUsage(start);
    return (user + system) / looks;
  };
  for (let round = 0; round < 5; round++) {
    const few = look();
    const script = `for i in $(seq ${processes}); do sleep 1000000 & done; echo ready; wait`;
    const parent = spawn("sh", ["-c", script], { stdio: ["ignore", "pipe", "inherit"], detached: true });
    if (parent.pid === undefined) throw new Error("cannot start sh");
    try {
      await once(parent.stdout, "data");
      figures.add("search_us_per_process", (look() - few) / processes);
    } finally {
      process.kill(-parent.pid, "SIGKILL");
    }
    await once(parent, "close");
  }
  for (const end of ends) end();
}
