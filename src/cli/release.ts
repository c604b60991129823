/** `janusctl release`: ends what a daemon has left in the kernel, without a daemon. */
import { readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { hasCode } from "../errors.js";
import { loadAddon } from "../native.js";
import type { Io } from "./session.js";

/** As in native/ebpf/pins.h. */
const PINS = "/sys/fs/bpf/janusd";

/** A daemon that runs goes on, but what it holds then ends with it. */
export async function release({ stdout }: Io, directory = PINS): Promise<number> {
  const daemons = held(directory);
  const addon = loadAddon();
  for (const daemon of daemons) {
    // The kernel takes its time to detach what is pinned no more.
    addon.endKept(join(directory, daemon));
    // The file system of pins knows files and directories only, and removes one by one.
    rmSync(join(directory, daemon), { recursive: true });
  }
  stdout(
    daemons.length === 0
      ? "Nothing is held in the kernel.\n"
      : `Released what was held in the kernel by ${daemons.length} daemon${daemons.length === 1 ? "" : "s"}.\n`,
  );
  return 0;
}

function held(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch (error) {
    if (hasCode(error, "ENOENT")) return [];
    throw error;
  }
}
