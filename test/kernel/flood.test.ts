import { spawn } from "node:child_process";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import t, { type Test } from "tap";
import { endWith } from "../support/cleanup.js";
import { startContainer } from "../support/container.js";
import { type Daemon, eventually, startDaemon } from "../support/daemon.js";
import { EPERM, guardOn } from "../support/guard.js";
import { SLOW } from "../support/times.js";

/** What the kubelet waits, by default. */
const PROBE_MS = 1000 * SLOW;
const FLOOD_MS = 8000 * SLOW;
/** Opens between two probes. The ring has room for some 14,000 records: what a loop that stands for 3 s loses shows. */
const OPENS = 500;
const RING = "2M";

/** 500 connections that ask for the figures as fast as they are answered. */
async function flood(daemon: Daemon, t: Test): Promise<void> {
  const [program, port] = [new URL("../support/flood.cjs", import.meta.url).pathname, daemon.httpAddress.split(":")[1]];
  const child = spawn(process.execPath, [program, String(port), "/metrics", "500"], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  endWith(t, child);
  await once(child.stdout, "data");
}

t.test("500 connections on /metrics cost no event, and no probe its answer", async (t) => {
  const daemon = await startDaemon({ flags: ["--metrics-interval=1000", `--ring-size=${RING}`] }, t);
  const container = await startContainer({ files: { "/etc/secret": "" } }, t);
  const actor = await container.actor();
  await daemon.createGuard(guardOn(container, { deny: ["/etc/secret"] }));
  t.equal(await actor.open("/etc/secret"), EPERM);
  await flood(daemon, t);
  const slow: number[] = [];
  let denied = 0;
  for (const end = performance.now() + FLOOD_MS; performance.now() < end; await sleep(100)) {
    const start = performance.now();
    const { status } = await daemon.http("/livez");
    const ms = performance.now() - start;
    if (status !== 200 || ms > PROBE_MS) slow.push(ms);
    denied += (await actor.repeat("/etc/secret", OPENS, FLOOD_MS)).denied;
  }
  t.same(slow, []);
  t.ok(denied > OPENS, `${denied} events`);
  const logged = () => daemon.lines.filter((line) => line.startsWith("<DENY>")).length;
  await eventually("every event is logged", () => logged() === denied + 1);
  await eventually("and counted", async () => (await daemon.metric("janusd_events_total")) === denied + 1);
  t.equal(await daemon.metric("janusd_events_lost_total"), 0);
  await daemon.stop();
});
