/**
 * The real `bin/janusd` as a child process, on free loopback ports, with a
 * state file of its own.
 *
 *     const daemon = await startDaemon({}, t);
 *     await daemon.createGuard({ name: "g", podName: "p", cid: [container.id], subject: [{ deny: ["/etc/secret"], event: ["open"] }] });
 *     await daemon.waitForLine((line) => line.startsWith("<DENY>"));
 */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { randomInt } from "node:crypto";
import { mkdtempSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { type ChannelCredentials, credentials } from "@grpc/grpc-js";
import { JanusClient, RpcError } from "../../src/cli/client.js";
import type { JanusdConfigSchema, JanusdHandle } from "../../src/gen/janus_pb.js";
import { killAtExit, workspaceDirectory } from "./cleanup.js";
import { SLOW } from "./times.js";

export type GuardInit = MessageInitShape<typeof JanusdConfigSchema>;

const program = new URL("../../bin/janusd", import.meta.url).pathname;

/** Runs what follows as it is: tap loads itself into every Node process that a test starts, whatever `env` says. */
export const realEnvironment: readonly [string, string] = ["env", "--unset=NODE_OPTIONS"];

/** Generous: it fails a hung test, it does not measure. `make kernels` runs on emulated processors and gives it more. */
const patienceMs = Number(process.env["TEST_PATIENCE_MS"] ?? 20_000);

export interface DaemonOptions {
  /** After --listen, --insecure, --http, --state-file, --node-name and --keep=false, so that they win, or listen at more. */
  readonly flags?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Default: a new one. Give the one of an earlier daemon to restart it. */
  readonly stateFile?: string;
  /** Where the event log goes: a file descriptor, or a pipe that is read into `lines`. */
  readonly stdout?: "pipe" | number;
  /** Prefix of the command, for example to enter another mount namespace. */
  readonly enter?: readonly string[];
  readonly credentials?: ChannelCredentials;
  /** What tells that it has started. Default: /readyz; /livez for a daemon that is not to become ready. */
  readonly until?: "/readyz" | "/livez";
}

/** Ports of 127.0.0.1, below those that the kernel hands out to others: ranges of so many. (fetch() refuses 10080.) */
const PORTS = { first: 10_100, ranges: 219, each: 100 } as const;
let range: Promise<number> | undefined;
let lastPort = 0;

/** Undefined: somebody listens there. */
async function listenAt(port: number): Promise<Server | undefined> {
  const server = createServer();
  const free = await new Promise<boolean>((resolve) => {
    server.once("error", () => resolve(false));
    server.listen(port, "127.0.0.1", () => resolve(true));
  });
  return free ? server : undefined;
}

/** The first port of a range that is this process's alone: it listens there as long as it lives. */
async function claimRange(): Promise<number> {
  for (;;) {
    const first = PORTS.first + PORTS.each * randomInt(PORTS.ranges);
    const claim = await listenAt(first);
    claim?.unref();
    if (claim !== undefined) return first;
  }
}

/** A TCP port of 127.0.0.1 that nobody listens on, and that no other test takes before it is used. */
export async function freePort(): Promise<number> {
  range ??= claimRange();
  const first = await range;
  for (;;) {
    lastPort = (lastPort % (PORTS.each - 1)) + 1;
    const port = first + lastPort;
    const server = await listenAt(port);
    if (server === undefined) continue;
    await new Promise((resolve) => server.close(resolve));
    return port;
  }
}

/** The error that a call is expected to end with; throws if it succeeds or fails otherwise. */
export async function rpcError(call: Promise<unknown>): Promise<RpcError> {
  const failure = await call.then(
    () => new Error("the call succeeded"),
    (error: unknown) => error,
  );
  if (failure instanceof RpcError) return failure;
  throw failure;
}

export class Daemon {
  /** Lines of standard output (the event log) so far. */
  readonly lines: string[] = [];
  readonly grpcAddress: string;
  readonly httpAddress: string;
  readonly stateFile: string;
  readonly client: JanusClient;
  readonly #child: ChildProcess;
  readonly #exit: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
  readonly #watchers = new Set<() => void>();
  readonly #forget: () => void;
  #stderr = "";

  private constructor(ports: readonly [number, number], stateFile: string, options: DaemonOptions) {
    this.grpcAddress = `127.0.0.1:${ports[0]}`;
    this.httpAddress = `127.0.0.1:${ports[1]}`;
    this.stateFile = stateFile;
    const [command, unset] = realEnvironment;
    const args = [
      unset,
      ...Object.entries(options.env ?? {}).map(([name, value]) => `${name}=${value}`),
      ...(options.enter ?? []),
      program,
      `--listen=${this.grpcAddress}`,
      "--insecure",
      `--http=${this.httpAddress}`,
      `--state-file=${stateFile}`,
      "--node-name=testnode",
      "--metrics-interval=0", // figures are read right after what they count
      "--keep=false", // what one test guards is nothing to the next
      ...(options.flags ?? []),
    ];
    const child = spawn(command, args, {
      stdio: ["ignore", options.stdout ?? "pipe", "pipe"],
    });
    this.#child = child;
    this.#forget = child.pid === undefined ? () => undefined : killAtExit(child.pid);
    // What it wrote last may still be in the pipe: it is read in this turn of the event loop, or the next.
    this.#exit = new Promise((resolve) =>
      child.once("exit", (code, signal) => setImmediate(() => setImmediate(() => resolve({ code, signal })))),
    );
    child.stderr?.on("data", (chunk: Buffer) => {
      this.#stderr += chunk.toString();
    });
    if (child.stdout !== null) {
      createInterface({ input: child.stdout }).on("line", (line) => {
        this.lines.push(line);
        for (const watcher of this.#watchers) watcher();
      });
    }
    this.client = new JanusClient(
      this.grpcAddress,
      options.credentials ?? credentials.createInsecure(),
      undefined,
      patienceMs,
    );
  }

  /** Resolves when /readyz says so; rejects, with what it wrote, if the daemon ends first. */
  static async start(options: DaemonOptions): Promise<Daemon> {
    const stateFile = options.stateFile ?? join(mkdtempSync(join(workspaceDirectory(), "state-")), "guards.json");
    const daemon = new Daemon([await freePort(), await freePort()], stateFile, options);
    try {
      await daemon.#waitUntilReady(options.until ?? "/readyz");
    } catch (error) {
      await daemon.kill();
      throw error;
    }
    return daemon;
  }

  get pid(): number {
    if (this.#child.pid === undefined) throw new Error("janusd was not started");
    return this.#child.pid;
  }

  /** What it wrote to standard error: its own log. */
  get stderr(): string {
    return this.#stderr;
  }

  /** The event log's pipe, for a test that wants to stop reading it. */
  get stdout(): Readable {
    if (this.#child.stdout === null) throw new Error("stdout is not a pipe");
    return this.#child.stdout;
  }

  async #waitUntilReady(path: string): Promise<void> {
    const deadline = Date.now() + patienceMs;
    let ended = false;
    void this.#exit.then(() => {
      ended = true;
    });
    for (;;) {
      const status = await this.http(path).then(
        (response) => response.status,
        () => 0,
      );
      if (status === 200) return;
      if (ended) throw new Error(`janusd ended before it was ready:\n${this.#stderr}`);
      if (Date.now() > deadline) throw new Error(`janusd was not ready in time (${path}: ${status}):\n${this.#stderr}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  http(path: string): Promise<Response> {
    return fetch(`http://${this.httpAddress}${path}`, { headers: { connection: "close" } });
  }

  /** The text of /metrics. A daemon whose event loop is busy says 503 after a while: it is asked again. */
  async metrics(): Promise<string> {
    let text = "";
    await eventually("/metrics has figures", async () => {
      const response = await this.http("/metrics");
      text = await response.text();
      return response.ok;
    });
    return text;
  }

  /** The sum of a metric's samples whose labels contain all of `labels`. 0 if there is none. */
  async metric(name: string, labels: Readonly<Record<string, string>> = {}): Promise<number> {
    const wanted = Object.entries(labels).map(([key, value]) => `${key}="${value}"`);
    let sum = 0;
    for (const line of (await this.metrics()).split("\n")) {
      const match = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$/.exec(line);
      if (match?.[1] === name && wanted.every((label) => (match[2] ?? "").split(/,(?=\w+=")/).includes(label))) {
        sum += Number(match[3]);
      }
    }
    return sum;
  }

  createGuard(guard: GuardInit): Promise<JanusdHandle> {
    return this.client.createGuard(guard);
  }

  destroyGuard(guard: GuardInit): Promise<void> {
    return this.client.destroyGuard(guard);
  }

  getGuardState(): Promise<JanusdHandle[]> {
    return this.client.getGuardState();
  }

  /** The first line of the event log, from line `from` on, that the predicate accepts; now or later. */
  async waitForLine(predicate: (line: string) => boolean, from = 0): Promise<string> {
    const line = await this.#waitFor(() => this.lines.slice(from).find(predicate));
    if (line === undefined) {
      throw new Error(`no such line among ${this.lines.length}:\n${this.lines.slice(-20).join("\n")}\n${this.#stderr}`);
    }
    return line;
  }

  /** Undefined when patience or the daemon ends. */
  async #waitFor<Value>(find: () => Value | undefined): Promise<Value | undefined> {
    const found = find();
    if (found !== undefined) return found;
    return await new Promise((resolve) => {
      const finish = (value: Value | undefined) => {
        clearTimeout(timer);
        this.#watchers.delete(look);
        resolve(value);
      };
      const look = () => {
        const value = find();
        if (value !== undefined) finish(value);
      };
      const timer = setTimeout(() => finish(undefined), patienceMs);
      this.#watchers.add(look);
      void this.#exit.then(() => finish(find()));
    });
  }

  /** How it ended, once it has. */
  ended(): Promise<{ code: number | null; signal: NodeJS.Signals | null }> {
    return this.#exit;
  }

  kill(signal: NodeJS.Signals = "SIGKILL"): Promise<{ code: number | null; signal: NodeJS.Signals | null }> {
    this.client.close();
    this.#child.kill(signal);
    return this.#exit.finally(this.#forget);
  }

  /** SIGTERM; rejects unless it ends with status 0, and Node has warned of nothing. */
  async stop(): Promise<void> {
    const timer = setTimeout(() => this.#child.kill("SIGKILL"), patienceMs);
    const { code, signal } = await this.kill("SIGTERM");
    clearTimeout(timer);
    if (code !== 0) throw new Error(`janusd ended with ${code ?? signal} after SIGTERM:\n${this.#stderr}`);
    if (/^\(node:\d+\)/m.test(this.#stderr)) throw new Error(`Node warned:\n${this.#stderr}`);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }
}

/** A daemon that does not start: its exit status, and its lines on standard error, apart from those of its own (JSON) log. */
export function runToEnd(
  flags: readonly string[],
  enter: readonly string[] = [],
): { status: number | null; lines: string[]; log: string[] } {
  const [command, unset] = realEnvironment;
  const args = [
    unset,
    ...enter,
    program,
    "--listen=127.0.0.1:0",
    "--insecure",
    "--http=127.0.0.1:0",
    "--state-file=",
    ...flags,
  ];
  const { status, stderr, stdout } = spawnSync(command, args, { encoding: "utf8", timeout: 60_000 });
  if (stdout !== "") throw new Error(`standard output: ${stdout}`);
  const written = stderr.split("\n").filter((line) => line !== "");
  const isLog = (line: string) => line.startsWith("{");
  return { status, lines: written.filter((line) => !isLog(line)), log: written.filter(isLog) };
}

/** What looks, and who is looked at, take on two processors that are busy with other things. Milliseconds. */
const LOOK_MS = 3_000;

/**
 * Polls until `check` holds; rejects, naming `what`, if it doesn't in time. For states that have no event to wait for.
 * `withinMs`: the documented time (support/times.ts), if there is one.
 */
export async function eventually(
  what: string,
  check: () => boolean | Promise<boolean>,
  withinMs?: number,
): Promise<void> {
  const limitMs = withinMs === undefined ? patienceMs : (withinMs + LOOK_MS) * SLOW;
  const deadline = Date.now() + limitMs;
  while (!(await check())) {
    if (Date.now() > deadline) throw new Error(`not within ${limitMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Starts the daemon. Give `t` to have it killed in its teardown, if the test didn't stop it; it goes with the test process in any case. */
export async function startDaemon(
  options: DaemonOptions = {},
  t?: { teardown(handler: () => Promise<unknown>): unknown },
): Promise<Daemon> {
  const daemon = await Daemon.start(options);
  t?.teardown(() => daemon.kill());
  return daemon;
}
