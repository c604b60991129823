/** A container asks hundreds of times at once: whoever asks after it is answered among the first. */
import { readdirSync, readFileSync } from "node:fs";
import t from "tap";
import { type Container, startContainer } from "../support/container.js";
import { type Daemon, eventually, startDaemon } from "../support/daemon.js";
import { freeze, stateOf } from "../support/freeze.js";
import { EPERM, guardOn } from "../support/guard.js";

const askers = 400;

/** Processes that wait for the answer to an open of this path, which nobody else opens. */
function waiting(path: string): number {
  const waits = (pid: string): boolean => {
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
      return stateOf(stat) === "D" && readFileSync(`/proc/${pid}/cmdline`, "utf8").includes(path);
    } catch {
      return false; // it has ended
    }
  };
  return readdirSync("/proc").filter((name) => /^\d+$/.test(name) && waits(name)).length;
}

async function guarded(daemon: Daemon, container: Container, name: string): Promise<void> {
  await daemon.createGuard(guardOn(container, { deny: ["/data/s"], recursive: true }, { name, podName: name }));
}

t.test("a neighbour asks after hundreds of questions of another container", { timeout: 90_000 }, async (t) => {
  const daemon = await startDaemon({ flags: ["--deadline=60000"] }, t); // nobody but the gate answers
  const volumes = [{ target: "/data" }];
  const [storm, neighbour] = await Promise.all([startContainer({ volumes }, t), startContainer({ volumes }, t)]);
  const mine = `${storm.id.slice(0, 12)}.token`;
  storm.writeVolume(0, `s/${mine}`, "");
  neighbour.writeVolume(0, "s/token", "");
  await guarded(daemon, storm, "storm");
  await guarded(daemon, neighbour, "neighbour");
  const actor = await neighbour.actor();
  t.equal(await actor.open("/data/s/token"), EPERM);
  await daemon.waitForLine((line) => line.includes("neighbour"));
  const before = daemon.lines.length;

  const thaw = await freeze(daemon, "gate");
  const ask = `for i in $(seq ${askers}); do cat /data/s/${mine} & done; wait`;
  const asked = storm.exec(["sh", "-c", ask]);
  await eventually("all of them wait", () => waiting(mine) === askers);
  const answered = actor.open("/data/s/token");
  await new Promise((resolve) => setTimeout(resolve, 300)); // it waits, too
  await thaw();
  t.equal(await answered, EPERM);
  const denied = (await asked).stderr.split("\n").filter((line) => line.includes("not permitted"));
  t.equal(denied.length, askers, "each is denied");
  await eventually("all is logged", () => daemon.lines.length - before === askers + 1);
  const place = daemon.lines.slice(before).findIndex((line) => line.includes("neighbour"));
  t.ok(place >= 0 && place < askers / 2, `it is answered among the first: ${place} before it`);
  t.equal(await daemon.metric("janusd_exposure_total", { cause: "deadline" }), 0);
  await daemon.stop();
});

t.test("the daemon ends while hundreds wait for their turn", { timeout: 90_000 }, async (t) => {
  const daemon = await startDaemon({ flags: ["--deadline=60000"] }, t);
  const storm = await startContainer({ volumes: [{ target: "/data" }] }, t);
  const mine = `${storm.id.slice(0, 12)}.token`;
  storm.writeVolume(0, `s/${mine}`, "");
  await guarded(daemon, storm, "storm");
  const thaw = await freeze(daemon, "gate");
  const ask = `for i in $(seq ${askers}); do cat /data/s/${mine} & done; wait`;
  const asked = storm.exec(["sh", "-c", ask]);
  await eventually("all of them wait", () => waiting(mine) === askers);
  const stopped = daemon.stop();
  await thaw();
  await stopped;
  t.equal((await asked).status, 0, "each is answered");
});
