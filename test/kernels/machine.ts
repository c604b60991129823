/**
 * Virtual machines with Debian's kernels: QEMU with emulated processors, so neither KVM nor a free machine is needed.
 *
 * kernel.sh makes what is booted, disk.sh what is on the disk, guest.sh runs inside: it runs steps, one after the other.
 */
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { createWriteStream, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { attemptProgram } from "../bypass/suite.js";
import { killAtExit } from "../support/cleanup.js";
import { staticProgram } from "../support/container.js";

const here = new URL(".", import.meta.url).pathname;

/** Series, and the package that names its newest kernel; of what suite, and architecture, if not of this machine's. */
const PACKAGES = {
  "6.1": ["linux-image-cloud-amd64"],
  "6.12": ["linux-image-6.12-cloud-amd64"],
  /** What the next Debian may have. */
  newest: ["linux-image-cloud-amd64", "sid"],
  /** Debian 13's 6.12. */
  arm64: ["linux-image-cloud-arm64", "trixie", "arm64"],
} as const;

export type Series = keyof typeof PACKAGES;

export const isSeries = (name: string): name is Series => name in PACKAGES;

export const allSeries: readonly Series[] = Object.keys(PACKAGES).filter(isSeries);

/** What is emulated. */
export type Architecture = "amd64" | "arm64";

export const architectureOf = (series: Series): Architecture => PACKAGES[series][2] ?? "amd64";

/** Each emulator's own arguments: a machine with two serial ports, of which ttyS0 comes first in `ports`. */
const EMULATORS: Readonly<Record<Architecture, Emulator>> = {
  amd64: {
    program: "qemu-system-x86_64",
    args: ["-cpu", "max,la57=off"],
    // Else the kernel takes a pause of the emulator for a broken clock, and reads an emulated device from then on.
    parameters: ["tsc=reliable"],
    console: "ttyS1",
    ports: (steps, kernel) => ["-serial", steps, "-serial", kernel],
  },
  /** A processor as clouds have it: pointers aren't signed, which would take an emulator most of its time. */
  arm64: {
    program: "qemu-system-aarch64",
    args: ["-M", "virt", "-cpu", "neoverse-n1"],
    parameters: [],
    console: "ttyAMA0",
    ports: (steps, kernel) => [
      "-serial",
      kernel,
      "-chardev",
      `${steps},id=steps`,
      "-device",
      "pci-serial,chardev=steps",
    ],
  },
};

interface Emulator {
  readonly program: string;
  readonly args: readonly string[];
  /** For the kernel. */
  readonly parameters: readonly string[];
  /** The kernel's own. */
  readonly console: string;
  readonly ports: (steps: string, kernel: string) => readonly string[];
}

/** Exit status of kernel.sh where there is no such kernel. */
const NO_KERNEL = 69;

/** Where programs of another architecture than this machine's are, and what is built for it. */
const arm64Directory = new URL("../../build/kernels/programs-arm64", import.meta.url).pathname;

/** Downloads and builds what machines of the architecture have, before the first is made. */
export function makePrograms(architecture: Architecture): void {
  if (architecture === "arm64")
    execFileSync(join(here, "arm64.sh"), [arm64Directory], { stdio: ["ignore", "ignore", "inherit"] });
}

/** What is booted, in a directory of its own. Returns its release; undefined if apt has no such kernel. */
export function makeKernel(series: Series, directory: string): string | undefined {
  const [meta, ...suite] = PACKAGES[series];
  const busybox = architectureOf(series) === "arm64" ? [join(arm64Directory, "base/usr/bin/busybox")] : [];
  const { status } = spawnSync(join(here, "kernel.sh"), [meta, directory, ...suite, ...busybox], {
    stdio: ["ignore", "ignore", "inherit"],
  });
  if (status === NO_KERNEL) return undefined;
  if (status !== 0) throw new Error(`kernel.sh: status ${status}`);
  return readFileSync(join(directory, "release"), "utf8").trim();
}

/** The disk of a machine, of this build. `layer`: a directory that is there as /opt/layer. */
export function makeDisk(file: string, { layer = "", architecture = "amd64" }: DiskOptions = {}): void {
  const foreign = architecture === "arm64";
  const cc = foreign ? "aarch64-linux-gnu-gcc" : "cc";
  const tests = foreign ? join(arm64Directory, "test") : join(here, "..");
  for (const source of readdirSync(join(here, "../support")).filter((name) => name.endsWith(".c")))
    staticProgram(join(here, "../support", source), { cc, build: join(tests, "support/build") });
  attemptProgram({ cc, build: join(tests, "bypass/build") });
  const args = [file, layer, ...(foreign ? [arm64Directory] : [])];
  execFileSync(join(here, "disk.sh"), args, { stdio: ["ignore", "ignore", "inherit"] });
}

export interface DiskOptions {
  readonly layer?: string;
  readonly architecture?: Architecture;
}

export interface Machine {
  readonly architecture?: Architecture;
  /** Where its kernel is. What it wrote goes there, too. */
  readonly directory: string;
  readonly disk: string;
  /** Emulated by one thread in turns: with a thread for each, the kernel's patches of its own code are seen too late. */
  readonly processors: number;
  /** Its time is the number of instructions that it has run, a nanosecond each: whatever else this computer does. One processor. */
  readonly counted?: boolean;
  /** Environment of the steps. */
  readonly environment?: Readonly<Record<string, string>>;
  /** One that hangs is ended. */
  readonly patienceMs: number;
}

export interface Step {
  readonly name: string;
  readonly ok: boolean;
  readonly seconds: number;
  /** Everything it wrote. */
  readonly output: readonly string[];
}

/** Runs the steps in a machine of its own; a step that the machine didn't get through is not ok. */
export async function boot(machine: Machine, names: readonly string[], done: (step: Step) => void): Promise<void> {
  const {
    architecture = "amd64",
    directory,
    disk,
    processors,
    counted = false,
    environment = {},
    patienceMs,
  } = machine;
  const emulator = EMULATORS[architecture];
  const parameters = [
    ...[`console=${emulator.console}`, "panic=-1", "mitigations=off", `kernels.steps=${names.join(",")}`],
    ...emulator.parameters,
    ...Object.entries(environment).map(([name, value]) => `${name}=${value}`),
  ];
  // It ends with this process, also if that is killed.
  const child = spawn(
    "setpriv",
    [
      ...["--pdeathsig", "KILL", emulator.program, ...emulator.args],
      ...["-accel", "tcg,thread=single", "-smp", String(processors), "-m", "2G"],
      ...(counted ? ["-icount", "shift=0,sleep=off"] : []),
      ...["-nodefaults", "-display", "none", "-no-reboot"],
      ...["-kernel", join(directory, "vmlinuz"), "-initrd", join(directory, "initrd")],
      ...["-drive", `file=${disk},if=virtio,format=raw,snapshot=on`],
      // The steps' output; the kernel's own.
      ...emulator.ports("stdio", `file:${join(directory, "console.log")}`),
      ...["-append", parameters.join(" ")],
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
