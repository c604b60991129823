import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import { startContainer } from "../support/container.js";
import { startDaemon } from "../support/daemon.js";
import { EPERM, guardOn } from "../support/guard.js";

const daemon = await startDaemon({}, t);
const CLONE_NEWNS = 0x20000;
const CLONE_NEWUSER = 0x10000000;

t.test("a bind-mounted volume: the whole of it, a part of it, and nothing of the node's beside it", async (t) => {
  const container = await startContainer({ volumes: [{ target: "/data" }, { target: "/free" }] }, t);
  container.writeVolume(0, "keys/deep/key", "s3cret");
  container.writeVolume(0, "readme", "hello");
  container.writeVolume(1, "file", "");
  const actor = await container.actor();
  await daemon.createGuard(guardOn(container, { deny: ["/data/keys"], recursive: true }));
  t.equal(await actor.open("/data/keys/deep/key"), EPERM);
  t.equal(await actor.open("/data/readme"), 0);
  t.equal(await actor.open("/free/file"), 0);
  t.equal(await actor.mkdir("/data/keys/new"), 0);
  t.equal(await actor.rename("/data/readme", "/data/keys/new/file"), 0);
  t.equal(await actor.open("/data/keys/new/file"), EPERM);

  const [volume = ""] = container.volumes;
  const neighbour = join(volume, "..", "neighbour");
  writeFileSync(neighbour, "the node's");
  t.equal(readFileSync(neighbour, "utf8"), "the node's");
  await daemon.createGuard(guardOn(container, { deny: ["/data"], recursive: true }));
  t.equal(await actor.open("/data/keys/deep/key"), EPERM);
  t.equal(await actor.open("/free/file"), 0);
  t.equal(readFileSync(neighbour, "utf8"), "the node's");
  await daemon.destroyGuard({ podName: "pod" });
  t.equal(await actor.open("/data/keys/deep/key"), 0);
});

t.test("a volume is guarded at the path where the container sees it", async (t) => {
  const container = await startContainer({ volumes: [{ target: "/data" }] }, t);
  container.writeVolume(0, "secret", "");
  const actor = await container.actor();
  const from = daemon.lines.length;
  await daemon.createGuard(guardOn(container, { deny: ["/"], recursive: true }));
  t.equal(await actor.open("/data/secret"), EPERM);
  await daemon.waitForLine((line) => line.includes("'/data/secret'"), from);
  await daemon.destroyGuard({ podName: "pod" });
});

for (const [name, capabilities, uid, flags] of [
  ["unshare -m with CAP_SYS_ADMIN", "sys_admin", 0, CLONE_NEWNS],
  ["unshare -Urm without privilege", "none", 1000, CLONE_NEWNS | CLONE_NEWUSER],
] as const) {
  t.test(`another mount namespace: ${name}`, async (t) => {
    const container = await startContainer({ files: { "/etc/secret": "" }, volumes: [{ target: "/data" }] }, t);
    container.writeVolume(0, "keys/key", "");
    await daemon.createGuard(guardOn(container, { deny: ["/etc/secret", "/data/keys"], recursive: true }));
    const actor = await container.actor({ capabilities, uid });
    t.equal(await actor.unshare(flags), 0);
    t.equal(await actor.open("/etc/secret"), EPERM, "overlay");
    t.equal(await actor.open("/data/keys/key"), EPERM, "volume");
    await daemon.destroyGuard({ podName: "pod" });
  });
}

t.test("a bind mount elsewhere is the same file", async (t) => {
  const container = await startContainer({ files: { "/etc/keys/key": "" }, volumes: [{ target: "/data" }] }, t);
  container.writeVolume(0, "keys/key", "");
  const actor = await container.actor({ capabilities: "sys_admin" });
  await daemon.createGuard(guardOn(container, { deny: ["/etc/keys", "/data/keys"], recursive: true }));
  t.equal(await actor.bind("/etc/keys", "/tmp"), 0);
  t.equal(await actor.open("/tmp/key"), EPERM);
  t.equal(await actor.bind("/data/keys", "/mnt"), 0);
  t.equal(await actor.open("/mnt/key"), EPERM);
  await daemon.destroyGuard({ podName: "pod" });
});

t.test("a volume that another container has, too: everyone, or the guarded container alone", async (t) => {
  const guarded = await startContainer({ volumes: [{ target: "/data" }] }, t);
  const [volume = ""] = guarded.volumes;
  const other = await startContainer({ volumes: [{ source: volume, target: "/shared" }] }, t);
  guarded.writeVolume(0, "keys/key", "s3cret");
  guarded.writeVolume(0, "neighbour", "");
  const [inside, beside] = [await guarded.actor(), await other.actor()];
  const key = join(volume, "keys/key");

  await daemon.createGuard(guardOn(guarded, { deny: ["/data/keys"], recursive: true }));
  t.equal(await inside.open("/data/keys/key"), EPERM);
  t.equal(await beside.open("/shared/keys/key"), EPERM, "pinned for everyone");
  t.throws(() => readFileSync(key), { code: "EPERM" });
  t.equal(await beside.open("/shared/neighbour"), 0);
  t.equal(readFileSync(join(volume, "neighbour"), "utf8"), "");

  await daemon.createGuard(guardOn(guarded, { deny: ["/data/keys"], recursive: true, scope: 1 }));
  t.equal(await inside.open("/data/keys/key"), EPERM);
  t.equal(await beside.open("/shared/keys/key"), 0);
  t.equal(readFileSync(key, "utf8"), "s3cret");
  t.equal(await beside.mkdir("/shared/keys/new"), 0);
  t.equal(await beside.write("/shared/keys/new/key", "s3cret"), 0);
  t.equal(await inside.open("/data/keys/new/key"), EPERM, "what the other one makes");
  t.equal(await beside.open("/shared/keys/new/key"), 0);
  await daemon.destroyGuard({ podName: "pod" });
});

t.test("a root that shares its superblock with the node: only the container's mount is marked", async (t) => {
  const container = await startContainer({ rootType: "bind", files: { "/etc/secret": "", "/etc/public": "" } }, t);
  const actor = await container.actor();
  await daemon.createGuard(guardOn(container, { deny: ["/etc/secret"] }));
  t.equal(await actor.open("/etc/secret"), EPERM);
  t.equal(await actor.open("/etc/public"), 0);
  t.equal(await daemon.metric("janusd_marks", { kind: "superblock" }), 0);
  await daemon.destroyGuard({ podName: "pod" });
});
