/** CreateGuard that fails half way leaves nothing of itself, and takes nothing from what was there. */
import { execFileSync } from "node:child_process";
import t, { type Test } from "tap";
import { type Container, startContainer } from "../support/container.js";
import { type Daemon, type GuardInit, rpcError, startDaemon } from "../support/daemon.js";
import { descriptorsOf, mapId } from "../support/descriptors.js";
import { EPERM, guardOn } from "../support/guard.js";
import { seconds } from "./length.js";

const FAN_DELETE = 0x200;

/** Marks by fanotify descriptor. Those that watch names stay until no name is watched: nobody is asked by them. */
function marksOf(daemon: Daemon): Record<string, string[]> {
  const marks: Record<string, string[]> = {};
  for (const [fd, info] of descriptorsOf(daemon)) {
    const lines = info.split("\n");
    if (!lines.some((line) => line.startsWith("fanotify flags:"))) continue;
    const watchesNames = (line: string) => (Number(`0x${/ mask:(\w+)/.exec(line)?.[1]}`) & FAN_DELETE) !== 0;
    const placed = lines.filter((line) => /^fanotify (ino|mnt_id|sdev):/.test(line) && !watchesNames(line));
    marks[fd] = placed.sort();
  }
  return marks;
}

/** Numbers of entries of the daemon's own eBPF maps, by name. */
function entriesOf(daemon: Daemon): Record<string, number> {
  const bpftool = (...args: string[]): unknown =>
    JSON.parse(execFileSync("bpftool", ["--json", "map", ...args], { encoding: "utf8", maxBuffer: 1 << 28 }));
  const counted = new Set(["tasks", "cgroups", "identities", "lower_identiti", "lower_identities", "watched"]);
  const entries: Record<string, number> = {};
  for (const [, info] of descriptorsOf(daemon)) {
    const id = mapId(info);
    if (id === undefined) continue;
    const { name } = bpftool("show", "id", id) as { name: string };
    if (counted.has(name)) entries[name] = (bpftool("dump", "id", id) as unknown[]).length;
  }
  return entries;
}

async function stateOf(daemon: Daemon): Promise<object> {
  const guards = (await daemon.getGuardState()).map(({ name, podName }) => `${podName}/${name}`);
  return { marks: marksOf(daemon), entries: entriesOf(daemon), guards };
}

const many = (count: number) => Array.from({ length: count }, (_, i) => `/etc/many/${i}`);

/** Two containers, of which one has guards; the other is known to nobody yet. */
async function scene(t: Test, options: Parameters<typeof startDaemon>[0] = {}) {
  const daemon = await startDaemon(options, t);
  const files = Object.fromEntries([...many(50), "/etc/secret", "/etc/open"].map((path) => [path, ""]));
  const guarded = await startContainer({ files, volumes: [{ target: "/data" }] }, t);
  const fresh = await startContainer({ files, volumes: [{ target: "/data" }] }, t);
  for (const one of [guarded, fresh]) one.writeVolume(0, "secret", "");
  const kept = { deny: ["/etc/secret", "/data"], recursive: true };
  const actor = await guarded.actor();
  await daemon.createGuard(guardOn(guarded, kept));
  t.equal(await actor.open("/etc/secret"), EPERM);
  t.equal(await actor.open("/etc/many/0"), 0);
  return { daemon, guarded, fresh, actor };
}

const onBoth = (one: Container, other: Container, deny: string[], rest: GuardInit = {}): GuardInit =>
  guardOn(one, { deny, recursive: true }, { cid: [one.id, other.id], ...rest });

t.test("the last of many paths cannot be guarded", { timeout: 120_000 + seconds * 20_000 }, async (t) => {
  const { daemon, guarded, fresh, actor } = await scene(t);
  const other = await fresh.actor();
  const before = await stateOf(daemon);
  const bad = [...many(50), "/data", "/proc/meminfo"];
  for (const rest of [{}, { name: "other" }, { name: "other", podName: "other" }]) {
    t.match(await rpcError(daemon.createGuard(onBoth(guarded, fresh, bad, rest))), { code: "INVALID_ARGUMENT" });
    t.same(await stateOf(daemon), before, "nothing is left of it, and nothing is missing");
    for (const open of ["/etc/many/0", "/etc/many/49", "/etc/open"]) {
      t.equal(await actor.open(open), 0);
      t.equal(await other.open(open), 0);
    }
    for (const denied of ["/etc/secret", "/data/secret"]) t.equal(await actor.open(denied), EPERM);
    t.equal(await other.open("/data/secret"), 0);
  }
  await daemon.createGuard(onBoth(guarded, fresh, many(50)));
  t.equal(await actor.open("/etc/many/49"), EPERM, "what can be had is held");
  t.equal(await other.open("/etc/many/49"), EPERM);
  t.equal(await actor.open("/etc/secret"), 0, "and the old guard is replaced");
  await daemon.stop();
});

t.test("a replacement that fails leaves no gap", { timeout: 120_000 + seconds * 20_000 }, async (t) => {
  const { daemon, guarded, fresh, actor } = await scene(t);
  const milliseconds = 1000 + seconds * 1000;
  const opening = actor.repeat("/etc/secret", 1e9, milliseconds);
  for (const until = Date.now() + milliseconds; Date.now() < until; )
    await rpcError(daemon.createGuard(onBoth(guarded, fresh, ["/etc/open", "/proc/meminfo"])));
  const { opened, denied, other } = await opening;
  t.same({ opened, other }, { opened: 0, other: 0 });
  t.ok(denied > 0);
  await daemon.stop();
});

t.test("no descriptor is left for the rest", { timeout: 120_000 + seconds * 20_000 }, async (t) => {
  const { daemon, guarded, fresh, actor } = await scene(t, { enter: ["prlimit", "--nofile=1024:1024"] });
  await fresh.exec(["sh", "-c", "cd /etc/many; seq 0 2999 | xargs touch"]);
  const before = await stateOf(daemon);
  for (const rest of [{}, { name: "other" }]) {
    const guard = onBoth(guarded, fresh, many(3000), rest);
    t.match(await rpcError(daemon.createGuard(guard)), { code: "RESOURCE_EXHAUSTED" });
    t.same(await stateOf(daemon), before);
  }
  t.equal(await actor.open("/etc/secret"), EPERM);
  t.equal(await actor.open("/etc/many/0"), 0);
  await daemon.stop();
});
