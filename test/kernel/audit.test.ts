/** A guard in mode audit: judged as one that enforces, allowed, and recorded as what would have been denied. */
import { mkdtempSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import t from "tap";
import { GuardMode, JanusdConfigSchema } from "../../src/gen/janus_pb.js";
import { workspaceDirectory } from "../support/cleanup.js";
import { type Container, startContainer } from "../support/container.js";
import { type Daemon, eventually, rpcError, startDaemon } from "../support/daemon.js";
import { EPERM, guardOn, type SubjectInit } from "../support/guard.js";
import { janusctl } from "../support/janusctl.js";
import { WITHIN } from "../support/times.js";

const AUDIT = { mode: GuardMode.AUDIT };
const pod = { podName: "pod" };

/** What each line says of `path`: its response and what stands after its node. */
const linesOf = (daemon: Daemon, path: string) => daemon.lines.filter((line) => line.includes(`'${path}'`));

t.test("what would have been denied is allowed, recorded and counted; wherever it is reached", async (t) => {
  const daemon = await startDaemon({}, t);
  const container = await startContainer({}, t);
  await (await container.shell()).run("mkdir -p /d/s /d/pub /o && touch /d/s/f /d/pub/f /o/x");
  const subject = { deny: ["/d"], allow: ["/d/pub"], recursive: true };
  await daemon.createGuard(guardOn(container, subject, AUDIT));
  const actor = await container.actor();
  t.equal(await actor.link("/d/s/f", "/o/link"), 0);
  t.equal(await actor.rename("/d/s", "/o/moved"), 0);
  for (const path of ["/o/link", "/o/moved/f", "/d/pub/f", "/o/x"]) t.equal(await actor.open(path), 0, path);
  await daemon.waitForLine((line) => line.startsWith("<AUDIT> OPEN_PERM file '/o/link' (pod:testnode)"));
  await daemon.waitForLine((line) => line.startsWith("<AUDIT> OPEN_PERM file '/o/moved/f' (pod:testnode)"));
  await daemon.waitForLine((line) => line.startsWith("<ALLOW> OPEN_PERM file '/d/pub/f' (pod:testnode)"));
  t.same(linesOf(daemon, "/o/x"), []);
  const counted = (response: string) => daemon.metric("janusd_decisions_total", { guard: "guard", response });
  t.same([await counted("audit"), await counted("allow"), await counted("deny")], [2, 1, 0]);
  t.match(await daemon.client.listGuards({}), [
    { config: AUDIT, complete: true, decisions: [{ event: "open", audited: 2n, allowed: 1n, denied: 0n }] },
  ]);
  t.match(await daemon.getGuardState(), [{ podName: "pod", mode: GuardMode.AUDIT }]);
  t.match((await janusctl(["--address", daemon.grpcAddress, "list"])).out, / audit .* 0 denied, 1 allowed, 2 audited/);

  // What it said before is what happens now.
  await daemon.createGuard(guardOn(container, subject));
  for (const path of ["/o/link", "/o/moved/f"]) t.equal(await actor.open(path), EPERM, path);
  for (const path of ["/d/pub/f", "/o/x"]) t.equal(await actor.open(path), 0, path);
  await daemon.stop();
});

t.test("switched under a storm: no open is unjudged, and none is allowed once it enforces", async (t) => {
  const daemon = await startDaemon({ flags: ["--log-format=json"] }, t);
  const container = await startContainer({ files: { "/etc/secret": "" }, volumes: [{ target: "/data" }] }, t);
  container.writeVolume(0, "secret", "");
  const [stormer, actor] = [await container.actor(), await container.actor()];
  for (const path of ["/etc/secret", "/data/secret"]) {
    const guard = guardOn(container, { deny: [path] });
    await daemon.createGuard({ ...guard, ...AUDIT });
    const before = await totals(daemon);
    let over = false;
    let slipped = 0;
    let refused = 0;
    let rounds = 0;
    // How many rounds go into three seconds is the machine's.
    const storm = (async () => {
      const sum = { opened: 0, denied: 0 };
      while (rounds <= 3) {
        const { opened, denied } = await stormer.repeat(path, 1_000_000, 3000);
        sum.opened += opened;
        sum.denied += denied;
      }
      return sum;
    })().finally(() => {
      over = true;
    });
    for (; !over; rounds++) {
      await daemon.createGuard(guard);
      for (let open = 0; open < 5; open++) if ((await actor.open(path)) !== EPERM) slipped++;
      await daemon.createGuard({ ...guard, ...AUDIT });
      for (let open = 0; open < 5; open++) if ((await actor.open(path)) !== 0) refused++;
    }
    const { opened, denied } = await storm;
    t.ok(rounds > 3 && opened > 100 && denied > 100, `${rounds} rounds: ${opened} opened, ${denied} denied`);
    t.same({ slipped, refused }, { slipped: 0, refused: 0 }, path);
    const after = await totals(daemon);
    t.same({ deny: after.deny - before.deny, allow: after.allow }, { deny: denied + rounds * 5, allow: 0 });
    // Two groups may ask about one open: what the one audits, the other may deny a moment later.
    const twice = after.audit - before.audit - (opened + rounds * 5);
    t.ok(twice >= 0 && twice <= 2 * rounds, `each was judged, ${twice} twice`);
    await daemon.destroyGuard(pod);
  }
  // What is left to tell, its end has 10 s for: too short for so many records on an emulated processor.
  await eventually("all is told, or counted as lost", async () => {
    const { audit, deny, allow } = await totals(daemon);
    const told = await daemon.metric("janusd_events_delivered_total");
    return told + (await daemon.metric("janusd_events_lost_total")) >= audit + deny + allow;
  });
  await daemon.stop();
});

async function totals(daemon: Daemon): Promise<{ audit: number; deny: number; allow: number }> {
  const of = (response: string) => daemon.metric("janusd_decisions_total", { response });
  return { audit: await of("audit"), deny: await of("deny"), allow: await of("allow") };
}

t.test("two guards on one file: the one that enforces decides, and both are named", async (t) => {
  const container = await startContainer({ files: { "/a/f": "", "/a/mine": "" } }, t);
  const actor = await container.actor();
  for (const format of ["text", "json"]) {
    const daemon = await startDaemon({ flags: [`--log-format=${format}`] }, t);
    const guard = (name: string, subject: SubjectInit, rest = {}) =>
      daemon.createGuard(guardOn(container, subject, { name, ...rest }));
    await guard("strict", { deny: ["/a"], allow: ["/a/mine"] });
    await guard("trial", { deny: ["/a/f", "/a/mine"] }, AUDIT);
    await guard("other", { deny: ["/a/mine"] }, AUDIT);
    const said = async (path: string, errno: number) => {
      const from = daemon.lines.length;
      t.equal(await actor.open(path), errno, path);
      const line = await daemon.waitForLine((line) => line.includes(path), from);
      if (format === "text") return line.replace(/ OPEN_PERM file '.*' \(pod:testnode\) /, "");
      const { response, guard, guards, auditGuards } = JSON.parse(line);
      return { response, guard, guards, auditGuards };
    };
    const text = format === "text";
    t.same(
      await said("/a/f", EPERM),
      text
        ? "<DENY> denied by strict, trial (audit)"
        : { response: "DENY", guard: "strict", guards: ["strict", "trial"], auditGuards: ["trial"] },
    );
    const both = ["trial", "other"];
    t.same(
      await said("/a/mine", 0),
      text
        ? "<AUDIT> would be denied by trial, other"
        : { response: "AUDIT", guard: "trial", guards: both, auditGuards: both },
      "the one that enforces allows it",
    );
    await daemon.destroyGuard({ name: "strict", ...pod });
    t.same(
      await said("/a/f", 0),
      text ? "<AUDIT>" : { response: "AUDIT", guard: "trial", guards: undefined, auditGuards: undefined },
    );
    await daemon.stop();
  }
});

t.test("the owner is exempt as if it enforced; exec and access are audited, too", async (t) => {
  const daemon = await startDaemon({ flags: ["--log-format=json"] }, t);
  const container = await startContainer({ init: "actor", files: { "/etc/secret": "x" } }, t);
  const visitor = await container.actor();
  await daemon.createGuard(guardOn(container, { deny: ["/etc/secret"], autoAllowOwner: true }, AUDIT));
  const event = async (open: () => Promise<number>) => {
    const from = daemon.lines.length;
    t.equal(await open(), 0);
    const { response, owner, event, path } = JSON.parse(await daemon.waitForLine(() => true, from));
    return { response, owner, event, path };
  };
  const open = { event: "OPEN_PERM", path: "/etc/secret" };
  t.same(await event(() => container.init.open("/etc/secret")), { response: "ALLOW", owner: true, ...open });
  t.same(await event(() => visitor.open("/etc/secret")), { response: "AUDIT", owner: false, ...open });
  await (await container.shell()).run("cp /bin/true /tmp/tool");
  await daemon.createGuard(
    guardOn(
      container,
      [
        { deny: ["/tmp/tool"], event: ["exec"] },
        { deny: ["/etc/secret"], event: ["access"] },
      ],
      AUDIT,
    ),
  );
  t.same(await event(async () => (await visitor.command("spawn", "/tmp/tool", "x"))[0] ?? -1), {
    ...{ response: "AUDIT", owner: false, event: "OPEN_EXEC_PERM", path: "/tmp/tool" },
  });
  t.same(await event(() => visitor.read("/etc/secret")), {
    ...{ response: "AUDIT", owner: false, event: "ACCESS_PERM", path: "/etc/secret" },
  });
  await daemon.stop();
});

const document = (container: Container, mode: string) => `apiVersion: januscontroller.clustergarage.io/v1alpha1
kind: JanusGuard
metadata: { name: guard }
spec:
  podName: pod
  containers: [${container.id}]
  ${mode}
  subjects:
    - { deny: [/etc/secret], events: [open] }
`;

t.test("by janusctl and across a restart", async (t) => {
  const daemon = await startDaemon({}, t);
  const container = await startContainer({ files: { "/etc/secret": "" } }, t);
  const actor = await container.actor();
  const run = (args: readonly string[], stdin = "", by = daemon) =>
    janusctl(["--address", by.grpcAddress, ...args], { stdin });
  t.match(await run(["apply", "-f", "-"], document(container, "mode: audit")), {
    status: 0,
    out: "guard created\n",
  });
  t.equal(await actor.open("/etc/secret"), 0);
  t.match((await run(["get", "guard"])).out, /^ {2}mode: audit$/m);
  t.match(await run(["diff", "-f", "-"], document(container, "mode: enforce")), {
    status: 1,
    out: /^- {2}mode: audit$/m,
  });
  t.match(await run(["apply", "-f", "-"], document(container, "mode: audit")), { out: "guard unchanged\n" });
  await daemon.stop();
  const again = await startDaemon({ stateFile: daemon.stateFile }, t);
  t.equal(await actor.open("/etc/secret"), 0, "after a restart");
  await again.waitForLine((line) => line.startsWith("<AUDIT> "));
  t.match(await run(["apply", "-f", "-"], document(container, ""), again), { out: "guard configured\n" });
  t.equal(await actor.open("/etc/secret"), EPERM);
  t.match(await run(["validate", "-f", "-"], document(container, "mode: Audit")), {
    ...{ status: 1, out: "", err: /^janusctl: stdin:7: document 1: spec\.mode: must be enforce or audit\n$/ },
  });
  const guard = create(JanusdConfigSchema, guardOn(container, { deny: ["/etc/secret"] }));
  const wire = Buffer.concat([toBinary(JanusdConfigSchema, guard), Buffer.from([0x98, 0x01, 7])]);
  const unknown = await rpcError(again.createGuard(fromBinary(JanusdConfigSchema, wire)));
  t.match(unknown, { code: "INVALID_ARGUMENT", violations: [{ field: "mode" }] });
  t.equal(await actor.open("/etc/secret"), EPERM, "nothing was changed");
  await again.stop();
});

t.test("by the guard file: reloaded under a storm", async (t) => {
  const container = await startContainer({ files: { "/etc/secret": "" } }, t);
  const [actor, stormer] = [await container.actor(), await container.actor()];
  const file = join(mkdtempSync(join(workspaceDirectory(), "guards-")), "guards.yaml");
  writeFileSync(file, document(container, "mode: audit"));
  const daemon = await startDaemon({ flags: ["--guards", file] }, t);
  t.equal(await actor.open("/etc/secret"), 0);
  const storm = stormer.repeat("/etc/secret", 1_000_000, 1500);
  let reloads = 0;
  const reload = async (mode: string) => {
    writeFileSync(file, document(container, mode));
    process.kill(daemon.pid, "SIGHUP");
    reloads++;
    const inForce = () => daemon.stderr.split("\n").filter((line) => line.includes("the guard file is in force"));
    await eventually("it is in force", () => inForce().length === reloads, WITHIN.sighup);
  };
  for (let round = 0; round < 3; round++) {
    await reload("mode: enforce");
    t.equal(await actor.open("/etc/secret"), EPERM);
    await reload("mode: audit");
    t.equal(await actor.open("/etc/secret"), 0);
  }
  const { opened, denied } = await storm;
  const { audit, deny, allow } = await totals(daemon);
  t.same({ deny, allow }, { deny: denied + 3, allow: 0 });
  t.ok(audit >= opened + 4, `${audit} audited, ${opened} opened`);
  await daemon.stop();
});
