/**
 * Boots Debian's kernels in QEMU, one after the other, and has each load the
 * eBPF programs and run a core set of the kernel tests with the real daemon.
 *
 * kernel.sh makes what is booted, disk.sh what is on the disk, guest.sh runs
 * inside. Everything is below build/kernels; nothing is installed.
 */
import { execFileSync, spawn } from "node:child_process";
import { createWriteStream, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";
import type { Diagnosis } from "../../src/cli/doctor.js";
import { attemptProgram } from "../bypass/suite.js";
import { killAtExit } from "../support/cleanup.js";
import { staticProgram } from "../support/container.js";

const here = new URL(".", import.meta.url).pathname;
const build = new URL("../../build/kernels/", import.meta.url).pathname;

/** Series, and the package that names its newest kernel. */
const kernels: Readonly<Record<string, string>> = {
  "6.1": "linux-image-cloud-amd64",
  "6.12": "linux-image-6.12-cloud-amd64",
};

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
  "arrivals",
  "ending",
  "stall",
  "lifecycle",
  "volume",
  "health",
  "bypass",
  "bypass-mounts",
] as const;

/** A machine that hangs is ended. */
const patienceMs = 90 * 60_000;

const usage = `usage: test/kernels/run [options]
  --kernel SERIES  ${Object.keys(kernels).join(" | ")} | all (default)
  --only STEP      ${core.join(", ")}, or any file of test/kernel; separate by commas`;

interface Step {
  readonly name: string;
  readonly ok: boolean;
  readonly seconds: number;
  /** Everything it wrote. */
  readonly output: readonly string[];
}

/** Runs the steps in a machine of its own; a step that the machine didn't get through is not ok. */
async function boot(series: string, names: readonly string[], done: (step: Step) => void): Promise<void> {
  const directory = join(build, series);
  const child = spawn(
    "qemu-system-x86_64",
    [
      ...["-accel", "tcg,thread=single", "-cpu", "max,la57=off", "-smp", "1", "-m", "2G"],
      ...["-nodefaults", "-display", "none", "-no-reboot"],
      ...["-kernel", join(directory, "vmlinuz"), "-initrd", join(directory, "initrd")],
      ...["-drive", `file=${join(build, "disk")},if=virtio,format=raw,snapshot=on`],
      // The steps' output; the kernel's own.
      ...["-serial", "stdio", "-serial", `file:${join(directory, "console.log")}`],
      ...["-append", `console=ttyS1 panic=-1 mitigations=off kernels.steps=${names.join(",")}`],
    ],
    { stdio: ["ignore", "pipe", "inherit"] },
  );
  const forget = child.pid === undefined ? () => undefined : killAtExit(child.pid);
  const timer = setTimeout(() => child.kill("SIGKILL"), patienceMs);
  const log = createWriteStream(join(directory, "steps.log"));
  let output: string[] = [];
  let begun = 0;
  const left = new Set(names);
  const end = (name: string, ok: boolean) => {
    left.delete(name);
    done({ name, ok, seconds: Math.round((Date.now() - begun) / 1000), output });
  };
  for await (const line of createInterface({ input: child.stdout })) {
    log.write(`${line}\n`);
    const [, mark, name = "", status] = /^## (begin|end) (\S+) ?(\d*)$/.exec(line) ?? [];
    if (mark === "begin") {
      output = [];
      begun = Date.now();
    } else if (mark === "end") end(name, status === "0");
    else output.push(line);
  }
  clearTimeout(timer);
  forget();
  log.end();
  if (left.size === names.length) output = readFileSync(join(directory, "console.log"), "utf8").split("\n").slice(-20);
  for (const name of left) end(name, false);
}

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

async function main(series: readonly string[], names: readonly string[]): Promise<number> {
  for (const name of series) execFileSync(join(here, "kernel.sh"), [kernels[name] ?? "", join(build, name)]);
  for (const source of readdirSync(join(here, "../support")).filter((file) => file.endsWith(".c")))
    staticProgram(join(here, "../support", source));
  attemptProgram();
  execFileSync(join(here, "disk.sh"), [join(build, "disk")], { stdio: "inherit" });

  const results = new Map<string, Map<string, Step>>();
  for (const name of series) {
    const release = readFileSync(join(build, name, "release"), "utf8").trim();
    console.log(`Linux ${release}`);
    const steps = new Map<string, Step>();
    results.set(name, steps);
    await boot(name, names, (step) => {
      steps.set(step.name, step);
      console.log(
        `  ${step.ok ? "ok    " : "not ok"}  ${step.name.padEnd(12)} ${`${step.seconds} s`.padStart(6)}  ${tests(step.output)}`.trimEnd(),
      );
      if (!step.ok) for (const line of step.output.slice(-60)) console.log(`        ${line}`);
    });
  }

  const cell = (step: Step | undefined) =>
    step?.ok ? tests(step.output) || "ok" : `FAILED ${tests(step?.output ?? [])}`;
  const doctors = series.map((name) => doctorOf(results.get(name)?.get("doctor")?.output));
  const known = new Set(doctors.flatMap(({ rows }) => [...rows.keys()]));
  console.log();
  table([
    ["", ...series],
    ...names.map((name) => [name, ...series.map((one) => cell(results.get(one)?.get(name)))]),
    ...[...known].map((name) => [name, ...doctors.map(({ rows }) => rows.get(name) ?? "")]),
  ]);
  for (const [index, { next }] of doctors.entries())
    for (const line of next) console.log(`${series[index]} next: ${line}`);
  const failed = [...results.values()].flatMap((steps) => [...steps.values()]).filter((step) => !step.ok).length;
  console.log(`\n${failed === 0 ? "all steps ok" : `${failed} steps failed`}; logs in ${build}`);
  return failed === 0 ? 0 : 1;
}

function commandLine(): { readonly series: readonly string[]; readonly names: readonly string[] } {
  try {
    const { values } = parseArgs({ options: { kernel: { type: "string", default: "all" }, only: { type: "string" } } });
    const series = values.kernel === "all" ? Object.keys(kernels) : values.kernel.split(",");
    for (const name of series) if (kernels[name] === undefined) throw new Error(`--kernel ${name}: not known`);
    return { series, names: values.only?.split(",") ?? core };
  } catch (error) {
    console.error(`${error instanceof Error ? error.message : error}\n${usage}`);
    process.exit(64);
  }
}

const { series, names } = commandLine();
process.exitCode = await main(series, names);
