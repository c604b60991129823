/**
 * The kernel tier in short: denied without a question, also while no daemon is there. smoke.test.ts has it run in a
 * virtual machine, as a part of `make test`; decide.ts says more. Without tap, which takes emulation as long to load as
 * all of this to run.
 */
import { readdirSync, readFileSync, rmSync } from "node:fs";
import { isDeepStrictEqual } from "node:util";
import { Scope } from "../../src/gen/janus_pb.js";
import { startContainer } from "../support/container.js";
import { type Daemon, eventually, startDaemon } from "../support/daemon.js";
import { denials } from "../support/denials.js";
import { EPERM, guardOn } from "../support/guard.js";

let told = 0;

/** A line of TAP. */
function equal(found: unknown, wanted: unknown, what: string): void {
  const good = isDeepStrictEqual(found, wanted);
  if (!good) process.exitCode = 1;
  const why = good ? "" : `: ${JSON.stringify(found)}, not ${JSON.stringify(wanted)}`;
  console.log(`${good ? "ok" : "not ok"} ${++told} - ${what}${why}`);
}

const KEEPING = ["--keep", "--log-format=json"];
const asked = (daemon: Daemon) => daemon.metric("janusd_asked_total", { outcome: "guarded" });
const pins = () => readdirSync("/sys/fs/bpf/janusd").length;

/** What the log says of the denials so far. */
async function records(daemon: Daemon, count: number): Promise<unknown[]> {
  await eventually("they are counted, and in the log", async () => {
    return (await denials(daemon)) >= count && daemon.lines.length >= count;
  });
  equal(await denials(daemon), count, "each denial is counted once");
  return daemon.lines.map((line) => {
    const { response, event, path, comm } = JSON.parse(line);
    return [response, event, path, comm];
  });
}

const first = await startDaemon({ flags: KEEPING });
equal(await first.metric("janusd_hold_tier", { tier: "fentry" }), 1, "the tier is fentry");
equal(await first.metric("janusd_kernel_decides", { kept: "true" }), 1, "the kernel decides, and keeps");
const container = await startContainer({ files: { "/data/keys/key": "k", "/data/open": "o" } });
const subjects = [
  { deny: ["/data/keys"], recursive: true },
  { deny: ["/data/keys"], recursive: true, event: ["delete"], scope: Scope.CONTAINER },
];
await first.createGuard(guardOn(container, subjects));
const [actor, stormer] = [await container.actor(), await container.actor()];
equal(await actor.open("/data/keys/key"), EPERM, "denied");
equal(await actor.link("/data/keys/key", "/data/link"), 0, "a hard link is made");
equal(await actor.open("/data/link"), EPERM, "by the hard link, too");
equal(await actor.open("/data/open"), 0, "what nobody guards is opened");
equal(await actor.unlink("/data/keys/key"), EPERM, "a change that is denied");
equal(
  await records(first, 3),
  [
    ["DENY", "OPEN_PERM", "/data/keys/key", "actor"],
    ["DENY", "OPEN_PERM", "/data/link", "actor"],
    ["DENY", "DELETE", "/data/keys/key", "actor"],
  ],
  "all are in the log",
);
equal(await asked(first), 0, "and nobody was asked");
await eventually("the guard is kept", () => readFileSync(first.stateFile, "utf8").includes("/data/keys"));

let over = false;
const storm = (async () => {
  const sum = { opened: 0, denied: 0 };
  while (!over) {
    const { opened, denied } = await stormer.repeat("/data/keys/key", 20);
    sum.opened += opened;
    sum.denied += denied;
    // The next daemon needs the processors to start, and to read of all of them.
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return sum;
})();
await first.kill();
equal(pins(), 1, "SIGKILL: what it set is kept");
equal(await actor.open("/data/keys/key"), EPERM, "still denied");
equal(await actor.open("/data/link"), EPERM, "also by the hard link");
equal(await actor.unlink("/data/keys/key"), EPERM, "and not deleted");
equal(await actor.link("/data/keys/key", "/data/later"), 0, "another link is made while nobody is there");
equal(await actor.open("/data/later"), EPERM, "and denied");

const next = await startDaemon({ flags: KEEPING, stateFile: first.stateFile });
over = true;
const { opened, denied } = await storm;
equal([opened, denied > 0], [0, true], `of ${opened + denied} opens over SIGKILL and start none was let through`);
equal(pins(), 1, "the next daemon has taken over");
const before = await denials(next);
for (const path of ["/data/keys/key", "/data/later"]) equal(await actor.open(path), EPERM, `it denies ${path}`);
await eventually("both are counted", async () => (await denials(next)) >= before + 2);
await next.destroyGuard({ podName: "pod" });
for (const path of ["/data/keys/key", "/data/link"]) equal(await actor.open(path), 0, `${path}: its guard is gone`);
await next.kill();
// Steps that come after expect none.
rmSync("/sys/fs/bpf/janusd", { recursive: true });
await container.stop();
