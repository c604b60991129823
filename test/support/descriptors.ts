/** What a daemon's descriptors are, as the kernel tells it. */
import { readdirSync, readFileSync } from "node:fs";
import type { Daemon } from "./daemon.js";

/** What the kernel says of each of the daemon's descriptors; of those that are gone meanwhile nothing. */
export function descriptorsOf(daemon: Daemon): [fd: string, info: string][] {
  const directory = `/proc/${daemon.pid}/fdinfo`;
  return readdirSync(directory).flatMap((fd): [string, string][] => {
    try {
      return [[fd, readFileSync(`${directory}/${fd}`, "utf8")]];
    } catch {
      return [];
    }
  });
}

/** The kernel's number of the eBPF map that a descriptor is of. */
export function mapId(info: string): string | undefined {
  return /^map_id:\s*(\d+)/m.exec(info)?.[1];
}
