/**
 * What tests make on this machine, and how it goes away again.
 *
 * Owns: one directory for each test process, under /var/tmp, whose name says
 * which process made it. Containers, mounts and cgroups all carry that name,
 * so that a later run can sweep what a killed run left, and nothing else.
 */
import { type ChildProcess, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmdirSync } from "node:fs";
import { join } from "node:path";

const parent = "/var/tmp";
const prefix = "janusd-test-";
const cgroupRoot = "/sys/fs/cgroup";

/** A process's start time in clock ticks since boot; undefined if it is gone. With the pid it is unique. */
export function startTime(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19];
  } catch {
    return undefined;
  }
}

let workspace: string | undefined;

/** This process's own directory. Made at the first call, after leftovers of dead runs were swept. */
export function workspaceDirectory(): string {
  if (workspace === undefined) {
    sweep();
    workspace = mkdtempSync(join(parent, `${prefix}${process.pid}-${startTime(process.pid) ?? "0"}-`));
    for (const runtime of runtimes) mkdirSync(join(workspace, runtime));
  }
  return workspace;
}

const runtimes = ["runc", "crun"] as const;

export type Runtime = (typeof runtimes)[number];

/** A runtime's state directory of this process: no test sees another's containers, or the machine's. */
export function runtimeRoot(runtime: Runtime = "runc"): string {
  return join(workspaceDirectory(), runtime);
}

/** Where this process's containers go in each cgroup hierarchy. */
export function cgroupParent(): string {
  return `/${workspaceDirectory().slice(parent.length + 1)}`;
}

function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}

function ownerLives(name: string): boolean {
  const [pid, start] = name.slice(prefix.length).split("-");
  return startTime(Number(pid)) === start;
}

/** Mount points below a directory, deepest first. */
export function mountsBelow(directory: string): string[] {
  return readFileSync("/proc/self/mountinfo", "utf8")
    .split("\n")
    .map((line) => line.split(" ")[4] ?? "")
    .filter((point) => point.startsWith(`${directory}/`))
    .reverse();
}

/** Directories named `name` in every cgroup hierarchy, v1 and v2. */
export function cgroupsNamed(name: string): string[] {
  return cgroupsWhere((candidate) => candidate === name);
}

function cgroupsWhere(wanted: (name: string) => boolean): string[] {
  const roots = [cgroupRoot, ...namesIn(cgroupRoot).map((entry) => join(cgroupRoot, entry))];
  return roots.flatMap((root) =>
    namesIn(root)
      .filter(wanted)
      .map((name) => join(root, name)),
  );
}

/** Empty: it cannot be read. */
function textOf(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return "";
  }
}

function killIfAlive(pid: number): void {
  try {
    if (pid > 1) process.kill(pid, "SIGKILL");
  } catch {
    // It ended by itself.
  }
}

/** Removes a cgroup, those below it, and their processes. A cgroup's files cannot be unlinked: only rmdir works. */
function removeCgroup(directory: string): void {
  for (const pid of textOf(join(directory, "cgroup.procs")).split("\n")) killIfAlive(Number(pid));
  for (const entry of readdirSync(directory, { withFileTypes: true })) {
    if (entry.isDirectory()) removeCgroup(join(directory, entry.name));
  }
  try {
    rmdirSync(directory);
  } catch {
    // Its last process is not reaped yet: the next sweep has it.
  }
}

/** Node's own `rmSync` fails at paths longer than PATH_MAX, which tests make. */
export function removeTree(directory: string): void {
  spawnSync("rm", ["-rf", directory], { stdio: "ignore" });
}

function processesNaming(text: string): string[] {
  return namesIn("/proc").filter((pid) => textOf(`/proc/${pid}/cmdline`).includes(text));
}

/** conmon and containerd's shims outlive those who started them; their arguments name the directory. */
function killMonitors(directory: string): void {
  for (const pid of processesNaming(`${directory}/`)) killIfAlive(Number(pid));
}

/** Takes away everything that belongs to one test process's directory. Synchronous: it also runs while exiting. */
function removeWorkspace(directory: string): void {
  for (const runtime of runtimes) {
    const state = join(directory, runtime);
    for (const id of namesIn(state))
      spawnSync(runtime, ["--root", state, "delete", "--force", id], { stdio: "ignore" });
  }
  killMonitors(directory);
  for (const point of mountsBelow(directory)) spawnSync("umount", ["--lazy", point], { stdio: "ignore" });
  for (const cgroup of cgroupsNamed(directory.slice(parent.length + 1))) removeCgroup(cgroup);
  // A mount that would not go must not have its content deleted through it.
  if (mountsBelow(directory).length === 0) removeTree(directory);
}

/** Directories of test processes that are alive (`true`) or dead (`false`). */
export function workspaces(alive: boolean): string[] {
  return namesIn(parent)
    .filter((name) => name.startsWith(prefix) && ownerLives(name) === alive)
    .map((name) => join(parent, name));
}

/** Removes what runs that were killed left behind. */
export function sweep(): void {
  for (const directory of workspaces(false)) removeWorkspace(directory);
}

/** Removes what a test process left that has ended. Returns what is still there: its processes are not reaped yet. */
export function sweepAfter(pid: number, started: string): string[] {
  const beginning = `${prefix}${pid}-${started}-`;
  const left = (name: string) => name.startsWith(beginning);
  const directories = () =>
    namesIn(parent)
      .filter(left)
      .map((name) => join(parent, name));
  for (const directory of directories()) removeWorkspace(directory);
  for (const cgroup of cgroupsWhere(left)) removeCgroup(cgroup);
  const processes = processesNaming(join(parent, beginning)).map((process) => `process ${process}`);
  return [...directories(), ...cgroupsWhere(left), ...processes];
}

const children = new Set<number>();

/** Sees to it that a process that a test started does not outlive it. Returns a function that forgets it. */
export function killAtExit(pid: number): () => void {
  children.add(pid);
  return () => children.delete(pid);
}

/** Kills a process at the end of the test that started it, and waits for its end. */
export function endWith(t: { readonly teardown: (end: () => Promise<void>) => void }, child: ChildProcess): void {
  const forget = child.pid === undefined ? () => undefined : killAtExit(child.pid);
  const ended = once(child, "exit");
  t.teardown(async () => {
    child.kill("SIGKILL");
    await ended;
    forget();
  });
}

function cleanUp(): void {
  for (const pid of children) killIfAlive(pid);
  children.clear();
  if (workspace !== undefined) removeWorkspace(workspace);
  workspace = undefined;
}

process.on("exit", cleanUp);
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  process.once(signal, () => {
    cleanUp();
    process.kill(process.pid, signal);
  });
}
