/** What a process costs, read from /proc. */
import { readdirSync, readFileSync } from "node:fs";

/** Processor time of each of a process's threads, in nanoseconds, by its name; the first one is "main". */
export function threadTimes(pid: number): Map<string, number> {
  const times = new Map<string, number>();
  for (const task of readdirSync(`/proc/${pid}/task`)) {
    const directory = `/proc/${pid}/task/${task}`;
    const name = Number(task) === pid ? "main" : readFileSync(`${directory}/comm`, "utf8").trim();
    const [ran] = readFileSync(`${directory}/schedstat`, "utf8").split(" ");
    times.set(name, (times.get(name) ?? 0) + Number(ran));
  }
  return times;
}

/** Nanoseconds by thread since `before`, and the sum. */
export function timesSince(
  pid: number,
  before: ReadonlyMap<string, number>,
): { readonly threads: Map<string, number>; readonly total: number } {
  const threads = new Map([...threadTimes(pid)].map(([name, ran]) => [name, ran - (before.get(name) ?? 0)]));
  return { threads, total: [...threads.values()].reduce((sum, ran) => sum + ran, 0) };
}

/** Resident memory in megabytes (of 2^20 bytes). */
export function residentMegabytes(pid: number): number {
  const match = /^Rss:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, "utf8"));
  return Number(match?.[1]) / 1024;
}
