/** What a daemon has started: its children, by their names. */
import { readdirSync, readFileSync } from "node:fs";
import type { Daemon } from "./daemon.js";

export function childrenOf(daemon: Pick<Daemon, "pid">, name: string): number[] {
  const children = readdirSync(`/proc/${daemon.pid}/task`).flatMap((thread) =>
    readFileSync(`/proc/${daemon.pid}/task/${thread}/children`, "utf8").trim().split(" ").map(Number),
  );
  return children.filter((pid) => nameOf(pid) === name);
}

/** 0: there is none. */
export function keeperOf(daemon: Pick<Daemon, "pid">): number {
  return childrenOf(daemon, "janusd-keeper")[0] ?? 0;
}

function nameOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/comm`, "utf8").trim();
  } catch {
    return ""; // it has ended
  }
}
