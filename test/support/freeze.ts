/** Threads of a daemon that stand still, as by a fault or on a starved node. */
import { spawn } from "node:child_process";
import { killAtExit } from "./cleanup.js";
import { staticProgram } from "./container.js";
import type { Daemon } from "./daemon.js";

/** Stops one thread of the daemon. The returned function lets it go on. */
export async function freeze(daemon: Daemon, thread: string): Promise<() => Promise<unknown>> {
  const child = spawn(staticProgram("freeze.c"), [String(daemon.pid), thread], { stdio: ["pipe", "pipe", "inherit"] });
  const forget = child.pid === undefined ? () => undefined : killAtExit(child.pid);
  const ended = new Promise((resolve) => child.once("exit", resolve)).finally(forget);
  const frozen = new Promise<boolean>((resolve) => {
    child.stdout.once("data", () => resolve(true));
    child.stdout.once("end", () => resolve(false));
  });
  if (!(await frozen)) throw new Error(`cannot freeze ${thread}`);
  return () => {
    child.stdin.end();
    return ended;
  };
}
