import { existsSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import { workspaceDirectory } from "../support/cleanup.js";
import { startContainer } from "../support/container.js";
import { eventually, startDaemon } from "../support/daemon.js";
import { guardOn } from "../support/guard.js";
import { SLOW } from "../support/times.js";

const blockMs = 5000 * SLOW;
const opens = 50_000;

t.test(
  "with the event loop blocked, opens are answered all the same, and every event is delivered later or counted as lost",
  async (t) => {
    const file = join(workspaceDirectory(), "block");
    const preload = new URL("../support/block-loop.cjs", import.meta.url).pathname;
    const daemon = await startDaemon({ env: { NODE_OPTIONS: `--require=${preload}`, BLOCK_LOOP: file } }, t);
    const container = await startContainer({ files: { "/etc/secret": "" } }, t);
    const actor = await container.actor();
    await daemon.createGuard(guardOn(container, { deny: ["/etc/secret"] }));
    await actor.repeat("/etc/secret", 1000);

    writeFileSync(`${file}.new`, String(blockMs));
    renameSync(`${file}.new`, file);
    await eventually("the loop is blocked", () => !existsSync(file));
    t.equal((await daemon.http("/livez")).status, 200, "it is alive");
    const storm = await actor.repeat("/etc/secret", opens);
    t.notOk(existsSync(`${file}.over`), "the loop was blocked all the while");
    t.match(storm, { opened: 0, denied: opens, other: 0 });
    t.comment(`p50 ${storm.p50 / 1000} us, p99 ${storm.p99 / 1000} us, max ${storm.max / 1000} us`);

    await eventually("the loop runs again", () => existsSync(`${file}.over`));
    t.equal(
      await daemon.metric("janusd_decisions_total", { guard: "guard", response: "deny" }),
      1000 + opens,
      "decisions are exact",
    );
    t.equal(await daemon.metric("janusd_exposure_total"), 0);
    const accountedFor = async () =>
      daemon.lines.filter((line) => line.startsWith("<DENY>")).length +
      (await daemon.metric("janusd_events_lost_total")) +
      (await daemon.metric("janusd_log_lines_dropped_total"));
    await eventually("every event is accounted for", async () => (await accountedFor()) >= 1000 + opens);
    t.equal(await accountedFor(), 1000 + opens);
    t.equal(
      (await daemon.metric("janusd_events_delivered_total")) + (await daemon.metric("janusd_events_lost_total")),
      1000 + opens,
    );
    await daemon.stop();
  },
);
