/**
 * `bench/run [SECTION...]`: measures, prints the table, writes
 * bench/out/latest.json (all sections) or bench/out/part.json (some).
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { cpus, loadavg, release } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { build, find, million, node, renames } from "./coverage.js";
import { create } from "./create.js";
import { Figures } from "./figures.js";
import { opens } from "./opens.js";
import { residentMegabytes } from "./process.js";
import { Watched } from "./watched.js";

const sections: Readonly<Record<string, (figures: Figures, watched: Watched) => Promise<void>>> = {
  opens,
  create,
  renames,
  node,
  find,
  build,
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

async function main(wanted: readonly string[]): Promise<void> {
  for (const name of wanted)
    if (!(name in sections)) throw new Error(`no section ${name}; there are ${Object.keys(sections).join(", ")}`);
  const figures = new Figures();
  const load = loadavg()[0] ?? 0;
  console.log(
    `Linux ${release()}, ${cpus().length} processors, load average ${load.toFixed(2)}${load > 0.5 ? ": others are at work, expect noise" : ""}`,
  );
  await using watched = await Watched.start();
  await sleep(1000);
  figures.add("rss_idle_mb", residentMegabytes(watched.daemon.pid));
  for (const [name, section] of Object.entries(sections)) {
    if (wanted.length > 0 && !wanted.includes(name)) continue;
    const start = performance.now();
    try {
      await section(figures, watched);
    } catch (error) {
      // The rest is worth having all the same; the exit status tells.
      console.error(error);
      process.exitCode = 1;
    }
    console.log(`${name}: ${((performance.now() - start) / 1000).toFixed(1)} s`);
  }
  const out = new URL(`out/${wanted.length > 0 ? "part" : "latest"}.json`, import.meta.url);
  mkdirSync(new URL(".", out), { recursive: true });
  writeFileSync(out, `${JSON.stringify(figures, null, 2)}\n`);
  console.log(`\n${figures.table()}\n\n${whereItGoes(figures).join("\n")}\n${out.pathname}`);
}

await main(process.argv.slice(2));
