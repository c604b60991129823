/** What the keeper left of a run that stood still (`record` in native/hold/keeper.cc). */
import { readFileSync, rmSync } from "node:fs";

export interface Stall {
  /** How long nobody answered, before the keeper ended the daemon. Undefined: not known. */
  readonly stoodMs?: number;
  /** When it did, by the wall clock. */
  readonly endedMs?: number;
}

/** Undefined: there was none, or nothing can be read there. */
export function readStall(file: string): Stall | undefined {
  try {
    return parse(readFileSync(file, "utf8"));
  } catch {
    return undefined;
  }
}

/** It is told once. */
export function forgetStall(file: string): void {
  rmSync(file, { force: true });
}

/** The disk may have been full: that it stood still is known all the same. */
function parse(text: string): Stall {
  const match = /^\{"stoodMs":(\d{1,15}),"endedMs":(\d{1,15})\}\n$/.exec(text);
  return match === null ? {} : { stoodMs: Number(match[1]), endedMs: Number(match[2]) };
}
