/** Entries of a daemon's eBPF maps, changed behind its back. */
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import type { Daemon } from "./daemon.js";

const bpftool = (...args: readonly string[]) => execFileSync("bpftool", args, { encoding: "utf8" });

/** The kernel's number of a map. */
function idOf(daemon: Daemon, name: string): string {
  const directory = `/proc/${daemon.pid}/fdinfo`;
  for (const fd of readdirSync(directory)) {
    const id = /^map_id:\s*(\d+)$/m.exec(readFileSync(`${directory}/${fd}`, "utf8"))?.[1];
    if (id !== undefined && bpftool("map", "show", "id", id).includes(` name ${name} `)) return id;
  }
  throw new Error(`the daemon has no map ${name}`);
}

/** A number, as bpftool takes it. */
const bytes = (value: number) => [0, 8, 16, 24].map((shift) => String((value >>> shift) & 0xff));

/** As if the process table had been full as this process came. */
export function unlist(daemon: Daemon, pid: number): void {
  bpftool("map", "update", "id", idOf(daemon, "untracked"), "key", ...bytes(0), "value", ...bytes(1));
  bpftool("map", "delete", "id", idOf(daemon, "tasks"), "key", ...bytes(pid));
}
