import { existsSync, readFileSync } from "node:fs";
import t from "tap";
import { cgroupParent, cgroupsNamed, mountsBelow, workspaceDirectory } from "./cleanup.js";
import { startContainer } from "./container.js";

t.test("a real container on overlayfs, with a volume", async (t) => {
  const container = await startContainer({ files: { "/etc/secret": "s3cret\n" }, volumes: [{ target: "/data" }] }, t);
  container.writeVolume(0, "file", "from the node");
  const mounts = await container.exec(["cat", "/etc/secret", "/data/file", "/proc/mounts"]);
  t.equal(mounts.status, 0, mounts.stderr);
  t.match(mounts.stdout, /^s3cret\nfrom the nodeoverlay \/ overlay /);
  t.match(container.id, /^[0-9a-f]{64}$/);
  t.match(readFileSync(`/proc/${container.initPid}/cgroup`, "utf8"), container.id);
  t.equal(readFileSync(`/proc/${container.initPid}/comm`, "utf8"), "sleep\n");
});

t.test("exec: status, user, directory, capabilities", async (t) => {
  const container = await startContainer({}, t);
  const result = await container.exec(["sh", "-c", "id -u; pwd; cat; echo no >&2; exit 3"], {
    uid: 1000,
    cwd: "/tmp",
    stdin: "in\n",
  });
  t.same(result, { status: 3, signal: null, stdout: "1000\n/tmp\nin\n", stderr: "no\n" });
  const caps = async (capabilities: "default" | "none" | "sys_admin") => {
    const { stdout } = await container.exec(["grep", "CapEff", "/proc/self/status"], { capabilities });
    return BigInt(`0x${stdout.trim().split("\t")[1] ?? ""}`);
  };
  t.equal(await caps("none"), 0n);
  t.equal((await caps("default")) & (1n << 21n), 0n);
  t.equal((await caps("sys_admin")) & (1n << 21n), 1n << 21n);
});

t.test("actor and shell", async (t) => {
  await using container = await startContainer({ init: "actor", files: { "/etc/secret": "s3cret\n" } });
  await using actor = await container.actor({ uid: 1000, capabilities: "none" });
  t.equal(await actor.read("/etc/secret"), 0);
  t.equal(await actor.open("/nothing\there"), 2);
  t.equal(await actor.write("/etc/secret", "x"), 13);
  t.equal(await actor.exec("/bin/true"), 0);
  t.equal(await actor.exec("/etc/secret"), 13);
  t.match(await actor.repeat("/etc/secret", 100), { opened: 100, denied: 0, other: 0 });
  t.same(await container.init.command("pid"), [0, 1, 0]);
  const [, , parent] = await container.init.command("child", "child", "pid");
  t.not(parent, 1, "a grandchild");
  await using shell = await container.shell();
  t.same(await shell.run("echo a; echo b >&2; exit 4"), { status: 4, output: "a\nb" });
});

t.test("nothing stays when it stops", async (t) => {
  const container = await startContainer({ init: "actor", volumes: [{ target: "/data" }] });
  const { initPid, rootfs } = container;
  await container.stop();
  t.notOk(existsSync(rootfs));
  t.notOk(existsSync(`/proc/${initPid}`));
  t.same(mountsBelow(workspaceDirectory()), []);
  for (const cgroup of cgroupsNamed(cgroupParent().slice(1))) t.notOk(existsSync(`${cgroup}/${container.id}`));
});
