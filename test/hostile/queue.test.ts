/** What a container does while nobody reads what it did costs the node a bounded amount of memory, and is counted as lost. */
import { openSync, readFileSync } from "node:fs";
import t from "tap";
import { startContainer } from "../support/container.js";
import { eventually, startDaemon } from "../support/daemon.js";
import { freeze } from "../support/freeze.js";
import { guardOn } from "../support/guard.js";

const files = 40_000;
const kept = Number(readFileSync("/proc/sys/fs/fanotify/max_queued_events", "utf8"));

t.test("each of 40,000 files is opened while the observer stands still", async (t) => {
  t.ok(kept < files, "more than the kernel keeps of a bounded queue");
  const daemon = await startDaemon({ stdout: openSync("/dev/null", "w") }, t);
  const container = await startContainer({}, t);
  await container.exec(["sh", "-c", `mkdir /data/w; cd /data/w; seq ${files} | xargs touch`]);
  await daemon.createGuard(guardOn(container, { watch: ["/data/w"], recursive: true }));
  const counted = () => daemon.metric("janusd_events_total");
  const lost = () => daemon.metric("janusd_events_lost_total", { cause: "kernel_queue_overflow" });
  await daemon.metric("janusd_events_lost_total", { cause: "queue_overflow" });
  const thaw = await freeze(daemon, "observer");
  t.equal((await container.exec(["sh", "-c", "cd /data/w; cat *"])).status, 0);
  await thaw();
  await eventually("what was kept is counted", async () => (await counted()) > 0);
  let before = -1;
  await eventually("all of it", async () => {
    const now = await counted();
    const still = now === before;
    before = now;
    await new Promise((resolve) => setTimeout(resolve, 300));
    return still;
  });
  t.ok((await counted()) <= kept, `of ${files} opens at most ${kept} were kept`);
  t.ok((await lost()) > 0, "the loss is counted");
  await daemon.stop();
});
