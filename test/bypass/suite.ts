/**
 * The bypass suite: every way we know to get at a guarded file without being
 * asked, each tried in a real container against nothing (it has to work, or it
 * proves nothing) and against the daemon (it has to fail).
 *
 * The attempts themselves are the C programs beside this file; they run in one
 * agent process per container and say what they saw. Here is what starts the
 * containers, places the guards, plays the node's part, and judges.
 */
import { type ChildProcessByStdio, execFileSync, spawn, spawnSync } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, renameSync, statSync, writeFileSync } from "node:fs";
import { release } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { Readable, Writable } from "node:stream";
import { fromJson, type JsonObject } from "@bufbuild/protobuf";
import { Actor, Verdict } from "../../src/gen/janus/v1/inspection_pb.js";
import { JanusGuardSubjectSchema, Scope } from "../../src/gen/janus_pb.js";
import { killAtExit, runtimeRoot, workspaceDirectory } from "../support/cleanup.js";
import { type Container, startContainer, type Target } from "../support/container.js";
import { type Daemon, startDaemon } from "../support/daemon.js";

export const users = ["container-root", "unprivileged", "userns-admin"] as const;
export type User = (typeof users)[number];
export const places = ["layer", "image", "disk", "tmpfs"] as const;
export type Place = (typeof places)[number];
export type Against = "nothing" | "janusd";

/** One row of the table in C (`attempt list`). */
export interface Attempt {
  readonly family: string;
  readonly name: string;
  readonly summary: string;
  /** What janusd owes: `window` where a new mount is noticed after the fact, and denied from then on; `read` where an open that is past, or that the kernel asks nobody about, stays readable. */
  readonly expected: "denied" | "window" | "read" | "read since 6.14";
  /** Whom the kernel lets get as far as the secret. */
  readonly who: readonly User[];
  readonly places: readonly Place[];
  /** 0, or: a race of the number of tries divided by this. */
  readonly loops: number;
}

export interface Result {
  readonly attempt: Attempt;
  readonly place: Place;
  readonly who: User;
  readonly against: Against;
  readonly expected: string;
  readonly got: string;
  readonly ok: boolean;
  /** For how many microseconds each window was open, up to the first open that was denied; Infinity if it was not. */
  readonly windows: readonly number[];
  /** How many opens were compared with what `explain` says of their path, and which came out otherwise. */
  readonly explained: { readonly compared: number; readonly wrong: readonly string[] };
}

export interface SuiteOptions {
  /** Tries of each race, in each place and as each user. */
  readonly iterations: number;
  readonly against: readonly Against[];
  readonly as: readonly User[];
  /** Names, families or parts of names; empty: all. */
  readonly only: readonly string[];
  readonly places: readonly Place[];
  /** Against janusd: asks for an explanation after each open by a path that means the same in the container's own mounts. */
  readonly explained?: boolean;
  /** Guards concern the container's own processes only. The kernel tier can decide about those alone, with no mark that asks. */
  readonly ofContainer?: boolean;
}

/** How long a window may stay open. What nobody guards would be readable for ever: it's looked at for a moment. */
const patienceMs = 2000;
const glanceMs = 50;
/** Tries that show a race can be won at all. */
const provingTries = 300;

const directory = new URL(".", import.meta.url).pathname;

/** Compiles the attempts if a source is newer than the program. Returns its path. */
export function attemptProgram({ cc, build }: Target = { cc: "cc", build: join(directory, "build") }): string {
  const binary = join(build, "attempt");
  const sources = readdirSync(directory).filter((name) => /\.[ch]$/.test(name));
  const built = statSync(binary, { throwIfNoEntry: false })?.mtimeMs ?? 0;
  if (sources.some((name) => statSync(join(directory, name)).mtimeMs > built)) {
    mkdirSync(build, { recursive: true });
    // Renamed into place: somebody may be executing it.
    const made = `${binary}.${process.pid}`;
    const files = sources.filter((name) => name.endsWith(".c")).map((name) => join(directory, name));
    execFileSync(cc, ["-static", "-O2", "-Wall", "-Wextra", "-Werror", "-pthread", "-o", made, ...files], {
      stdio: "inherit",
    });
    renameSync(made, binary);
  }
  return binary;
}

function isAttempt(value: unknown): value is Attempt {
  return typeof value === "object" && value !== null && "name" in value && "who" in value && "places" in value;
}

export function listAttempts(): readonly Attempt[] {
  const table: unknown = JSON.parse(execFileSync(attemptProgram(), ["list"], { encoding: "utf8" }));
  if (!Array.isArray(table) || !table.every(isAttempt)) throw new Error("attempt list: not a table");
  return table;
}

/** What one attempt said, in its own words. */
interface Report {
  readonly secrets: readonly (readonly [label: string, got: string])[];
  readonly controls: readonly (readonly [label: string, got: string])[];
  readonly tallies: readonly { readonly label: string; readonly slips: number; readonly tries: number }[];
  /** `got`: denied, read (to the end), reopened, or an error; microseconds it was readable. */
  readonly windows: readonly { readonly label: string; readonly got: string; readonly us: number }[];
  /** A step on the way that the kernel refused. */
  readonly stopped: readonly [step: string, error: string] | undefined;
  readonly broken: string | undefined;
}

type Piped = ChildProcessByStdio<Writable, Readable, null>;

/** Every line the agent writes; one consumer at a time. */
class Agent {
  readonly #child: Piped;
  readonly #lines: AsyncIterator<string>;

  constructor(container: Container) {
    // With the one capability more that `handle-capable` needs; the agent drops it for all others.
    const command = [
      "--root",
      runtimeRoot(),
      "exec",
      "--cap",
      "CAP_DAC_READ_SEARCH",
      container.id,
      "/bin/attempt",
      "serve",
    ];
    this.#child = spawn("runc", command, { stdio: ["pipe", "pipe", "inherit"] });
    if (this.#child.pid !== undefined) killAtExit(this.#child.pid);
    this.#child.stdin.on("error", () => undefined); // It ended: `next` says so.
    this.#lines = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();
  }

  tell(line: string): void {
    this.#child.stdin.write(`${line}\n`);
  }

  async next(): Promise<string> {
    const { value, done } = await this.#lines.next();
    if (done) throw new Error("the agent in the container ended");
    return value;
  }

  kill(): void {
    this.#child.kill("SIGKILL");
  }
}

/** A container with all kinds of places in it, and an agent. */
class Ground {
  readonly container: Container;
  readonly #agent: Agent;
  readonly #hosts: Readonly<Record<Place, string>>;

  private constructor(container: Container, disk: string, memory: string) {
    this.container = container;
    this.#hosts = { layer: join(container.rootfs, "b"), image: join(container.rootfs, "i"), disk, tmpfs: memory };
    this.#agent = new Agent(container);
  }

  static async make(layer: string): Promise<Ground> {
    const volumes = mkdtempSync(join(workspaceDirectory(), "volumes-"));
    const [disk, memory] = [join(volumes, "disk"), join(volumes, "memory")];
    for (const path of [disk, memory, join(disk, "sub")]) mkdirSync(path);
    // As root, uid 1000 and root of a user namespace come by: modes say nothing here, guards do.
    const open = (path: string) => chmodSync(path, 0o777);
    execFileSync("mount", ["-t", "tmpfs", "-o", "mode=777", "tmpfs", memory]);
    execFileSync("mount", ["--bind", disk, disk]);
    execFileSync("mount", ["--make-shared", disk]);
    const subpaths = users.flatMap((user) => [`${user}.dir`, `${user}.file`]);
    for (const name of subpaths) {
      const path = join(disk, "sub", name);
      if (name.endsWith(".dir")) mkdirSync(path);
      else writeFileSync(path, "");
      open(path);
    }
    for (const path of [disk, join(disk, "sub")]) open(path);
    const container = await startContainer({
      layers: [layer],
      programs: { "/bin/attempt": attemptProgram() },
      volumes: [
        { source: disk, target: "/vol", propagation: "rslave" },
        { source: disk, target: "/vol2" },
        { source: memory, target: "/mem" },
        { source: memory, target: "/mem2" },
        ...subpaths.map((name) => ({ source: join(disk, "sub", name), target: `/sub/${name}` })),
      ],
    });
    return new Ground(container, disk, memory);
  }

  /** Runs one attempt; `guard` places a guard, or throws. */
  async run(
    run: Pick<Result, "attempt" | "place" | "who">,
    tries: number,
    patienceMs: number,
    guard: (subject: JsonObject) => Promise<void>,
    explain?: (path: string, got: string) => Promise<void>,
  ) {
    const { attempt, place, who } = run;
    const secrets: [string, string][] = [];
    const controls: [string, string][] = [];
    const tallies: { label: string; slips: number; tries: number }[] = [];
    const windows: { label: string; got: string; us: number }[] = [];
    let stopped: readonly [string, string] | undefined;
    let broken: string | undefined;
    const deadline = new Promise<never>((_, reject) => {
      // Generous: it ends an attempt that hangs, it doesn't measure.
      setTimeout(() => reject(new Error("hangs")), 60_000 + tries * 50).unref();
    });
    this.#agent.tell(`run ${attempt.name} ${place} ${who} ${tries} ${patienceMs} ${explain ? 1 : 0}`);
    let got = "";
    for (;;) {
      const line = await Promise.race([this.#agent.next(), deadline]);
      const [kind = "", label = "", value = ""] = line.split(" ");
      if (kind === "secret" || kind === "control") got = value;
      if (kind === "secret") secrets.push([decodeURIComponent(label.replace(/%(?=[89a-f])/g, "%25")), value]);
      else if (kind === "control") controls.push([label, value]);
      else if (kind === "tally") tallies.push({ label, slips: Number(value), tries: Number(line.split(" ")[3]) });
      else if (kind === "window") windows.push({ label, got: value, us: Number(line.split(" ")[3] ?? 0) });
      else if (kind === "stopped") stopped ??= [label, value];
      else if (kind === "broken") broken ??= `${label} ${value}`;
      else if (kind === "explain" && explain !== undefined) {
        await explain(JSON.parse(line.slice("explain ".length)), got);
        this.#agent.tell("ok");
      } else if (kind === "guard" || kind === "outside") this.#agent.tell(await this.#serve(run, line, guard));
      else if (kind === "end") {
        if (value !== "0" && stopped === undefined) broken ??= `ended with ${value}`;
        return { secrets, controls, tallies, windows, stopped, broken } satisfies Report;
      } else throw new Error(`the agent said: ${line}`);
    }
  }

  /** What an attempt asked for on its way. The answer is "ok", or what went wrong as one word. */
  async #serve(
    run: Pick<Result, "attempt" | "place" | "who">,
    line: string,
    guard: (subject: JsonObject) => Promise<void>,
  ) {
    try {
      if (line.startsWith("guard ")) await guard(JSON.parse(line.slice("guard ".length)));
      else this.#outside(run);
      return "ok";
    } catch (error) {
      return encodeURIComponent(error instanceof Error ? error.message : String(error)).slice(0, 200);
    }
  }

  #outside({ attempt, place, who }: Pick<Result, "attempt" | "place" | "who">): void {
    const { status, stdout } = spawnSync(
      attemptProgram(),
      ["outside", attempt.name, place, who, String(this.container.initPid)],
      { cwd: join(this.#hosts[place], who, attempt.name), encoding: "utf8" },
    );
    if (status !== 0) throw new Error(`outside: ${stdout}`);
  }

  async stop(): Promise<void> {
    this.#agent.kill();
    await this.container.stop();
  }
}

/** What has to come out. */
function expectation(attempt: Attempt, who: User, against: Against): string {
  if (!attempt.who.includes(who)) return "n/a";
  if (against === "nothing") return "read";
  if (attempt.expected !== "read since 6.14") return attempt.expected;
  const [major = 0, minor = 0] = release()
    .split(".")
    .map((part) => Number.parseInt(part, 10));
  return major * 100 + minor >= 614 ? "read" : "denied";
}

function milliseconds(us: number | undefined): string {
  return `${((us ?? 0) / 1000).toFixed(1)} ms`;
}

/** How long windows were open, for people. */
export function windowText(us: readonly number[]): string {
  const sorted = [...us].sort((a, b) => a - b);
  const longest = sorted.at(-1);
  if (longest === Infinity) return "not denied";
  if (longest === 0) return "denied at once";
  if (sorted.length === 1) return `denied after ${milliseconds(longest)}`;
  return `denied after ${milliseconds(sorted[sorted.length >> 1])} (median of ${sorted.length}), ${milliseconds(longest)} at most`;
}

/**
 * What came out, in a word or two. The worst wins: a secret that was read is
 * a slip whatever else happened.
 */
function verdict(report: Report, against: Against, expected: string): string {
  const { secrets, controls, tallies, windows, stopped, broken } = report;
  const seen = secrets.filter(([, got]) => got === "read" || got === "opened");
  const odd = secrets.find(([, got]) => got !== "read" && got !== "opened" && got !== "EPERM");
  const denied = controls.find(([, got]) => got !== "read");
  const slips = tallies.reduce((sum, { slips }) => sum + slips, 0);
  const tries = tallies.reduce((sum, { tries }) => sum + tries, 0);
  const nothingTried = secrets.length === 0 && tallies.length === 0 && windows.length === 0;
  if (broken !== undefined) return `broken: ${broken}`;
  if (against === "janusd" && (expected === "denied" || expected === "window")) {
    if (slips > 0) return `read: ${slips} of ${tries} tries`;
    if (seen.length > 0) return `read: ${seen.map(([label]) => label).join(", ")}`;
    if (odd !== undefined) return `${odd[1]}: ${odd[0]}`;
    if (stopped !== undefined && stopped[1] !== "EPERM") return `${stopped[1]}: ${stopped[0]}`;
    if (denied !== undefined) return `neighbour ${denied[1]}: ${denied[0]}`;
    if (stopped === undefined && (nothingTried || controls.length === 0)) return "broken: nothing was tried";
    const open = windows.find(({ got }) => got !== "denied");
    if (open !== undefined) return `${open.got}: ${open.label}, after ${milliseconds(open.us)}`;
    // Only where a window is expected may one be waited for, and there it must be.
    if (expected === "window" && windows.length === 0) return "broken: no window";
    if (expected === "window") return windowText(windows.map(({ us }) => us));
    if (windows.length > 0) return "broken: an unexpected window";
    return tries > 0 ? `denied, 0 slips of ${tries}` : "denied";
  }
  if (stopped !== undefined) return `n/a (${stopped[0]}: ${stopped[1]})`;
  if (denied !== undefined) return `neighbour ${denied[1]}: ${denied[0]}`;
  if (nothingTried || controls.length === 0) return "broken: nothing was tried";
  const missed = secrets.find(([, got]) => got !== "read" && got !== "opened");
  if (missed !== undefined) return `${missed[1]}: ${missed[0]}`;
  const shut = windows.find(({ got }) => got !== "read");
  if (shut !== undefined) return `${shut.got}: ${shut.label}, after ${milliseconds(shut.us)}`;
  if (tallies.some(({ slips }) => slips === 0)) return `denied, 0 of ${tries}`;
  return tries > 0 ? `read, ${slips} of ${tries}` : "read";
}

function asExpected(got: string, expected: string): boolean {
  if (expected === "n/a") return got.startsWith("n/a");
  if (expected === "window") return got === "denied at once" || got.startsWith("denied after ");
  return got === expected || got.startsWith(`${expected}, `);
}

/** The longest window of each attempt that has one, in the order of the results. Microseconds. */
export function longestWindows(results: readonly Result[]): ReadonlyMap<string, number> {
  const longest = new Map<string, number>();
  for (const { attempt, against, windows } of results) {
    if (against === "nothing" || windows.length === 0) continue;
    longest.set(attempt.name, Math.max(longest.get(attempt.name) ?? 0, ...windows));
  }
  return longest;
}

function matches(attempt: Attempt, only: readonly string[]): boolean {
  return only.length === 0 || only.some((part) => attempt.family === part || attempt.name.includes(part));
}

/** Runs the attempts, one after the other, and yields each result as it's known. */
export async function* runSuite(options: SuiteOptions): AsyncGenerator<Result> {
  const attempts = listAttempts().filter((attempt) => matches(attempt, options.only));
  const layer = mkdtempSync(join(workspaceDirectory(), "attempts-"));
  chmodSync(layer, 0o755);
  execFileSync(attemptProgram(), ["layer", layer], { stdio: "inherit" });
  for (const against of options.against) {
    const daemon = against === "janusd" ? await startDaemon() : undefined;
    let ground = await Ground.make(layer);
    try {
      for (const attempt of attempts) {
        for (const place of attempt.places.filter((place) => options.places.includes(place))) {
          for (const who of options.as) {
            const run = { attempt, place, who };
            const expected = expectation(attempt, who, against);
            let got: string;
            let windows: readonly number[] = [];
            const explained = daemon && options.explained ? new Explanations(daemon, ground.container) : undefined;
            try {
              const wanted = daemon === undefined ? Math.min(options.iterations, provingTries) : options.iterations;
              const tries = attempt.loops === 0 ? 0 : wanted;
              const report = await tryOne(ground, daemon, run, tries, explained, options.ofContainer);
              got = verdict(report, against, expected);
              windows = report.windows.map(({ got, us }) => (got === "denied" ? us : Infinity));
            } catch (error) {
              // It hangs, or took the agent along: a new container for the rest.
              got = `broken: ${error instanceof Error ? error.message : String(error)}`;
              await ground.stop();
              ground = await Ground.make(layer);
            }
            const { compared = 0, wrong = [] } = explained ?? {};
            const ok = asExpected(got, expected);
            if (!ok && daemon !== undefined) got += `; the daemon has exposed ${await exposures(daemon)}`;
            yield {
              ...run,
              against,
              expected,
              got,
              windows,
              ok,
              explained: { compared, wrong },
            };
          }
        }
      }
    } finally {
      await ground.stop();
      await daemon?.stop();
    }
  }
}

/** What it has let through so far by its own account, by cause. */
async function exposures(daemon: Daemon): Promise<string> {
  const samples = (await daemon.metrics()).matchAll(/^janusd_exposure_total\{cause="(\w+)"\} ([1-9]\d*)$/gm);
  return [...samples].map(([, cause, count]) => `${cause} ${count}`).join(", ") || "nothing";
}

/** What `explain` says of the opens of one run, beside what came of them. */
class Explanations {
  /** What the guards of the run deny; a read is tried after each open. */
  readonly events = new Set<string>();
  readonly wrong: string[] = [];
  compared = 0;

  constructor(
    private readonly daemon: Daemon,
    private readonly container: Container,
  ) {}

  async compare(path: string, got: string): Promise<void> {
    this.compared += 1;
    const said: Verdict[] = [];
    for (const event of this.events) {
      const { verdicts } = await this.daemon.client.explain({ container: this.container.id, path, event });
      said.push(verdicts.find(({ actor }) => actor === Actor.CONTAINER)?.verdict ?? Verdict.UNSPECIFIED);
    }
    const denied = said.includes(Verdict.DENY);
    if (said.includes(Verdict.UNSPECIFIED) || denied !== (got === "EPERM"))
      this.wrong.push(`${path}: ${said.map((verdict) => Verdict[verdict])}, and it was ${got}`);
  }
}

async function tryOne(
  ground: Ground,
  daemon: Daemon | undefined,
  run: Pick<Result, "attempt" | "place" | "who">,
  tries: number,
  explained: Explanations | undefined,
  ofContainer = false,
): Promise<Report> {
  const podName = "bypass";
  let guards = 0;
  const guard = async (json: JsonObject) => {
    guards += 1;
    const subject = fromJson(JanusGuardSubjectSchema, json);
    if (ofContainer) subject.scope = Scope.CONTAINER;
    for (const event of subject.event) explained?.events.add(event);
    await daemon?.createGuard({
      name: `${run.attempt.name}-${guards}`,
      podName,
      cid: [`containerd://${ground.container.id}`],
      subject: [subject],
    });
  };
  try {
    const patience = daemon === undefined ? glanceMs : patienceMs;
    return await ground.run(run, tries, patience, guard, explained && ((path, got) => explained.compare(path, got)));
  } finally {
    if (guards > 0) await daemon?.destroyGuard({ podName });
  }
}
