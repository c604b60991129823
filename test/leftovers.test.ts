/** Runs last (scripts/test.sh): whatever the other tests made is gone again. */
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import t from "tap";
import { workspaces } from "./support/cleanup.js";

function attempt<Value>(read: () => Value, otherwise: Value): Value {
  try {
    return read();
  } catch {
    return otherwise; // The process ended meanwhile.
  }
}

/** Of test processes that are alive: another run may go on beside this one. */
const others = workspaces(true).map((directory) => directory.slice("/var/tmp/".length));
const isOurs = (text: string) => text.includes("janusd-test-") && !others.some((name) => text.includes(name));

const processesNow = () =>
  readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map((pid) => ({
      pid,
      command: attempt(() => readFileSync(`/proc/${pid}/cmdline`, "utf8"), ""),
      cgroup: attempt(() => readFileSync(`/proc/${pid}/cgroup`, "utf8"), ""),
      fanotifyGroups: attempt(() => readdirSync(`/proc/${pid}/fd`), []).filter(
        (fd) => attempt(() => readlinkSync(`/proc/${pid}/fd/${fd}`), "") === "anon_inode:[fanotify]",
      ).length,
    }))
    .filter(({ command, cgroup }) => isOurs(command) || isOurs(cgroup));

/** What has just ended may wait for pid 1 of this machine to reap it. Milliseconds. */
const REAPED_MS = 10_000;

t.test("no directories", async (t) => {
  t.same(workspaces(false), []);
});

t.test("no mounts", async (t) => {
  t.same(readFileSync("/proc/self/mountinfo", "utf8").split("\n").filter(isOurs), []);
});

t.test("no cgroups", async (t) => {
  const root = "/sys/fs/cgroup";
  const hierarchies = [root, ...readdirSync(root).map((name) => `${root}/${name}`)];
  t.same(hierarchies.flatMap((hierarchy) => attempt(() => readdirSync(hierarchy), [])).filter(isOurs), []);
});

t.test("no processes: no containers, no daemons, no fanotify groups", async (t) => {
  const deadline = Date.now() + REAPED_MS;
  while (processesNow().length > 0 && Date.now() < deadline) await new Promise((resolve) => setTimeout(resolve, 100));
  t.same(processesNow(), []);
});
