/** The keeper of a daemon: a child of it. */
import { readdirSync, readFileSync } from "node:fs";
import type { Daemon } from "./daemon.js";

/** 0: there is none. */
export function keeperOf(daemon: Daemon): number {
  const children = readdirSync(`/proc/${daemon.pid}/task`).flatMap((thread) =>
    readFileSync(`/proc/${daemon.pid}/task/${thread}/children`, "utf8").trim().split(" ").map(Number),
  );
  return children.find((pid) => nameOf(pid) === "janusd-keeper") ?? 0;
}

function nameOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/comm`, "utf8").trim();
  } catch {
    return ""; // it has ended
  }
}
