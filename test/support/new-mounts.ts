/**
 * Opens through mounts that are new. What tells is not pinned (an `allow` path of a volume), so that only marks on the
 * mounts see it: every open is an event, or was missed.
 */
import { readdirSync, readlinkSync } from "node:fs";
import type { Test } from "tap";
import { type Actor, type Container, startContainer } from "./container.js";
import type { Daemon } from "./daemon.js";
import { EPERM, guardOn } from "./guard.js";
import { unlist } from "./maps.js";
import { namespacedPid } from "./pids.js";

export const CLONE_NEWNS = 0x20000;
const O_CREAT_EXCL = 0o100 | 0o200;

export async function volumeContainer(t: Test): Promise<Container> {
  const container = await startContainer({ files: { "/etc/secret": "" }, volumes: [{ target: "/data" }] }, t);
  container.writeVolume(0, "file", "seen");
  return container;
}

export function seen(container: Container) {
  return guardOn(container, { allow: ["/data/file"], exact: true });
}

/** The process's number on the node, of which it knows only the one in its container. */
async function pidOnNode(container: Container, actor: Actor): Promise<number> {
  const [, inside] = await actor.command("pid");
  const namespaceOf = (pid: number) => readlinkSync(`/proc/${pid}/ns/pid`);
  for (const pid of readdirSync("/proc").map(Number).filter(Number.isInteger)) {
    try {
      if (namespacedPid(pid) === inside && namespaceOf(pid) === namespaceOf(container.initPid)) return pid;
    } catch {} // it has ended
  }
  throw new Error(`no process ${inside} of the container`);
}

/** That a process which isn't in the process table sees a new namespace no earlier than others do. */
export async function unlistedUnseen(t: Test, daemon: Daemon): Promise<void> {
  const container = await volumeContainer(t);
  await daemon.createGuard(seen(container));
  const opens = () => daemon.metric("janusd_events_total", { event: "open" });
  const before = await opens();
  const tries = 20;
  for (let i = 0; i < tries; ++i) {
    const actor = await container.actor({ capabilities: "sys_admin" });
    unlist(daemon, await pidOnNode(container, actor));
    t.equal(await actor.unshare(CLONE_NEWNS), 0);
    t.equal(await actor.open("/data/file"), 0);
    await actor.stop();
  }
  t.equal((await opens()) - before, tries, "each open was asked about");
}

/** That no new mount, nor a new namespace, has a moment in which it is not guarded. */
export async function neverUnseen(t: Test, daemon: Daemon): Promise<void> {
  const container = await volumeContainer(t);
  await daemon.createGuard(guardOn(container, [{ allow: ["/data/file"], exact: true }, { deny: ["/etc/secret"] }]));
  const opens = () => daemon.metric("janusd_events_total", { event: "open", response: "allow" });
  const tries = 50;
  for (let i = 0; i < tries; ++i) {
    const actor = await container.actor({ capabilities: "sys_admin" });
    t.equal(await actor.unshare(CLONE_NEWNS), 0);
    t.equal(await actor.open("/data/file"), 0, "in a namespace of its own");
    t.equal(await actor.open(`/data/new-${i}`, O_CREAT_EXCL), 0);
    await actor.stop();
  }
  t.equal(await opens(), tries);
  const actor = await container.actor({ capabilities: "sys_admin" });
  t.equal(await actor.bind("/data", "/mnt"), 0);
  t.equal(await actor.open("/mnt/file"), 0, "by another mount");
  t.equal(await opens(), tries + 1);
  for (let i = 0; i < tries; ++i) {
    t.equal(await actor.bind("/etc/passwd", "/etc/secret"), 0);
    t.equal(await actor.open("/etc/secret"), EPERM, "what is mounted over a guarded path");
  }
  t.equal(await daemon.metric("janusd_holds_total", { outcome: "expired" }), 0);
  await actor.stop();
}
