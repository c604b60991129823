/** How soon a container's end shows, and what is left of the ended. */
import { startContainer } from "../test/support/container.js";
import type { Figures } from "./figures.js";
import { residentMegabytes } from "./process.js";
import type { Watched } from "./watched.js";

const containers = 60;
/** After these the daemon's heap has its size. */
const settled = 20;

export async function lifecycle(figures: Figures, { daemon }: Watched): Promise<void> {
  const guard = (id: string) => ({
    name: "lifecycle",
    podName: id.slice(0, 12),
    nodeName: "testnode",
    cid: [id],
    subject: [{ deny: ["/etc"], recursive: true, event: ["open"] }],
  });
  let before = 0;
  for (let count = 0; count < containers; ++count) {
    if (count === settled) before = residentMegabytes(daemon.pid);
    const container = await startContainer();
    try {
      await daemon.createGuard(guard(container.id));
      const start = performance.now();
      process.kill(container.initPid, "SIGKILL");
      while ((await daemon.getGuardState()).some(({ cid }) => cid.includes(container.id)));
      if (count >= settled) figures.add("ended_unlisted_ms", performance.now() - start);
    } finally {
      await container.stop();
    }
  }
  figures.add("rss_growth_40_containers_mb", residentMegabytes(daemon.pid) - before);
}
