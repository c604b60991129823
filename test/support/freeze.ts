/** A daemon, or threads of it, that stand still, as by a fault or on a starved node. */
import { spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { killAtExit } from "./cleanup.js";
import { staticProgram } from "./container.js";
import { type Daemon, eventually } from "./daemon.js";

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

/** The state of a thread, as in proc_pid_stat(5). The name before it may contain anything. */
export const stateOf = (stat: string) => stat.slice(stat.lastIndexOf(")") + 2)[0];

/**
 * Stops a process, and returns when each of its threads has stopped. kill(2) returns earlier: a thread on another
 * processor goes on for a moment. SIGCONT lets it go on.
 */
export async function standStill(pid: number): Promise<void> {
  const stopped = () =>
    readdirSync(`/proc/${pid}/task`).every((tid) => {
      return stateOf(readFileSync(`/proc/${pid}/task/${tid}/stat`, "utf8")) === "T";
    });
  process.kill(pid, "SIGSTOP");
  await eventually(`${pid} has stopped`, stopped);
}
