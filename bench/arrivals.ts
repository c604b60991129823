/** What being held at its first program adds to a container's start: guarded, and not; interleaved with starts that nobody holds. */
import { existsSync, rmSync } from "node:fs";
import { join } from "node:path";
import { hasRun, oneShot, type PodEngine, startInPod, startPodEngine } from "../test/support/pods.js";
import { type Figures, quantile } from "./figures.js";

const containers = Number(process.env["ARRIVALS"] ?? 500);

type Way = "unheld" | "unselected" | "guarded";

interface Start {
  /** From the call of the runtime until the container's program has run. Milliseconds. */
  readonly taken: number;
  /** It could read what guards deny. */
  readonly read: boolean;
}

async function start(): Promise<Start> {
  const begun = performance.now();
  await using container = await startInPod(oneShot);
  while (!hasRun(container)) await new Promise((resolve) => setTimeout(resolve, 1));
  const taken = performance.now() - begun;
  rmSync(join(container.upper, "ran"));
  return { taken, read: existsSync(join(container.upper, "read")) };
}

function followAs(way: Way, { pods, guard }: PodEngine): void {
  if (way === "unheld") {
    pods.release();
    return;
  }
  pods.hold((arrivals) => {
    for (const { cgroupId, containerId } of arrivals) {
      if (way === "guarded") guard(containerId);
      pods.admit(cgroupId, way === "guarded");
    }
  });
}

export async function arrivals(figures: Figures): Promise<void> {
  const ends: (() => void)[] = [];
  const failures: string[] = [];
  const node = startPodEngine(["--pod-wait=10000"], {
    teardown: (end) => ends.push(end),
    fail: (what) => failures.push(what),
  });
  const started: Record<Way, number[]> = { unheld: [], unselected: [], guarded: [] };
  const held: Record<Way, number[]> = { unheld: [], unselected: [], guarded: [] };
  let slips = 0;
  try {
    for (let count = 0; count < containers; ++count) {
      for (const way of ["unheld", "unselected", "guarded"] as const) {
        followAs(way, node);
        const before = node.engine.stats().arrivals.waitedSeconds;
        const { taken, read } = await start();
        started[way].push(taken);
        if (way === "guarded" && read) slips++;
        if (way !== "guarded" && !read) failures.push(`${way}: the file was denied`);
        held[way].push((node.engine.stats().arrivals.waitedSeconds - before) * 1000);
      }
    }
  } finally {
    for (const end of ends) end();
  }
  if (failures.length > 0) throw new Error(failures.join("; "));
  figures.add("arrival_slips", slips);
  for (const way of ["unselected", "guarded"] as const) {
    figures.add(`arrival_${way}_p50_ms`, quantile(held[way], 0.5));
    figures.add(`arrival_${way}_p99_ms`, quantile(held[way], 0.99));
  }
  for (const way of ["unheld", "unselected", "guarded"] as const)
    figures.add(`arrival_start_${way}_ms`, quantile(started[way], 0.5));
}
