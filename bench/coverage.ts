/** What a guard costs where nothing is guarded: whole programs, the node's own files, and very large trees. */
import { execFileSync } from "node:child_process";
import { mkdirSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { workspaceDirectory } from "../test/support/cleanup.js";
import { type Daemon, eventually, type GuardInit, startDaemon } from "../test/support/daemon.js";
import type { Figures } from "./figures.js";
import { Load, LoadedContainer, type Work } from "./load.js";
import { residentMegabytes, threadTimes, timesSince } from "./process.js";
import { installPackages, makeToolchain, unpackAndCompile } from "./toolchain.js";
import type { Watched } from "./watched.js";

function guardOf({ container }: LoadedContainer, path: string): GuardInit {
  const subject = [{ deny: [path], event: ["open"], recursive: true }];
  return { name: "coverage", podName: "bench", nodeName: "testnode", cid: [container.id], subject };
}

/** Runs a script in both containers. Who is first alternates with `round`. The daemon's processor time is the guard's. */
async function inBoth(
  round: number,
  unwatched: LoadedContainer,
  guarded: LoadedContainer,
  daemon: Daemon,
  script: string,
): Promise<{ readonly unwatched: Work; readonly guarded: Work }> {
  let first: Work | undefined;
  if (round % 2 === 0) first = await unwatched.shell(script);
  const before = threadTimes(daemon.pid);
  const { ns, cpuNs } = await guarded.shell(script);
  const ours = { ns, cpuNs: cpuNs + timesSince(daemon.pid, before).total };
  return { unwatched: first ?? (await unwatched.shell(script)), guarded: ours };
}

/** A layer on the node's file system that is gone when `use` ends. */
async function withLayer(name: string, use: (path: string) => Promise<void>): Promise<void> {
  const path = join(workspaceDirectory(), name);
  mkdirSync(path);
  try {
    await use(path);
  } finally {
    rmSync(path, { recursive: true });
  }
}

async function withPair(
  layer: string,
  use: (unwatched: LoadedContainer, guarded: LoadedContainer) => Promise<void>,
): Promise<void> {
  await using unwatched = await LoadedContainer.start({ layers: [layer] });
  await using guarded = await LoadedContainer.start({ layers: [layer] });
  await use(unwatched, guarded);
}

/** A walk by busybox's find over 100,000 directories that a guard elsewhere in the container doesn't cover. */
export async function find(figures: Figures, { daemon }: Watched): Promise<void> {
  await withLayer("tree", async (layer) => {
    const node = Load.onNode();
    await node.makeTree(join(layer, "tree"), 100, 1000);
    await node.run("/", ["find", layer, "-name", "none"]); // The lower file system's caches are no part of this.
    await node.stop();
    await withPair(layer, async (unwatched, guarded) => {
      const guard = guardOf(guarded, "/guarded");
      await daemon.createGuard(guard);
      for (let round = 0; round < 9; ++round) {
        const walk = await inBoth(round, unwatched, guarded, daemon, "find /tree -name none");
        const name = round === 0 ? "find_100k_first_vs_unwatched" : "find_100k_vs_unwatched";
        figures.add(name, walk.guarded.ns / walk.unwatched.ns);
      }
      await daemon.destroyGuard(guard);
    });
  });
}

/** Unpacking and compiling a C tree, and `npm ci` from its cache, with a guard elsewhere in the container. */
export async function build(figures: Figures, { daemon }: Watched): Promise<void> {
  await withLayer("toolchain", async (layer) => {
    makeToolchain(layer);
    await withPair(layer, async (unwatched, guarded) => {
      const guard = guardOf(guarded, "/guarded");
      await daemon.createGuard(guard);
      for (let round = 0; round <= 6; ++round) {
        const asked = await daemon.metric("janusd_asked_total");
        const c = await inBoth(round, unwatched, guarded, daemon, unpackAndCompile);
        const npm = await inBoth(round, unwatched, guarded, daemon, installPackages);
        if (round === 0) continue; // warms up
        figures.add("build_questions", (await daemon.metric("janusd_asked_total")) - asked);
        figures.add("build_c_vs_unwatched", c.guarded.ns / c.unwatched.ns);
        figures.add("build_npm_vs_unwatched", npm.guarded.ns / npm.unwatched.ns);
        figures.add("build_vs_unwatched", (c.guarded.ns + npm.guarded.ns) / (c.unwatched.ns + npm.unwatched.ns));
        figures.add(
          "build_cpu_vs_unwatched",
          (c.guarded.cpuNs + npm.guarded.cpuNs) / (c.unwatched.cpuNs + npm.unwatched.cpuNs),
        );
      }
      await daemon.destroyGuard(guard);
    });
  });
}

/**
 * Directories that cross the border of a guarded tree, there and back. Each was opened before, so that an ignore mark
 * may have been learned for it, and is new to the guard.
 */
export async function renames(figures: Figures, watched: Watched): Promise<void> {
  await using unwatched = await LoadedContainer.start();
  await using guarded = await LoadedContainer.start();
  const rounds = 7;
  const count = 500;
  for (const { load } of [unwatched, guarded]) {
    for (let round = 0; round < rounds; ++round) await load.makeFiles(`/outside/${round}/#/file`, count);
    await load.makeFiles("/guarded/file", 1);
  }
  const guard = guardOf(guarded, "/guarded");
  await watched.daemon.createGuard(guard);
  for (let round = 0; round < rounds; ++round) {
    const storm = ({ load }: LoadedContainer) => load.rename(`/outside/${round}/#`, "/guarded/#", "file", count);
    figures.add("rename_storm_unwatched_ns", (await storm(unwatched)).ns / (2 * count));
    const { ns, opened } = await storm(guarded);
    figures.add("rename_storm_ns", ns / (2 * count));
    figures.add("rename_storm_slips", opened);
    await watched.settle();
  }
  await watched.daemon.destroyGuard(guard);
}

/** A file on the node's file system, next to a volume that a container's guard covers, opened by the node. */
export async function node(figures: Figures, { daemon }: Watched): Promise<void> {
  await using container = await LoadedContainer.start({ volumes: [{ target: "/data" }] });
  const [volume] = container.container.volumes;
  if (volume === undefined) throw new RangeError("no volume");
  const beside = join(dirname(volume), "beside");
  const load = Load.onNode();
  await load.makeFiles(beside, 1);
  await container.load.makeFiles("/data/file", 1);
  const guard = guardOf(container, "/data");
  const measure = () => load.openUndisturbed(beside);
  for (let round = 0; round <= 15; ++round) {
    const before = await measure();
    await daemon.createGuard(guard);
    await container.load.open("/data/file", 1, 1, "denied");
    const during = await measure();
    await daemon.destroyGuard(guard);
    if (round > 0) figures.add("node_open_vs_unwatched", during / ((before + (await measure())) / 2));
  }
  await load.stop();
}

/** From CreateGuard until 100,000 files in 100 directories below its path are pinned. The limit is higher than the default for that. */
export async function scan(figures: Figures): Promise<void> {
  const daemon = await startDaemon({ flags: ["--identity-limit", "200000"] });
  await withLayer("scan", async (layer) => {
    const maker = Load.onNode();
    for (let directory = 0; directory < 100; ++directory)
      await maker.makeFiles(join(layer, `tree/${directory}/#`), 1000);
    await maker.stop();
    await using container = await LoadedContainer.start({ layers: [layer] });
    const guard = guardOf(container, "/tree");
    for (let round = 0; round < 3; ++round) {
      const start = performance.now();
      await daemon.createGuard(guard);
      await eventually("all is scanned", async () => (await daemon.metric("janusd_scans_pending")) === 0);
      figures.add("scan_100k_ms", performance.now() - start);
      const pinned = () => daemon.metric("janusd_marks", { kind: "identity" });
      if ((await pinned()) < 100_000) throw new Error("not all is pinned");
      await daemon.destroyGuard(guard);
      await eventually("all is unpinned", async () => (await pinned()) === 0);
    }
  });
  await daemon.stop();
}

/** A recursive guard on 1,000,000 directories. They are on a tmpfs, only since that is made and gone in seconds. */
export async function million(figures: Figures, watched: Watched): Promise<void> {
  await withLayer("million", async (layer) => {
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=8g,nr_inodes=0", "tmpfs", layer]);
    try {
      const maker = Load.onNode();
      await maker.makeTree(join(layer, "tree"), 1000, 1000);
      await maker.stop();
      await using container = await LoadedContainer.start({ layers: [layer] });
      const { daemon } = watched;
      const guard = guardOf(container, "/tree");
      for (let round = 0; round <= 5; ++round) {
        await watched.rest();
        const before = residentMegabytes(daemon.pid);
        const start = performance.now();
        await daemon.createGuard(guard);
        const taken = performance.now() - start;
        await container.load.open("/tree/999/999", 1, 1, "denied");
        await watched.rest(); // It may look through the tree behind the call.
        const after = residentMegabytes(daemon.pid);
        await daemon.destroyGuard(guard);
        if (round === 0) continue; // The first call of a kind makes the daemon's heap grow.
        figures.add("recursive_million_create_ms", taken);
        figures.add("recursive_million_rss_mb", after - before);
      }
    } finally {
      execFileSync("umount", [layer]);
    }
  });
}
