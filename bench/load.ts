/** Drives bench/load.c and bench/floor.c: what makes the opens, and the listener that ours is compared with. */
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { killAtExit } from "../test/support/cleanup.js";
import {
  Actor,
  type Container,
  type ContainerOptions,
  startContainer,
  staticProgram,
} from "../test/support/container.js";

export const program = (name: "load.c" | "floor.c") => staticProgram(new URL(name, import.meta.url).pathname);

/** How every open of a run must have ended: a figure of anything else would be of something else. */
export type Outcome = "opened" | "denied";

export interface Counted {
  readonly ns: number;
  readonly opened: number;
  readonly denied: number;
}

/** What one open took of many that began a millisecond apart, in nanoseconds. */
export interface Latency {
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
  readonly opened: number;
  readonly denied: number;
}

/** What a program took, in nanoseconds. */
export interface Work {
  readonly ns: number;
  /** Processor time, also of the processes that it awaited. */
  readonly cpuNs: number;
}

export class Load {
  readonly #actor: Actor;

  constructor(actor: Actor) {
    this.#actor = actor;
  }

  /** One on the node itself, outside any container. */
  static onNode(): Load {
    return new Load(new Actor(spawn(program("load.c"), { stdio: "pipe" })));
  }

  async #command(...fields: readonly (string | number)[]): Promise<number[]> {
    const [errno, ...rest] = await this.#actor.command(...fields);
    if (errno !== 0) throw new Error(`load: ${fields.join(" ")}: errno ${errno}`);
    return rest;
  }

  async #counted(...fields: readonly (string | number)[]): Promise<Counted> {
    const [ns = 0, opened = 0, denied = 0, other = 0] = await this.#command(...fields);
    if (other !== 0) throw new Error(`load: ${fields.join(" ")}: ${other} opens failed by other than EPERM`);
    return { ns, opened, denied };
  }

  /** Nanoseconds of a system call that does nothing: how fast this machine's kernel is entered at all. */
  async nullCall(): Promise<number> {
    const count = 20_000;
    const [ns = 0] = await this.#command("null", count);
    return ns / count;
  }

  /** Makes `count` files; "#" in the pattern is the index. Parents are made. */
  async makeFiles(pattern: string, count: number): Promise<void> {
    await this.#command("file", pattern, count);
  }

  async makeTree(path: string, outer: number, inner: number): Promise<void> {
    await this.#command("tree", path, outer, inner);
  }

  /** Nanoseconds per open+close. */
  async open(pattern: string, count: number, repeat: number, outcome: Outcome): Promise<number> {
    return (await this.#opens("open", pattern, count, repeat, outcome)) / (count * repeat);
  }

  /** Nanoseconds of one open+close: the median. What others do between two of them is not in it. */
  openOne(pattern: string, count: number, repeat: number, outcome: Outcome): Promise<number> {
    return this.#opens("each", pattern, count, repeat, outcome);
  }

  async #opens(how: string, pattern: string, count: number, repeat: number, outcome: Outcome): Promise<number> {
    const counted = await this.#counted(how, pattern, count, repeat);
    if (counted[outcome] !== count * repeat)
      throw new Error(`${pattern}: ${counted[outcome]} of ${count * repeat} opens were ${outcome}`);
    return counted.ns;
  }

  /** Nanoseconds per open+close of a file, in the fastest of twenty runs that are shorter than a turn on the processor. */
  async openUndisturbed(path: string): Promise<number> {
    const runs: number[] = [];
    for (let run = 0; run < 20; ++run) runs.push(await this.open(path, 1, 1000, "opened"));
    return Math.min(...runs);
  }

  storm(pattern: string, count: number, threads: number, milliseconds: number): Promise<Counted> {
    return this.#counted("storm", pattern, count, threads, milliseconds);
  }

  /** Opens a file once a millisecond. */
  async latency(path: string, milliseconds: number): Promise<Latency> {
    const [p50 = 0, p99 = 0, max = 0, opened = 0, denied = 0, other = 0] = await this.#command(
      "latency",
      path,
      milliseconds,
    );
    if (other !== 0) throw new Error(`${path}: ${other} opens failed by other than EPERM`);
    return { p50, p99, max, opened, denied };
  }

  /**
   * Moves `count` directories ("#" is the index) to and back, one after the other, and opens the file `name` in each
   * before and after the first move. Counts the opens after it; one before it that fails is an error.
   */
  rename(from: string, to: string, name: string, count: number): Promise<Counted> {
    return this.#counted("rename", from, to, name, count);
  }

  /** Nanoseconds per fork, exec and exit of a small program: of the fastest of `times` runs of `count`. */
  async spawn(count: number, times: number): Promise<number> {
    const [ns = 0] = await this.#command("spawn", count, times);
    return ns / count;
  }

  /** Runs a program to its end. What it wrote is in /tmp/run.log. */
  async run(cwd: string, argv: readonly string[]): Promise<Work & { readonly status: number }> {
    const [ns = 0, status = -1, cpuNs = 0] = await this.#command("run", cwd, ...argv);
    return { ns, cpuNs, status };
  }

  stop(): Promise<void> {
    return this.#actor.stop();
  }
}

/** A container in which the load stands in for the tests' actor, as the first process and by `load()`. */
export class LoadedContainer {
  readonly container: Container;
  /** The first process: what autoAllowOwner lets pass. */
  readonly owner: Load;
  /** A process that came later, by `runc exec`. */
  readonly load: Load;

  private constructor(container: Container, load: Load) {
    this.container = container;
    this.owner = new Load(container.init);
    this.load = load;
  }

  static async start(options: Pick<ContainerOptions, "files" | "volumes" | "layers"> = {}): Promise<LoadedContainer> {
    const container = await startContainer({
      ...options,
      init: "actor",
      programs: { "/bin/actor": program("load.c") },
    });
    return new LoadedContainer(container, new Load(await container.actor()));
  }

  /** Runs a shell script in the container; throws, with its output, if it fails. */
  async shell(script: string): Promise<Work> {
    const { status, ...work } = await this.load.run("/", ["/bin/sh", "-c", script]);
    if (status !== 0) {
      const output = readFileSync(join(this.container.rootfs, "tmp/run.log"), "utf8");
      throw new Error(`${script}: status ${status}\n${output}`);
    }
    return work;
  }

  stop(): Promise<void> {
    return this.container.stop();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }
}

export interface Floor {
  readonly pid: number;
  stop(): void;
  [Symbol.dispose](): void;
}

/** Has the minimal listener answer every open of a container. */
export async function startFloor(response: "allow" | "deny", container: Container): Promise<Floor> {
  const child = spawn(program("floor.c"), [response, container.rootfs], { stdio: ["ignore", "pipe", "inherit"] });
  const pid = child.pid;
  if (pid === undefined) throw new Error("the floor was not started");
  const forget = killAtExit(pid);
  const said = await new Promise<string>((resolve) => {
    const lines = createInterface({ input: child.stdout });
    lines.once("line", resolve);
    lines.once("close", () => resolve("")); // It ended.
  });
  if (said !== "ready") throw new Error("the floor did not start");
  const stop = () => {
    child.kill("SIGKILL");
    forget();
  };
  return { pid, stop, [Symbol.dispose]: stop };
}
