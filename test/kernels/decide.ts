/** Opens and execs that the kernel denies by itself: where it takes fmod_ret programs, which CI's does not. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import t, { type Test } from "tap";
import type { Diagnosis } from "../../src/cli/doctor.js";
import { Scope } from "../../src/gen/janus_pb.js";
import { type Actor, type Container, startContainer } from "../support/container.js";
import { type Daemon, eventually, startDaemon } from "../support/daemon.js";
import { denials, deniedSince, tookOver } from "../support/denials.js";
import { EPERM, guardOn } from "../support/guard.js";
import { janusctl } from "../support/janusctl.js";
import { unlist } from "../support/maps.js";

const PINS = "/sys/fs/bpf/janusd";
const KEEPING = { flags: ["--keep"] };
const pins = () => (existsSync(PINS) ? readdirSync(PINS) : []);

const events = (daemon: Daemon, response: string) => daemon.metric("janusd_events_total", { response });
const asked = (daemon: Daemon) => daemon.metric("janusd_asked_total", { outcome: "guarded" });

/** How many of what `run` is denied nobody was asked about; fails unless it was `count` in all. */
async function deniedAlone(t: Test, daemon: Daemon, count: number, run: () => Promise<void>): Promise<number> {
  const before = { denied: await denials(daemon), asked: await asked(daemon) };
  await run();
  t.equal(await deniedSince(daemon, before.denied, count), count, "each is counted");
  return count - ((await asked(daemon)) - before.asked);
}

async function doctor(): Promise<Diagnosis> {
  return JSON.parse((await janusctl(["doctor", "-o", "json"])).out);
}

const files = { "/data/keys/key": "k", "/data/keys/deep/key": "k", "/data/open": "o", "/etc/secret": "s" };
const guarded = (container: Container, rest = {}) =>
  guardOn(container, { deny: ["/data/keys"], recursive: true, event: ["open", "exec"], ...rest });

/** What the log says of three denials, but for what differs from run to run. Two guards deny the first two. */
async function recordsOf(t: Test, daemon: Daemon, alone: number): Promise<string[]> {
  const container = await startContainer({ files, programs: { "/data/keys/run": "/bin/busybox" } }, t);
  await daemon.createGuard(guarded(container));
  await daemon.createGuard({ ...guarded(container, { event: ["open"] }), name: "second", podName: "other" });
  const actor = await container.actor();
  const from = daemon.lines.length;
  const without = await deniedAlone(t, daemon, 3, async () => {
    t.equal(await actor.open("/data/keys/key"), EPERM);
    t.equal(await actor.open("/data/keys/../keys/deep"), EPERM);
    t.equal((await actor.command("child", "exec", "/data/keys/run"))[0], EPERM);
  });
  t.equal(without, alone);
  await eventually("they are in the log", () => daemon.lines.length >= from + 3);
  for (const podName of ["pod", "other"]) await daemon.destroyGuard({ podName });
  const differs = /pid|start|time|blocked|waited|seq|container|cid/i;
  return daemon.lines
    .slice(from)
    .map((line) => JSON.stringify(JSON.parse(line), (key, value) => (differs.test(key) ? undefined : value)));
}

t.test("the daemon decides all, or leaves to the kernel what is certain", async (t) => {
  const gate = await startDaemon({ flags: ["--log-format=json", "--kernel-decides=false"] }, t);
  t.equal(await gate.metric("janusd_kernel_decides"), 0);
  const expected = await recordsOf(t, gate, 0);
  await gate.stop();
  t.same(pins(), []);

  const daemon = await startDaemon({ flags: ["--log-format=json"] }, t);
  t.equal(await daemon.metric("janusd_kernel_decides", { kept: "false" }), 1);
  await t.test("records are those of the gate", async (t) => {
    t.same(await recordsOf(t, daemon, 3), expected);
    t.comment(expected[0]);
  });

  await t.test("what is pinned is denied without a question, by whatever name, and until its guard goes", async (t) => {
    const container = await startContainer({ files, volumes: [{ target: "/vol" }] }, t);
    container.writeVolume(0, "top/keys/key", "k");
    const actor = await container.actor();
    t.equal(await actor.open("/data/keys/key"), 0);
    await daemon.createGuard(guarded(container, { deny: ["/data/keys", "/vol/top/keys"] }));
    t.equal(await actor.open("/data/open"), 0);
    const alone = await deniedAlone(t, daemon, 7, async () => {
      t.equal(await actor.open("/data/keys/key"), EPERM);
      t.equal(await actor.open("/data/keys"), EPERM, "the directory");
      t.equal(await actor.open("/data/keys/deep/key"), EPERM);
      t.equal(await actor.open("/vol/top/keys/key"), EPERM, "on a volume");
      t.equal(await actor.write("/data/keys/key", "x"), EPERM);
      t.equal(await actor.link("/data/keys/key", "/data/link"), 0);
      t.equal(await actor.open("/data/link"), EPERM, "a hard link that was made inside");
      t.equal(await actor.rename("/vol/top", "/vol/elsewhere"), 0);
      t.equal(await actor.open("/vol/elsewhere/keys/key"), EPERM, "below an ancestor that was renamed");
    });
    t.equal(alone, 7);

    t.comment("what is new");
    const first = await deniedAlone(t, daemon, 2, async () => {
      t.equal(await actor.write("/data/keys/new", "x"), EPERM);
      t.equal(await actor.rename("/data/keys/new", "/data/moved"), 0);
      t.equal(await actor.open("/data/moved"), EPERM, "is known when it is moved out at once");
    });
    t.equal(first, 2);
    t.equal(await actor.mkdir("/data/keys/tree"), 0);
    t.equal(await actor.write("/data/keys/tree/f", "x"), EPERM);
    await eventually("it is pinned", async () => (await actor.open("/data/keys/tree")) === EPERM);
    t.equal(await actor.rename("/data/keys/tree/f", "/data/f"), 0);
    t.equal(await actor.open("/data/f"), EPERM, "a file that was below a new directory");

    await daemon.createGuard(guarded(container, { deny: ["/etc/secret"] }));
    t.equal(await actor.open("/data/keys/key"), 0, "a guard that was replaced");
    t.equal(await actor.open("/etc/secret"), EPERM);
    await daemon.destroyGuard({ podName: "pod" });
    for (const path of ["/etc/secret", "/data/keys/key", "/data/link", "/data/keys", "/data/moved"])
      t.equal(await actor.open(path), 0, `${path}: its guard is gone`);
  });

  // One that may interrupt programs leaves nothing to them alone.
  const alone = (await daemon.metric("janusd_kernel_decides", { alone: "true" })) === 1;
  await t.test("where all is certain, nobody is asked about what the container itself has made", async (t) => {
    const container = await startContainer({ files, volumes: [{ target: "/vol" }] }, t);
    const actor = await container.actor();
    // On its overlay, and on a volume. (What is of the image can't be renamed.)
    const own = "/data/box";
    const places = [own, "/vol/box"];
    for (const at of places) {
      t.equal(await actor.mkdir(at), 0);
      t.equal(await actor.mkdir(`${at}/keys`), 0);
      t.equal(await actor.write(`${at}/keys/key`, "k"), 0);
    }
    const guard = { scope: Scope.CONTAINER, deny: places.map((at) => `${at}/keys`) };
    await daemon.createGuard(guarded(container, guard));
    const unguarded = () => daemon.metric("janusd_asked_total", { outcome: "unguarded" });
    for (const at of places) {
      t.equal(await actor.mkdir(`${at}/own`), 0);
      t.equal(await actor.write(`${at}/own/f`, "x"), 0);
      if (alone)
        await eventually("it is ignored", async () => {
          const before = await unguarded();
          await actor.open(`${at}/own/f`);
          return (await unguarded()) === before;
        });
      const before = await unguarded();
      t.equal((await actor.repeat(`${at}/own/f`, 100)).opened, 100);
      t.equal(await actor.write(`${at}/own/g`, "x"), 0, "one that is new there");
      t.equal((await unguarded()) === before, alone, "nobody was asked");
      t.equal(await actor.mkdir(`${at}/fresh`), 0);
      t.equal(await actor.write(`${at}/fresh/f`, "x"), 0);
      if (alone && at === own) t.equal(await unguarded(), before, "nor once for a directory, on its own file system");
      t.equal(await actor.rename(`${at}/own`, `${at}/keys/own`), 0);
      t.equal(await actor.open(`${at}/keys/own/f`), EPERM, "moved below what is denied");
      t.equal(await actor.rename(`${at}/keys/own/f`, `${at}/f`), 0);
      t.equal(await actor.open(`${at}/f`), EPERM, "and out of there again");
      t.equal(await actor.rename(`${at}/keys`, `${at}/were-keys`), 0);
      t.equal(await actor.open(`${at}/were-keys/key`), EPERM, "what was denied, elsewhere");
      t.equal(await actor.mkdir(`${at}/next`), 0);
      t.equal(await actor.write(`${at}/next/f`, "x"), 0);
      t.equal((await actor.repeat(`${at}/next/f`, 100)).opened, 100);
      t.equal(await actor.rename(`${at}/next`, `${at}/keys`), 0);
      t.equal(await actor.open(`${at}/keys/f`), EPERM, "what stands there instead");
    }

    await daemon.createGuard(guarded(container, { ...guard, exclude: ["*.log"] }));
    t.equal(await actor.mkdir("/data/other"), 0);
    t.equal(await actor.write("/data/other/f", "x"), 0);
    const before = await unguarded();
    t.equal((await actor.repeat("/data/other/f", 100)).opened, 100);
    t.equal(await unguarded(), before + 100, "where something is not certain, they are");
    await daemon.destroyGuard({ podName: "pod" });
  });

  await t.test("who found no room in the process table is known by its cgroup", async (t) => {
    const container = await startContainer({ init: "actor", files }, t);
    await daemon.createGuard(guarded(container, { scope: Scope.CONTAINER }));
    const { init, initPid } = container;
    t.equal(await init.open("/data/keys/key"), EPERM);
    unlist(daemon, initPid);
    const alone = await deniedAlone(t, daemon, 1, async () => {
      t.equal(await init.open("/data/keys/key"), EPERM);
    });
    t.equal(alone, 1, "the kernel itself");
    t.equal(await init.open("/data/open"), 0, "what nobody guards");
    await daemon.destroyGuard({ podName: "pod" });
  });

  await t.test("what is not certain is left to the gate", async (t) => {
    const container = await startContainer({ init: "actor", files }, t);
    const visitor = await container.actor();
    const { init } = container;
    const subject = { deny: ["/data/keys"], recursive: true };

    await daemon.createGuard(guardOn(container, { ...subject, autoAllowOwner: true }));
    const owners = await deniedAlone(t, daemon, 2, async () => {
      t.equal(await init.open("/data/keys/key"), 0);
      t.equal((await init.command("child", "open", "/data/keys/key", 0))[0], 0);
      t.equal((await init.command("child", "child", "open", "/data/keys/key", 0))[0], EPERM);
      t.equal(await visitor.open("/data/keys/key"), EPERM);
    });
    t.equal(owners, 0, "the owners' two opens are all that is asked about");

    await daemon.createGuard(guardOn(container, subject, { mode: 1 }));
    t.equal(await visitor.open("/data/keys/key"), 0, "a guard that only audits");
    await eventually("it is recorded", async () => (await events(daemon, "audit")) > 0);

    await daemon.createGuard(guardOn(container, [subject, { allow: ["/data/keys/deep"], recursive: true }]));
    t.equal(await visitor.open("/data/keys/deep/key"), 0, "an exception below");
    t.equal(await visitor.open("/data/keys/key"), EPERM);
    await daemon.createGuard(guardOn(container, { ...subject, exclude: ["key"] }));
    t.equal(await visitor.open("/data/keys/key"), 0, "what is excluded");
    t.equal(await visitor.open("/data/keys/deep"), EPERM);
    await daemon.createGuard(guardOn(container, { ...subject, maxDepth: 1 }));
    t.equal(await visitor.open("/data/keys/deep/key"), 0, "what is too deep");
    await daemon.createGuard(guardOn(container, { ...subject, event: ["exec"] }));
    t.equal(await visitor.open("/data/keys/key"), 0, "another event");
    await daemon.createGuard(guardOn(container, { ...subject, event: ["access"] }));
    t.equal(await visitor.open("/data/keys/key"), 0, "reads only");
    t.equal(await visitor.read("/data/keys/key"), EPERM);

    const other = await startContainer({ files }, t);
    await daemon.createGuard(guardOn(container, subject));
    const neighbour = await other.actor();
    t.equal(await neighbour.open("/data/keys/key"), 0, "another container");
    await daemon.destroyGuard({ podName: "pod" });
  });

  await t.test("more denials than the ring takes: each is counted", async (t) => {
    const container = await startContainer({ files }, t);
    await daemon.createGuard(guarded(container));
    const actor = await container.actor();
    const count = 20_000;
    const [before, askedBefore] = [await denials(daemon), await asked(daemon)];
    const { denied, opened, p50 } = await actor.repeat("/data/keys/key", count);
    t.same({ denied, opened }, { denied: count, opened: 0 });
    const unwatched = await actor.repeat("/etc/secret", 2000);
    t.comment(`p50 of a denied open ${p50} ns, of one that nobody is asked about ${unwatched.p50} ns`);
    t.equal(await deniedSince(daemon, before, count), count);
    t.equal(await asked(daemon), askedBefore);
    await daemon.destroyGuard({ podName: "pod" });
    t.equal(await actor.open("/data/keys/key"), 0);
  });

  await daemon.kill();
  t.same(pins(), [], "nothing is kept");
});

t.test("SIGKILL: what was denied stays denied, until the next daemon has taken over", async (t) => {
  const first = await startDaemon(KEEPING, t);
  t.equal(await first.metric("janusd_kernel_decides", { kept: "true" }), 1);
  const container = await startContainer({ files, volumes: [{ target: "/vol" }] }, t);
  container.writeVolume(0, "top/keys/key", "k");
  await first.createGuard(guarded(container, { deny: ["/data/keys", "/vol/top/keys"] }));
  const [actor, storming] = [await container.actor(), await container.actor()];
  let stormed = true;
  const storm = (async () => {
    const sum = { opened: 0, denied: 0 };
    while (stormed) {
      const { opened, denied } = await storming.repeat("/data/keys/key", 1e9, 10);
      sum.opened += opened;
      sum.denied += denied;
      // The machine has one processor, which the next daemon needs to start.
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    return sum;
  })();
  t.equal(pins().length, 1);
  await first.kill();
  t.equal(await actor.open("/data/keys/key"), EPERM);
  t.equal(await actor.write("/data/keys/made-while-away", "x"), EPERM, "what nobody has asked about yet");
  t.equal(await actor.link("/data/keys/deep/key", "/data/link"), 0);
  t.equal(await actor.open("/data/link"), EPERM, "a hard link that is made now");
  t.equal(await actor.rename("/vol/top", "/vol/elsewhere"), 0);
  t.equal(await actor.open("/vol/elsewhere/keys/key"), EPERM, "below an ancestor that is renamed now");
  t.equal(await actor.write("/vol/elsewhere/keys/new", "x"), EPERM);
  t.equal(await actor.mkdir("/vol/top"), 0);
  t.equal(await actor.mkdir("/vol/top/keys"), 0);
  t.equal(await actor.write("/vol/top/keys/key", "x"), EPERM, "what stands at the guarded path now");
  t.equal(await actor.open("/data/open"), 0, "what nobody guards");
  t.equal((await actor.command("child", "open", "/data/keys/key", 0))[0], EPERM, "a process that is forked now");
  const late = await container.actor();
  t.equal(await late.open("/data/keys/key"), EPERM, "one that is put into the container now");
  const other = await startContainer({ files }, t);
  t.equal(await (await other.actor()).open("/data/keys/key"), 0, "another container");

  const second = await startDaemon({ ...KEEPING, stateFile: first.stateFile }, t);
  t.equal(pins().length, 1, "the new one's");
  await tookOver(second);
  t.equal(await actor.open("/data/keys/key"), EPERM);
  await second.stop();
  t.equal(await late.open("/data/keys/key"), EPERM, "an ordered end keeps it as well");
  const third = await startDaemon({ ...KEEPING, stateFile: first.stateFile }, t);
  stormed = false;
  const { opened, denied } = await storm;
  t.equal(opened, 0, `of ${opened + denied} opens, over a SIGKILL, an ordered end and two starts`);
  t.ok(denied > 0);
  await third.destroyGuard({ podName: "pod" });
  t.equal(await actor.open("/data/keys/key"), 0, "its guard is gone");
  t.equal(await actor.open("/data/link"), 0);
  await third.createGuard(guarded(container));
  t.equal(await actor.open("/data/keys/key"), EPERM);

  await third.kill();
  t.equal(await actor.open("/data/keys/key"), EPERM);
  t.equal(pins().length, 1);
  t.match(await janusctl(["release"]), { status: 0, out: /by 1 daemon/ });
  t.same(pins(), []);
  t.equal(await actor.open("/data/keys/key"), 0, "released");
  t.match(await janusctl(["release"]), { status: 0, out: /Nothing/ });
});

t.test("nobody is there: the kernel counts, and the next daemon tells", async (t) => {
  const first = await startDaemon(KEEPING, t);
  const [container, other] = [
    await startContainer({ files: { ...files, "/logs/a.log": "a", "/reads/f": "f" } }, t),
    await startContainer({ files }, t),
  ];
  await first.createGuard(
    guardOn(container, [
      { deny: ["/data/keys"], recursive: true },
      { deny: ["/logs"], exclude: ["*.log"] },
      { deny: ["/reads"], event: ["access"] },
    ]),
  );
  await first.createGuard({
    ...guardOn(container, { deny: ["/etc/secret"] }, { mode: 1 }),
    name: "audit",
    podName: "audit",
  });
  const [actor, stranger] = [await container.actor(), await other.actor()];
  t.equal(await actor.open("/logs/a.log"), 0);
  await first.kill();
  const { denied } = await actor.repeat("/data/keys/key", 5000);
  t.equal(denied, 5000);
  t.equal(await actor.write("/data/keys/new", "x"), EPERM);
  t.equal((await actor.repeat("/logs/a.log", 700)).opened, 700);
  t.equal(await actor.write("/logs/b.log", "x"), 0);
  t.equal(await actor.read("/reads/f"), 0);
  t.equal(await actor.write("/reads/f", "x"), 0, "which nobody reads");
  t.equal(await actor.open("/data/open"), 0, "what nobody guards");
  t.equal(await actor.open("/etc/secret"), 0, "what nobody denies");
  t.equal((await stranger.repeat("/data/keys/key", 100)).opened, 100, "another container");
  const kept = await doctor();
  const [left] = kept.findings.filter(({ group }) => group === "kept");
  t.match(left, {
    name: `pid ${first.pid}`,
    ok: false,
    detail: /gone for .*: 5001 opens denied, 702 not judged, 0 refused/,
  });
  t.match(kept.next.join(), /janusctl release/);
  const second = await startDaemon({ ...KEEPING, stateFile: first.stateFile }, t);
  const told = second.stderr.split("\n").find((line) => line.includes("took over"));
  t.match(JSON.parse(told ?? "{}"), { daemons: 1, denied: 5001, unjudged: 702, refused: 0, layouts: [] });
  t.ok(JSON.parse(told ?? "{}").awayMs > 0);
  t.equal(await second.metric("janusd_away_opens_total", { outcome: "denied" }), 5001);
  t.equal(await second.metric("janusd_exposure_total", { cause: "away" }), 702);
  t.ok((await second.metric("janusd_away_seconds_total")) > 0);
  const { findings, next } = await doctor();
  const states = findings.filter(({ group }) => group === "kept");
  t.match(states, [{ name: `pid ${second.pid}`, ok: true, detail: /layout 1, policy generation [1-9].*heartbeat/ }]);
  t.equal(states.length, 1);
  t.notMatch(next.join(), /release/);
  const keeps = findings.filter(({ group, name }) => group === "tier" && ["kernel decides", "keep"].includes(name));
  t.match(keeps, [{ ok: true }, { ok: true }]);

  t.comment("two daemons: one that goes leaves nobody alone");
  const third = await startDaemon({ ...KEEPING, stateFile: first.stateFile }, t);
  t.equal(pins().length, 2);
  await second.kill();
  t.equal((await actor.repeat("/logs/a.log", 100)).opened, 100);
  t.equal(await actor.open("/data/keys/key"), EPERM);
  await eventually("what it has left is gone", () => pins().length === 1);
  t.equal(await third.metric("janusd_exposure_total", { cause: "away" }), 0);
  await third.kill();
  t.match(await janusctl(["release"]), { status: 0, out: /by 1 daemon/ });
});

t.test("--away=deny: what only a daemon could judge is denied to guarded containers, and to nobody else", async (t) => {
  const first = await startDaemon({ flags: ["--keep", "--away=deny"] }, t);
  const more = { "/logs/a.log": "a", "/logs/b": "b", "/reads/f": "f", "/deep/a/b/f": "f" };
  const [container, other, owned] = [
    await startContainer({ files: { ...files, ...more }, volumes: [{ target: "/vol" }] }, t),
    await startContainer({ files: { ...files, ...more } }, t),
    await startContainer({ init: "actor", files }, t),
  ];
  container.writeVolume(0, "log/a.log", "a");
  await first.createGuard(
    guardOn(container, [
      { deny: ["/data/keys"], recursive: true },
      { deny: ["/logs", "/vol/log"], exclude: ["*.log"] },
      { deny: ["/reads"], event: ["access"] },
      { deny: ["/deep"], recursive: true, maxDepth: 2 },
    ]),
  );
  await first.createGuard({
    ...guardOn(container, { deny: ["/etc/secret"] }, { mode: 1 }),
    name: "audit",
    podName: "audit",
  });
  const owners = { deny: ["/data/keys"], recursive: true, autoAllowOwner: true, exclude: ["*.log"] };
  await first.createGuard({ ...guardOn(owned, owners), name: "owned", podName: "owned" });
  const [actor, stranger, visitor] = [await container.actor(), await other.actor(), await owned.actor()];
  t.equal(await actor.open("/logs/a.log"), 0, "while it is there, it judges");
  t.equal(await actor.open("/logs/b"), EPERM);
  await first.kill();

  t.equal(await actor.open("/data/keys/key"), EPERM);
  t.equal(await actor.open("/logs/b"), EPERM);
  t.equal(await actor.open("/logs/a.log"), EPERM, "an exception, which the kernel can't tell");
  t.equal(await actor.open("/vol/log/a.log"), EPERM, "on a volume");
  t.equal(await actor.write("/logs/new", "x"), EPERM, "what is new");
  t.equal(await actor.open("/reads/f"), EPERM, "whose reads nobody could judge");
  t.equal(await actor.write("/reads/f", "x"), 0, "and which is written only");
  t.equal(await visitor.open("/data/keys/key"), EPERM);

  t.comment("what nobody would ever be denied");
  t.equal(await actor.open("/deep/a/b/f"), 0, "deeper than the guard reaches");
  t.equal(await actor.open("/data/open"), 0);
  t.equal(await actor.open("/etc/secret"), 0, "what a guard only audits");
  t.equal(await owned.init.open("/data/keys/key"), 0, "an owner");
  t.equal(await stranger.open("/logs/b"), 0, "another container");
  const late = await container.actor();
  t.equal(await late.open("/data/open"), 0, "the runtime puts a process into the container");
  t.equal(await late.open("/logs/a.log"), EPERM);
  t.equal((await container.exec(["cat", "/data/open"])).stdout, "o");
  t.equal(readFileSync(join(container.rootfs, "logs/a.log"), "utf8"), "a", "the node");
  const fresh = await startContainer({ files }, t);
  t.equal(await (await fresh.actor()).open("/data/keys/key"), 0, "a container that starts now");

  const second = await startDaemon({ flags: ["--keep"], stateFile: first.stateFile }, t);
  t.equal(await second.metric("janusd_away_opens_total", { outcome: "refused" }), 7);
  t.equal(await second.metric("janusd_away_opens_total", { outcome: "unjudged" }), 0);
  t.equal(await second.metric("janusd_exposure_total", { cause: "away" }), 0);
  t.equal(await actor.open("/logs/a.log"), 0, "the next daemon judges");
  await second.kill();
  t.equal(await actor.open("/logs/a.log"), 0, "and has said that it is allowed");
  t.equal(await actor.open("/data/keys/key"), EPERM);
  t.match(await janusctl(["release"]), { status: 0, out: /by 1 daemon/ });
});

t.test("nobody is there, and something is deeper than the kernel looks", async (t) => {
  const daemon = await startDaemon(KEEPING, t);
  const deep = async (actor: Actor, path: string) => {
    const [errno, levels] = await actor.command("deep", path, 4200);
    t.equal(levels, 4200);
    return errno;
  };
  const volumes = [{ target: "/vol" }];
  const [container, flat, other] = [
    await startContainer({ files, volumes }, t),
    await startContainer({ files }, t),
    await startContainer({ files }, t),
  ];
  await daemon.createGuard(guarded(container));
  await daemon.createGuard({ ...guarded(flat, { recursive: false }), name: "flat", podName: "flat" });
  const [actor, flatly, stranger] = [await container.actor(), await flat.actor(), await other.actor()];
  await daemon.kill();
  t.equal(await actor.mkdir("/data/keys/new"), 0);
  t.equal(await deep(actor, "/data/keys/new"), EPERM, "below what is denied");
  t.equal(await actor.mkdir("/data/elsewhere"), 0);
  t.equal(await deep(actor, "/data/elsewhere"), EPERM, "on the same file system: it could be");
  t.equal(await deep(actor, "/vol"), 0, "on one where nothing is denied");
  t.equal(await flatly.mkdir("/data/elsewhere"), 0);
  t.equal(await deep(flatly, "/data/elsewhere"), 0, "in a container to which nothing deep is denied");
  t.equal(await stranger.mkdir("/data/elsewhere"), 0);
  t.equal(await deep(stranger, "/data/elsewhere"), 0, "in one that nobody guards");
  t.match(await janusctl(["release"]), { status: 0 });
});
