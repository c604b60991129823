/** `janusctl explain` against the real thing: what it says of an open is what comes of it. */
import { closeSync, constants, openSync } from "node:fs";
import t from "tap";
import {
  type ExplainedVerdict,
  type ExplainResponse,
  ProcessRole,
  RuleBearing,
  Verdict,
  Actor as Who,
} from "../../src/gen/janus/v1/inspection_pb.js";
import { GuardMode, Scope } from "../../src/gen/janus_pb.js";
import { type Actor, type Container, startContainer } from "../support/container.js";
import { type Daemon, startDaemon } from "../support/daemon.js";
import { EPERM, guardOn, type SubjectInit } from "../support/guard.js";
import { janusctl } from "../support/janusctl.js";

const AUDIT = { mode: GuardMode.AUDIT };

/** What files come from that appear later: nobody has guarded them. */
const SPARE = 12;

const TREE = [
  "mkdir -p /app/pub/deep/er /app/conf/x /app/logs /app/once /out /data/s/t /data/free /app/flat/in /app/gone/inner",
  "cd /app && for f in secret pub/f pub/deep/er/f conf/k conf/x/k logs/a.log logs/key once/f flat/f flat/in/f gone/inner/f; do echo x >$f; done",
  "for f in /out/f /data/s/f /data/s/t/f /data/free/f; do echo x >$f; done",
  "cp /bin/true /app/tool && mkfifo /app/pipe",
  "ln /app/secret /out/hard && ln /app/pub/f /out/pub && ln /data/s/f /data/free/hard && ln /app/logs/a.log /out/log",
  "ln -s /app/secret /out/absolute && ln -s ../app/secret /out/relative && ln -s /app /out/dir",
  "ln -s absolute /out/chain && ln -s /data/s /out/volume && ln -s /app/pub/dangling /out/dangling && ln -s loop /out/loop",
  `for i in $(seq 0 ${SPARE}); do echo x >/tmp/new$i; echo x >/data/new$i; done`,
].join("; ");

/** Files and directories that are there, by every kind of name. */
const PATHS = [
  ...["/", "/app", "/app/secret", "/app/pub", "/app/pub/f", "/app/pub/deep/er", "/app/pub/deep/er/f", "/app/tool"],
  ...["/app/conf", "/app/conf/k", "/app/conf/x", "/app/conf/x/k", "/app/logs/a.log", "/app/logs/key", "/app/once/f"],
  ...["/app/flat", "/app/flat/f", "/app/flat/in", "/app/flat/in/f", "//app/./pub//f", "/etc/passwd", "/out/f"],
  ...["/out/hard", "/out/pub", "/out/log", "/out/absolute", "/out/relative", "/out/chain", "/out/dir/secret"],
  ...["/out/dir/pub/f", "/out/dir", "/out/volume/f", "/data", "/data/s", "/data/s/f", "/data/s/t/f", "/data/free/f"],
  ...["/data/free/hard", "/moved/inner/f", "/moved", "/proc/uptime", "/tmp", "/dev/null"],
] as const;

/** They appear later. */
const MISSING = [
  ...["/app/later", "/app/pub/later", "/app/conf/x/later", "/app/logs/later.log", "/app/flat/in/later", "/out/later"],
  ...["/data/s/later", "/data/free/later", "/moved/inner/later", "/out/dangling"],
] as const;

const APP: SubjectInit = { deny: ["/app"], allow: ["/app/pub"], recursive: true, exclude: ["logs/*.log", "tool"] };

/** What is guarded, round by round. */
const ROUNDS: Readonly<Record<string, readonly (readonly [SubjectInit | SubjectInit[], object?])[]>> = {
  "a tree with exceptions": [[APP]],
  "that only audits": [[APP, AUDIT]],
  "one that enforces beside one that audits": [
    [{ deny: ["/app/conf", "/data/s"], recursive: true, autoAllowOwner: true }],
    [{ ...APP, scope: Scope.CONTAINER }, AUDIT],
  ],
  "owners, depths and directories": [
    [
      [
        { deny: ["/app"], recursive: true, maxDepth: 2, autoAllowOwner: true },
        { deny: ["/data"], recursive: true, onlyDir: true, scope: Scope.CONTAINER },
      ],
    ],
    [{ deny: ["/app/flat"], allow: ["/app/flat/f"] }],
    [{ allow: ["/out"], deny: ["/out/f"] }],
  ],
  "allowed, only observed, and denied but for itself": [
    [{ allow: ["/app"], recursive: true }],
    [{ watch: ["/data"], event: ["open"] }],
    [{ deny: ["/data/s"], recursive: true, exclude: ["."] }],
  ],
};

/** The node goes through the mounts of the container, which are marked. */
const nodePath = (container: Container, path: string) => `/proc/${container.initPid}/root${path}`;

function openOnNode(path: string): number {
  try {
    closeSync(openSync(path, constants.O_RDONLY | constants.O_NONBLOCK));
    return 0;
  } catch (error) {
    if (error instanceof Error && "errno" in error) return -Number(error.errno);
    throw error;
  }
}

interface Scene {
  readonly daemon: Daemon;
  readonly container: Container;
  readonly visitor: Actor;
  readonly visitorPid: number;
}

async function sceneOf(tap: Tap, rootType: "overlay" | "bind" = "overlay"): Promise<Scene> {
  const daemon = await startDaemon({ flags: ["--log-format=json"] }, tap);
  const container = await startContainer({ init: "actor", rootType, volumes: [{ target: "/data" }] }, tap);
  const shell = await container.shell();
  const { status, output } = await shell.run(TREE);
  if (status !== 0) throw new Error(output);
  await shell.stop();
  const visitor = await container.actor();
  const processes = await daemon.client.listProcesses(container.id);
  const visitorPid = processes.find(({ comm, role }) => comm === "actor" && role !== ProcessRole.INIT)?.pid ?? -1;
  return { daemon, container, visitor, visitorPid };
}
type Tap = NonNullable<Parameters<typeof startDaemon>[1]>;

const verdictOf = ({ verdicts }: ExplainResponse, who: Who): ExplainedVerdict | undefined =>
  verdicts.find(({ actor }) => actor === who);

const RESPONSES = { [Verdict.ALLOW]: "ALLOW", [Verdict.DENY]: "DENY", [Verdict.AUDIT]: "AUDIT" } as const;

/** Opens, and says how it differs from the explanation; undefined: it does not. */
async function differs(
  daemon: Daemon,
  said: ExplainedVerdict | undefined,
  open: () => Promise<number> | number,
): Promise<string | undefined> {
  const from = daemon.lines.length;
  const errno = await open();
  if (said === undefined) return "no verdict";
  const { verdict } = said;
  if ((errno === EPERM) !== (verdict === Verdict.DENY)) return `${Verdict[verdict]}, and open says ${errno}`;
  if (verdict === Verdict.UNSPECIFIED) return "unspecified";
  if (verdict === Verdict.UNJUDGED) return daemon.lines[from];
  const record = JSON.parse(await daemon.waitForLine(() => true, from));
  const got = { response: record.response, guard: record.guard, answered: record.answered, owner: record.owner };
  const want = { response: RESPONSES[verdict], guard: said.guard?.name, answered: said.answered, owner: said.owner };
  const same = JSON.stringify(got) === JSON.stringify(want);
  if (!same) return `said ${JSON.stringify(want)}, and got ${JSON.stringify(got)}`;
  const named = JSON.stringify([...(record.guards ?? [record.guard])].sort());
  const others = JSON.stringify([said.guard?.name, ...said.others.map(({ name }) => name)].sort());
  return named === others ? undefined : `said ${others}, and got ${named}`;
}

const CASES = [
  ...Object.entries(ROUNDS).map(([name, guards]) => ({ name, guards, rootType: "overlay" as const })),
  // Only mounts are marked there.
  { name: "a root that is the node's", guards: ROUNDS["a tree with exceptions"] ?? [], rootType: "bind" as const },
];

for (const { name, guards, rootType } of CASES) {
  t.test(`${name}: each open comes out as it is explained`, async (t) => {
    const { daemon, container, visitor, visitorPid } = await sceneOf(t, rootType);
    for (const [index, [subject, rest]] of guards.entries())
      await daemon.createGuard(guardOn(container, subject, { name: `g${index}`, ...rest }));
    if (rootType === "bind") {
      const { cover } = await daemon.client.explain({ container: container.id, path: "/app/secret" });
      t.match(cover, { identity: true, superblock: false, mount: true });
    }
    // What was guarded stays so, wherever it goes.
    t.equal(await visitor.rename("/app/gone", "/moved"), 0);
    const wrong: string[] = [];
    const seen = new Set<Verdict>();
    const check = async (path: string, explain = () => daemon.client.explain({ container: container.id, path })) => {
      const said = await explain();
      const asked: [Who, () => Promise<number> | number][] = [
        [Who.CONTAINER, () => visitor.open(path)],
        [Who.OWNER, () => container.init.open(path)],
        [Who.NODE, () => openOnNode(nodePath(container, said.path))],
      ];
      for (const [who, open] of asked) {
        const verdict = verdictOf(said, who);
        seen.add(verdict?.verdict ?? Verdict.UNSPECIFIED);
        const difference = await differs(daemon, verdict, open);
        if (difference !== undefined) wrong.push(`${path} by ${Who[who]}: ${difference}`);
      }
      for (const [pid, who] of [
        [visitorPid, Who.CONTAINER],
        [container.initPid, Who.OWNER],
        [process.pid, Who.NODE],
      ] as const) {
        const one = verdictOf(await daemon.client.explain({ container: container.id, path, pid }), Who.PROCESS);
        const same = one?.verdict === verdictOf(said, who)?.verdict && one?.pid === pid;
        if (!same) wrong.push(`${path} by ${pid}, ${Who[who]}: ${one?.verdict}`);
      }
    };
    for (const path of PATHS) await check(path);
    for (const [index, path] of MISSING.entries()) {
      const before = await daemon.client.explain({ container: container.id, path });
      if (before.exists) wrong.push(`${path} exists`);
      // To be renamed is no open; and what is found then is what was said before.
      const from = `${before.path.startsWith("/data/") ? "/data" : "/tmp"}/new${index}`;
      t.equal(await visitor.rename(from, before.path), 0, path);
      await check(path, async () => before);
    }
    t.same(wrong, []);
    t.ok(seen.size >= 2, `${[...seen].map((verdict) => Verdict[verdict])}`);
    await daemon.stop();
  });
}

t.test("what is said, in text and in JSON", async (t) => {
  const { daemon, container, visitorPid } = await sceneOf(t);
  await daemon.createGuard(guardOn(container, APP, { name: "app", namespace: "shop" }));
  await daemon.createGuard(
    guardOn(container, { deny: ["/app/secret"], autoAllowOwner: true }, { name: "s", ...AUDIT }),
  );
  const run = (...args: string[]) => janusctl(["--address", daemon.grpcAddress, "explain", ...args]);
  const id = container.id.slice(0, 12);
  const text = await run(`containerd://${container.id}`, "/out/hard", "--pid", String(visitorPid));
  t.equal(text.err, "");
  t.same(text.out.split("\n"), [
    `open of /out/hard in ${id}`,
    "a file on overlay, one of 2 names",
    "judged as /app/secret, too: it was there",
    "the kernel asks by what it is (pinned) and a mark on its file system",
    "",
    "WHO                          VERDICT   BY                              BECAUSE",
    "a process of the container   DENY      shop/app subject[0] deny /app   so says s",
    "the container's owner        DENY      shop/app subject[0] deny /app   -",
    "the node                     DENY      shop/app subject[0] deny /app   so says s",
    `${`process ${visitorPid}`.padEnd(26)}   DENY      shop/app subject[0] deny /app   so says s`,
    "",
    "RULE               GUARD                 MODE      HERE",
    "deny /app/secret   s subject[0]          audit     applies",
    "deny /app          shop/app subject[0]   enforce   applies",
    "",
  ]);
  const json = JSON.parse((await run(id, "/app/conf/later", "-o", "json")).out);
  t.match(json, {
    ...{ container: container.id, event: "open", path: "/app/conf/later", exists: false, directory: false, links: 0 },
    judgedAs: ["/app/conf/later"],
    rules: [{ guard: { name: "app", namespace: "shop", podName: "pod" }, action: "deny", path: "/app" }],
    verdicts: [{ actor: "ACTOR_CONTAINER", verdict: "VERDICT_DENY" }, {}, { actor: "ACTOR_NODE" }],
    cover: { identity: true, superblock: true, mount: false, ignored: false, never: "" },
  });
  const bearingOf = async (path: string, event = "open") =>
    (await daemon.client.explain({ container: container.id, path, event })).rules.map(({ bearing }) => bearing);
  t.same(await bearingOf("/app/pub/f"), [RuleBearing.APPLIES, RuleBearing.SHADOWED]);
  t.same(await bearingOf("/app/logs/a.log"), [RuleBearing.EXCLUDED]);
  t.same(await bearingOf("/app/tool", "exec"), [RuleBearing.OTHER_EVENT]);
  t.match(
    (await run(id, "/app/pipe")).out,
    /^the kernel never asks: the kernel asks about files and directories only$/m,
  );
  t.match((await run(id, "/out/f")).out, /^the kernel asks by a mark on its file system; it may have been told/m);
  t.match((await run(id, "/out/relative")).out, /^open of \/app\/secret in .*, where \/out\/relative leads$/m);
  await daemon.stop();
});

t.test("exec and access, too", async (t) => {
  const { daemon, container, visitor } = await sceneOf(t);
  await daemon.createGuard(
    guardOn(container, [
      { deny: ["/app/tool"], event: ["exec"] },
      { deny: ["/app/secret"], event: ["access"] },
    ]),
  );
  const verdict = async (path: string, event: string) =>
    verdictOf(await daemon.client.explain({ container: container.id, path, event }), Who.CONTAINER)?.verdict;
  t.same(await verdict("/app/tool", "exec"), Verdict.DENY);
  t.equal(await visitor.exec("/app/tool"), EPERM);
  t.same(await verdict("/app/tool", "open"), Verdict.UNJUDGED);
  t.equal(await visitor.open("/app/tool"), 0);
  t.same(await verdict("/out/hard", "access"), Verdict.DENY);
  t.equal(await visitor.read("/out/hard"), EPERM);
  await daemon.stop();
});

t.test("changes: whom the kernel tells; a symlink itself, where it would be changed", async (t) => {
  const { daemon, container } = await sceneOf(t);
  await daemon.createGuard(guardOn(container, { watch: ["/app"], recursive: true, event: ["create", "delete"] }));
  const ask = (path: string, event: string) => daemon.client.explain({ container: container.id, path, event });
  const recorded = await ask("/app/secret", "delete");
  t.match(verdictOf(recorded, Who.CONTAINER), {
    verdict: Verdict.ALLOW,
    answered: false,
    action: "watch",
    path: "/app",
  });
  t.match(recorded.cover, { told: true, identity: false, never: "it decides about changes by itself" });
  const other = await ask("/app/secret", "attrib");
  t.match(verdictOf(other, Who.CONTAINER), { verdict: Verdict.UNJUDGED });
  t.match(other.cover, { told: false });
  t.same(
    other.rules.map(({ bearing }) => bearing),
    [RuleBearing.OTHER_EVENT],
  );
  t.match(await ask("/out/absolute", "delete"), { path: "/out/absolute", exists: true, symlink: true });
  t.match(await ask("/out/dir/secret", "delete"), { path: "/app/secret", symlink: false });
  t.match(await ask("/out/absolute", "truncate"), { path: "/app/secret", symlink: false });
  t.match(await ask("/out/absolute/", "truncate"), { path: "/app/secret", symlink: false });
  const later = await ask("/app/conf/later", "create");
  t.match(later, { exists: false, judgedAs: ["/app/conf/later"] });
  t.match(verdictOf(later, Who.CONTAINER), { verdict: Verdict.ALLOW, path: "/app" });
  // By its name: this one has another in the guarded tree.
  const named = await ask("/out/hard", "create");
  t.match(named, { exists: true, directory: false, judgedAs: ["/out/hard"] });
  t.match(verdictOf(named, Who.CONTAINER), { verdict: Verdict.UNJUDGED });
  t.match((await ask("/app/pipe", "write")).cover, { never: /^only what is written to a regular file/ });
  const run = (...args: string[]) => janusctl(["--address", daemon.grpcAddress, "explain", container.id, ...args]);
  t.match(
    (await run("/app/secret", "--event=delete")).out,
    /^delete of .app.secret in .*\n.*\nthe kernel never asks: it decides about changes by itself; it tells after the fact$/m,
  );
  t.match(
    (await run("/out/absolute", "--event=movedfrom")).out,
    /^movedfrom of .out.absolute in .*\na symlink on overlay$/m,
  );
  await daemon.stop();
});

t.test("without a guard; and what makes no sense: a line each, status 2", async (t) => {
  const { daemon, container } = await sceneOf(t);
  const run = (...args: string[]) => janusctl(["--address", daemon.grpcAddress, "explain", ...args]);
  const said = await daemon.client.explain({ container: container.id, path: "/app/secret" });
  t.same(
    said.verdicts.map(({ verdict }) => verdict),
    [Verdict.UNJUDGED, Verdict.UNJUDGED, Verdict.UNJUDGED],
  );
  t.match(said.cover, { identity: false, superblock: false, mount: false });
  const { id } = container;
  const refused: readonly (readonly [RegExp, ...string[]])[] = [
    [/^janusctl: INVALID_ARGUMENT: path: is relative; .*\n$/, id, "app/secret"],
    [/^janusctl: INVALID_ARGUMENT: path: is empty; .*\n$/, id, ""],
    [/^janusctl: INVALID_ARGUMENT: path: too many symbolic links on the way\n$/, id, "/out/loop"],
    [/^janusctl: INVALID_ARGUMENT: container: not a container id: .*\n$/, "a*", "/app"],
    [/^janusctl: INVALID_ARGUMENT: pid: no such process\n$/, id, "/app", "--pid", "4194300"],
    [/^error: option '--pid <pid>' argument '0x1' is invalid. Not a process's number.\n$/, id, "/app", "--pid", "0x1"],
    [
      /^error: option '--event <event>' argument 'modify' is invalid. .* open, access, exec, create, delete, .*\n$/,
      id,
      "/app",
      "--event",
      "modify",
    ],
    [/^error: missing required argument 'path'\n$/, id],
  ];
  for (const [message, ...args] of refused) {
    const { status, out, err } = await run(...args);
    t.match({ status, out, err }, { status: 2, out: "", err: message });
  }
  t.match(await run("f".repeat(64), "/app"), { status: 1, err: /^janusctl: NOT_FOUND: / });
  const unknown = await daemon.client
    .explain({ container: id, path: "a", event: "modify", pid: -1 })
    .catch((error) => error);
  t.match(unknown, { code: "INVALID_ARGUMENT", violations: [{ field: "path" }, { field: "event" }, { field: "pid" }] });
  await daemon.stop();
});
