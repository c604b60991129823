import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import t, { type Test } from "tap";
import { workspaceDirectory } from "../support/cleanup.js";
import { type Actor, startContainer } from "../support/container.js";
import { startDaemon } from "../support/daemon.js";
import { EPERM, guardOn, type SubjectInit } from "../support/guard.js";

const daemon = await startDaemon({}, t);

/** A container with the given files, guarded after it was started. */
async function guarded(t: Test, files: Record<string, string>, subject: SubjectInit): Promise<Actor> {
  const container = await startContainer({ files }, t);
  const actor = await container.actor();
  await daemon.createGuard(guardOn(container, subject));
  t.teardown(() => daemon.destroyGuard({ name: "guard", podName: "pod" }));
  return actor;
}

t.test("recursive: the whole tree, and what appears in it", async (t) => {
  const actor = await guarded(
    t,
    { "/etc/app/a/b/c/file": "", "/etc/other": "" },
    { deny: ["/etc/app"], recursive: true },
  );
  t.equal(await actor.open("/etc/app/a/b/c/file"), EPERM);
  t.equal(await actor.mkdir("/etc/app/a/new"), 0);
  t.equal(await actor.rename("/etc/other", "/etc/app/a/new/file"), 0);
  t.equal(await actor.open("/etc/app/a/new/file"), EPERM);
});

t.test("not recursive: the directory's own entries", async (t) => {
  const actor = await guarded(t, { "/etc/app/file": "", "/etc/app/sub/file": "" }, { deny: ["/etc/app"] });
  t.equal(await actor.open("/etc/app/file"), EPERM);
  t.equal(await actor.open("/etc/app/sub/file"), 0);
});

t.test("maxDepth and exclude", async (t) => {
  const actor = await guarded(
    t,
    { "/etc/app/1": "", "/etc/app/a/2": "", "/etc/app/a/b/3": "", "/etc/app/a/x.log": "" },
    { deny: ["/etc/app"], recursive: true, maxDepth: 2, exclude: ["**/*.log"] },
  );
  t.equal(await actor.open("/etc/app/1"), EPERM);
  t.equal(await actor.open("/etc/app/a/2"), EPERM);
  t.equal(await actor.open("/etc/app/a/b/3"), 0);
  t.equal(await actor.open("/etc/app/a/x.log"), 0);
});

t.test("exclude a path itself: what is below is denied, also where it is moved, and after another guard", async (t) => {
  const container = await startContainer({ files: { "/etc/key": "" } }, t);
  const actor = await container.actor();
  t.equal(await actor.mkdir("/data/app"), 0);
  for (const path of ["/data/app/file", "/new"]) t.equal(await actor.write(path, ""), 0);
  await daemon.createGuard(guardOn(container, { deny: ["/data/app"], recursive: true, exclude: ["."] }));
  t.teardown(() => daemon.destroyGuard({ name: "guard", podName: "pod" }));
  t.equal(await actor.open("/data/app"), 0);
  t.equal(await actor.open("/data/app/file"), EPERM);
  await daemon.createGuard(guardOn(container, { deny: ["/etc/key"] }, { name: "other" }));
  await daemon.destroyGuard({ name: "other", podName: "pod" });
  t.equal(await actor.rename("/data/app", "/moved"), 0);
  t.equal(await actor.rename("/new", "/moved/new"), 0);
  t.equal(await actor.open("/moved"), 0);
  for (const path of ["/moved/file", "/moved/new"]) t.equal(await actor.open(path), EPERM, path);
});

t.test("the most specific path wins; on a tie deny wins", async (t) => {
  const actor = await guarded(
    t,
    { "/etc/nginx/conf": "", "/etc/nginx/keys/key": "", "/etc/tie": "" },
    { deny: ["/etc", "/etc/nginx/keys", "/etc/tie"], allow: ["/etc/nginx", "/etc/tie"], recursive: true },
  );
  t.equal(await actor.open("/etc/passwd"), EPERM);
  t.equal(await actor.open("/etc/nginx/conf"), 0);
  t.equal(await actor.open("/etc/nginx/keys/key"), EPERM);
  t.equal(await actor.open("/etc/tie"), EPERM);
});

t.test("a file replaced by rename", async (t) => {
  const actor = await guarded(t, { "/etc/secret": "old", "/etc/new": "new" }, { deny: ["/etc/secret"] });
  t.equal(await actor.open("/etc/secret"), EPERM);
  t.equal(await actor.open("/etc/new"), 0);
  t.equal(await actor.rename("/etc/new", "/etc/secret"), 0);
  t.equal(await actor.open("/etc/secret"), EPERM);
});

t.test("a path that appears later, and again", async (t) => {
  const actor = await guarded(t, {}, { deny: ["/etc/later", "/var/run/app/token"] });
  for (let round = 0; round < 2; round++) {
    t.equal(await actor.write("/tmp/made", "x"), 0);
    t.equal(await actor.rename("/tmp/made", "/etc/later"), 0);
    t.equal(await actor.open("/etc/later"), EPERM);
    t.equal(await actor.unlink("/etc/later"), 0);
  }
  t.equal(await actor.mkdir("/var/run"), 0);
  t.equal(await actor.mkdir("/var/run/app"), 0);
  t.equal(await actor.write("/tmp/made", "x"), 0);
  t.equal(await actor.rename("/tmp/made", "/var/run/app/token"), 0);
  t.equal(await actor.open("/var/run/app/token"), EPERM);
});

t.test("hard links, made before and after", async (t) => {
  const container = await startContainer({}, t);
  const actor = await container.actor();
  t.equal(await actor.mkdir("/data/keys"), 0);
  t.equal(await actor.write("/data/keys/key", "s3cret"), 0);
  t.equal(await actor.link("/data/keys/key", "/tmp/before"), 0);
  await daemon.createGuard(guardOn(container, { deny: ["/data/keys"], recursive: true }));
  t.equal(await actor.link("/data/keys/key", "/tmp/after"), 0);
  t.equal(await actor.open("/data/keys/key"), EPERM);
  t.equal(await actor.open("/tmp/before"), EPERM);
  t.equal(await actor.open("/tmp/after"), EPERM);
  await daemon.destroyGuard({ name: "guard", podName: "pod" });
});

t.test("a guarded directory, or one above it, that is renamed", async (t) => {
  const container = await startContainer({}, t);
  const actor = await container.actor();
  for (const path of ["/data/a", "/data/a/keys"]) t.equal(await actor.mkdir(path), 0);
  t.equal(await actor.write("/data/a/keys/key", "s3cret"), 0);
  await daemon.createGuard(guardOn(container, { deny: ["/data/a/keys"], recursive: true }));
  t.equal(await actor.rename("/data/a", "/data/b"), 0);
  t.equal(await actor.open("/data/b/keys/key"), EPERM);
  t.equal(await actor.rename("/data/b/keys", "/tmp/innocent"), 0);
  t.equal(await actor.open("/tmp/innocent/key"), EPERM);
  await daemon.destroyGuard({ name: "guard", podName: "pod" });
});

t.test("symbolic links are resolved inside the container, and never guard the node's files", async (t) => {
  const container = await startContainer({ files: { "/etc/inside": "" } }, t);
  const actor = await container.actor();
  const nodeFile = join(workspaceDirectory(), "node-file");
  writeFileSync(nodeFile, "the node's own");
  t.equal(await actor.symlink(nodeFile, "/etc/absolute"), 0);
  t.equal(await actor.symlink(`../../../../../../../..${nodeFile}`, "/etc/relative"), 0);
  t.equal(await actor.symlink("/etc/inside", "/etc/link"), 0);
  await daemon.createGuard(guardOn(container, { deny: ["/etc/absolute", "/etc/relative", "/etc/link"] }));
  t.equal(readFileSync(nodeFile, "utf8"), "the node's own");
  t.equal(await actor.open("/etc/link"), EPERM);
  t.equal(await actor.open("/etc/inside"), EPERM, "what the link points to");
  const { status } = await container.exec(["mkdir", "-p", workspaceDirectory()]);
  t.equal(status, 0);
  t.equal(await actor.write("/tmp/made", "x"), 0);
  t.equal(await actor.rename("/tmp/made", nodeFile), 0);
  t.equal(await actor.open("/etc/absolute"), EPERM, "the container's file of that name");
  t.equal(readFileSync(nodeFile, "utf8"), "the node's own");
  await daemon.destroyGuard({ name: "guard", podName: "pod" });
});
