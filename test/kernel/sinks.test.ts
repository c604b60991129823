import { closeSync, openSync } from "node:fs";
import t from "tap";
import { startContainer } from "../support/container.js";
import { type Daemon, type DaemonOptions, eventually, startDaemon } from "../support/daemon.js";
import { guardOn } from "../support/guard.js";

const opens = 100_000;

/** Breaks the log by `break_`, storms, and checks that only the log suffers. */
function brokenSink(name: string, options: () => DaemonOptions, break_: (daemon: Daemon) => void): void {
  t.test(name, async (t) => {
    const daemon = await startDaemon(options(), t);
    const container = await startContainer({ files: { "/etc/secret": "" } }, t);
    const actor = await container.actor();
    await daemon.createGuard(guardOn(container, { deny: ["/etc/secret"] }));
    break_(daemon);
    t.match(await actor.repeat("/etc/secret", opens), { opened: 0, denied: opens, other: 0 });
    const dropped = () => daemon.metric("janusd_log_lines_dropped_total");
    await eventually("lines are counted as dropped", async () => (await dropped()) > 0);
    t.equal(await daemon.metric("janusd_decisions_total", { response: "deny" }), opens);
    t.equal(await daemon.metric("janusd_exposure_total"), 0);
    await daemon.createGuard(guardOn(container, { deny: ["/etc/passwd"] }));
    t.equal(await actor.open("/etc/passwd"), 1, "it still works");
    t.equal((await daemon.http("/livez")).status, 200);
    await daemon.stop();
  });
}

brokenSink(
  "the log's reader has stopped reading",
  () => ({}),
  (daemon) => daemon.stdout.pause(),
);

brokenSink(
  "the log's reader has closed the pipe",
  () => ({}),
  (daemon) => daemon.stdout.destroy(),
);

let full = -1;
brokenSink(
  "the log's disk is full",
  () => {
    full = openSync("/dev/full", "w");
    return { stdout: full };
  },
  () => closeSync(full),
);
