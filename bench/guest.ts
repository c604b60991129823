/**
 * `node bench/guest.js SECTION`: what the kernel tier costs, in a machine whose kernel takes it. bench/kernel.ts boots
 * such machines. The last line that it writes has the figures, as JSON.
 */
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Scope } from "../src/gen/janus_pb.js";
import { type Container, startContainer } from "../test/support/container.js";
import { type Daemon, type GuardInit, startDaemon } from "../test/support/daemon.js";
import { Figures, median } from "./figures.js";
import { Load, LoadedContainer, startFloor } from "./load.js";
import { unpackAndCompile } from "./toolchain.js";
import { Watched } from "./watched.js";

const figures = new Figures();

const guardOf = (container: Container, subject: GuardInit["subject"] = [], name = "kernel"): GuardInit => ({
  name,
  podName: container.id.slice(0, 12),
  nodeName: "testnode",
  cid: [container.id],
  subject,
});

const denying = (path: string) => [{ deny: [path], event: ["open"], recursive: true, scope: Scope.CONTAINER }];

async function kernelDecides(daemon: Daemon): Promise<void> {
  if ((await daemon.metric("janusd_kernel_decides")) !== 1) throw new Error("this kernel decides nothing by itself");
}

/** One short run of each kind a round, each round beginning with another. A ratio is of one round. */
async function opens(): Promise<void> {
  const distinct = 200;
  const files = Object.fromEntries(
    ["/g/plain", "/g/deny/file", ...Array.from({ length: distinct }, (_, index) => `/g/allow/${index}`)].map((path) => [
      path,
      "x",
    ]),
  );
  await using watched = await Watched.start();
  await kernelDecides(watched.daemon);
  await using unwatched = await LoadedContainer.start({ files });
  await using allowed = await LoadedContainer.start({ files });
  await using denied = await LoadedContainer.start({ files });
  await using denies = await LoadedContainer.start({ files });
  await using allows = await LoadedContainer.start({ files });
  using _allow = await startFloor("allow", allowed.container);
  using _deny = await startFloor("deny", denied.container);
  for (const { load } of [unwatched, denies]) await load.makeFiles("/written/file", 1);
  await watched.daemon.createGuard(guardOf(denies.container, denying("/g/deny")));
  const allow = [{ allow: ["/g/allow"], event: ["open"] }];
  await watched.daemon.createGuard(guardOf(allows.container, allow));

  const of = (container: LoadedContainer, path: string, outcome: "opened" | "denied", count = 2000) => {
    const files = path.includes("#") ? distinct : 1;
    return {
      one: () => container.load.openOne(path, files, count / files, outcome),
      all: () => container.load.open(path, files, count / files, outcome),
    };
  };
  const kinds = {
    unwatched: of(unwatched, "/g/plain", "opened"),
    denied: of(denies, "/g/deny/file", "denied"),
    unwatchedWritten: of(unwatched, "/written/file", "opened"),
    written: of(denies, "/written/file", "opened"),
    unwatchedDistinct: of(unwatched, "/g/allow/#", "opened"),
    allowed: of(allows, "/g/allow/#", "opened"),
    floorAllow: of(allowed, "/g/plain", "opened", 200),
    floorDeny: of(denied, "/g/plain", "denied", 200),
  };
  type Kind = keyof typeof kinds;
  const ratios = [
    ["k_deny", "denied", "unwatched"],
    ["k_written", "written", "unwatchedWritten"],
    ["k_allow", "allowed", "unwatchedDistinct"],
    ["k_floor_allow", "floorAllow", "unwatched"],
    ["k_floor_deny", "floorDeny", "unwatched"],
  ] as const;
  const order = Object.keys(kinds) as Kind[];
  for (let round = 0; round <= 12; ++round) {
    const taken = new Map<Kind, { readonly one: number; readonly all: number }>();
    const first = (round * 3) % order.length;
    for (const kind of [...order.slice(first), ...order.slice(0, first)]) {
      const one = await kinds[kind].one();
      await watched.settle();
      taken.set(kind, { one, all: await kinds[kind].all() });
      await watched.settle();
    }
    if (round === 0) continue; // warms up
    const times = (kind: Kind) => taken.get(kind) ?? { one: 0, all: 0 };
    figures.add("k_unwatched_ns", times("unwatched").one);
    for (const [figure, ours, other] of ratios) {
      figures.add(`${figure}_vs_unwatched`, times(ours).one / times(other).one);
      figures.add(`${figure}_work_vs_unwatched`, times(ours).all / times(other).all);
    }
  }
}

/** A process of the node: a file beside a guarded volume, and fork, exec and exit. A round is without a daemon, with, without. */
async function node(): Promise<void> {
  await using container = await LoadedContainer.start({ volumes: [{ target: "/data" }] });
  const [volume = ""] = container.container.volumes;
  const beside = join(dirname(volume), "beside");
  const load = Load.onNode();
  await load.makeFiles(beside, 1);
  const measure = async () => ({ open: await load.openUndisturbed(beside), fork: await load.spawn(20, 20) });
  let before = await measure();
  for (let round = 0; round < 5; ++round) {
    const daemon = await startDaemon({ stdout: "pipe" });
    await kernelDecides(daemon);
    await daemon.createGuard(guardOf(container.container, denying("/data")));
    const during = await measure();
    await daemon.kill();
    const after = await measure();
    figures.add("k_node_vs_absent", (2 * during.open) / (before.open + after.open));
    figures.add("k_node_fork_vs_absent", (2 * during.fork) / (before.fork + after.fork));
    before = after;
  }
  await load.stop();
}

/** Unpacking and compiling a C tree, with a guard elsewhere in the container. */
async function build(): Promise<void> {
  const layers = ["/opt/layer"];
  await using watched = await Watched.start();
  await kernelDecides(watched.daemon);
  await using unwatched = await LoadedContainer.start({ layers });
  await using guarded = await LoadedContainer.start({ layers, files: { "/guarded/file": "" } });
  await watched.daemon.createGuard(guardOf(guarded.container, denying("/guarded")));
  for (let round = 0; round <= 4; ++round) {
    const taken = new Map<LoadedContainer, number>();
    for (const one of round % 2 === 0 ? [unwatched, guarded] : [guarded, unwatched])
      taken.set(one, (await one.shell(unpackAndCompile)).ns);
    if (round > 0) figures.add("k_build_vs_unwatched", (taken.get(guarded) ?? 0) / (taken.get(unwatched) ?? 0));
  }
}

/** A thousand guards, each on a directory with a file in it: the eBPF maps' memory, and how long a change of one takes. */
async function guards(): Promise<void> {
  const [containers, each] = [5, 200];
  const files = Object.fromEntries(Array.from({ length: each + 1 }, (_, index) => [`/t/${index}/file`, ""]));
  const daemon = await startDaemon({ stdout: "pipe" });
  await kernelDecides(daemon);
  const held: Container[] = [];
  for (let index = 0; index < containers; ++index) held.push(await startContainer({ files }));
  const guard = (container: Container, index: number) => guardOf(container, denying(`/t/${index}`), `guard-${index}`);
  const [first] = held;
  if (first === undefined) throw new RangeError("no container");
  const change = async () => {
    const taken: number[] = [];
    for (let run = 0; run < 25; ++run) {
      const start = performance.now();
      await daemon.createGuard(guardOf(first, denying(`/t/${each - (run % 2)}`), `guard-${each}`));
      taken.push(performance.now() - start);
    }
    return median(taken.slice(5));
  };
  const megabytes = async () => (await daemon.metric("janusd_ebpf_map_bytes")) / 2 ** 20;
  figures.add("k_policy_p50_ms", await change());
  figures.add("k_maps_mb", await megabytes());
  for (const container of held)
    for (let index = 0; index < each; ++index) await daemon.createGuard(guard(container, index));
  figures.add("k_policy_p50_ms_1000_guards", await change());
  figures.add("k_maps_mb_1000_guards", await megabytes());
  await daemon.kill();
  for (const container of held) await container.stop();
}

/** How many of the opens of a denied file were let through while `run` replaced the daemon, and how many were not. */
async function underStorm(replace: (daemon: Daemon) => Promise<Daemon>, times: number) {
  await using container = await LoadedContainer.start({ files: { "/g/deny/file": "" } });
  let daemon = await startDaemon({ flags: ["--keep"] });
  await kernelDecides(daemon);
  await daemon.createGuard(guardOf(container.container, denying("/g/deny")));
  await container.load.open("/g/deny/file", 1, 10, "denied");
  let over = false;
  const storm = (async () => {
    const sum = { opened: 0, denied: 0 };
    while (!over) {
      const { opened, denied } = await container.load.storm("/g/deny/file", 1, 2, 2);
      sum.opened += opened;
      sum.denied += denied;
      await sleep(20); // The next daemon needs the processors to start, and to log all of them.
    }
    return sum;
  })();
  // If a daemon isn't there in time the container goes, and the storm with it: that is not what is to be told.
  storm.catch(() => undefined);
  for (let run = 0; run < times; ++run) daemon = await replace(daemon);
  over = true;
  const sum = await storm;
  await daemon.destroyGuard({ nodeName: "testnode", podName: container.container.id.slice(0, 12) });
  await daemon.kill("SIGTERM");
  return sum;
}

const times = Number(process.env["RUNS"] ?? 100);
const next = (daemon: Daemon) => startDaemon({ flags: ["--keep"], stateFile: daemon.stateFile });

async function sigkill(): Promise<void> {
  const { opened, denied } = await underStorm(async (daemon) => {
    await daemon.kill();
    return await next(daemon);
  }, times);
  figures.add("k_sigkills", times);
  figures.add("k_unjudged_sigkill", opened);
  figures.add("k_denied_sigkill", denied);
}

/** As a rolling update does: the new one beside the old one, which is then asked to end. (Emulated, it may need too long.) */
async function upgrade(): Promise<void> {
  const { opened, denied } = await underStorm(async (daemon) => {
    const newer = await next(daemon);
    await daemon.kill("SIGTERM");
    return newer;
  }, times);
  figures.add("k_upgrades", times);
  figures.add("k_unjudged_upgrade", opened);
  figures.add("k_denied_upgrade", denied);
}

const sections: Readonly<Record<string, () => Promise<void>>> = { opens, node, build, guards, sigkill, upgrade };
const section = sections[process.argv[2] ?? ""];
if (section === undefined) throw new Error(`no such section; there are ${Object.keys(sections).join(", ")}`);
await section();
console.log(JSON.stringify(figures));
