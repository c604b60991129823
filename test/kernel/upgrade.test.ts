/** Two daemons that run for a while with one state file: an upgrade that starts the new one first. */
import { readFileSync } from "node:fs";
import t from "tap";
import { startContainer } from "../support/container.js";
import { type Daemon, eventually, startDaemon } from "../support/daemon.js";
import { EPERM, guardOn } from "../support/guard.js";
import { WITHIN } from "../support/times.js";

const FILES = ["/etc/before", "/etc/on-old", "/etc/on-new"];

const names = async (daemon: Daemon) => (await daemon.getGuardState()).map(({ name }) => name).sort();
const know = (daemons: readonly Daemon[], expected: readonly string[]) =>
  eventually(
    `all know ${expected}`,
    async () => {
      const known = await Promise.all(daemons.map(names));
      return known.every((one) => one.join() === expected.join());
    },
    WITHIN.otherDaemon,
  );

for (const end of ["SIGTERM", "SIGKILL"] as const) {
  t.test(`guards made on either are kept by both, and by what comes after ${end}`, async (t) => {
    const files = Object.fromEntries(FILES.map((file) => [file, ""]));
    const container = await startContainer({ files }, t);
    const actor = await container.actor();
    const guard = (file: string) => guardOn(container, { deny: [file] }, { name: file.slice("/etc/".length) });
    const [before = "", onOld = "", onNew = ""] = FILES;
    const old = await startDaemon({}, t);
    await old.createGuard(guard(before));
    await eventually("it is written", () => readFileSync(old.stateFile, "utf8").includes(before));

    const next = await startDaemon({ stateFile: old.stateFile }, t);
    await know([next], ["before"]);
    await next.createGuard(guard(onNew));
    await old.createGuard(guard(onOld));
    await know([old, next], ["before", "on-new", "on-old"]);
    for (const file of FILES) t.equal(await actor.open(file), EPERM, file);

    await old.kill(end);
    for (const file of FILES) t.equal(await actor.open(file), EPERM, `${file}: the new one guards alone`);
    await next.kill(end);
    for (const file of FILES) t.equal(await actor.open(file), 0, `${file}: nobody guards`);
    const last = await startDaemon({ stateFile: old.stateFile }, t);
    t.same(await names(last), ["before", "on-new", "on-old"]);
    for (const file of FILES) t.equal(await actor.open(file), EPERM, file);
    await last.stop();
  });
}

t.test("a guard that is removed on one is removed on the other", async (t) => {
  const container = await startContainer({ files: { "/etc/secret": "" } }, t);
  const actor = await container.actor();
  const old = await startDaemon({}, t);
  const next = await startDaemon({ stateFile: old.stateFile }, t);
  await old.createGuard(guardOn(container, { deny: ["/etc/secret"] }));
  await know([old, next], ["guard"]);
  await next.destroyGuard({ name: "guard" });
  await know([old, next], []);
  t.equal(await actor.open("/etc/secret"), 0);
  // The audit trail of each: who was asked by whom.
  const changes = (daemon: Daemon) =>
    daemon.stderr
      .split("\n")
      .filter((line) => /"msg":"guard (created|removed)"/.test(line))
      .map((line): unknown => JSON.parse(line));
  const [rpc, state] = [
    { source: "rpc", by: { peer: /^127\.0\.0\.1:\d+$/ } },
    { source: "state", by: undefined },
  ];
  t.match(changes(old), [
    { guard: "guard", pod: "pod", msg: "guard created", ...rpc },
    { msg: "guard removed", ...state },
  ]);
  t.match(changes(next), [
    { msg: "guard created", ...state },
    { msg: "guard removed", ...rpc },
  ]);
  t.equal(await old.metric("janusd_guard_changes_total", { change: "created", source: "rpc" }), 1);
  t.equal(await next.metric("janusd_guard_changes_total", { change: "removed", source: "rpc" }), 1);
  t.equal(await next.metric("janusd_guard_changes_total"), 2);
  await old.stop();
  await next.stop();
});
