/** A node with many guards on many containers: whether one of them coming or going holds up the rest. */
import { openSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { Client, credentials } from "@grpc/grpc-js";
import { type Container, startContainer } from "../test/support/container.js";
import { type Daemon, eventually, type GuardInit, startDaemon } from "../test/support/daemon.js";
import { type Figures, median } from "./figures.js";
import { residentMegabytes } from "./process.js";

const [guards = 1000, containers = 50] = (process.env["SCALE"] ?? "").split("x").filter(Boolean).map(Number);
/** Of the creates, so many first and last ones are compared. */
const few = 50;
const PROBE_MS = 20;

/** Asks the daemon's event loop something that costs nothing, again and again: how long did it take to answer? */
class LoopProbe {
  readonly #client: Client;
  readonly #waits: number[] = [];
  #running = true;
  readonly #done: Promise<void>;

  constructor(daemon: Daemon) {
    this.#client = new Client(daemon.grpcAddress, credentials.createInsecure());
    this.#done = this.#run();
  }

  async #run(): Promise<void> {
    while (this.#running) {
      const start = performance.now();
      await new Promise<void>((resolve, reject) => {
        const done = (error: Error | null) => (error === null ? resolve() : reject(error));
        const empty = Buffer.alloc(0);
        this.#client.makeUnaryRequest("/grpc.health.v1.Health/Check", () => empty, Boolean, empty, done);
      });
      this.#waits.push(performance.now() - start);
      await sleep(PROBE_MS);
    }
  }

  /** Milliseconds, the shortest first. */
  async stop(): Promise<number[]> {
    this.#running = false;
    await this.#done;
    this.#client.close();
    return this.#waits.toSorted((a, b) => a - b);
  }
}

/** Bytes that a process had written to disk: here, to the state file. */
function writtenBytes(pid: number): number {
  return Number(/^write_bytes: (\d+)$/m.exec(readFileSync(`/proc/${pid}/io`, "utf8"))?.[1]);
}

function guardOf(number: number, on: readonly Container[]): GuardInit {
  return {
    name: `guard-${number}`,
    podName: "scale",
    cid: on.map(({ id }) => id),
    subject: [{ deny: ["/etc/secret", `/data/${number}`], event: ["open"] }],
  };
}

export async function scale(figures: Figures): Promise<void> {
  const on: Container[] = [];
  try {
    const options = { files: { "/etc/secret": "" }, volumes: [{ target: "/data" }] };
    for (let index = 0; index < containers; ++index) on.push(await startContainer(options));
    await using daemon = await startDaemon({ stdout: openSync("/dev/null", "w") });
    let written = writtenBytes(daemon.pid);
    let probe = new LoopProbe(daemon);
    const taken: number[] = [];
    for (let number = 0; number < guards; ++number) {
      const start = performance.now();
      await daemon.createGuard(guardOf(number, on));
      taken.push(performance.now() - start);
    }
    const creating = await probe.stop();
    figures.add("scale_create_first_ms", median(taken.slice(0, few)));
    figures.add("scale_create_last_ms", median(taken.slice(-few)));
    figures.add("scale_loop_p99_ms", creating[Math.floor(creating.length * 0.99)] ?? Number.NaN);
    await sleep(1000);
    figures.add("scale_rss_mb", residentMegabytes(daemon.pid));
    figures.add("scale_state_written_mb", (writtenBytes(daemon.pid) - written) / 1e6);

    written = writtenBytes(daemon.pid);
    for (const container of on.slice(0, 3)) {
      probe = new LoopProbe(daemon);
      await sleep(500);
      process.kill(container.initPid, "SIGKILL");
      const left = containers - on.indexOf(container) - 1;
      await eventually("it is out", async () => (await daemon.metric("janusd_containers")) === left);
      await sleep(1000);
      figures.add("scale_end_loop_ms", (await probe.stop()).at(-1) ?? Number.NaN);
    }
    figures.add("scale_end_state_written_mb", (writtenBytes(daemon.pid) - written) / 1e6);
    const start = performance.now();
    const state = await daemon.getGuardState();
    figures.add("scale_list_ms", performance.now() - start);
    if (state.length !== guards) throw new Error(`${state.length} guards of ${guards}`);
  } finally {
    for (const container of on) await container.stop();
  }
}
