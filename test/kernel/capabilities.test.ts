/** The exact capabilities that the daemon needs: with no others it works, without any of them it says so. */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import t, { type Test } from "tap";
import { parseAllDocuments } from "yaml";
import { loadAddon } from "../../src/native.js";
import { cgroupParent, runtimeRoot, workspaceDirectory } from "../support/cleanup.js";
import { startContainer } from "../support/container.js";
import { type Daemon, eventually, rpcError, runToEnd, startDaemon } from "../support/daemon.js";
import { EPERM, guardOn } from "../support/guard.js";

const NEWNS = 0x20000;
const AUDIT = "CAP_AUDIT_WRITE";
const NICE = "CAP_SYS_NICE";
const { capabilities } = loadAddon().probe();
const used = capabilities.map(({ name }) => name);
const needed = capabilities.filter((capability) => capability.needed).map(({ name }) => name);

/** Root with these capabilities and no others: what it executes gets those of the bounding set. */
function only(capabilities: readonly string[]): string[] {
  const names = capabilities.map((name) => `,+${name.replace("CAP_", "").toLowerCase()}`);
  return ["setpriv", `--bounding-set=-all${names.join("")}`];
}

/** All that needs privilege: others' files, mounts, namespaces, identities, a volume that the node rotates. */
async function guards(t: Test, daemon: Daemon): Promise<void> {
  const files = { "/etc/secret": "", "/srv/keys/deep/key": "" };
  const container = await startContainer({ files, volumes: [{ target: "/data" }, { target: "/token" }] }, t);
  container.writeVolume(0, "keys/deep/key", "");
  container.writeVolume(1, "..1/token", "first");
  const token = container.volumes[1] ?? "";
  symlinkSync("..1", join(token, "..data"));
  symlinkSync("..data/token", join(token, "token"));
  const own = "chown -R 1000:1000 /srv/keys /data/keys; chmod -R 0700 /srv/keys /data/keys";
  t.equal((await container.exec(["sh", "-c", own])).status, 0);
  const actor = await container.actor();
  const owner = await container.actor({ uid: 1000 });
  t.equal(await actor.link("/srv/keys/deep/key", "/tmp/link"), 0);

  const before = await daemon.metric("janusd_exposure_total");
  const all = { deny: ["/srv/keys", "/data/keys", "/etc/secret"], recursive: true };
  await daemon.createGuard(guardOn(container, [all, { deny: ["/token"], recursive: true, scope: 1 }]));
  t.equal(await daemon.metric("janusd_exposure_total"), before, "nothing was left out");
  t.equal(await owner.open("/tmp/link"), EPERM, "a hard link from before the guard");
  t.equal(await owner.open("/data/keys/deep/key"), EPERM, "the owner's own file on a volume");
  t.match(await container.exec(["cat", "/etc/secret"]), { status: 1, stderr: /not permitted/ }, "an exec is followed");
  t.equal(await actor.rename("/data/keys/deep/key", "/data/out"), 0);
  t.equal(await owner.open("/data/out"), EPERM, "renamed");
  const elsewhere = await container.actor({ capabilities: "sys_admin" });
  t.equal(await elsewhere.unshare(NEWNS), 0);
  t.equal(await elsewhere.open("/data/keys/deep"), EPERM, "another mount namespace");

  const held = await container.exec(["unshare", "-Urm", "cat", "/data/out"], { uid: 1000 });
  t.match(held, { status: 1, stderr: /not permitted/ }, "somebody else's process is held, and let go");

  mkdirSync(join(token, "..2"));
  writeFileSync(join(token, "..2/token"), "second");
  symlinkSync("..2", join(token, "..new"));
  renameSync(join(token, "..new"), join(token, "..data"));
  rmSync(join(token, "..1"), { recursive: true });
  t.equal(readFileSync(join(token, "token"), "utf8"), "second", "the node rotates a secret");
  await eventually("the rotated secret is denied", async () => (await actor.open("/token/token")) === EPERM);

  await container.stop();
  await eventually("the guard goes with its container", async () => (await daemon.getGuardState()).length === 0);
}

t.test(`with ${needed.join(", ")} alone, it guards`, async (t) => {
  const daemon = await startDaemon({ enter: only(needed) }, t);
  await guards(t, daemon);
  await daemon.stop();
});

for (const name of needed) {
  t.test(`without ${name} it says so, and does not start`, async (t) => {
    const { status, lines } = runToEnd([], only(needed.filter((other) => other !== name)));
    t.equal(status, 1);
    t.equal(lines.length, 1, lines.join("\n"));
    t.match(lines[0], new RegExp(`^janusd: must run as root.* with ${name} \\([a-z][^()]+\\)$`));
  });
}

t.test(`${AUDIT} is for audit alone`, async (t) => {
  const container = await startContainer({ files: { "/etc/secret": "" } }, t);
  const guard = guardOn(container, { deny: ["/etc/secret"], audit: true });
  const without = await startDaemon({ enter: only(needed) }, t);
  t.match(await rpcError(without.createGuard(guard)), { code: "FAILED_PRECONDITION", message: /audit/ });
  await without.stop();
  if (!loadAddon().probe().features.fanotify_audit.works) return;
  const daemon = await startDaemon({ enter: only([...needed, AUDIT]) }, t);
  await daemon.createGuard(guard);
  const actor = await container.actor();
  t.equal(await actor.open("/etc/secret"), EPERM);
  await daemon.stop();

  // What cannot be restored now is kept, and said.
  const { stateFile } = daemon;
  const pending = await startDaemon({ enter: only(needed), stateFile, until: "/livez" }, t);
  const readyz = await pending.http("/readyz");
  t.equal(readyz.status, 503);
  t.match(await readyz.text(), /"name":"guards","ok":false,"detail":"guard: [^"]*audit/);
  t.equal(await pending.metric("janusd_guards_pending"), 1);
  t.same(await pending.getGuardState(), [], "it is not claimed to be held");
  await pending.stop();
  const again = await startDaemon({ enter: only([...needed, AUDIT]), stateFile }, t);
  t.equal(await actor.open("/etc/secret"), EPERM, "and enforced once it can be");
  await again.stop();
});

t.test(`${NICE} is for answering before others get the processor`, async (t) => {
  const urgent = async (capabilities: readonly string[]) => {
    const daemon = await startDaemon({ enter: only(capabilities) }, t);
    const value = await daemon.metric("janusd_thread_urgent", { thread: "gate" });
    await daemon.stop();
    return value;
  };
  t.equal(await urgent(needed), 0);
  const may = spawnSync("chrt", ["--fifo", "1", "true"]).status === 0; // The cgroup that we are in may have none.
  t.equal(await urgent([...needed, NICE]), may ? 1 : 0);
});

t.test("the DaemonSet's container has exactly these, and guards", async (t) => {
  const manifest = readFileSync(new URL("../../deploy/janusd.yaml", import.meta.url), "utf8");
  const daemonSet = parseAllDocuments(manifest)
    .map((document): unknown => document.toJS())
    .find(
      (document) => typeof document === "object" && document !== null && Reflect.get(document, "kind") === "DaemonSet",
    );
  t.match(daemonSet, { spec: { template: { spec: { hostPID: true } } } });
  const add = used.map((name) => name.replace("CAP_", "")).sort();
  t.match(daemonSet, {
    spec: { template: { spec: { containers: [{ securityContext: { capabilities: { drop: ["ALL"], add } } }] } } },
  });

  const enter = startDaemonContainer(t, used);
  const daemon = await startDaemon({ enter }, t);
  await guards(t, daemon);
  await daemon.stop();
});

/**
 * A container such as the DaemonSet's, on this machine's own files: the node's
 * pids, a root that can't be written, a mount namespace of its own. Returns
 * what goes before a command to run it there.
 */
function startDaemonContainer(t: Test, capabilities: readonly string[]): string[] {
  const bundle = mkdtempSync(join(workspaceDirectory(), "daemonset-"));
  const id = bundle.slice(bundle.lastIndexOf("/") + 1);
  const root = join(bundle, "rootfs");
  mkdirSync(root);
  const checkout = new URL("../..", import.meta.url).pathname;
  const bind = (path: string, ...options: string[]) => ({
    destination: path,
    source: path,
    type: "bind",
    options: ["bind", ...options],
  });
  const config = {
    ociVersion: "1.0.2",
    process: {
      user: { uid: 0, gid: 0 },
      args: ["sleep", "1000000"],
      env: [`PATH=${process.env["PATH"]}`],
      cwd: "/",
      capabilities: { bounding: capabilities, effective: capabilities, permitted: capabilities },
    },
    root: { path: root, readonly: true },
    mounts: [
      { destination: "/proc", type: "proc", source: "proc" },
      { destination: "/dev", type: "tmpfs", source: "tmpfs", options: ["nosuid", "mode=755"] },
      bind("/sys", "ro"),
      bind(checkout, "ro"),
      bind(workspaceDirectory()),
    ],
    linux: {
      namespaces: ["mount", "ipc", "uts"].map((type) => ({ type })),
      cgroupsPath: `${cgroupParent()}/${id}`,
      maskedPaths: ["/proc/kcore", "/proc/keys", "/sys/firmware"],
      readonlyPaths: ["/proc/sys", "/proc/sysrq-trigger"],
    },
  };
  writeFileSync(join(bundle, "config.json"), JSON.stringify(config));
  execFileSync("mount", ["--bind", "/", root]);
  const runc = ["runc", "--root", runtimeRoot()];
  t.teardown(() => {
    spawnSync("runc", ["--root", runtimeRoot(), "delete", "--force", id]);
    execFileSync("umount", [root]);
  });
  execFileSync("runc", [...runc.slice(1), "run", "--detach", "--bundle", bundle, id], { stdio: "ignore" });
  return [...runc, "exec", id];
}
