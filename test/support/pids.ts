/** Numbers of processes. */
import { readFileSync } from "node:fs";

/** The number that a process has in its own namespace. Throws if it has ended. */
export function namespacedPid(pid: number): number {
  const line = /^NSpid:\t.*?(\d+)$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"));
  return Number(line?.[1]);
}
