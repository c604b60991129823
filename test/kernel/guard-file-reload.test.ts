/** The guard file is read again: on SIGHUP, and because it changed. */
import { mkdirSync, mkdtempSync, renameSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import { BESIDE, beside } from "../support/beside.js";
import { workspaceDirectory } from "../support/cleanup.js";
import { startContainer } from "../support/container.js";
import { type Daemon, eventually, startDaemon } from "../support/daemon.js";
import { EPERM } from "../support/guard.js";
import { WITHIN, withinRetry } from "../support/times.js";

t.jobs = BESIDE;

/** `paths` are denied, by one guard each. */
const guardsOf = (id: string, paths: readonly string[], subject = "events: [open]") =>
  paths
    .map(
      (path) => `apiVersion: januscontroller.clustergarage.io/v1alpha1
kind: JanusGuard
metadata: { name: "${path.slice(1)}" }
spec:
  containers: [${id}]
  subjects:
    - deny: [${path}]
      ${subject}
`,
    )
    .join("---\n");

const newFile = () => join(mkdtempSync(join(workspaceDirectory(), "guards-")), "guards.yaml");

/** What /readyz says of the guard file. */
async function checkOf(daemon: Daemon): Promise<string> {
  const report: unknown = await (await daemon.http("/readyz")).json();
  return /"name":"guard-file","ok":(?:true|false),"detail":"[^"]*"/.exec(JSON.stringify(report))?.[0] ?? "";
}

const loggedBy = (daemon: Daemon, by: string, message: string) =>
  daemon.stderr.split("\n").filter((line) => line.includes(`"by":"${by}"`) && line.includes(message));

t.test("SIGHUP: what the file says is in force, nothing is unguarded meanwhile, clients' guards stay", async (t) => {
  const container = await startContainer({ files: { "/kept": "", "/changed": "", "/gone": "", "/new": "" } }, t);
  const [actor, watcher, second] = [await container.actor(), await container.actor(), await container.actor()];
  const file = newFile();
  writeFileSync(file, guardsOf(container.id, ["/kept", "/changed", "/gone"]));
  const daemon = await startDaemon({ flags: ["--guards", file] }, t);
  await daemon.createGuard({ name: "rpc", cid: [container.id], subject: [{ deny: ["/bin/vi"], event: ["open"] }] });
  const ids = async () =>
    new Map((await daemon.getGuardState()).map(({ name, processEventfd }) => [name, processEventfd]));
  const before = await ids();
  let over = false;
  const storm = async (by: typeof watcher, path: string) => {
    let opened = 0;
    while (!over) opened += (await by.repeat(path, 1e9, 50)).opened;
    return opened;
  };
  const storms = [storm(watcher, "/kept"), storm(second, "/changed")];
  for (let round = 0; round < 10; round++) {
    const changed = guardsOf(container.id, ["/changed"], `events: [open]\n      tags: { round: "${round}" }`);
    writeFileSync(file, `${guardsOf(container.id, ["/kept", "/new"])}---\n${changed}`);
    process.kill(daemon.pid, "SIGHUP");
    await eventually(
      "it is said",
      () => loggedBy(daemon, "SIGHUP", "the guard file is in force").length > round,
      WITHIN.sighup,
    );
  }
  over = true;
  t.same(await Promise.all(storms), [0, 0], "denied all the time");
  t.equal(await actor.open("/new"), EPERM);
  t.equal(await actor.open("/gone"), 0);
  t.equal(await actor.open("/bin/vi"), EPERM);
  const after = await ids();
  t.same([...after.keys()].sort(), ["changed", "kept", "new", "rpc"]);
  for (const name of ["kept", "rpc"]) t.same(after.get(name), before.get(name), "the same, untouched");
  const [first = "{}"] = loggedBy(daemon, "SIGHUP", "the guard file is in force");
  t.match(JSON.parse(first), { created: ["new"], replaced: ["changed"], removed: ["gone"], unchanged: 1, file });
  t.equal(await daemon.metric("janusd_guard_changes_total", { change: "replaced", source: "file" }), 10);
  t.equal(await daemon.metric("janusd_guard_changes_total", { change: "removed", source: "file" }), 1);
  await daemon.stop();
});

t.test("a changed file is seen, as editors and as the kubelet change it", beside, async (t) => {
  const container = await startContainer({ files: { "/one": "", "/two": "", "/three": "" } }, t);
  const actor = await container.actor();
  // A ConfigMap's volume: the file is a link by way of ..data, which is swapped.
  const file = newFile();
  const directory = join(file, "..");
  const swap = (version: string, paths: readonly string[]) => {
    mkdirSync(join(directory, version));
    writeFileSync(join(directory, version, "guards.yaml"), guardsOf(container.id, paths));
    symlinkSync(version, join(directory, "..data.new"));
    renameSync(join(directory, "..data.new"), join(directory, "..data"));
  };
  swap("..1", ["/one"]);
  symlinkSync("..data/guards.yaml", file);
  const daemon = await startDaemon({ flags: ["--guards", file] }, t);
  const told = () => loggedBy(daemon, "file", "the guard file is in force");
  swap("..2", ["/two"]);
  // What is new is guarded before what is gone is let go, and it is said after both.
  await eventually("the swap is in force", () => told().length >= 1, WITHIN.guardFile);
  t.equal(await actor.open("/two"), EPERM);
  t.equal(await actor.open("/one"), 0);
  writeFileSync(join(directory, "guards.yaml~"), guardsOf(container.id, ["/two", "/three"]));
  renameSync(join(directory, "guards.yaml~"), file);
  await eventually("the rename is in force", () => told().length >= 2, WITHIN.guardFile);
  t.equal(await actor.open("/three"), EPERM);
  t.equal(await actor.open("/two"), EPERM);
  t.match(
    told().map((line) => JSON.parse(line)),
    [
      { created: ["two"], removed: ["one"] },
      { created: ["three"], removed: [], unchanged: 1 },
    ],
  );
  await daemon.stop();
});

t.test(
  "one bad entry: nothing changes, /readyz says file and line until the file can be applied",
  beside,
  async (t) => {
    const container = await startContainer({ files: { "/kept": "", "/more": "" } }, t);
    const actor = await container.actor();
    const file = newFile();
    writeFileSync(file, guardsOf(container.id, ["/kept"]));
    const daemon = await startDaemon({ flags: ["--guards", file] }, t);
    t.match(await checkOf(daemon), '"ok":true');

    writeFileSync(file, `${guardsOf(container.id, ["/more"])}---\n${guardsOf(container.id, ["kept"])}`);
    process.kill(daemon.pid, "SIGHUP");
    await eventually(
      "the check fails",
      async () => (await checkOf(daemon)).includes('"ok":false'),
      WITHIN.sighup + WITHIN.report,
    );
    t.equal((await daemon.http("/readyz")).status, 503);
    t.match(await checkOf(daemon), `${file}:16: document 2: spec.subjects[0].deny[0]: is relative`);

    // The engine refuses the last: /proc asks nobody. All else is taken back.
    const replaced = guardsOf(container.id, ["/kept"], "events: [open]\n      autoAllowOwner: true");
    writeFileSync(file, [replaced, guardsOf(container.id, ["/more", "/proc/self"])].join("---\n"));
    const { opened } = await actor.repeat("/kept", 1e9, 4000);
    t.equal(opened, 0);
    await eventually(
      "that is told",
      async () => (await checkOf(daemon)).includes(":26: guard proc/self"),
      WITHIN.guardFile + WITHIN.report,
    );
    t.match(await checkOf(daemon), /spec\.subjects\[0\]\.deny\[0\]: /);
    t.equal(await actor.open("/more"), 0, "nothing of it is in force");
    t.equal(await actor.open("/kept"), EPERM, "what was before is");
    t.match(await daemon.getGuardState(), [{ name: "kept" }]);
    t.equal(await daemon.metric("janusd_guard_changes_total", { source: "file" }), 1);

    writeFileSync(file, guardsOf(container.id, ["/kept", "/more"]));
    await eventually("it is in force", async () => (await actor.open("/more")) === EPERM, WITHIN.guardFile);
    await eventually("it is ready again", async () => (await daemon.http("/readyz")).status === 200, WITHIN.report);
    t.match(await checkOf(daemon), '"ok":true');
    t.match(daemon.stderr, "the guard file cannot be applied");
    await daemon.stop();
  },
);

t.test("what the engine refuses now is tried again, without anybody touching the file", beside, async (t) => {
  const container = await startContainer({ files: { "/kept": "" } }, t);
  const shell = await container.shell();
  const file = newFile();
  writeFileSync(file, guardsOf(container.id, ["/kept"]));
  const daemon = await startDaemon({ flags: ["--guards", file] }, t);
  await shell.run("mkfifo /later");
  writeFileSync(file, guardsOf(container.id, ["/kept", "/later"]));
  const failed = performance.now();
  process.kill(daemon.pid, "SIGHUP");
  await eventually(
    "it is refused",
    async () => (await checkOf(daemon)).includes('"ok":false'),
    WITHIN.sighup + WITHIN.report,
  );
  await shell.run("rm /later; echo > /later");
  await eventually("it is in force", async () => (await shell.run("cat /later")).status !== 0, withinRetry(failed));
  await eventually("the check holds", async () => (await checkOf(daemon)).includes('"ok":true'), WITHIN.report);
  await daemon.stop();
});

t.test("SIGHUP without a guard file is a line of the log", async (t) => {
  const daemon = await startDaemon({}, t);
  process.kill(daemon.pid, "SIGHUP");
  await eventually("it is said", () => daemon.stderr.includes("no guard file"), WITHIN.sighup);
  t.equal((await daemon.http("/readyz")).status, 200);
  t.equal(await checkOf(daemon), "");
  await daemon.stop();
});
