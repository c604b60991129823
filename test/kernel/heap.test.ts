/** The heap ends before the cgroup does: a daemon that is killed for memory leaves the node unguarded, without a line. */
import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import t from "tap";
import { eventually } from "../support/daemon.js";

type Tap = { teardown(undo: () => void): void };

/** A cgroup with a limit of memory, of whichever version this machine has. Undefined: of none. */
function limitedCgroup(t: Tap, mib: number): string | undefined {
  for (const [base, file] of [
    ["/sys/fs/cgroup/memory", "memory.limit_in_bytes"],
    ["/sys/fs/cgroup", "memory.max"],
  ] as const) {
    const group = `${base}/janusd-test-heap-${process.pid}`;
    if (!existsSync(`${base}/cgroup.procs`)) continue;
    mkdirSync(group);
    t.teardown(() => rmdirSync(group));
    if (!existsSync(`${group}/${file}`)) continue;
    writeFileSync(`${group}/${file}`, String(mib * 2 ** 20));
    return group;
  }
  return undefined;
}

const janusd = new URL("../../bin/janusd", import.meta.url).pathname;

t.test("in a cgroup of 300 MiB the heap may take 150", async (t) => {
  const group = limitedCgroup(t, 300);
  if (group === undefined) return t.plan(0, "no memory controller here");
  // The command line shows what Node was given; the daemon stops at the flag that it doesn't know.
  const traced = execFileSync("sh", [
    "-c",
    `echo $$ >${group}/cgroup.procs; sh -x ${janusd} --no-such-flag 2>&1; true`,
  ]);
  t.match(traced.toString(), /^\+ exec \S+ --max-old-space-size=150 /m);
  await eventually("nothing is left in it", () => readFileSync(`${group}/cgroup.procs`, "utf8") === "");
});

t.test("without a limit Node's default holds", async (t) => {
  const child = spawn("sh", ["-x", janusd, "--no-such-flag"], { stdio: ["ignore", "ignore", "pipe"] });
  let traced = "";
  child.stderr.on("data", (part) => (traced += part));
  await new Promise((resolve) => child.once("close", resolve));
  t.match(traced, /^\+ exec /m);
  t.notMatch(traced, "max-old-space-size");
});
