/**
 * Runs the suite in network and mount namespaces of its own, and sees to it that nothing stays behind.
 *
 * Bridges, addresses and mounts go with the last process in the namespaces. The rest (processes, cgroups, files)
 * is swept from out here: in there, directories that something is mounted on can't be removed.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { startTime, sweepAfter } from "../support/cleanup.js";

/** For processes to be reaped. */
const PATIENCE_MS = 20_000;

const suite = spawn(
  "setpriv",
  [
    ...["--pdeathsig", "TERM", "unshare", "--mount", "--net", "--propagation", "private"],
    ...[process.execPath, ...process.execArgv, new URL("suite.ts", import.meta.url).pathname, ...process.argv.slice(2)],
  ],
  { stdio: "inherit" },
);
if (suite.pid === undefined) throw new Error("setpriv does not start");
const { pid } = suite;
const started = startTime(pid) ?? "";
// A terminal's signals reach the suite as well: it takes the first.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => suite.kill(signal));
const [status]: unknown[] = await once(suite, "exit");

let left = sweepAfter(pid, started);
for (const end = performance.now() + PATIENCE_MS; left.length > 0 && performance.now() < end; await sleep(200))
  left = sweepAfter(pid, started);
for (const thing of left) console.log(`not ok - left behind: ${thing}`);
process.exitCode = status === 0 && left.length === 0 ? 0 : 1;
