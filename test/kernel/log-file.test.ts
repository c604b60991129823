/** `--log-file` of a real daemon, rotated by the real logrotate, each way that it has. */
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import { workspaceDirectory } from "../support/cleanup.js";
import { startContainer } from "../support/container.js";
import { eventually, runToEnd, startDaemon } from "../support/daemon.js";
import { guardOn } from "../support/guard.js";

/** A daemon that logs to a file in a directory of its own, a process that it denies a file, and logrotate. */
async function setUp(t: Pick<typeof import("tap").t, "teardown">) {
  const directory = mkdtempSync(join(workspaceDirectory(), "rotated-"));
  const path = join(directory, "events.log");
  const daemon = await startDaemon({ flags: [`--log-file=${path}`] }, t);
  const container = await startContainer({ files: { "/etc/secret": "" } }, t);
  const actor = await container.actor();
  await daemon.createGuard(guardOn(container, { deny: ["/etc/secret"] }, { logFormat: "{seq}" }));
  const rotate = (way: string): void => {
    const configuration = join(directory, "logrotate.conf");
    writeFileSync(configuration, `${path} {\n  rotate 100\n  ${way}\n}\n`, { mode: 0o600 });
    execFileSync("/usr/sbin/logrotate", ["--force", "--state", join(directory, "state"), configuration]);
  };
  /** All files together, the oldest first. */
  const logged = (): string[] => {
    const age = (name: string): number => Number(/\d+$/.exec(name)?.[0] ?? 0);
    const names = readdirSync(directory).filter((name) => name.startsWith("events.log"));
    return names
      .sort((a, b) => age(b) - age(a))
      .flatMap((name) => readFileSync(join(directory, name), "utf8").split("\n"))
      .filter((line) => line !== "");
  };
  return { daemon, actor, path, rotate, logged };
}

/** Lines that are no number, or none that is larger than the one before. */
function disorderIn(lines: readonly string[]): string[] {
  return lines.filter((line, index) => !/^\d+$/.test(line) || Number(line) <= Number(lines[index - 1] ?? 0));
}

t.test("create and SIGHUP, in the middle of a storm: not a line is lost, torn or twice", async (t) => {
  const { daemon, actor, rotate, logged } = await setUp(t);
  const [rotations, each] = [5, 6000];
  const opens = rotations * each;
  for (let rotation = 0; rotation < rotations; rotation++) {
    const storm = actor.repeat("/etc/secret", each);
    rotate(`create 0600 root root\n  postrotate\n    kill -HUP ${daemon.pid}\n  endscript`);
    t.match(await storm, { denied: each });
  }
  await eventually("all is logged", () => logged().length >= opens);
  t.same(disorderIn(logged()), [], "each is there once, in order");
  t.equal(logged().length, opens);
  t.equal(await daemon.metric("janusd_log_lines_dropped_total"), 0);
  t.same(daemon.lines, [], "nothing of it on standard output");
  await daemon.stop();
});

t.test("copytruncate: what comes after it begins at the start of the file", async (t) => {
  const { daemon, actor, path, rotate, logged } = await setUp(t);
  for (let rotation = 1; rotation <= 3; rotation++) {
    await actor.repeat("/etc/secret", 500);
    await eventually("all is logged", () => logged().length === rotation * 500);
    rotate("copytruncate");
    t.equal(readFileSync(path, "utf8"), "");
  }
  await actor.repeat("/etc/secret", 1);
  await eventually("one line", () => /^\d+\n$/.test(readFileSync(path, "utf8")));
  t.same(disorderIn(logged()), []);
  t.equal(logged().length, 1501);
  await daemon.stop();
});

t.test("a log that cannot be opened: an error at the start; later a check and a metric", async (t) => {
  const path = join(workspaceDirectory(), "missing", "events.log");
  t.match(runToEnd([`--log-file=${path}`]), {
    status: 1,
    lines: [`janusd: --log-file ${path}: cannot write there: ENOENT`],
  });
  const { daemon, actor, path: log } = await setUp(t);
  renameSync(log, `${log}.1`);
  mkdirSync(log);
  process.kill(daemon.pid, "SIGHUP");
  await eventually("it is not ready", async () => (await daemon.http("/readyz")).status === 503);
  t.match(await (await daemon.http("/readyz")).text(), /log-file.*cannot be opened again: EISDIR/);
  t.ok((await daemon.metric("janusd_log_file_errors_total")) > 0);
  t.match(daemon.stderr, "not opened again");
  rmdirSync(log);
  await eventually("it is ready", async () => (await daemon.http("/readyz")).status === 200);
  await actor.repeat("/etc/secret", 1);
  await eventually("a line", () => /^\d+\n$/.test(readFileSync(log, "utf8")));
  await daemon.stop();
});
