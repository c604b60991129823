/** What it costs to follow containers' processes: those that are in none, and a storm in one. */
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { type Daemon, eventually, startDaemon } from "../test/support/daemon.js";
import { type Figures, median } from "./figures.js";
import { Load, LoadedContainer } from "./load.js";
import type { Watched } from "./watched.js";

async function guard(daemon: Daemon, { container }: LoadedContainer): Promise<void> {
  const subject = [{ deny: ["/guarded"], event: ["open"] }];
  await daemon.createGuard({ name: "tracker", podName: "bench", nodeName: "testnode", cid: [container.id], subject });
}

/** Nanoseconds that a process's eBPF programs ran so far, while the kernel keeps count. */
function programTime(pid: number): number {
  const directory = `/proc/${pid}/fdinfo`;
  const times = readdirSync(directory).map((fd) => {
    const [, ns] = /^run_time_ns:\s+(\d+)$/m.exec(readFileSync(`${directory}/${fd}`, "utf8")) ?? [];
    return Number(ns ?? 0);
  });
  return times.reduce((sum, ns) => sum + ns, 0);
}

async function whileCounting<Result>(measure: () => Promise<Result>): Promise<Result> {
  const sysctl = "/proc/sys/kernel/bpf_stats_enabled";
  const before = readFileSync(sysctl);
  writeFileSync(sysctl, "1");
  try {
    return await measure();
  } finally {
    writeFileSync(sysctl, before);
  }
}

/**
 * Processes of the node, without a daemon and with one that follows a container. A round is off, on, off; each is the
 * fastest of many short runs, which is what others at work on the machine disturb least.
 */
export async function forks(figures: Figures): Promise<void> {
  await using guarded = await LoadedContainer.start();
  const load = Load.onNode();
  const measure = () => load.spawn(50, 30);
  const off = [await measure()];
  for (let round = 0; round < 9; ++round) {
    const daemon = await startDaemon({ stdout: "pipe" });
    await guard(daemon, guarded);
    const on = await measure();
    const count = 1000;
    const programs = await whileCounting(async () => {
      const before = programTime(daemon.pid);
      await load.spawn(count, 1);
      return programTime(daemon.pid) - before;
    });
    await daemon.stop();
    off.push(await measure());
    figures.add("fork_exec_untracked_us", on / 1000);
    figures.add("fork_exec_vs_untracked", on / median(off.slice(-2)));
    figures.add("fork_exec_programs_ns", programs / count);
  }
  await load.stop();
}

/** 50,000 processes that are gone at once, in a guarded container, by two parents. */
export async function storm(figures: Figures, { daemon }: Watched): Promise<void> {
  const processes = 50_000;
  await using guarded = await LoadedContainer.start();
  await guard(daemon, guarded);
  const known = await daemon.metric("janusd_processes");
  for (let run = 0; run < 3; ++run) {
    const full = await daemon.metric("janusd_ebpf_map_full_total");
    const parents = [guarded.owner, guarded.load];
    const ns = await Promise.all(parents.map((load) => load.spawn(processes / parents.length, 1)));
    figures.add("storm_fork_exec_us", median(ns) / parents.length / 1000);
    // What was lost is read again, so that in the end the table is right.
    await eventually("the process table is right", async () => (await daemon.metric("janusd_processes")) === known);
    figures.add("storm_lost", (await daemon.metric("janusd_ebpf_map_full_total")) - full);
    figures.add("storm_ring_peak_kb", (await daemon.metric("janusd_ebpf_ring_peak_bytes")) / 1024);
    figures.add("bpf_maps_mb", (await daemon.metric("janusd_ebpf_map_bytes")) / 2 ** 20);
  }
  figures.add("storm_ring_kb", (await daemon.metric("janusd_ebpf_map_max_entries", { map: "records" })) / 1024);
  await daemon.destroyGuard({ podName: "bench", nodeName: "testnode" });
}
