/** The real `bin/janusctl` as a child process. */
import { spawn } from "node:child_process";
import { text } from "node:stream/consumers";
import { realEnvironment } from "./daemon.js";

const program = new URL("../../bin/janusctl", import.meta.url).pathname;

export interface Outcome {
  readonly status: number | null;
  readonly out: string;
  readonly err: string;
}

export interface RunOptions {
  readonly stdin?: string;
  /** Prefix of the command, for example to drop privilege. */
  readonly enter?: readonly string[];
}

/** Test daemons listen on TCP, without TLS: so `JANUSD_INSECURE`. */
export async function janusctl(args: readonly string[], { stdin = "", enter = [] }: RunOptions = {}): Promise<Outcome> {
  const [command, unset] = realEnvironment;
  const child = spawn(command, [unset, "JANUSD_INSECURE=true", ...enter, program, ...args]);
  const status = new Promise<number | null>((resolve) => child.on("close", resolve));
  child.stdin.end(stdin);
  const [out, err] = await Promise.all([text(child.stdout), text(child.stderr)]);
  return { status: await status, out, err };
}

/** What `-o json` printed: a list. Throws unless the command ended with status 0. */
export async function jsonOf(...args: readonly string[]): Promise<Record<string, unknown>[]> {
  const { status, out, err } = await janusctl([...args, "-o", "json"]);
  if (status !== 0) throw new Error(`janusctl ended with ${status}: ${err}`);
  const parsed: unknown = JSON.parse(out);
  if (!Array.isArray(parsed)) throw new Error(`no list: ${out}`);
  return parsed;
}
