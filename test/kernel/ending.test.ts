/**
 * However the daemon ends, it ends, and nobody in a container waits for it after. Who waits in one permission group
 * pins the marks of others: groups that are released in the wrong order wait for each other, for ever.
 */
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import t, { type Test } from "tap";
import { BESIDE, beside } from "../support/beside.js";
import { workspaceDirectory } from "../support/cleanup.js";
import { type Container, startContainer, staticProgram } from "../support/container.js";
import { type Daemon, eventually, startDaemon } from "../support/daemon.js";
import { standStill } from "../support/freeze.js";
import { EPERM, guardOn } from "../support/guard.js";
import { SLOW } from "../support/times.js";

/** Of each case. `make soak` asks for 20. */
const RUNS = Number(process.env["ENDING_RUNS"] ?? 2);

t.setTimeout(150_000 * (RUNS + 1) * SLOW);

/** Long enough for a loaded machine; a daemon that is stuck is so for ever. Milliseconds. */
const PATIENCE_MS = 10_000 * SLOW;

/** `make soak` has the machine to itself, so it asserts what is promised: gone within a second. Milliseconds. */
const PROMISE_MS = RUNS >= 20 ? 1000 : PATIENCE_MS;

t.jobs = BESIDE;

/** Each opener goes on for so long, beyond the daemon's end. Milliseconds. */
const OPENING_MS = 900 * SLOW;

async function inTime<Value>(what: string, work: Promise<Value>, ms = PATIENCE_MS): Promise<Value> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: not within ${ms} ms`)), ms);
  });
  return Promise.race([work, late]).finally(() => clearTimeout(timer));
}

async function guarded(t: Test): Promise<{ readonly container: Container; readonly guard: () => Promise<Daemon> }> {
  const container = await startContainer({ files: { "/etc/secret": "" }, volumes: [{ target: "/data" }] }, t);
  container.writeVolume(0, "secrets/key", "");
  const guard = async () => {
    const daemon = await startDaemon({}, t);
    await daemon.createGuard(guardOn(container, { deny: ["/data/secrets", "/etc/secret"], recursive: true, scope: 1 }));
    return daemon;
  };
  return { container, guard };
}

const ends: Readonly<Record<string, (daemon: Daemon) => Promise<unknown>>> = {
  SIGTERM: (daemon) => daemon.kill("SIGTERM"),
  SIGKILL: (daemon) => daemon.kill("SIGKILL"),
  "SIGSTOP, then SIGKILL": async (daemon) => {
    await standStill(daemon.pid);
    await new Promise((resolve) => setTimeout(resolve, 200)); // openers come, and wait
    await daemon.kill("SIGKILL");
  },
};

for (const [name, end] of Object.entries(ends)) {
  t.test(`${name} while a container opens its root, a volume's root and a guarded file`, async (t) => {
    const { container, guard } = await guarded(t);
    const actors = [await container.actor(), await container.actor(), await container.actor()];
    for (const paths of [["/"], ["/data"], ["/data/secrets/key"], ["/", "/data", "/data/secrets/key"]]) {
      for (let run = 0; run < RUNS; run++) {
        const daemon = await guard();
        const opening = actors.map((actor, i) => actor.repeat(paths[i % paths.length] ?? "/", 1e9, OPENING_MS));
        await new Promise((resolve) => setTimeout(resolve, 200 + 100 * (run % 4)));
        await inTime(`${paths}: the daemon has ended`, end(daemon), PROMISE_MS);
        const results = await inTime(`${paths}: the container goes on`, Promise.all(opening));
        t.ok(
          results.every(({ opened, denied }) => opened + denied > 0),
          `${paths}: opens went on`,
        );
      }
    }
  });

  t.test(`${name} while processes are put into a container`, async (t) => {
    const { container, guard } = await guarded(t);
    for (let run = 0; run < RUNS; run++) {
      const daemon = await guard();
      const execs = (async () => {
        for (let i = 0; i < 6; i++) await container.exec(["/bin/true"]);
      })();
      await new Promise((resolve) => setTimeout(resolve, 150 + 50 * (run % 8)));
      await inTime("the daemon has ended", end(daemon), PROMISE_MS);
      await inTime("the execs go on", execs);
    }
  });
}

/** kProcessEndLimit of native/engine.cc. Milliseconds. */
const END_LIMIT_MS = 10_000;

for (const [name, signals] of [
  ["SIGTERM", ["SIGTERM"]],
  ["SIGINT, and again", ["SIGINT", "SIGINT"]],
] as const) {
  t.test(`${name} while the event loop is blocked: it ends in time all the same`, beside, async (t) => {
    const container = await startContainer({ files: { "/etc/secret": "" } }, t);
    const actor = await container.actor();
    const file = join(mkdtempSync(join(workspaceDirectory(), "block-")), "now");
    const preload = new URL("../support/block-loop.cjs", import.meta.url).pathname;
    const daemon = await startDaemon({ env: { NODE_OPTIONS: `--require=${preload}`, BLOCK_LOOP: file } }, t);
    await daemon.createGuard(guardOn(container, { deny: ["/etc/secret"] }));
    writeFileSync(`${file}.new`, String(10 * END_LIMIT_MS));
    renameSync(`${file}.new`, file);
    await eventually("the loop is blocked", () => !existsSync(file));
    const since = performance.now();
    for (const signal of signals) process.kill(daemon.pid, signal);
    t.equal(await actor.open("/etc/secret"), EPERM, "guarded as long as it is there");
    t.match(await inTime("it has ended", daemon.ended(), END_LIMIT_MS + PATIENCE_MS), { code: 1 });
    t.ok(performance.now() - since >= END_LIMIT_MS, "not before its time");
    t.match(daemon.stderr, "janusd: it did not end in time: ending at once");
    t.equal(await actor.open("/etc/secret"), 0);
  });
}

t.test("one of two daemons ends, the other goes on", async (t) => {
  const { container, guard } = await guarded(t);
  const actor = await container.actor();
  for (const end of ["SIGTERM", "SIGKILL"] as const) {
    const [first, second] = [await guard(), await guard()];
    const opening = actor.repeat("/data/secrets/key", 1e9, OPENING_MS);
    await inTime("the first has ended", first.kill(end), PROMISE_MS);
    t.match(await inTime("opens go on", opening), { opened: 0 }, "and are denied all the time");
    await second.stop();
  }
});

for (const thread of ["gate", "watchdog", "observer", "tracker", "waker", "scanner", "planner", "MainThread"]) {
  t.test(`a fault in ${thread} ends the daemon, with a line that says where`, async (t) => {
    const { container, guard } = await guarded(t);
    const actors = [await container.actor(), await container.actor()];
    for (let run = 0; run < Math.ceil(RUNS / 2); run++) {
      const daemon = await guard();
      const ended = daemon.ended();
      const opening = actors.map((actor, i) => actor.repeat(["/", "/etc/secret"][i] ?? "/", 1e9, OPENING_MS));
      await new Promise((resolve) => setTimeout(resolve, 200));
      execFileSync(staticProgram("crash.c"), [String(daemon.pid), thread]);
      t.match(await inTime("it has ended", ended, PROMISE_MS), { code: null, signal: "SIGSEGV" });
      t.match(daemon.stderr, `janusd: SIGSEGV in thread "${thread}": ending`);
      const [, secret] = await inTime("the container goes on", Promise.all(opening));
      t.ok(secret !== undefined && secret.denied > 0, "denied before");
      t.equal(await actors[1]?.open("/etc/secret"), 0, "and not after");
    }
  });

  t.test(`... also if ${thread} has used up its stack`, async (t) => {
    const daemon = await startDaemon({}, t);
    const ended = daemon.ended();
    execFileSync(staticProgram("crash.c"), [String(daemon.pid), thread, "overflow"]);
    t.match(await inTime("it has ended", ended, PROMISE_MS), { code: null, signal: "SIGSEGV" });
    t.match(daemon.stderr, `janusd: SIGSEGV in thread "${thread}": ending`);
  });
}

t.test("signals that are no wish to end it are ignored", async (t) => {
  const { container, guard } = await guarded(t);
  const actor = await container.actor();
  const daemon = await guard();
  for (const signal of ["SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGPIPE"] as const) {
    process.kill(daemon.pid, signal);
    await new Promise((resolve) => setTimeout(resolve, 100));
    t.equal(await actor.open("/etc/secret"), EPERM, signal);
  }
  t.notMatch(daemon.stderr, /Debugger listening/);
  await daemon.stop();
});
