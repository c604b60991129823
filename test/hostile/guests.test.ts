/** A file of somebody else's that is linked into a guarded tree: who is denied it then (docs/architecture/decisions.md). */
import { linkSync, readFileSync, unlinkSync } from "node:fs";
import t, { type Test } from "tap";
import { Scope } from "../../src/gen/janus_pb.js";
import { type Container, startContainer } from "../support/container.js";
import { type Daemon, eventually, startDaemon } from "../support/daemon.js";
import { EPERM, guardOn, type SubjectInit } from "../support/guard.js";

interface Shared {
  readonly daemon: Daemon;
  readonly guarded: Container;
  readonly owner: Container;
  /** A file of the volume, as the node sees it. */
  at(path: string): string;
}

/** Two containers have one volume. One of them has a guard on /data/s; the file /data/theirs is the other's. */
async function share(t: Test, subject: SubjectInit): Promise<Shared> {
  const daemon = await startDaemon({}, t);
  const guarded = await startContainer({ volumes: [{ target: "/data" }] }, t);
  const source = guarded.volumes[0] ?? "";
  const owner = await startContainer({ volumes: [{ target: "/data", source }] }, t);
  guarded.writeVolume(0, "s/own", "");
  guarded.writeVolume(0, "theirs", "theirs");
  await daemon.createGuard(guardOn(guarded, { deny: ["/data/s"], recursive: true, ...subject }));
  return { daemon, guarded, owner, at: (path) => `${source}/${path}` };
}

function nodeMayRead(path: string): boolean {
  try {
    readFileSync(path);
    return true;
  } catch {
    return false;
  }
}

t.test("scope everyone: it is denied to all, as all that stood at a guarded path; until the guard goes", async (t) => {
  const { daemon, guarded, owner, at } = await share(t, {});
  const [actor, theirs] = [await guarded.actor(), await owner.actor()];
  t.equal(await theirs.open("/data/theirs"), 0);
  t.equal(await actor.link("/data/theirs", "/data/s/in"), 0);
  await eventually("it is pinned", async () => (await theirs.open("/data/theirs")) === EPERM);
  t.notOk(nodeMayRead(at("theirs")));
  t.equal(await actor.open("/data/theirs"), EPERM);
  unlinkSync(at("s/in"));
  t.equal(await theirs.open("/data/theirs"), EPERM, "what was denied once is not to be had by taking a name away");
  await daemon.destroyGuard({ name: "guard", podName: "pod" });
  t.equal(await theirs.open("/data/theirs"), 0);
  t.ok(nodeMayRead(at("theirs")));
  await daemon.stop();
});

t.test("scope container: it is denied to the guard's container alone, by every name", async (t) => {
  const { daemon, guarded, owner, at } = await share(t, { scope: Scope.CONTAINER });
  const [actor, theirs] = [await guarded.actor(), await owner.actor()];
  t.equal(await actor.link("/data/theirs", "/data/s/in"), 0);
  for (const path of ["/data/s/in", "/data/theirs"])
    await eventually(path, async () => (await actor.open(path)) === EPERM);
  for (const path of ["/data/theirs", "/data/s/in", "/data/s/own"]) t.equal(await theirs.open(path), 0, path);
  t.ok(nodeMayRead(at("theirs")));
  await daemon.stop();
});

t.test("only what a container may write, or owns, it can link in at all", async (t) => {
  const { daemon, guarded, owner, at } = await share(t, {});
  const actor = await guarded.actor({ uid: 1000 });
  t.equal(await actor.link("/data/theirs", "/tmp/in"), 18, "EXDEV: nothing from another mount");
  t.not(await actor.link("/data/theirs", "/data/s/in"), 0, "fs.protected_hardlinks");
  t.equal(await (await owner.actor()).open("/data/theirs"), 0);
  linkSync(at("theirs"), at("beside"));
  t.ok(nodeMayRead(at("beside")), "a name elsewhere does no harm");
  await daemon.stop();
});
