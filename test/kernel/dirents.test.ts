/** Events on directories and attributes: what happens to entries of watched trees, on each kind of file system, by whom. */
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import t, { type Test } from "tap";
import { Scope } from "../../src/gen/janus_pb.js";
import { workspaceDirectory } from "../support/cleanup.js";
import { type Container, type ContainerOptions, startContainer } from "../support/container.js";
import { type Daemon, eventually, startDaemon } from "../support/daemon.js";
import { freeze } from "../support/freeze.js";
import { guardOn, type SubjectInit } from "../support/guard.js";
import { schemaFaults } from "../support/log-schema.js";

const run = (command: string, ...args: string[]) => execFileSync(command, args, { stdio: "pipe" });

const daemon = await startDaemon({ flags: ["--log-format=json"] }, t);

const ALL = ["create", "delete", "deleteself", "move", "moveself", "attrib"];

interface Line {
  readonly event: string;
  readonly path: string;
  readonly ftype: string;
  readonly guard: string;
  readonly pid: number;
  readonly comm: string;
  readonly exe: string;
  readonly inside: boolean;
  readonly ancestry: readonly { readonly comm: string }[];
  readonly newPath?: string;
  readonly oldPath?: string;
  readonly merged?: boolean;
  readonly found?: boolean;
}

function linesFrom(of: Daemon, from: number): Line[] {
  return of.lines.slice(from).map((line): Line => JSON.parse(line));
}

/** "CREATE /a", "MOVE /a -> /b". */
function said({ event, path, newPath, oldPath }: Line): string {
  const other = newPath !== undefined ? ` -> ${newPath}` : oldPath !== undefined ? ` <- ${oldPath}` : "";
  return `${event} ${path}${other}`;
}

/** What is recorded while `what` happens, up to a mark that is made last. */
async function during(
  container: Container,
  directory: string,
  what: () => Promise<unknown>,
  of = daemon,
): Promise<Line[]> {
  const from = of.lines.length;
  await what();
  const mark = `${directory}/mark-${from}`;
  const { status, stderr } = await container.exec(["mkdir", mark]);
  if (status !== 0) throw new Error(stderr);
  await of.waitForLine((line) => line.includes(`"${mark}"`), from);
  return linesFrom(of, from).filter(({ path }) => path !== mark);
}

async function shell(container: Container, script: string): Promise<void> {
  const { status, stderr } = await container.exec(["sh", "-c", script]);
  if (status !== 0) throw new Error(`${script}: ${stderr}`);
}

/** Until what is made in a directory that is new is recorded: each time a directory is made there, and removed. */
async function untilSeen(container: Container, directory: string): Promise<void> {
  const from = daemon.lines.length;
  const seen = `${directory}/seen`;
  await eventually(`${directory} is watched`, async () => {
    await shell(container, `mkdir ${seen} && rmdir ${seen}`);
    return daemon.lines.slice(from).some((line) => line.includes(`"${seen}"`));
  });
}

async function watched(t: Test, container: Container, subject: SubjectInit, name = "guard"): Promise<void> {
  await daemon.createGuard(guardOn(container, { event: ALL, ...subject }, { name }));
  t.teardown(() => daemon.destroyGuard({ podName: "pod", name }));
}

/** A file system on a loop device. */
function disk(t: Test, make: readonly [string, ...string[]]): string {
  const directory = mkdtempSync(join(workspaceDirectory(), "disk-"));
  const [image, at] = [join(directory, "image"), join(directory, "at")];
  mkdirSync(at);
  run("truncate", "--size=320M", image);
  run(...make, image);
  run("mount", "-o", "loop", image, at);
  t.teardown(() => run("umount", "--lazy", at));
  const volume = join(at, "volume");
  mkdirSync(volume);
  return volume;
}

function tmpfs(t: Test): string {
  const at = mkdtempSync(join(workspaceDirectory(), "tmpfs-"));
  run("mount", "-t", "tmpfs", "tmpfs", at);
  t.teardown(() => run("umount", "--lazy", at));
  return at;
}

/** Of each kind: the container's `/data`, and whether every event of a new directory is told of. */
const places: readonly [string, boolean, (t: Test) => ContainerOptions][] = [
  ["overlay", false, () => ({ files: { "/data/image/file": "" } })],
  ["tmpfs", true, (t) => ({ volumes: [{ source: tmpfs(t), target: "/data" }] })],
  ["ext4", true, (t) => ({ volumes: [{ source: disk(t, ["mkfs.ext4", "-q", "-N", "150000"]), target: "/data" }] })],
  ["xfs", true, (t) => ({ volumes: [{ source: disk(t, ["mkfs.xfs", "-q"]), target: "/data" }] })],
];

for (const [name, whole, options] of places) {
  t.test(name, async (t) => {
    const container = await startContainer(options(t), t);
    await shell(
      container,
      "mkdir -p /data/image /data/s/old/deep; touch /data/image/file /data/s/f /data/s/old/deep/f",
    );

    await t.test("each event, with its name", async (t) => {
      await watched(t, container, { watch: ["/data/s"] });
      const lines = await during(container, "/data/s", async () => {
        await shell(container, "echo > /data/s/new");
        await shell(container, "chmod 600 /data/s/new");
        await shell(container, "ln /data/s/new /data/s/hard");
        await shell(container, "ln -s nowhere /data/s/soft");
        await shell(container, "mkdir /data/s/dir");
        await shell(container, "chmod 700 /data/s/dir");
        await shell(container, "mv /data/s/new /data/s/newer");
        await shell(container, "mv /data/s/dir /data/s/folder");
        await shell(container, "rm /data/s/hard");
        await shell(container, "rmdir /data/s/folder");
        await shell(container, "chmod 711 /data/s");
        await shell(container, "touch /data/image/unseen; mkdir /data/unseen; rmdir /data/unseen");
      });
      t.same(lines.map(said), [
        "CREATE /data/s/new",
        "ATTRIB /data/s/new",
        "CREATE /data/s/hard",
        "CREATE /data/s/soft",
        "CREATE /data/s/dir",
        "ATTRIB /data/s/dir",
        "MOVE /data/s/new -> /data/s/newer",
        "MOVE /data/s/dir -> /data/s/folder",
        "DELETE /data/s/hard",
        "DELETE /data/s/folder",
        "ATTRIB /data/s",
      ]);
      t.same(lines.flatMap(schemaFaultsOf), []);
      const of = (text: string) => lines.find((line) => said(line) === text);
      t.match(of("CREATE /data/s/dir"), { ftype: "directory", comm: "mkdir", inside: true });
      t.match(of("ATTRIB /data/s/new"), { ftype: "file", comm: "chmod", exe: "/bin/busybox" });
      t.match(of("MOVE /data/s/dir -> /data/s/folder"), { ftype: "directory", comm: "mv" });
    });

    await t.test("without recursive: nothing of what lies deeper; with onlyDir: directories", async (t) => {
      await watched(t, container, { watch: ["/data/s"], onlyDir: true });
      const lines = await during(container, "/data/s", () =>
        shell(
          container,
          "touch /data/s/old/g /data/s/file; mkdir /data/s/d /data/s/old/d; rmdir /data/s/d /data/s/old/d",
        ),
      );
      t.same(lines.map(said), ["CREATE /data/s/d", "DELETE /data/s/d"]);
    });

    await t.test("recursive, with maxDepth and exclude", async (t) => {
      await watched(t, container, { watch: ["/data/s"], recursive: true, maxDepth: 3, exclude: ["old/deep/*.tmp"] });
      const lines = await during(container, "/data/s", () =>
        shell(container, "cd /data/s/old/deep; touch a b.tmp; mkdir c; sleep 0.2; touch c/too-deep; rm -r a b.tmp c"),
      );
      t.same(
        new Set(lines.map(said)),
        new Set([
          "CREATE /data/s/old/deep/a",
          "CREATE /data/s/old/deep/c",
          "DELETE /data/s/old/deep/a",
          "DELETE /data/s/old/deep/c",
          "DELETE_SELF /data/s/old/deep/c",
        ]),
      );
    });

    await t.test("into the tree, within it, and out of it", async (t) => {
      await watched(t, container, { watch: ["/data/s"], recursive: true, event: ["create", "delete", "move"] });
      await shell(container, "mkdir -p /data/out/a/b/c; touch /data/out/f");
      const lines = await during(container, "/data/s", async () => {
        await shell(container, "mv /data/out/f /data/s/in");
        await shell(container, "mv /data/s/in /data/s/old/in");
        await shell(container, "mv /data/s/old/in /data/out/f");
        await shell(container, "mv /data/out/a /data/s/tree");
        await untilSeen(container, "/data/s/tree/b/c");
        await shell(container, "mkdir /data/s/tree/b/c/d");
        await shell(container, "mv /data/s/tree/b /data/s/moved");
        await shell(container, "touch /data/s/moved/c/d/file");
        await shell(container, "mv /data/s/moved /data/out/b");
        await shell(container, "touch /data/out/b/c/gone; rmdir /data/s/tree");
      });
      const both = (text: string, other: string) => (whole ? `${text}${other}` : text);
      t.same(lines.filter(({ path }) => !path.includes("seen")).map(said), [
        both("MOVED_TO /data/s/in", " <- /data/out/f"),
        "MOVE /data/s/in -> /data/s/old/in",
        both("MOVED_FROM /data/s/old/in", " -> /data/out/f"),
        both("MOVED_TO /data/s/tree", " <- /data/out/a"),
        "CREATE /data/s/tree/b/c/d",
        "MOVE /data/s/tree/b -> /data/s/moved",
        "CREATE /data/s/moved/c/d/file",
        both("MOVED_FROM /data/s/moved", " -> /data/out/b"),
        "DELETE /data/s/tree",
      ]);
    });

    await t.test("the watched path itself", async (t) => {
      await shell(container, "echo > /data/conf; echo > /data/other; mkdir -p /data/w/below");
      await watched(t, container, {
        watch: ["/data/conf", "/data/w"],
        recursive: true,
        event: ["deleteself", "moveself", "create"],
      });
      const lines = await during(container, "/data/w", async () => {
        await shell(container, "echo > /data/temp; mv /data/temp /data/conf"); // replaced
        await shell(container, "sleep 0.1; mv /data/conf /data/conf.1; mv /data/conf.1 /data/conf; rm /data/conf");
        await shell(container, "mv /data/w/below /data/w/under; rmdir /data/w/under");
        await shell(container, "mv /data/w /data/v; mkdir /data/w");
        await untilSeen(container, "/data/w");
      });
      t.same(
        lines
          .filter(({ path }) => !path.includes("seen"))
          .map(said)
          .sort(),
        [
          "CREATE /data/w",
          "DELETE_SELF /data/conf",
          "DELETE_SELF /data/conf",
          "DELETE_SELF /data/w/under",
          "MOVE_SELF /data/conf -> /data/conf.1",
          "MOVE_SELF /data/w -> /data/v",
          "MOVE_SELF /data/w/below -> /data/w/under",
        ],
      );
    });

    await t.test(
      "two guards on one tree: an event of each; and only what the container does, of one that wants that",
      async (t) => {
        await watched(t, container, { watch: ["/data/s"], event: ["create"] }, "one");
        await watched(
          t,
          container,
          { watch: ["/data"], recursive: true, event: ["create"], scope: Scope.CONTAINER },
          "two",
        );
        const host = (path: string) =>
          container.volumes[0] === undefined ? join(container.rootfs, "data", path) : join(container.volumes[0], path);
        const lines = await during(container, "/data/s", async () => {
          await shell(container, "touch /data/s/mine");
          writeFileSync(host("s/node"), "");
        });
        const by = (guard: string) =>
          lines.filter((line) => line.guard === guard).map(({ path, inside }) => [path, inside]);
        t.same(
          by("one").filter(([path]) => !String(path).includes("mark")),
          [
            ["/data/s/mine", true],
            ["/data/s/node", false],
          ],
        );
        t.same(
          by("two").filter(([path]) => !String(path).includes("mark")),
          [["/data/s/mine", true]],
        );
        renameSync(host("s/node"), host("s/gone"));
      },
    );

    await t.test("no mark is left when the guard is gone", async (t) => {
      await eventually("marks", async () => (await daemon.metric("janusd_marks", { kind: "dirents" })) === 0);
      t.equal(direntMarks(daemon.pid), 0);
    });
  });
}

function schemaFaultsOf(line: Line): string[] {
  return schemaFaults(JSON.stringify(line));
}

/** Marks of the daemon's group of events on directories, as the kernel lists them. */
function direntMarks(pid: number): number {
  const groups = run("sh", "-c", `cat /proc/${pid}/fdinfo/* 2>/dev/null || true`).toString();
  // FAN_RENAME, with FAN_EVENT_ON_CHILD on inodes: in no other group's marks.
  return groups.split("\n").filter((line) => /^fanotify (?:ino|sdev):.* mask:5[08]000304 /.test(line)).length;
}

t.test("who did it is known when it has ended", async (t) => {
  const container = await startContainer({ volumes: [{ target: "/data" }] }, t);
  await watched(t, container, { watch: ["/data"], event: ["create"] });
  const lines = await during(container, "/data", () =>
    shell(container, "for i in 1 2 3 4 5 6 7 8; do (touch /data/$i); done"),
  );
  t.equal(lines.length, 8);
  for (const { comm, exe, inside, ancestry } of lines) {
    t.match({ comm, exe, inside }, { comm: "touch", exe: "/bin/busybox", inside: true });
    t.equal(ancestry[0]?.comm, "sh");
  }
});

t.test("what the kernel merged is said so, event by event", async (t) => {
  const container = await startContainer({ volumes: [{ target: "/data" }] }, t);
  await watched(t, container, { watch: ["/data"], event: ["create", "attrib", "delete"] });
  // Each is made, and then its times are set, by one process, before anybody reads the first event.
  const names = Array.from({ length: 50 }, (_, index) => `/data/${index} /data/${index}`).join(" ");
  const lines = await during(container, "/data", async () => {
    const thaw = await freeze(daemon, "dirents");
    await shell(container, `touch ${names}`);
    await thaw();
  });
  const merged = lines.filter((line) => line.merged === true);
  t.equal(merged.length % 2, 0);
  t.ok(merged.length > 0, "some are");
  t.equal(lines.length, 100, "each create and each attrib is a record");
});

t.test("on an overlay, what was in a new directory before it was watched is found", async (t) => {
  const container = await startContainer({}, t);
  await shell(container, "mkdir /srv /out");
  await watched(t, container, { watch: ["/srv"], recursive: true, event: ["create"] });
  const lines = await during(container, "/srv", () =>
    shell(container, "i=0; while [ $i -lt 30 ]; do mkdir -p /srv/$i/a/b/c; : > /srv/$i/a/b/c/f; i=$((i+1)); done"),
  );
  t.equal(new Set(lines.map(({ path }) => path)).size, 150, "each is recorded");
  t.equal(lines.length, 150, "once");
  const found = lines.filter((line) => line.found === true).length;
  if (found > 0) t.ok((await daemon.metric("janusd_directories_unwatched_total", { cause: "late" })) > 0);
  t.comment(`${found} found`);
});

t.test("the path itself can only be watched; an allow path takes none of these events", async (t) => {
  const container = await startContainer({}, t);
  for (const event of ["deleteself", "moveself"])
    await t.rejects(daemon.createGuard(guardOn(container, { deny: ["/etc"], event: [event] })), /can only be seen/);
  await t.rejects(
    daemon.createGuard(guardOn(container, { allow: ["/etc"], event: ["create"] })),
    /makes no exceptions/,
  );
});

t.test("the kernel's own file systems are refused", async (t) => {
  const container = await startContainer({}, t);
  for (const path of ["/proc", "/sys"])
    await t.rejects(
      daemon.createGuard(guardOn(container, { watch: [path], event: ["create"] })),
      /is on|handles/,
      path,
    );
});
