/**
 * Real containers for tests: runc, an overlayfs root of busybox, bind-mounted
 * volumes. Nothing here knows janusd.
 *
 *     await using container = await startContainer({ files: { "/etc/secret": "s3cret\n" } });
 *     const { status, stderr } = await container.exec(["cat", "/etc/secret"]);
 *
 * For many operations start one actor or shell in the container and talk to it.
 */
import { type ChildProcess, type ChildProcessByStdio, execFileSync, spawn, spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import { createInterface } from "node:readline";
import type { Readable, Writable } from "node:stream";
import { cgroupParent, killAtExit, type Runtime, removeTree, runtimeRoot, workspaceDirectory } from "./cleanup.js";

export type Capabilities = "default" | "none" | "sys_admin";

export interface Volume {
  /** Host directory. Left out: a new empty one, on the node's own file system, is made. */
  readonly source?: string;
  /** Absolute path in the container. */
  readonly target: string;
  readonly readonly?: boolean;
  /** "rslave": what is mounted below `source` later appears in the container; `source` has to be shared. */
  readonly propagation?: "rprivate" | "rslave";
}

export interface ContainerOptions {
  /** 64 hex characters. Default: random. */
  readonly id?: string;
  /** Files of the image (the overlay's lower layer): absolute path to content. */
  readonly files?: Readonly<Record<string, string | Buffer>>;
  readonly volumes?: readonly Volume[];
  /** Static programs copied into the image: absolute path in the container to the host's file. */
  readonly programs?: Readonly<Record<string, string>>;
  /** More lower layers of the overlay, the uppermost first: host directories that the caller owns. */
  readonly layers?: readonly string[];
  /** The first process. Default: a long sleep. "actor": `container.init` drives it. */
  readonly init?: readonly string[] | "actor";
  readonly uid?: number;
  /** /dev/fuse is there, and may be opened. */
  readonly fuse?: boolean;
  /** Default: what docker gives. */
  readonly capabilities?: Capabilities;
  /** cgroup, absolute below each hierarchy's root. Default: one named after the test process. */
  readonly cgroupPath?: string;
  /** An overlay is the default; "bind" shares the superblock with the node. */
  readonly rootType?: "overlay" | "bind";
  /** Default: runc. */
  readonly runtime?: Runtime;
  /** Prefix of every mount and runtime's command, for example to enter another mount namespace. */
  readonly enter?: readonly string[];
}

export interface ExecOptions {
  readonly uid?: number;
  readonly capabilities?: Capabilities;
  readonly cwd?: string;
  readonly stdin?: string;
}

export interface ExecResult {
  /** Exit status; null if a signal ended runc itself. */
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** What `Actor.repeat` saw. Nanoseconds. */
export interface RepeatResult {
  readonly opened: number;
  /** EPERM. */
  readonly denied: number;
  readonly other: number;
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
  readonly total: number;
}

const docker = [
  "AUDIT_WRITE",
  "CHOWN",
  "DAC_OVERRIDE",
  "FOWNER",
  "FSETID",
  "KILL",
  "MKNOD",
  "NET_BIND_SERVICE",
  "NET_RAW",
  "SETFCAP",
  "SETGID",
  "SETPCAP",
  "SETUID",
  "SYS_CHROOT",
].map((name) => `CAP_${name}`);

const capabilitySets: Readonly<Record<Capabilities, readonly string[]>> = {
  default: docker,
  none: [],
  sys_admin: [...docker, "CAP_SYS_ADMIN"],
};

const fuseDevice = {
  devices: [{ path: "/dev/fuse", type: "c", major: 10, minor: 229, fileMode: 0o666, uid: 0, gid: 0 }],
  resources: { devices: [{ allow: true, type: "c", major: 10, minor: 229, access: "rwm" }] },
};

function capabilitySet(kind: Capabilities): Record<string, readonly string[]> {
  const set = capabilitySets[kind];
  return { bounding: set, effective: set, permitted: set };
}

/** For another machine: by what compiler, and to which directory. */
export interface Target {
  readonly cc: string;
  readonly build: string;
}

/** Compiles a static C program of test/support or of the given path, once. Returns the binary. */
export function staticProgram(source: string, target?: Target): string {
  const path = source.includes("/") ? source : new URL(source, import.meta.url).pathname;
  const { cc, build } = target ?? { cc: "cc", build: join(dirname(path), "build") };
  const binary = join(build, basename(path, ".c"));
  if (!existsSync(binary) || statSync(binary).mtimeMs < statSync(path).mtimeMs) {
    mkdirSync(dirname(binary), { recursive: true });
    // Renamed into place: test processes that run side by side may build it at the same time.
    const made = `${binary}.${process.pid}`;
    execFileSync(cc, ["-static", "-O2", "-Wall", "-Wextra", "-pthread", "-o", made, path], { stdio: "inherit" });
    renameSync(made, binary);
  }
  return binary;
}

/** The image's first layer, shared by this process's containers as layers are: busybox, all its applets, /etc. */
function baseLayer(): string {
  const layer = join(workspaceDirectory(), "base");
  if (existsSync(layer)) return layer;
  for (const directory of ["bin", "etc", "tmp", "data", "proc", "sys", "dev", "root", "home", "var", "mnt"])
    mkdirSync(join(layer, directory), { recursive: true });
  copyFileSync("/bin/busybox", join(layer, "bin/busybox"));
  for (const applet of execFileSync("/bin/busybox", ["--list"], { encoding: "utf8" }).trim().split("\n"))
    if (applet !== "busybox") symlinkSync("/bin/busybox", join(layer, "bin", applet));
  copyFileSync(staticProgram("actor.c"), join(layer, "bin/actor"));
  writeFileSync(join(layer, "etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n");
  writeFileSync(join(layer, "etc/group"), "root:x:0:\nnogroup:x:65534:\n");
  return layer;
}

type Piped = ChildProcessByStdio<Writable, Readable, Readable>;

/** A process in a container that answers line for line. One command at a time. */
class LineProcess {
  readonly #child: Piped;
  readonly #waiting: ((line: string | undefined) => void)[] = [];
  readonly #forget: () => void;
  #stderr = "";

  constructor(child: Piped) {
    this.#child = child;
    this.#forget = child.pid === undefined ? () => undefined : killAtExit(child.pid);
    child.stderr.on("data", (chunk: Buffer) => {
      this.#stderr += chunk.toString();
    });
    child.stdin.on("error", () => undefined); // It ended: `ask` rejects.
    const lines = createInterface({ input: child.stdout });
    lines.on("line", (line) => this.#waiting.shift()?.(line));
    lines.on("close", () => {
      for (const resolve of this.#waiting.splice(0)) resolve(undefined);
    });
  }

  /** Rejects if the process ends before it answers. */
  async ask(command: string): Promise<string> {
    const line = await new Promise<string | undefined>((resolve) => {
      if (this.#child.stdout.closed) return resolve(undefined);
      this.#waiting.push(resolve);
      this.#child.stdin.write(`${command}\n`);
    });
    if (line === undefined) throw new Error(`the process in the container ended at "${command}": ${this.#stderr}`);
    return line;
  }

  async stop(): Promise<void> {
    const ended = exitOf(this.#child);
    this.#child.stdin.end();
    await ended;
    this.#forget();
  }
}

function exitOf(child: ChildProcess): Promise<number | null> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve(child.exitCode);
  return new Promise((resolve) => child.once("exit", resolve));
}

/** Drives test/support/actor.c inside a container: a system call or a storm of them per command. */
export class Actor {
  readonly #process: LineProcess;

  constructor(child: Piped) {
    this.#process = new LineProcess(child);
  }

  /** The answer's numbers; the first is an errno. Prefix a command with "child" to run it in a forked process. */
  async command(...fields: readonly (string | number)[]): Promise<number[]> {
    const encoded = fields.map((field) =>
      String(field).replace(/[%\t\n]/g, (byte) => `%${byte.charCodeAt(0).toString(16).padStart(2, "0")}`),
    );
    return (await this.#process.ask(encoded.join("\t"))).split(" ").map(Number);
  }

  async #errno(...fields: readonly (string | number)[]): Promise<number> {
    const [errno] = await this.command(...fields);
    if (errno === undefined || Number.isNaN(errno)) throw new Error(`no answer to ${fields.join(" ")}`);
    return errno;
  }

  /** errno, 0 = opened. */
  open(path: string, flags = 0): Promise<number> {
    return this.#errno("open", path, flags);
  }

  /** errno of open or read. */
  read(path: string): Promise<number> {
    return this.#errno("read", path);
  }

  write(path: string, text: string): Promise<number> {
    return this.#errno("write", path, text);
  }

  link(from: string, to: string): Promise<number> {
    return this.#errno("link", from, to);
  }

  symlink(target: string, path: string): Promise<number> {
    return this.#errno("symlink", target, path);
  }

  rename(from: string, to: string): Promise<number> {
    return this.#errno("rename", from, to);
  }

  mkdir(path: string): Promise<number> {
    return this.#errno("mkdir", path);
  }

  unlink(path: string): Promise<number> {
    return this.#errno("unlink", path);
  }

  bind(from: string, to: string): Promise<number> {
    return this.#errno("bind", from, to);
  }

  unshare(flags: number): Promise<number> {
    return this.#errno("unshare", flags);
  }

  comm(name: string): Promise<number> {
    return this.#errno("comm", name);
  }

  /** errno of execve. */
  exec(...argv: readonly string[]): Promise<number> {
    return this.#errno("exec", ...argv);
  }

  /** Opens and closes `count` times, or for `milliseconds` (0 = no limit). */
  async repeat(path: string, count: number, milliseconds = 0): Promise<RepeatResult> {
    const [, opened = 0, denied = 0, other = 0, p50 = 0, p99 = 0, max = 0, total = 0] = await this.command(
      "repeat",
      path,
      count,
      milliseconds,
    );
    return { opened, denied, other, p50, p99, max, total };
  }

  /** Opens the path over and over, until what it returns is called: that tells how the opens ended. */
  storm(path: string): () => Promise<Pick<RepeatResult, "opened" | "denied" | "other">> {
    let over = false;
    const stormed = (async () => {
      const sum = { opened: 0, denied: 0, other: 0 };
      while (!over) {
        const { opened, denied, other } = await this.repeat(path, 1_000_000, 100);
        sum.opened += opened;
        sum.denied += denied;
        sum.other += other;
      }
      return sum;
    })();
    return () => {
      over = true;
      return stormed;
    };
  }

  stop(): Promise<void> {
    return this.#process.stop();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }
}

/** A busybox shell inside a container: one `runc exec` for many commands. */
export class Shell {
  readonly #process: LineProcess;

  constructor(child: Piped) {
    this.#process = new LineProcess(child);
  }

  /** Runs a script (one line, in a subshell). stdout and stderr come back together. */
  async run(script: string): Promise<{ readonly status: number; readonly output: string }> {
    const answer = await this.#process.ask(
      `output=$( ( ${script} ) </dev/null 2>&1 ); status=$?; printf '%s %s\\n' $status "$(printf %s "$output" | base64 | tr -d '\\n')"`,
    );
    const [status, text] = answer.split(" ");
    return { status: Number(status), output: Buffer.from(text ?? "", "base64").toString() };
  }

  stop(): Promise<void> {
    return this.#process.stop();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }
}

export class Container {
  readonly id: string;
  /** The container's root as the node sees it: the overlay's mount point. */
  readonly rootfs: string;
  /** The overlay's upper layer on the node. */
  readonly upper: string;
  /** Host directories of the volumes, in the order of the options. */
  readonly volumes: readonly string[];
  readonly #directory: string;
  readonly #enter: readonly string[];
  readonly #runtime: Runtime;
  readonly #init: ContainerOptions["init"];
  #initActor: Actor | undefined;
  #initPid = 0;
  #stopped = false;

  private constructor(id: string, directory: string, volumes: readonly string[], options: ContainerOptions) {
    this.id = id;
    this.#directory = directory;
    this.rootfs = join(directory, "rootfs");
    this.upper = join(directory, "upper");
    this.volumes = volumes;
    this.#enter = options.enter ?? [];
    this.#runtime = options.runtime ?? "runc";
    this.#init = options.init;
  }

  static async start(options: ContainerOptions): Promise<Container> {
    const id = options.id ?? randomBytes(32).toString("hex");
    const directory = mkdtempSync(join(workspaceDirectory(), "c-"));
    const volumes = (options.volumes ?? []).map((volume, index) => {
      const source = volume.source ?? join(directory, `volume${index}`);
      if (!existsSync(source)) mkdirSync(source, { recursive: true }); // it may be a file, as a subPath is
      return source;
    });
    const container = new Container(id, directory, volumes, options);
    try {
      container.#mountRoot(options);
      container.#writeConfig(options);
      await container.#start();
    } catch (error) {
      await container.stop();
      throw error;
    }
    return container;
  }

  get initPid(): number {
    return this.#initPid;
  }

  /** The first process, if it was started as an actor. */
  get init(): Actor {
    if (this.#initActor === undefined) throw new Error('the container was not started with init: "actor"');
    return this.#initActor;
  }

  #mountRoot(options: ContainerOptions): void {
    const layer = join(this.#directory, "layer");
    for (const directory of [layer, this.rootfs, this.upper, join(this.#directory, "work")]) mkdirSync(directory);
    for (const [path, content] of Object.entries(options.files ?? {})) {
      mkdirSync(join(layer, dirname(path)), { recursive: true });
      writeFileSync(join(layer, path), content);
    }
    for (const [path, source] of Object.entries(options.programs ?? {})) {
      mkdirSync(join(layer, dirname(path)), { recursive: true });
      copyFileSync(source, join(layer, path));
    }
    if (options.rootType === "bind") {
      execFileSync("cp", ["-a", `${baseLayer()}/.`, `${layer}/.`, this.upper]);
      this.#mount("--bind", this.upper, this.rootfs);
    } else {
      const lower = [layer, ...(options.layers ?? []), baseLayer()].join(":");
      const layers = `lowerdir=${lower},upperdir=${this.upper},workdir=${join(this.#directory, "work")}`;
      this.#mount("-t", "overlay", "overlay", "-o", layers, this.rootfs);
    }
  }

  #mount(...rest: readonly string[]): void {
    const [command, args] = this.#command("mount", ...rest);
    execFileSync(command, args);
  }

  #writeConfig(options: ContainerOptions): void {
    const init = options.init === "actor" ? ["/bin/actor"] : (options.init ?? ["/bin/sleep", "1000000"]);
    const nodev = ["nosuid", "noexec", "nodev"];
    const config = {
      ociVersion: "1.0.2",
      process: {
        terminal: false,
        user: { uid: options.uid ?? 0, gid: options.uid ?? 0 },
        args: init,
        env: ["PATH=/bin"],
        cwd: "/",
        capabilities: capabilitySet(options.capabilities ?? "default"),
        noNewPrivileges: false,
      },
      root: { path: this.rootfs, readonly: false },
      hostname: "test",
      mounts: [
        { destination: "/proc", type: "proc", source: "proc" },
        { destination: "/dev", type: "tmpfs", source: "tmpfs", options: ["nosuid", "strictatime", "mode=755"] },
        { destination: "/dev/pts", type: "devpts", source: "devpts", options: ["nosuid", "noexec", "newinstance"] },
        { destination: "/dev/shm", type: "tmpfs", source: "shm", options: [...nodev, "mode=1777"] },
        { destination: "/sys", type: "sysfs", source: "sysfs", options: [...nodev, "ro"] },
        ...(options.volumes ?? []).map((volume, index) => ({
          destination: volume.target,
          type: "bind",
          source: this.volumes[index],
          options: ["rbind", volume.propagation ?? "rprivate", volume.readonly ? "ro" : "rw"],
        })),
      ],
      linux: {
        namespaces: ["pid", "mount", "ipc", "uts", "network"].map((type) => ({ type })),
        ...(options.fuse ? fuseDevice : {}),
        cgroupsPath: options.cgroupPath ?? `${cgroupParent()}/${this.id}`,
      },
    };
    writeFileSync(join(this.#directory, "config.json"), JSON.stringify(config));
  }

  #command(program: string, ...rest: readonly string[]): readonly [string, string[]] {
    const [command = program, ...args] = [...this.#enter, program, ...rest];
    return [command, args];
  }

  #run(...rest: readonly string[]): readonly [string, string[]] {
    return this.#command(this.#runtime, "--root", runtimeRoot(this.#runtime), ...rest);
  }

  async #start(): Promise<void> {
    const log = join(this.#directory, "log");
    const arguments_ = ["--bundle", this.#directory, this.id];
    if (this.#init === "actor") {
      const [command, args] = this.#run("--log", log, "run", ...arguments_);
      this.#initActor = new Actor(spawn(command, args, { stdio: "pipe" }));
      await this.#initActor.command("pid");
    } else {
      const [command, args] = this.#run("--log", log, "run", "--detach", ...arguments_);
      // Not pipes: the container would hold them open for as long as it runs.
      const status = await exitOf(spawn(command, args, { stdio: "ignore" }));
      if (status !== 0) throw new Error(`${this.#runtime} run: ${readFileSync(log, "utf8")}`);
    }
    const [command, args] = this.#run("state", this.id);
    const state: unknown = JSON.parse(execFileSync(command, args, { encoding: "utf8" }));
    if (typeof state !== "object" || state === null || !("pid" in state)) throw new Error(`${this.#runtime} state`);
    this.#initPid = Number(state.pid);
  }

  #execArguments(argv: readonly string[], options: ExecOptions): readonly [string, string[]] {
    const spec = join(this.#directory, `process-${randomBytes(6).toString("hex")}.json`);
    const user = options.uid ?? 0;
    writeFileSync(
      spec,
      JSON.stringify({
        terminal: false,
        user: { uid: user, gid: user },
        args: argv,
        env: ["PATH=/bin"],
        cwd: options.cwd ?? "/",
        capabilities: capabilitySet(options.capabilities ?? "default"),
      }),
    );
    return this.#run("exec", "--process", spec, this.id);
  }

  /** `runc exec`. Takes some 50 ms. */
  async exec(argv: readonly string[], options: ExecOptions = {}): Promise<ExecResult> {
    const [command, args] = this.#execArguments(argv, options);
    const child = spawn(command, args, { stdio: "pipe" });
    const output: Record<"stdout" | "stderr", Buffer[]> = { stdout: [], stderr: [] };
    child.stdout.on("data", (chunk: Buffer) => output.stdout.push(chunk));
    child.stderr.on("data", (chunk: Buffer) => output.stderr.push(chunk));
    child.stdin.on("error", () => undefined); // The program need not read it.
    child.stdin.end(options.stdin ?? "");
    return await new Promise((resolve, reject) => {
      child.once("error", reject);
      child.once("close", (status, signal) =>
        resolve({
          status,
          signal,
          stdout: Buffer.concat(output.stdout).toString(),
          stderr: Buffer.concat(output.stderr).toString(),
        }),
      );
    });
  }

  /** An actor in the container, by `runc exec`. Ends with the container at the latest. */
  async actor(options: ExecOptions = {}): Promise<Actor> {
    const [command, args] = this.#execArguments(["/bin/actor"], options);
    const actor = new Actor(spawn(command, args, { stdio: "pipe" }));
    await actor.command("pid");
    return actor;
  }

  /** A shell in the container, by `runc exec`. Ends with the container at the latest. */
  async shell(options: ExecOptions = {}): Promise<Shell> {
    const [command, args] = this.#execArguments(["/bin/sh"], options);
    const shell = new Shell(spawn(command, args, { stdio: "pipe" }));
    await shell.run("true");
    return shell;
  }

  /** Writes a file on the node's side of a volume. */
  writeVolume(index: number, path: string, content: string): void {
    const volume = this.volumes[index];
    if (volume === undefined) throw new RangeError(`no volume ${index}`);
    mkdirSync(dirname(join(volume, path)), { recursive: true });
    writeFileSync(join(volume, path), content);
  }

  /** Kills every process of the container, as a runtime does. The files stay until `stop`. */
  async kill(): Promise<void> {
    const [command, args] = this.#run("delete", "--force", this.id);
    await exitOf(spawn(command, args, { stdio: "ignore" }));
  }

  /** Ends the container and removes all that it was made of. */
  async stop(): Promise<void> {
    if (this.#stopped) return;
    this.#stopped = true;
    await this.kill();
    const [command, args] = this.#command("umount", this.rootfs);
    spawnSync(command, args, { stdio: "ignore" });
    if (!readFileSync("/proc/self/mountinfo", "utf8").includes(` ${this.rootfs} `)) removeTree(this.#directory);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }
}

/** Starts a container. Give `t` to have it stopped in its teardown; it goes with the test process in any case. */
export async function startContainer(
  options: ContainerOptions = {},
  t?: { teardown(handler: () => Promise<void>): unknown },
): Promise<Container> {
  const container = await Container.start(options);
  t?.teardown(() => container.stop());
  return container;
}
