/** Entries of a daemon's eBPF maps, changed behind its back. */
import { execFileSync } from "node:child_process";
import type { Daemon } from "./daemon.js";
import { descriptorsOf, mapId } from "./descriptors.js";

const bpftool = (...args: readonly string[]) => execFileSync("bpftool", args, { encoding: "utf8" });

/** Others' maps have the same names. */
function idOf(daemon: Daemon, name: string): string {
  const own = new Set(descriptorsOf(daemon).map(([, info]) => mapId(info)));
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
