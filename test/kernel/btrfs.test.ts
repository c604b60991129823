/** Volumes on btrfs: subvolumes have inode numbers and devices of their own, and a snapshot makes new inodes without an open. */
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import t, { type Test } from "tap";
import { Scope } from "../../src/gen/janus_pb.js";
import { workspaceDirectory } from "../support/cleanup.js";
import { startContainer } from "../support/container.js";
import { eventually, rpcError, startDaemon } from "../support/daemon.js";
import { EPERM, guardOn } from "../support/guard.js";

const run = (command: string, ...args: string[]) => execFileSync(command, args, { stdio: "pipe" });

/** Where a file system on a loop device is mounted. */
function fileSystem(t: Test): string {
  const directory = mkdtempSync(join(workspaceDirectory(), "btrfs-"));
  const [image, at] = [join(directory, "image"), join(directory, "at")];
  mkdirSync(at);
  run("truncate", "--size=256M", image);
  run("mkfs.btrfs", "--quiet", "--force", image);
  run("mount", "-o", "loop", image, at);
  t.teardown(() => run("umount", "--lazy", at));
  return at;
}

/** A subvolume of a file system of its own. */
function subvolume(t: Test): string {
  const volume = join(fileSystem(t), "vol");
  run("btrfs", "subvolume", "create", volume);
  return volume;
}

const has = readFileSync("/proc/filesystems", "utf8").includes("\tbtrfs\n");
const skip = has ? false : "this kernel has no btrfs";

t.test("a guarded directory of a subvolume", { skip }, async (t) => {
  const volume = subvolume(t);
  const daemon = await startDaemon({}, t);
  const container = await startContainer({ volumes: [{ target: "/data", source: volume }] }, t);
  for (const name of ["token", "other"]) container.writeVolume(0, `s/${name}`, "s3cret");
  for (const directory of ["s/sub", "beside"]) {
    run("btrfs", "subvolume", "create", join(volume, directory));
    container.writeVolume(0, `${directory}/token`, "s3cret");
  }
  const guard = (deny: string) => guardOn(container, { deny: [deny], recursive: true, scope: Scope.CONTAINER });
  await daemon.createGuard(guard("/data/s"));
  t.equal(
    await daemon.metric("janusd_exposure_total", { cause: "unresolved_path" }),
    1,
    "EXDEV, as docs/bypass.md says",
  );
  const actor = await container.actor();
  for (const path of ["/data/s", "/data/s/token", "/data/s/sub", "/data/s/sub/token"])
    t.equal(await actor.open(path), EPERM, path);
  t.equal(await actor.link("/data/s/other", "/data/linked"), 0);
  t.equal(await actor.open("/data/linked"), EPERM, "by a link out of the tree");
  // Numbers are used again in each subvolume.
  const numbers = ["s/sub/token", "beside/token"].map((path) => statSync(join(volume, path)).ino);
  t.equal(numbers[0], numbers[1], "one number, two files");
  t.equal(await actor.open("/data/beside/token"), 0, "the other one is open");
  for (const directory of ["s", "s/sub"]) {
    const pins = await daemon.metric("janusd_marks", { kind: "identity" });
    writeFileSync(join(volume, directory, "later"), "s3cret");
    const pinned = async () => (await daemon.metric("janusd_marks", { kind: "identity" })) > pins;
    await eventually("what is made by an open is pinned", pinned);
  }
  t.equal(await actor.link("/data/s/later", "/data/later"), 0);
  t.equal(await actor.open("/data/later"), EPERM, "what was made, by a link");
  await daemon.stop();
});

t.test(
  "a snapshot is new files: the guard of the subvolume's root holds, that of a directory doesn't",
  { skip },
  async (t) => {
    const volume = subvolume(t);
    const daemon = await startDaemon({}, t);
    const container = await startContainer({ volumes: [{ target: "/data", source: volume }] }, t);
    container.writeVolume(0, "s/token", "s3cret");
    const guard = (deny: string) => guardOn(container, { deny: [deny], recursive: true, scope: Scope.CONTAINER });
    await daemon.createGuard(guard("/data/s"));
    const actor = await container.actor();
    t.equal(await actor.open("/data"), 0, "which is what it takes to make a snapshot of it");
    run("btrfs", "subvolume", "snapshot", volume, join(volume, "snapshot"));
    t.equal(await actor.open("/data/s/token"), EPERM);
    t.equal(await actor.open("/data/snapshot/s/token"), 0, "as docs/bypass.md says");
    await daemon.createGuard(guard("/data"));
    run("btrfs", "subvolume", "snapshot", volume, join(volume, "another"));
    for (const path of ["/data", "/data/s/token", "/data/snapshot/s/token", "/data/another/s/token"])
      t.equal(await actor.open(path), EPERM, path);
    await daemon.stop();
  },
);

t.test("events on directories: refused of a mounted subvolume; else told, also of those below", { skip }, async (t) => {
  const at = fileSystem(t);
  for (const name of ["vol", "plain", "plain/one", "plain/two"])
    if (name === "plain") mkdirSync(join(at, name));
    else run("btrfs", "subvolume", "create", join(at, name));
  const daemon = await startDaemon({}, t);
  const volumes = [
    { target: "/vol", source: join(at, "vol") },
    { target: "/data", source: join(at, "plain") },
  ];
  const container = await startContainer({ volumes }, t);
  const watch = (path: string) => guardOn(container, { watch: [path], event: ["create", "move"], recursive: true });
  t.match(await rpcError(daemon.createGuard(watch("/vol"))), {
    code: "FAILED_PRECONDITION",
    message: /^subject\[0\]\.watch\[0\]: .* of a mounted subvolume$/,
  });
  // Through which mount the superblock is marked matters: a guard of the subvolume comes first.
  await daemon.createGuard(guardOn(container, { deny: ["/vol/secret"] }, { name: "subvolume" }));
  await daemon.createGuard(watch("/data"));
  const shell = await container.shell();
  t.match(await shell.run("cd /data; mkdir one/same two/same; touch one/same/a two/same/b; mv two/same/b two/c"), {
    status: 0,
  });
  const numbers = ["one/same", "two/same"].map((path) => statSync(join(at, "plain", path)).ino);
  t.equal(numbers[0], numbers[1], "one number, two directories");
  await daemon.waitForLine((line) => line.includes("'/data/two/c'"));
  t.same(
    daemon.lines.map((line) => line.replace(/<ALLOW> (\S+) \S+ (.*) \(.*/, "$1 $2")),
    [
      "CREATE '/data/one/same'",
      "CREATE '/data/two/same'",
      "CREATE '/data/one/same/a'",
      "CREATE '/data/two/same/b'",
      "MOVE '/data/two/same/b' -> '/data/two/c'",
    ],
  );
  await daemon.destroyGuard({ name: "guard" });
  t.equal(await daemon.metric("janusd_marks", { kind: "dirents" }), 0);
  await daemon.stop();
});
