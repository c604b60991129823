/** A container does its worst. Another's secret stays denied, by nobody's deadline, and what is nobody's stays open. */
import { openSync } from "node:fs";
import t from "tap";
import { startContainer } from "../support/container.js";
import { startDaemon } from "../support/daemon.js";
import { guardOn } from "../support/guard.js";
import { Attacker, type StormKind, stormKinds } from "../support/storms.js";
import { seconds } from "./length.js";

const milliseconds = seconds * 1000;
t.setTimeout(120_000 + 10 * milliseconds);

const daemon = await startDaemon({ stdout: openSync("/dev/null", "w") }, t);
const neighbour = await startContainer({ files: { "/secrets/token": "", "/open/file": "" } }, t);
const guard = guardOn(neighbour, { deny: ["/secrets"], recursive: true });
await daemon.createGuard({ ...guard, name: "neighbour", podName: "neighbour" });
const secretly = await neighbour.actor();
const openly = await neighbour.actor();

/** What the neighbour's opens come to for a while. */
async function neighbourIsLeftAlone(t: import("tap").Test, during: number): Promise<void> {
  const [secret, open] = await Promise.all([
    secretly.repeat("/secrets/token", 1e9, during),
    openly.repeat("/open/file", 1e9, during),
  ]);
  t.match(secret, { opened: 0, other: 0 }, "the secret stays denied");
  t.ok(secret.denied > 0, "it was tried");
  t.match(open, { denied: 0, other: 0 }, "what nobody guards stays open");
  t.ok(open.opened > 0, "it was tried");
  t.equal(await daemon.metric("janusd_exposure_total", { cause: "deadline" }), 0, "nobody was let through");
  t.equal(await daemon.metric("janusd_exposure_total", { cause: "thread_failed" }), 0, "no thread failed");
}

async function stormOf(t: import("tap").Test, kind: StormKind): Promise<void> {
  await using attacker = await Attacker.start(kind);
  await daemon.createGuard(attacker.guard);
  await attacker.prepare();
  const storm = attacker.storm(milliseconds + 500);
  await neighbourIsLeftAlone(t, milliseconds);
  t.comment(`${kind}: ${await storm} times`);
  const { status, stderr } = await attacker.container.exec(["cat", "/data/s/token"]);
  t.match({ status, stderr }, { status: 1, stderr: /not permitted/ }, "its own secret is denied, too");
}

t.test("control: no storm", (t) => neighbourIsLeftAlone(t, 300));

for (const [kind] of stormKinds) {
  t.test(`a storm of ${kind}`, { timeout: 60_000 + 4 * milliseconds }, (t) => stormOf(t, kind));
}

t.test("a storm of a name that hundreds of other guards have", { timeout: 60_000 + 4 * milliseconds }, async (t) => {
  const other = await startContainer({ files: { "/data/s/file": "" } }, t);
  for (let i = 0; i < 300; ++i) {
    const guard = guardOn(other, { deny: [`/data/s/${i}`] });
    await daemon.createGuard({ ...guard, name: `other${i}`, podName: `other${i}` });
  }
  await stormOf(t, "names");
});
