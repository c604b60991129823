/** Entries of a daemon's eBPF maps, changed behind its back. */
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import type { Daemon } from "./daemon.js";

const bpftool = (...args: readonly string[]) => execFileSync("bpftool", args, { encoding: "utf8" });

/** The kernel's number of the map that one of the daemon's descriptors is of. */
function mapOf(daemon: Daemon, fd: string): string | undefined {
  try {
    return /^map_id:\s*(\d+)$/m.exec(readFileSync(`/proc/${daemon.pid}/fdinfo/${fd}`, "utf8"))?.[1];
  } catch {
    return undefined; // it was closed meanwhile
  }
}

/** Others' maps have the same names. */
function idOf(daemon: Daemon, name: string): string {
  const own = new Set(readdirSync(`/proc/${daemon.pid}/fdinfo`).map((fd) => mapOf(daemon, fd)));
  const all = bpftool("map", "show").matchAll(/^(\d+): .* name (\S+) /gm);
  const id = [...all].find(([, id, named]) => named === name && own.has(id))?.[1];
  if (id === undefined) throw new Error(`the daemon has no map ${name}`);
  return id;
}

/** A number, as bpftool takes it. */
const bytes = (value: number) => [0, 8, 16, 24].map((shift) => String((value >>> shift) & 0xff));

/** As if the process table had been full as this process came. */
export function unlist(daemon: Daemon, pid: number): void {
  bpftool("map", "update", "id", idOf(daemon, "untracked"), "key", ...bytes(0), "value", ...bytes(1));
  bpftool("map", "delete", "id", idOf(daemon, "tasks"), "key", ...bytes(pid));
}
