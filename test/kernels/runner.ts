/**
 * Boots Debian's kernels in QEMU, one after the other, and has each load the
 * eBPF programs and run a core set of the kernel tests with the real daemon.
 *
 * What it makes is below build/kernels; nothing is installed.
 */
import { join } from "node:path";
import { parseArgs } from "node:util";
import type { Diagnosis } from "../../src/cli/doctor.js";
import {
  allSeries,
  architectureOf,
  boot,
  isSeries,
  makeDisk,
  makeKernel,
  makePrograms,
  type Series,
  type Step,
} from "./machine.js";

const build = new URL("../../build/kernels/", import.meta.url).pathname;

/** Steps of guest.sh, or files of test/kernel. What is first is cheap and tells most. */
const core = [
  "types",
  "programs",
  "doctor",
  "no-btf",
  "gate",
  "paths",
  "owner",
  "hold-open",
  "decide",
  "changes",
  "arrivals",
  "ending",
  "stall",
  "lifecycle",
  "volume",
  "health",
  "bypass",
  "bypass-container",
  "bypass-container-admin",
  "bypass-mounts",
] as const;

/** The part of them that was seen on arm64, and so belongs to `make kernels`. */
const coreOfArm64 = ["types", "programs", "doctor", "no-btf", "smoke"] as const;

/** For a computer that does much else: steps have as much time for what they wait for as this process is given. */
const environment = Object.fromEntries(
  Object.entries(process.env).flatMap(([name, value]) => (name === "TEST_PATIENCE_MS" && value ? [[name, value]] : [])),
);

/** A machine that hangs is ended. */
const patienceMs = 90 * 60_000;

const usage = `usage: test/kernels/run [options]
  --kernel SERIES  ${allSeries.join(" | ")} | all (default)
  --only STEP      ${core.join(", ")}, or any file of test/kernel; separate by commas.
                   arm64: ${coreOfArm64.join(", ")}`;

/** "12 of 13 tests" where the step wrote TAP. */
function tests(output: readonly string[]): string {
  const top = output.filter((line) => /^(not )?ok \d/.test(line));
  if (top.length === 0) return "";
  const good = top.filter((line) => line.startsWith("ok")).length;
  return good === top.length ? `${good} tests` : `${good} of ${top.length} tests`;
}

interface Doctor {
  /** Each feature, and the tier. */
  readonly rows: ReadonlyMap<string, string>;
  readonly next: readonly string[];
}

function doctorOf(output: readonly string[] = []): Doctor {
  const json = output.join("\n").trim();
  if (!json.startsWith("{")) return { rows: new Map(), next: [] };
  const { findings, next }: Diagnosis = JSON.parse(json);
  const features = findings.filter(({ group }) => group === "ebpf" || group === "fanotify");
  const tiers = findings.filter(({ group }) => group === "tier");
  return {
    rows: new Map([
      ...features.map(({ group, name, ok }) => [`${group} ${name}`, ok ? "yes" : "no"] as const),
      ...tiers.map(({ name, detail }) => [`tier of ${name}`, detail] as const),
    ]),
    next,
  };
}

function table(rows: readonly (readonly string[])[]): void {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => (row[column] ?? "").length)));
  for (const row of rows)
    console.log(
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join("  ")
        .trimEnd(),
    );
}

async function main(series: readonly Series[], only: readonly string[] | undefined): Promise<number> {
  const stepsOf = (name: Series) => only ?? (architectureOf(name) === "arm64" ? coreOfArm64 : core);
  const architectures = new Set(series.map(architectureOf));
  for (const architecture of architectures) makePrograms(architecture);
  const releases = new Map(series.map((name) => [name, makeKernel(name, join(build, name))]));
  for (const [name, release] of releases) if (release === undefined) throw new Error(`apt has no kernel of ${name}`);
  const disks = new Map([...architectures].map((architecture) => [architecture, join(build, `disk-${architecture}`)]));
  for (const [architecture, disk] of disks) makeDisk(disk, { architecture });

  const results = new Map<string, Map<string, Step>>();
  for (const name of series) {
    console.log(`Linux ${releases.get(name)}`);
    const steps = new Map<string, Step>();
    results.set(name, steps);
    const architecture = architectureOf(name);
    const disk = disks.get(architecture) ?? "";
    const machine = { architecture, directory: join(build, name), disk, processors: 2, patienceMs, environment };
    await boot(machine, stepsOf(name), (step) => {
      steps.set(step.name, step);
      console.log(
        `  ${step.ok ? "ok    " : "not ok"}  ${step.name.padEnd(12)} ${`${step.seconds} s`.padStart(6)}  ${tests(step.output)}`.trimEnd(),
      );
      if (!step.ok) for (const line of step.output.slice(-60)) console.log(`        ${line}`);
    });
  }

  const cell = (step: Step | undefined) => {
    if (step === undefined) return "";
    return step.ok ? tests(step.output) || "ok" : `FAILED ${tests(step.output)}`;
  };
  const doctors = series.map((name) => doctorOf(results.get(name)?.get("doctor")?.output));
  const known = new Set(doctors.flatMap(({ rows }) => [...rows.keys()]));
  console.log();
  table([
    ["", ...series],
    ...[...new Set(series.flatMap(stepsOf))].map((name) => [
      name,
      ...series.map((one) => cell(results.get(one)?.get(name))),
    ]),
    ...[...known].map((name) => [name, ...doctors.map(({ rows }) => rows.get(name) ?? "")]),
  ]);
  for (const [index, { next }] of doctors.entries())
    for (const line of next) console.log(`${series[index]} next: ${line}`);
  const failed = [...results.values()].flatMap((steps) => [...steps.values()]).filter((step) => !step.ok).length;
  console.log(`\n${failed === 0 ? "all steps ok" : `${failed} steps failed`}; logs in ${build}`);
  return failed === 0 ? 0 : 1;
}

function commandLine(): { readonly series: readonly Series[]; readonly only: readonly string[] | undefined } {
  try {
    const { values } = parseArgs({ options: { kernel: { type: "string", default: "all" }, only: { type: "string" } } });
    const wanted = values.kernel === "all" ? allSeries : values.kernel.split(",");
    const series = wanted.filter(isSeries);
    if (series.length < wanted.length) throw new Error(`--kernel ${values.kernel}: not known`);
    return { series, only: values.only?.split(",") };
  } catch (error) {
    console.error(`${error instanceof Error ? error.message : error}\n${usage}`);
    process.exit(64);
  }
}

const { series, only } = commandLine();
process.exitCode = await main(series, only);
