/** Changes that the kernel denies: where it takes fmod_ret programs, which CI's does not. */
import { readFileSync } from "node:fs";
import t, { type Test } from "tap";
import { Response } from "../../src/gen/janus/v1/events_pb.js";
import { Verdict, Actor as Who } from "../../src/gen/janus/v1/inspection_pb.js";
import { Scope } from "../../src/gen/janus_pb.js";
import { type Actor, type Container, startContainer } from "../support/container.js";
import { eventually, startDaemon } from "../support/daemon.js";
import { denials, deniedSince, tookOver } from "../support/denials.js";
import { EPERM, guardOn, type SubjectInit } from "../support/guard.js";
import { janusctl } from "../support/janusctl.js";

const KEEPING = { flags: ["--keep", "--log-format=json"] };
// What the last daemon keeps would be there for the next step.
t.teardown(() => janusctl(["release"]));
const O_WRONLY = 1;
const O_RDWR = 2;

const EVENTS = ["create", "delete", "movedfrom", "movedto", "attrib", "link", "truncate", "write"] as const;
type Event = (typeof EVENTS)[number];

/** A change, the events that deny it, and what makes it. The order matters where none is denied. */
type Attempt = readonly [what: string, events: readonly Event[], run: () => Promise<number>];

/** Of a tree that `plant` has made; `keys` below it is guarded. */
function attempts(actor: Actor, at: string): readonly Attempt[] {
  const keys = `${at}/keys`;
  const run = async (...fields: readonly (string | number)[]) => (await actor.command(...fields))[0] ?? -1;
  return [
    ["a file, opened for writing", ["create", "write"], () => actor.write(`${keys}/file`, "x")],
    ["a directory", ["create"], () => actor.mkdir(`${keys}/directory`)],
    ["a directory below another", ["create"], () => actor.mkdir(`${keys}/deep/directory`)],
    ["a symlink", ["create"], () => actor.symlink("key", `${keys}/symlink`)],
    ["a FIFO", ["create"], () => run("mkfifo", `${keys}/fifo`)],
    ["a hard link to there", ["create"], () => actor.link(`${at}/joins`, `${keys}/joins`)],
    ["unlink", ["delete"], () => actor.unlink(`${keys}/gone`)],
    ["rmdir", ["delete"], () => run("rmdir", `${keys}/gone-too`)],
    ["a rename over it", ["delete", "movedto"], () => actor.rename(`${at}/replacement`, `${keys}/replaced`)],
    ["a rename out", ["movedfrom"], () => actor.rename(`${keys}/leaves`, `${at}/left`)],
    ["a rename of a directory out", ["movedfrom"], () => actor.rename(`${keys}/leaves-too`, `${at}/left-too`)],
    ["a rename in", ["movedto"], () => actor.rename(`${at}/comes`, `${keys}/came`)],
    ["a rename inside", ["movedfrom", "movedto"], () => actor.rename(`${keys}/inside`, `${keys}/deep/inside`)],
    ["an exchange", ["movedfrom", "movedto"], () => run("exchange", `${keys}/one`, `${at}/two`)],
    ["an exchange, the other way round", ["movedfrom", "movedto"], () => run("exchange", `${at}/two`, `${keys}/one`)],
    ["chmod", ["attrib"], () => run("chmod", `${keys}/key`, 0o600)],
    ["chmod of the guarded path", ["attrib"], () => run("chmod", keys, 0o700)],
    ["chown", ["attrib"], () => run("chown", `${keys}/key`, 0)],
    ["touch", ["attrib"], () => run("touch", `${keys}/key`)],
    ["setxattr", ["attrib"], () => run("setxattr", `${keys}/key`, "user.janusd")],
    ["removexattr", ["attrib"], () => run("removexattr", `${keys}/key`, "user.janusd")],
    ["chmod by a hard link", ["attrib"], () => run("chmod", `${at}/alias`, 0o600)],
    ["a hard link of it", ["link"], () => actor.link(`${keys}/key`, `${at}/link`)],
    ["a hard link of a hard link", ["link"], () => actor.link(`${at}/alias`, `${at}/alias-too`)],
    ["truncate", ["truncate"], () => run("truncate", `${keys}/key`)],
    ["truncate by a hard link", ["truncate"], () => run("truncate", `${at}/alias`)],
    ["ftruncate of what was open before", ["truncate"], () => run("ftruncate", 9)],
    ["an open that truncates", ["truncate", "write"], () => actor.write(`${keys}/key`, "x")],
    ["an open for writing", ["write"], () => actor.open(`${keys}/key`, O_WRONLY)],
    ["an open for both", ["write"], () => actor.open(`${keys}/deep/key`, O_RDWR)],
    ["an open for writing by a hard link", ["write"], () => actor.open(`${at}/alias`, O_WRONLY)],
    ["an open for reading", [], () => actor.open(`${keys}/key`)],
    ["what is beside", [], () => actor.write(`${at}/out`, "x")],
    ["chmod beside", [], () => run("chmod", `${at}/out`, 0o600)],
    ["a rename beside", [], () => actor.rename(`${at}/out`, `${at}/out-too`)],
    ["the guarded path away", ["movedfrom"], () => actor.rename(keys, `${at}/were-keys`)],
    ["... and back", ["movedto"], () => actor.rename(`${at}/were-keys`, keys)],
    ["what leads there away", ["movedfrom"], () => actor.rename(at, `${at}-away`)],
    ["... and back", ["movedto"], () => actor.rename(`${at}-away`, at)],
  ];
}

async function plant(actor: Actor, at: string): Promise<void> {
  const keys = `${at}/keys`;
  for (const path of [at, keys, `${keys}/deep`, `${keys}/gone-too`, `${keys}/leaves-too`]) {
    if ((await actor.mkdir(path)) !== 0) throw new Error(`mkdir ${path}`);
  }
  const inside = ["key", "deep/key", "gone", "replaced", "leaves", "leaves-too/f", "inside", "one"].map(
    (name) => `${keys}/${name}`,
  );
  const beside = ["out", "joins", "replacement", "comes", "two"].map((name) => `${at}/${name}`);
  for (const path of [...inside, ...beside]) {
    if ((await actor.write(path, "text")) !== 0) throw new Error(`write ${path}`);
  }
  if ((await actor.link(`${keys}/key`, `${at}/alias`)) !== 0) throw new Error("link");
  await actor.command("hold", 9, `${keys}/key`);
}

/** Makes them all; those are denied that one of `denied` denies. Returns how many were. */
async function tryAll(t: Test, actor: Actor, at: string, denied: readonly Event[]): Promise<number> {
  let count = 0;
  let away = false;
  for (const [what, events, run] of attempts(actor, at)) {
    // (What has not gone away need not come back.)
    if (what === "... and back" && !away) continue;
    const expected = events.some((event) => denied.includes(event)) ? EPERM : 0;
    const errno = await run();
    t.equal(errno, expected, `${denied}: ${what}`);
    away = errno === 0;
    if (errno === EPERM) count++;
  }
  return count;
}

const guarding = (container: Container, at: string, event: readonly Event[], rest = {}) =>
  guardOn(container, { deny: [`${at}/keys`], recursive: true, scope: Scope.CONTAINER, event: [...event], ...rest });

t.test("each event, on an overlay and on a volume", async (t) => {
  const daemon = await startDaemon({ flags: ["--log-format=json"] }, t);
  const container = await startContainer({ files: { "/data/there": "t" }, volumes: [{ target: "/vol" }] }, t);
  const actor = await container.actor();
  for (const place of ["/data", "/vol"]) {
    await t.test(place, async (t) => {
      await plant(actor, `${place}/none`);
      t.equal(await tryAll(t, actor, `${place}/none`, []), 0);
      for (const event of EVENTS) {
        const at = `${place}/${event}`;
        await plant(actor, at);
        await daemon.createGuard(guarding(container, at, [event]));
        const before = await denials(daemon);
        const from = daemon.lines.length;
        const count = await tryAll(t, actor, at, [event]);
        t.ok(count > 0);
        t.equal(await deniedSince(daemon, before, count), count, "each is counted");
        await eventually("they are in the log", () => daemon.lines.length >= from + count);
        t.comment(daemon.lines[from]);
        await daemon.destroyGuard({ podName: "pod" });
        if (event === "movedto") continue; // what went away has not come back
        t.equal(await actor.write(`${at}/keys/later`, "x"), 0, "its guard is gone");
      }
    });
  }
});

t.test("to whom, and where nothing is yet", async (t) => {
  const daemon = await startDaemon({}, t);
  const container = await startContainer(
    { init: "actor", files: { "/image/keys/key": "k", "/image/keys/other": "o" }, volumes: [{ target: "/vol" }] },
    t,
  );
  const { init } = container;
  const visitor = await container.actor();
  await plant(init, "/vol/tree");
  await daemon.createGuard(guarding(container, "/vol/tree", EVENTS, { autoAllowOwner: true }));
  t.equal(await visitor.unlink("/vol/tree/keys/gone"), EPERM);
  t.equal(await init.unlink("/vol/tree/keys/gone"), 0, "an owner");
  container.writeVolume(0, "tree/keys/of-the-node", "n");
  t.equal(await visitor.write("/vol/tree/keys/of-the-node", "x"), EPERM, "what the node has made there");
  await daemon.createGuard(guarding(container, "/image", EVENTS));
  for (const change of [["unlink"], ["truncate"], ["chmod", 0o600], ["touch"], ["link", "/image/link"]] as const) {
    const [name, ...rest] = change;
    const [errno] = await visitor.command(name, "/image/keys/key", ...rest);
    t.equal(errno, EPERM, `${name}: what is of the image`);
  }
  t.equal(await visitor.open("/image/keys/key", O_WRONLY), EPERM);
  t.equal(await visitor.rename("/image/keys/key", "/image/keys/other"), EPERM);
  t.equal(await visitor.open("/image/keys/key"), 0);
  await daemon.createGuard(guarding(container, "/vol/absent", ["create", "movedto"]));
  t.equal(await visitor.mkdir("/vol/absent"), 0, "what leads to a path that isn't there");
  t.equal(await visitor.mkdir("/vol/absent/keys"), EPERM);
  t.equal(await visitor.mkdir("/vol/prepared"), 0);
  t.equal(await visitor.rename("/vol/prepared", "/vol/absent/keys"), EPERM);
  t.equal(await visitor.symlink("/vol/prepared", "/vol/absent/keys"), EPERM);
  const [errno] = await visitor.command("link-nameless", "/vol", "/vol/absent/keys");
  t.equal(errno, EPERM, "a file that had no name");
  await daemon.createGuard(guardOn(container, { deny: ["/vol/tree"], scope: Scope.CONTAINER, event: ["delete"] }));
  t.equal(await visitor.unlink("/vol/tree/out"), EPERM, "an entry of a directory");
  t.equal(await visitor.unlink("/vol/tree/keys/one"), 0, "what is below that");
  t.equal(await visitor.open("/vol/tree/out"), 0, "opens are another event");
});

t.test("each is explained as it comes out", async (t) => {
  const daemon = await startDaemon({}, t);
  const container = await startContainer({ init: "actor", volumes: [{ target: "/vol" }] }, t);
  const visitor = await container.actor();
  for (const [name, actor] of [
    ["visitor", visitor],
    ["owner", container.init],
  ] as const) {
    await plant(actor, `/vol/${name}`);
    await actor.symlink(`/vol/${name}/keys/key`, `/vol/${name}/symlink`);
  }
  const subjects = (name: string): SubjectInit[] => [
    { deny: [`/vol/${name}/keys`], recursive: true, event: [...EVENTS], autoAllowOwner: true, scope: Scope.CONTAINER },
    // Denials of changes add up: what is more specific takes nothing back.
    { deny: [`/vol/${name}/keys`], event: ["delete"], scope: Scope.CONTAINER },
  ];
  await daemon.createGuard(guardOn(container, [...subjects("visitor"), ...subjects("owner")]));
  for (const [who, actor, name] of [
    [Who.CONTAINER, visitor, "visitor"],
    [Who.OWNER, container.init, "owner"],
  ] as const) {
    const at = `/vol/${name}`;
    const keys = `${at}/keys`;
    const run = async (...fields: readonly (string | number)[]) => (await actor.command(...fields))[0] ?? -1;
    const changes: readonly (readonly [string, string, () => Promise<number>])[] = [
      ["create", `${keys}/new`, () => actor.mkdir(`${keys}/new`)],
      ["create", `${at}/new`, () => actor.mkdir(`${at}/new`)],
      ["delete", `${keys}/gone`, () => actor.unlink(`${keys}/gone`)],
      ["delete", `${at}/symlink`, () => actor.unlink(`${at}/symlink`)],
      ["attrib", `${keys}/key`, () => run("chmod", `${keys}/key`, 0o600)],
      ["attrib", `${at}/alias`, () => run("chmod", `${at}/alias`, 0o600)],
      ["attrib", `${at}/out`, () => run("chmod", `${at}/out`, 0o600)],
      ["link", `${at}/alias`, () => actor.link(`${at}/alias`, `${at}/alias-too`)],
      ["truncate", `${keys}/deep/key`, () => run("truncate", `${keys}/deep/key`)],
      ["write", `${keys}/key`, () => actor.open(`${keys}/key`, O_WRONLY)],
      ["movedto", `${keys}/came`, () => actor.rename(`${at}/comes`, `${keys}/came`)],
      ["movedfrom", `${keys}/leaves`, () => actor.rename(`${keys}/leaves`, `${at}/left`)],
      ["movedfrom", at, () => actor.rename(at, `${at}-away`)],
    ];
    for (const [event, path, change] of changes) {
      const { verdicts } = await daemon.client.explain({ container: container.id, path, event });
      const verdict = verdicts.find((one) => one.actor === who)?.verdict;
      const errno = await change();
      t.equal(verdict === Verdict.DENY, errno === EPERM, `${event} of ${path}: ${errno}`);
    }
  }
});

t.test("what was watched is what a guard would have denied", async (t) => {
  const daemon = await startDaemon({ flags: ["--log-format=json"] }, t);
  const container = await startContainer({ volumes: [{ target: "/vol" }] }, t);
  const actor = await container.actor();
  const [at, keys] = ["/vol/tree", "/vol/tree/keys"];
  await plant(actor, at);
  const watched = ["create", "delete", "move", "attrib"];
  await daemon.createGuard(guardOn(container, { watch: ["/vol"], recursive: true, event: watched }));
  const changes: readonly (readonly [() => Promise<number>, string | undefined])[] = [
    [() => actor.mkdir(`${keys}/directory`), `create ${keys}/directory`],
    [() => actor.mkdir(`${at}/directory`), undefined],
    [() => actor.unlink(`${keys}/gone`), `delete ${keys}/gone`],
    [async () => (await actor.command("chmod", `${keys}/key`, 0o600))[0] ?? -1, `attrib ${keys}/key`],
    [async () => (await actor.command("chmod", `${at}/out`, 0o600))[0] ?? -1, undefined],
    [() => actor.rename(`${keys}/leaves`, `${at}/left`), `move ${keys}/leaves`],
    [() => actor.rename(`${at}/comes`, `${keys}/came`), `move ${at}/comes`],
    [() => actor.rename(`${at}/left`, `${at}/left-again`), undefined],
    [() => actor.rename(at, `${at}-away`), `move ${at}`],
    [() => actor.rename(`${at}-away`, at), `move ${at}-away`],
  ];
  for (const [change] of changes) t.equal(await change(), 0);
  await eventually("all is in the log", () => daemon.lines.length >= changes.length);
  const config = { ...guarding(container, at, EVENTS), name: "another" };
  const said = await daemon.client.rehearse({ config, events: 100, examples: 100 });
  t.same(
    said.examples
      .map(({ event, path, was, wouldBe }) => `${event} ${path} ${Response[was]} ${Response[wouldBe]}`)
      .sort(),
    changes.flatMap(([, denied]) => (denied === undefined ? [] : `${denied} ALLOW DENY`)).sort(),
  );
  await daemon.createGuard(config);
  const from = daemon.lines.length;
  t.equal(await actor.rename(`${keys}/inside`, `${at}/outside`), EPERM);
  t.equal(await actor.rename(`${at}/out`, `${keys}/in`), EPERM);
  t.equal(await actor.rename(`${at}/out`, `${keys}/one`), EPERM);
  t.equal(await actor.unlink(`${keys}/came`), EPERM);
  await eventually("they are in the log", () => daemon.lines.length >= from + 4);
  t.match(
    daemon.lines.slice(from).map((line) => JSON.parse(line)),
    [
      { response: "DENY", event: "MOVED_FROM", path: `${keys}/inside`, newPath: `${at}/outside` },
      { response: "DENY", event: "MOVED_TO", path: `${keys}/in`, oldPath: `${at}/out` },
      { response: "DENY", event: "DELETE", path: `${keys}/one`, newPath: undefined, oldPath: undefined },
      { response: "DENY", event: "DELETE", path: `${keys}/came` },
    ],
    "a rename has both its names",
  );
  await daemon.destroyGuard({ name: "another", podName: "pod" });
  const without = guardOn(container, { deny: [keys], scope: Scope.CONTAINER }, { name: "another" });
  const { examples } = await daemon.client.rehearse({ config: without, events: 100, examples: 100 });
  t.same(
    examples.map(({ event, path, was, wouldBe }) => `${event} ${path} ${Response[was]} ${Response[wouldBe]}`).sort(),
    [
      `delete ${keys}/came DENY ALLOW`,
      `delete ${keys}/one DENY ALLOW`,
      `movedfrom ${keys}/inside DENY ALLOW`,
      `movedto ${keys}/in DENY ALLOW`,
    ],
  );
});

t.test("SIGKILL: what was denied stays denied, until the next daemon has taken over", async (t) => {
  const first = await startDaemon(KEEPING, t);
  const container = await startContainer({ volumes: [{ target: "/vol" }] }, t);
  const actor = await container.actor();
  await plant(actor, "/vol/tree");
  await first.createGuard(guarding(container, "/vol/tree", EVENTS));
  await eventually("the guard is kept", () => readFileSync(first.stateFile, "utf8").includes("/vol/tree"));
  await first.kill();
  const count = await tryAll(t, actor, "/vol/tree", EVENTS);
  const second = await startDaemon({ ...KEEPING, stateFile: first.stateFile }, t);
  await tookOver(second);
  t.equal(await second.metric("janusd_away_opens_total", { outcome: "denied" }), count, "they were counted");
  await tryAll(t, actor, "/vol/tree", EVENTS);
  await second.destroyGuard({ podName: "pod" });
  t.equal(await actor.unlink("/vol/tree/keys/gone"), 0, "its guard is gone");
});
