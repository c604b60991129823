/**
 * `bench/run [SECTION...]`: measures, prints the table, writes
 * bench/out/latest.json (all sections) or bench/out/part.json (some).
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { cpus, loadavg, release } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { arrivals } from "./arrivals.js";
import { busy } from "./busy.js";
import { cluster } from "./cluster.js";
import { build, find, million, node, renames, scan } from "./coverage.js";
import { create } from "./create.js";
import { dirents } from "./dirents.js";
import { Figures, table } from "./figures.js";
import { insight } from "./insight.js";
import { lifecycle } from "./lifecycle.js";
import { memory } from "./memory.js";
import { neighbour } from "./neighbour.js";
import { opens } from "./opens.js";
import { residentMegabytes } from "./process.js";
import { scale } from "./scale.js";
import { search } from "./search.js";
import { stream } from "./stream.js";
import { forks, storm } from "./tracker.js";
import { Watched } from "./watched.js";

/** Measured first, while no daemon runs but their own. */
const alone: Readonly<Record<string, (figures: Figures) => Promise<void>>> = {
  forks,
  search,
  busy,
  insight,
  dirents,
  arrivals,
  memory,
  scale,
  cluster,
};

const sections: Readonly<Record<string, (figures: Figures, watched: Watched) => Promise<void>>> = {
  opens,
  stream,
  create,
  lifecycle,
  storm,
  neighbour,
  renames,
  node,
  find,
  build,
  scan,
  million,
};

/** One line each: how the time of an answered event divides. */
function whereItGoes(figures: Figures): string[] {
  const lines: string[] = [];
  const threads = Object.entries(figures.toJSON()).filter(([name]) => name.startsWith("cpu_us_per_event_of_"));
  const shares = threads
    .filter(([, { median }]) => median >= 0.01)
    .toSorted(([, a], [, b]) => b.median - a.median)
    .map(([name, { median }]) => `${name.slice("cpu_us_per_event_of_".length)} ${median.toFixed(2)}`);
  if (shares.length > 0)
    lines.push(`Processor time of an answered and logged event, us by thread: ${shares.join(", ")}.`);
  const [allow, floor, decision] = (["allow_answered_ns", "floor_allow_ns", "decision_us"] as const).map((name) =>
    figures.median(name),
  );
  if (allow !== undefined && floor !== undefined && decision !== undefined)
    lines.push(
      `An answered open takes ${((allow - floor) / 1000).toFixed(2)} us more than the floor's; deciding takes ${decision.toFixed(2)} us of it all.`,
    );
  return lines;
}

/** Runs those of `all` that are wanted. One that fails is said, and told by the exit status: the rest is worth having all the same. */
async function runEach<Arguments extends readonly unknown[]>(
  all: Readonly<Record<string, (...args: Arguments) => Promise<void>>>,
  wanted: readonly string[],
  ...args: Arguments
): Promise<void> {
  for (const [name, section] of Object.entries(all)) {
    if (wanted.length > 0 && !wanted.includes(name)) continue;
    const start = performance.now();
    try {
      await section(...args);
    } catch (error) {
      console.error(error);
      process.exitCode = 1;
    }
    console.log(`${name}: ${((performance.now() - start) / 1000).toFixed(1)} s`);
  }
}

async function main(wanted: readonly string[]): Promise<void> {
  const known = Object.keys({ ...alone, ...sections });
  for (const name of wanted)
    if (!known.includes(name)) throw new Error(`no section ${name}; there are ${known.join(", ")}`);
  const figures = new Figures();
  const load = loadavg()[0] ?? 0;
  const noise =
    load > 0.5 ? `Others were at work when it began (load average ${load.toFixed(2)}): expect noise.\n` : "";
  console.log(`Linux ${release()}, ${cpus().length} processors\n${noise}`);
  await runEach(alone, wanted, figures);
  await using watched = await Watched.start();
  await sleep(1000);
  figures.add("rss_idle_mb", residentMegabytes(watched.daemon.pid));
  await runEach(sections, wanted, figures, watched);
  const out = new URL(`out/${wanted.length > 0 ? "part" : "latest"}.json`, import.meta.url);
  mkdirSync(new URL(".", out), { recursive: true });
  writeFileSync(out, `${JSON.stringify(figures, null, 2)}\n`);
  console.log(`\n${table(figures.toJSON())}\n\n${whereItGoes(figures).join("\n")}\n${noise}${out.pathname}`);
}

await main(process.argv.slice(2));
