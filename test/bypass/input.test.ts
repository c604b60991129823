/** Paths that are spelled oddly, or are something odd: what is refused, and what is guarded all the same. */
import { once } from "node:events";
import { constants, readFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import t, { type Test } from "tap";
import { startContainer } from "../support/container.js";
import { rpcError, startDaemon } from "../support/daemon.js";
import { EPERM, guardOn, type SubjectInit } from "../support/guard.js";

const daemon = await startDaemon({}, t);
const container = await startContainer({ files: { "/data/in/secret": "s3cret", "/data/neighbour": "" } }, t);
const actor = await container.actor();

/** A test that leaves nothing guarded. */
function check(name: string, body: (t: Test) => Promise<void>): void {
  void t.test(name, async (t) => {
    await body(t);
    await daemon.destroyGuard({ podName: "pod" });
    t.same(await daemon.getGuardState(), []);
    t.equal(await actor.open("/data/in/secret"), 0, "free again");
  });
}

async function refused(
  t: Test,
  subject: SubjectInit,
): Promise<{ readonly field: string; readonly description: string }> {
  const error = await rpcError(daemon.createGuard(guardOn(container, subject)));
  t.equal(error.code, "INVALID_ARGUMENT", error.message);
  return error.violations[0] ?? { field: "", description: error.message };
}

for (const spelling of [
  "/data//in///secret",
  "//data/in/secret",
  "/data/./in/secret",
  "/data/in/secret/",
  "/./data/in/secret//.",
]) {
  check(`the same path: ${spelling}`, async (t) => {
    await daemon.createGuard(guardOn(container, { deny: [spelling] }));
    t.equal(await actor.open("/data/in/secret"), EPERM);
    t.equal(await actor.open("/data/neighbour"), 0);
  });
}

check("a trailing slash of a directory", async (t) => {
  await daemon.createGuard(guardOn(container, { deny: ["/data/in/"], recursive: true }));
  t.equal(await actor.open("/data/in/secret"), EPERM);
  t.equal(await actor.open("/data/neighbour"), 0);
});

for (const path of ["/data/../data/in/secret", "/..", "/data/in/..", "/data/in/../in/secret"]) {
  check(`refused, since a symbolic link makes it ambiguous: ${path}`, async (t) => {
    const { field, description } = await refused(t, { deny: [path] });
    t.equal(field, "subject[0].deny[0]");
    t.match(description, /\.\./);
    t.equal(await actor.open("/data/in/secret"), 0, "changes nothing");
  });
}

check("names that only look like ..", async (t) => {
  await container.exec([
    "sh",
    "-c",
    "mkdir /data/... /data/..x; cp /data/in/secret /data/.../f; cp /data/in/secret /data/..x/f",
  ]);
  await daemon.createGuard(guardOn(container, { deny: ["/data/.../f", "/data/..x/f"] }));
  t.equal(await actor.open("/data/.../f"), EPERM);
  t.equal(await actor.open("/data/..x/f"), EPERM);
});

check("too long a path, too long a name", async (t) => {
  t.match((await refused(t, { deny: [`/${"x/".repeat(2048)}x`] })).description, /4095/);
  t.match((await refused(t, { deny: [`/data/${"x".repeat(256)}`] })).description, /255/);
});

for (const path of ["/proc/1/environ", "/proc", "/proc/self/root/data/in/secret", "/sys/kernel", "/sys"]) {
  check(`refused, since the kernel asks no permission there: ${path}`, async (t) => {
    const { field, description } = await refused(t, { deny: [path] });
    t.match(field, /^subject\[0\]/);
    t.match(description, /proc|sysfs/);
  });
}

check("the container's root holds its /proc and /sys, which stay open", async (t) => {
  await daemon.createGuard(guardOn(container, { deny: ["/"], allow: ["/bin"], recursive: true }));
  t.equal(await actor.open("/data/in/secret"), EPERM);
  t.equal(await actor.open("/proc/self/status"), 0);
  t.equal(await actor.open("/sys/kernel"), 0);
  t.equal(await actor.open("/bin/busybox"), 0);
});

check("a socket is connected to, never opened: refused", async (t) => {
  const server = createServer().listen(join(container.rootfs, "data/socket"));
  await once(server, "listening");
  t.teardown(() => server.close());
  t.match((await refused(t, { deny: ["/data/socket"] })).description, /neither a file nor a directory/);
});

for (const [what, make, path] of [
  ["a FIFO", "mkfifo /data/fifo", "/data/fifo"],
  ["a device", "mknod -m 666 /data/null c 1 3", "/data/null"],
  ["a device in /dev", "true", "/dev/zero"],
] as const) {
  check(`refused, since the kernel asks nobody before it opens it: ${what}`, async (t) => {
    await container.exec(["sh", "-c", make]);
    t.match((await refused(t, { deny: [path] })).description, /neither a file nor a directory/);
    t.equal(await actor.open(path, constants.O_RDWR), 0);
  });
}

check("a tree that holds such things is guarded, but for them", async (t) => {
  await daemon.createGuard(guardOn(container, { deny: ["/data"], recursive: true }));
  t.equal(await actor.open("/data/in/secret"), EPERM);
});

check("a dangling symbolic link is guarded from when its target appears", async (t) => {
  await actor.symlink("/data/later/target", "/data/dangling");
  await daemon.createGuard(guardOn(container, { deny: ["/data/dangling"] }));
  await container.exec(["sh", "-c", "mkdir /data/later; cp /data/in/secret /data/t; mv /data/t /data/later/target"]);
  t.equal(await actor.open("/data/dangling"), EPERM);
  t.equal(await actor.open("/data/later/target"), EPERM);
});

check("a symbolic link to itself is refused", async (t) => {
  await actor.symlink("/data/loop", "/data/loop");
  t.match((await refused(t, { deny: ["/data/loop"] })).description, /symbolic links/);
});

check("an absolute symbolic link ends in the container, not on the node", async (t) => {
  await container.exec(["sh", "-c", "ln -s /etc/passwd /data/passwd"]);
  await daemon.createGuard(guardOn(container, { deny: ["/data/passwd"] }));
  t.equal(await actor.open("/etc/passwd"), EPERM);
  t.match(readFileSync("/etc/passwd", "utf8"), /^root:/, "the node's own");
});

check("a path below a file is a path that may appear", async (t) => {
  await daemon.createGuard(guardOn(container, { deny: ["/data/neighbour/below"] }));
  t.equal(await actor.open("/data/neighbour"), 0);
});
