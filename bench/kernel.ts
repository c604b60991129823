/**
 * `bench/run kernel`: the kernel tier's figures on Debian's kernels, each in virtual machines (test/kernels), since this
 * computer's kernel need not take its programs. bench/guest.ts measures there. Prints tables, and writes
 * bench/out/kernel.json (by kernel), or bench/out/kernel-part.json, if not all was measured.
 */
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { cpus, loadavg } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import {
  allSeries,
  architectureOf,
  boot,
  makeDisk,
  makeKernel,
  type Series,
  type Step,
} from "../test/kernels/machine.js";
import { type Figure, table } from "./figures.js";
import { program } from "./load.js";
import { makeCompiler } from "./toolchain.js";

/** Sections of bench/guest.ts. Times are taken with one processor; whether anything slips through, with two. */
const SECTIONS = { opens: 1, node: 1, build: 1, guards: 1, sigkill: 2, upgrade: 2 } as const;

/** What the disk is for, with its compiler. */
const measurable = allSeries.filter((series) => architectureOf(series) === "amd64");

const usage = `usage: bench/run kernel [options]
  --kernel SERIES    ${measurable.join(" | ")} | all (default)
  --only SECTION     ${Object.keys(SECTIONS).join(", ")}; separate by commas
  --runs N           how often the daemon is killed, and upgraded (100)`;

const patienceMs = 4 * 3_600_000;

const build = new URL("../build/kernels/", import.meta.url).pathname;

function figuresOf({ name, output }: Step): Record<string, Figure> {
  const json = output.findLast((line) => line.startsWith("{"));
  if (json === undefined) throw new Error(`${name} wrote no figures`);
  const figures: Record<string, Figure> = JSON.parse(json);
  return figures;
}

async function measure(series: Series, disk: string, names: readonly string[], runs: string) {
  const directory = join(build, series);
  const release = makeKernel(series, directory);
  if (release === undefined) throw new Error(`apt has no kernel of ${series}`);
  console.log(`Linux ${release}, emulated by one of ${cpus().length} processors; load ${loadavg()[0]?.toFixed(1)}`);
  const figures: Record<string, Figure> = {};
  for (const processors of [1, 2]) {
    const steps = Object.entries(SECTIONS).filter(([name, count]) => count === processors && names.includes(name));
    if (steps.length === 0) continue;
    const machine = { directory, disk, processors, counted: processors === 1, patienceMs, environment: { RUNS: runs } };
    await boot(
      machine,
      steps.map(([name]) => `bench-${name}`),
      (step) => {
        console.log(`  ${step.name}: ${step.seconds} s${step.ok ? "" : ", FAILED"}`);
        if (step.ok) Object.assign(figures, figuresOf(step));
        else {
          for (const line of step.output.slice(-40)) console.log(`    ${line}`);
          process.exitCode = 1;
        }
      },
    );
  }
  console.log(`\n${table(figures)}\n`);
  return figures;
}

interface Wanted {
  readonly series: readonly Series[];
  readonly names: readonly string[];
  readonly runs: string;
}

function commandLine(): Wanted {
  try {
    const { values } = parseArgs({
      options: {
        kernel: { type: "string", default: "all" },
        only: { type: "string", default: Object.keys(SECTIONS).join() },
        runs: { type: "string", default: "100" },
      },
    });
    const wanted = values.kernel === "all" ? measurable : values.kernel.split(",");
    const series = measurable.filter((one) => wanted.includes(one));
    const names = values.only.split(",");
    if (series.length !== wanted.length) throw new Error(`--kernel ${values.kernel}: not known`);
    for (const name of names) if (!(name in SECTIONS)) throw new Error(`--only ${name}: not known`);
    if (!/^[1-9]\d*$/.test(values.runs)) throw new Error(`--runs ${values.runs}: not a number`);
    return { series, names, runs: values.runs };
  } catch (error) {
    console.error(`${error instanceof Error ? error.message : error}\n${usage}`);
    process.exit(64);
  }
}

async function main({ series, names, runs }: Wanted): Promise<void> {
  program("load.c");
  program("floor.c");
  const layer = join(build, "layer");
  rmSync(layer, { recursive: true, force: true });
  makeCompiler(layer);
  const disk = join(build, "bench-disk");
  makeDisk(disk, { layer });
  rmSync(layer, { recursive: true });

  const all: Record<string, Record<string, Figure>> = {};
  for (const one of series) all[one] = await measure(one, disk, names, runs);
  const whole = series.length === measurable.length && names.length === Object.keys(SECTIONS).length;
  const out = new URL(`out/kernel${whole ? "" : "-part"}.json`, import.meta.url);
  mkdirSync(new URL(".", out), { recursive: true });
  writeFileSync(out, `${JSON.stringify(all, null, 2)}\n`);
  console.log(out.pathname);
}

await main(commandLine());
