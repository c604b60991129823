/**
 * The daemon's configuration. One table (`OPTIONS`) makes the flags, the
 * environment variables, `--help` and docs/configuration.md.
 */
import { hostname } from "node:os";
import { isAbsolute } from "node:path";
import { Command, CommanderError, Option } from "commander";
import {
  type Address,
  DEFAULT_SOCKET,
  formatAddress,
  GRPC_PORT,
  parseAddress,
  parseTcpAddress,
  type TcpAddress,
} from "./address.js";
import { LOG_LEVELS, type LogLevel } from "./log.js";
import { AWAY_MODES, type AwayMode, type EngineOptions, HOLD_MODES, type HoldMode } from "./native.js";

export interface TlsFiles {
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
}

/** `read`: may call what changes nothing. */
export type Role = "admin" | "read";

/** By a name in its certificate. */
export interface AllowedClient {
  readonly name: string;
  readonly role: Role;
}

export interface Config {
  /** For TCP listeners of gRPC. Undefined: plaintext. */
  readonly tls: TlsFiles | undefined;
  /** Empty: each client with a certificate of the CA is an admin. */
  readonly allowedClients: readonly AllowedClient[];
  /** Of gRPC. */
  readonly listen: readonly Address[];
  readonly http: TcpAddress;
  readonly metricsIntervalMs: number;
  /** Undefined: no guard file. */
  readonly guardsFile: string | undefined;
  /** Undefined: guards are not kept. */
  readonly stateFile: string | undefined;
  readonly nodeName: string;
  /** Undefined: guards of Kubernetes are not followed. */
  readonly kubernetes: KubernetesConfig | undefined;
  /** How long CreateGuard waits for containers that aren't there yet. Milliseconds. */
  readonly containerWaitMs: number;
  /** Between two opens of the canary; 0: none. */
  readonly canaryMs: number;
  /** Undefined: standard output. */
  readonly logFile: string | undefined;
  readonly logFormat: LogFormatName;
  /** Of an OpenTelemetry collector; undefined: none gets the events. */
  readonly otlpEndpoint: URL | undefined;
  readonly logLevel: LogLevel;
  /** Of the events that are kept for who comes later. */
  readonly eventHistoryBytes: number;
  readonly engine: Omit<EngineOptions, "stalls">;
}

export interface KubernetesConfig {
  /** A file. Undefined: the pod's own credentials. */
  readonly kubeconfig: string | undefined;
  /** Of the container runtime's socket. Undefined: the first of the known ones that is there. */
  readonly criEndpoint: string | undefined;
  /** Denials are told as Events on the pods. */
  readonly events: boolean;
}

/** A command line or environment that makes no sense. One line. */
export class ConfigError extends Error {
  override readonly name = "ConfigError";
}

export type LogFormatName = "text" | "json" | "off";

/** `--help` or `--version` was asked for: print `text` and leave. */
export class HelpRequested extends Error {
  override readonly name = "HelpRequested";

  constructor(readonly text: string) {
    super("help requested");
  }
}

interface OptionRow<T> {
  readonly flag: string;
  readonly env: string;
  /** What stands for the value in the help; undefined: a switch. */
  readonly value?: string;
  /** What holds when neither flag nor environment say anything. */
  readonly default: T;
  /** The default in words, if it isn't plain. */
  readonly defaultText?: string;
  readonly help: string;
  /** An empty environment variable is a value, not the lack of one. */
  readonly mayBeEmpty?: true;
  /** May be given several times; in the environment, with commas between. `parse` returns a list of what one says. */
  readonly several?: true;
  /** Throws Error with what the value must be. */
  readonly parse: (text: string) => T;
}

function row<T>(option: OptionRow<T>): OptionRow<T> {
  return option;
}

const OPTIONS = {
  tls: row({
    flag: "tls",
    env: "JANUSD_TLS",
    default: false,
    help: "Serve gRPC with TLS, and require a client certificate signed by the CA. Any of the three files turns it on, too.",
    parse: parseSwitch,
  }),
  tlscafile: row({
    flag: "tlscafile",
    env: "JANUSD_TLSCAFILE",
    value: "file",
    default: "",
    help: "CA that signs client certificates, PEM.",
    parse: String,
  }),
  tlscertfile: row({
    flag: "tlscertfile",
    env: "JANUSD_TLSCERTFILE",
    value: "file",
    default: "",
    help: "The daemon's certificate, PEM.",
    parse: String,
  }),
  tlskeyfile: row({
    flag: "tlskeyfile",
    env: "JANUSD_TLSKEYFILE",
    value: "file",
    default: "",
    help: "The daemon's private key, PEM.",
    parse: String,
  }),
  allowClient: row<readonly AllowedClient[]>({
    flag: "allow-client",
    env: "JANUSD_ALLOW_CLIENT",
    value: "name[=role]",
    default: [],
    defaultText: "each certificate that the CA signed, as `admin`",
    help: "A client that may call, by its certificate's common name or an alternative name (DNS, URI or email), as it is written there; `admin`, or `read`: only what changes nothing. May be given several times (in the variable, with commas between).",
    several: true,
    parse: (text) => [parseAllowedClient(text)],
  }),
  listen: row<readonly Address[] | undefined>({
    flag: "listen",
    env: "JANUSD_LISTEN",
    value: "address",
    default: undefined,
    defaultText: `\`${formatAddress(DEFAULT_SOCKET)}\`, with TLS \`[::]:${GRPC_PORT}\` too`,
    help: "Where gRPC listens: `unix:///path`, which only root reaches, `host:port` or `[v6 address]:port`; `[::]` is every address, of IPv4 too. May be given several times (in the variable, with commas between); then the default doesn't hold. TCP needs TLS, or `--insecure`.",
    several: true,
    parse: (text) => [parseAddress(text)],
  }),
  insecure: row({
    flag: "insecure",
    env: "JANUSD_INSECURE",
    default: false,
    help: "Allow plaintext gRPC over TCP. Whoever reaches the address decides what containers may open: on loopback that is every user of the node, and every pod in its network.",
    parse: parseSwitch,
  }),
  http: row({
    flag: "http",
    env: "JANUSD_HTTP",
    value: "address",
    default: { host: "::", port: 9464 },
    defaultText: "`[::]:9464`",
    help: "Where `/livez`, `/readyz` and `/metrics` are served, `host:port`. `[::]` is every address, of IPv4 too, also on a node without IPv6.",
    parse: (text) => parseTcpAddress(text),
  }),
  metricsInterval: row({
    flag: "metrics-interval",
    env: "JANUSD_METRICS_INTERVAL",
    value: "ms",
    default: 1000,
    help: "Milliseconds for which the figures of `/metrics` are served again before they are made anew, once for all who ask meanwhile; 0 makes them for each.",
    parse: wholeNumber(0, 60_000),
  }),
  guards: row({
    flag: "guards",
    env: "JANUSD_GUARDS",
    value: "file",
    default: "",
    defaultText: "none",
    help: "Guards without a controller: YAML in the shape of the `JanusGuard` resource, with container ids in `spec.containers`.",
    parse: String,
  }),
  kubernetes: row({
    flag: "kubernetes",
    env: "JANUSD_KUBERNETES",
    default: false,
    help: "Take guards from the cluster: the daemon follows `JanusGuard` and `ClusterJanusGuard` resources and the pods of its node, with its pod's own credentials. See docs/kubernetes.md.",
    parse: parseSwitch,
  }),
  kubeconfig: row({
    flag: "kubeconfig",
    env: "JANUSD_KUBECONFIG",
    value: "file",
    default: "",
    help: "Credentials for the API server, instead of the pod's own. Turns `--kubernetes` on, too.",
    parse: String,
  }),
  criEndpoint: row({
    flag: "cri-endpoint",
    env: "JANUSD_CRI_ENDPOINT",
    value: "socket",
    default: "",
    defaultText:
      "the first that is there of `/run/containerd/containerd.sock`, `/run/crio/crio.sock`, `/run/cri-dockerd.sock`",
    help: "The container runtime's Unix socket (`/path` or `unix:///path`), which knows a pod's containers before the pod's status names them. For `--kubernetes`.",
    parse: (text) => absoluteOrNone(text.replace(/^unix:\/\//, "")),
  }),
  kubernetesEvents: row({
    flag: "kubernetes-events",
    env: "JANUSD_KUBERNETES_EVENTS",
    default: true,
    help: "With `--kubernetes`: tell denials as Events on the pods, for `kubectl describe pod`. One of each guard, pod and reason, with a count. See docs/kubernetes.md.",
    parse: parseSwitch,
  }),
  stateFile: row({
    flag: "state-file",
    env: "JANUSD_STATE_FILE",
    value: "file",
    default: "/var/lib/janusd/guards.json",
    help: "Where guards are kept across restarts. Empty: nowhere.",
    mayBeEmpty: true,
    parse: String,
  }),
  nodeName: row({
    flag: "node-name",
    env: "NODE_NAME",
    value: "name",
    default: "",
    defaultText: "the host name",
    help: "The node's name, in answers and events.",
    parse: String,
  }),
  containerWait: row({
    flag: "container-wait",
    env: "JANUSD_CONTAINER_WAIT",
    value: "ms",
    default: 3000,
    help: "Milliseconds that CreateGuard waits for containers that don't run yet, before it says `NOT_FOUND`; 0 doesn't wait. At most 4500: the controller gives up after 5 s.",
    parse: wholeNumber(0, 4500),
  }),
  canary: row({
    flag: "canary",
    env: "JANUSD_CANARY",
    value: "ms",
    default: 2000,
    help: "Milliseconds between two opens of a file that is denied to everybody, on a file system of the daemon's own, by a process of its own (janusd-canary). Each has to be denied, and its record has to arrive: readiness is lost where that was not proven for 8 s. `0`: never; else 100 to 4000.",
    parse: zeroOr(wholeNumber(100, 4000)),
  }),
  logFile: row({
    flag: "log-file",
    env: "JANUSD_LOG_FILE",
    value: "file",
    default: "",
    defaultText: "standard output",
    help: "Where the event log is appended to. `SIGHUP` has it opened again: docs/events.md has a configuration of logrotate.",
    parse: absoluteOrNone,
  }),
  logFormat: row<LogFormatName>({
    flag: "log-format",
    env: "JANUSD_LOG_FORMAT",
    value: "format",
    default: "text",
    help: "The event log: `text` (each guard's `logFormat`), `json`, or `off`.",
    parse: choice(["text", "json", "off"]),
  }),
  otlpEndpoint: row<URL | undefined>({
    flag: "otlp-endpoint",
    env: "JANUSD_OTLP_ENDPOINT",
    value: "url",
    default: undefined,
    defaultText: "none",
    help: "OpenTelemetry collector that gets the events as log records, by OTLP over HTTP: `http://HOST:4318`, to which `/v1/logs` is added. Headers and certificates: the SDK's own variables, such as `OTEL_EXPORTER_OTLP_HEADERS`.",
    parse: parseHttpUrl,
  }),
  logLevel: row<LogLevel>({
    flag: "log-level",
    env: "JANUSD_LOG_LEVEL",
    value: "level",
    default: "info",
    help: `The daemon's own log on standard error, JSON: ${LOG_LEVELS.map((level) => `\`${level}\``).join(", ")}.`,
    parse: choice(LOG_LEVELS),
  }),
  eventHistory: row({
    flag: "event-history",
    env: "JANUSD_EVENT_HISTORY",
    value: "bytes",
    default: 8 * 1024 * 1024,
    defaultText: "`8M`",
    help: "Memory for the last events, with `K` or `M`, which `janusctl events --since` looks back on: some 30,000 of them, one for each 128 bytes at most.",
    parse: parseSize("1M"),
  }),
  ringSize: row({
    flag: "ring-size",
    env: "JANUSD_RING_SIZE",
    value: "bytes",
    default: 8 * 1024 * 1024,
    defaultText: "`8M`",
    help: "The event ring, with `K` or `M`; rounded up to a power of two. A full ring drops event records (counted), never decisions.",
    parse: parseSize("64K"),
  }),
  deadline: row({
    flag: "deadline",
    env: "JANUSD_DEADLINE",
    value: "ms",
    default: 1000,
    help: "Milliseconds after which a question that is still open is answered with allow, and counted as exposure.",
    parse: wholeNumber(1, 60_000),
  }),
  identityLimit: row({
    flag: "identity-limit",
    env: "JANUSD_IDENTITY_LIMIT",
    value: "inodes",
    default: 16_384,
    help: "Inodes that the guards of one container pin, so that hard links and renames don't get around them.",
    parse: wholeNumber(1, 2 ** 24),
  }),
  ignoreLimit: row({
    flag: "ignore-limit",
    env: "JANUSD_IGNORE_LIMIT",
    value: "marks",
    default: 65_536,
    help: "Learned ignore marks of the whole daemon. At the limit all are forgotten, and learned again.",
    parse: wholeNumber(0, 2 ** 24),
  }),
  ignoreAfter: row({
    flag: "ignore-after",
    env: "JANUSD_IGNORE_AFTER",
    value: "questions",
    default: 0,
    help: "Questions about the entries of a directory that can be renamed, before it is ignored; 0 never ignores such, and pays a question for each open there. (One of the image cannot be renamed, and is ignored at once.) With another number, for a moment after an ignored directory was moved into a guarded place, its files are not asked about (counted as exposure).",
    parse: wholeNumber(0, 2 ** 24),
  }),
  hold: row<HoldMode>({
    flag: "hold",
    env: "JANUSD_HOLD",
    value: "mode",
    default: "auto",
    help: "A process of a guarded container that is about to see files through mounts that are new is held until they are guarded. `auto`: at its open, by an fmod_ret program, where the kernel takes one (nobody notices); else at exec and fork (`scheduler`), by SIGSTOP. `syscalls`: where there is no fmod_ret, after each mount and unshare, by syscall tracepoints, which slow every system call of the node. `off`: nobody is held.",
    parse: choice(HOLD_MODES),
  }),
  holdLimit: row({
    flag: "hold-limit",
    env: "JANUSD_HOLD_LIMIT",
    value: "ms",
    default: 1000,
    help: "Milliseconds after which a process that is held goes on, guarded or not (counted as exposure). The kernel, or a process of its own (janusd-keeper), sees to it, whatever happens to the daemon.",
    parse: wholeNumber(1, 10_000),
  }),
  kernelDecides: row({
    flag: "kernel-decides",
    env: "JANUSD_KERNEL_DECIDES",
    default: true,
    help: "Where the kernel takes fmod_ret programs, it denies by itself what is certain, and asks about the rest (docs/tiers.md). `false`: it asks about everything.",
    parse: parseSwitch,
  }),
  keep: row({
    flag: "keep",
    env: "JANUSD_KEEP",
    default: true,
    help: "What the kernel denies by itself stays denied when the daemon is gone, by SIGKILL or in order, until the next one has taken over or `janusctl release`. Its programs are pinned below /sys/fs/bpf/janusd. `false`: they go with the daemon.",
    parse: parseSwitch,
  }),
  away: row<AwayMode>({
    flag: "away",
    env: "JANUSD_AWAY",
    value: "mode",
    default: "allow",
    help: "With `--keep`, while no daemon is there: opens and execs in guarded containers that only the daemon could judge, of what a rule of the guard covers. `allow`: counted, and told by the next daemon as exposure `away`. `deny`: so are the guard's exceptions (`allow`, `exclude`), too. Nobody else is ever concerned (docs/tiers.md).",
    parse: choice(AWAY_MODES),
  }),
  podWait: row({
    flag: "pod-wait",
    env: "JANUSD_POD_WAIT",
    value: "ms",
    default: 2000,
    help: "Milliseconds for which a container of a pod is held at its first program, while its pod isn't known yet or its guards aren't in place. Then it goes on, guarded or not (counted as exposure `pod_unknown`). Only while a guard could select pods of this node. `0` holds none: each is guarded a moment after it has begun.",
    parse: wholeNumber(0, 60_000),
  }),
  stallLimit: row({
    flag: "stall-limit",
    env: "JANUSD_STALL_LIMIT",
    value: "ms",
    default: 10_000,
    help: "Milliseconds for which nobody may answer. Then the whole daemon stands still (stopped, frozen, thrashing), all who open files of guarded containers wait, and a process of its own (janusd-keeper) kills it: the kernel lets them go. The next start says so, and counts it as exposure. `0`: never, as a debugger needs it; else 1000 or more.",
    parse: zeroOr(wholeNumber(1000, 600_000)),
  }),
  keeperCgroup: row({
    flag: "keeper-cgroup",
    env: "JANUSD_KEEPER_CGROUP",
    value: "directory",
    default: "",
    defaultText: "the daemon's",
    help: "The cgroup that janusd-keeper moves to at its start. What freezes the daemon's own cgroup freezes all that is in it, and a keeper there cannot kill it.",
    parse: absoluteOrNone,
  }),
} satisfies Record<string, OptionRow<never> | OptionRow<unknown>>;

type Key = keyof typeof OPTIONS;
type Values = { [K in Key]: (typeof OPTIONS)[K]["default"] };

const ROWS = Object.entries(OPTIONS) as readonly [Key, OptionRow<unknown>][];

/**
 * `args` without the program's name. A flag beats the environment; an empty
 * variable counts as not set, unless emptiness says something. Throws ConfigError, HelpRequested.
 */
export function parseConfig(
  args: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
  version: string,
): Config {
  const values = readValues(args, env, version);
  const tls = readTls(values);
  if (tls === undefined && values.allowClient.length > 0) {
    throw new ConfigError("--allow-client is about clients' certificates: it needs the TLS files");
  }
  if (values.logFile !== "" && values.logFormat === "off") {
    throw new ConfigError("--log-file is about the event log, and --log-format off has none");
  }
  if (values.away === "deny" && !(values.keep && values.kernelDecides)) {
    throw new ConfigError(
      "--away deny is about what is kept while no daemon is there: it needs --keep and --kernel-decides",
    );
  }
  const everywhere = { host: "::", port: GRPC_PORT };
  const listen = values.listen ?? [DEFAULT_SOCKET, ...(tls === undefined ? [] : [everywhere])];
  const plain = listen.find((address) => "host" in address);
  if (tls === undefined && !values.insecure && plain !== undefined) {
    throw new ConfigError(`--listen ${formatAddress(plain)}: gRPC over TCP needs the TLS files, or --insecure`);
  }
  return {
    tls,
    allowedClients: values.allowClient,
    listen,
    http: values.http,
    metricsIntervalMs: values.metricsInterval,
    guardsFile: values.guards === "" ? undefined : values.guards,
    stateFile: values.stateFile === "" ? undefined : values.stateFile,
    kubernetes: readKubernetes(values),
    nodeName: values.nodeName === "" ? hostname() : values.nodeName,
    containerWaitMs: values.containerWait,
    canaryMs: values.canary,
    logFile: values.logFile === "" ? undefined : values.logFile,
    logFormat: values.logFormat,
    otlpEndpoint: values.otlpEndpoint,
    logLevel: values.logLevel,
    eventHistoryBytes: values.eventHistory,
    engine: {
      ringBytes: values.ringSize,
      deadlineMs: values.deadline,
      identityLimit: values.identityLimit,
      ignoreLimit: values.ignoreLimit,
      ignoreAfter: values.ignoreAfter,
      hold: values.hold,
      holdLimitMs: values.holdLimit,
      version,
      kernelDecides: values.kernelDecides,
      keep: values.keep,
      away: values.away,
      podWaitMs: values.podWait,
      stallLimitMs: values.stallLimit,
      stallFile: values.stateFile === "" ? "" : `${values.stateFile}.stalled`,
      keeperCgroup: values.keeperCgroup,
    },
  };
}

function readKubernetes({
  kubernetes,
  kubeconfig,
  criEndpoint,
  kubernetesEvents,
}: Values): KubernetesConfig | undefined {
  if (!kubernetes && kubeconfig === "") return undefined;
  return {
    kubeconfig: kubeconfig === "" ? undefined : kubeconfig,
    criEndpoint: criEndpoint === "" ? undefined : criEndpoint,
    events: kubernetesEvents,
  };
}

function readTls({ tls, tlscafile, tlscertfile, tlskeyfile }: Values): TlsFiles | undefined {
  const files = { tlscafile, tlscertfile, tlskeyfile };
  const missing = Object.entries(files).flatMap(([flag, file]) => (file === "" ? [`--${flag}`] : []));
  if (missing.length === Object.keys(files).length && !tls) return undefined;
  if (missing.length > 0) throw new ConfigError(`TLS needs all three files: ${missing.join(", ")} missing`);
  return { ca: tlscafile, cert: tlscertfile, key: tlskeyfile };
}

function readValues(
  args: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
  version: string,
): Values {
  const given = parseFlags(args, version);
  const read = ROWS.map(([key, option]) => {
    const flags = given[key];
    if (flags !== undefined) return [key, parsed(option, flags, `--${option.flag}`)];
    const variable = env[option.env];
    if (variable !== undefined && (variable !== "" || option.mayBeEmpty))
      return [key, parsed(option, option.several ? variable.split(",") : [variable], option.env)];
    return [key, option.default];
  });
  return Object.fromEntries(read) as Values;
}

/** Of texts that are alternatives, the last counts. */
function parsed(option: OptionRow<unknown>, texts: readonly string[], name: string): unknown {
  const values = texts.map((text) => {
    try {
      return option.parse(text);
    } catch (error) {
      throw new ConfigError(`${name} ${JSON.stringify(text)}: ${error instanceof Error ? error.message : error}`);
    }
  });
  return option.several ? values.flat() : values.at(-1);
}

/** The texts that were given for each flag, in order; a switch without a value is "true". */
function parseFlags(args: readonly string[], version: string): Partial<Record<Key, string[]>> {
  let output = "";
  const program = new Command("janusd")
    .description("Guards files inside the containers of this node.")
    .version(version, "--version", "print the version")
    .helpOption("--help", "print this")
    .allowExcessArguments(false)
    .configureOutput({ writeOut: (text) => (output += text), writeErr: () => undefined })
    .exitOverride();
  for (const [key, option] of ROWS) {
    const value = option.value === undefined ? "[true|false]" : `<${option.value}>`;
    const text = `${plain(option.help)} [env ${option.env}, default ${plain(defaultOf(option))}]`;
    const flag = new Option(`--${option.flag} ${value}`, text);
    // Commander would camel-case the name.
    flag.attributeName = () => key;
    flag.argParser((given: string, before: string[] = []) => [...before, given]);
    program.addOption(flag);
  }
  try {
    program.parse(normaliseFlags(args), { from: "user" });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    if (error.exitCode === 0) throw new HelpRequested(output);
    throw new ConfigError(error.message.replace(/^error: /, "").replace(/\n/g, " "));
  }
  return program.opts<Partial<Record<Key, string[]>>>();
}

/**
 * The original's flags come with a single dash or two, and with `=` or a space;
 * its switches take a value after `=` only.
 */
function normaliseFlags(args: readonly string[]): string[] {
  const byFlag = new Map(ROWS.map(([, option]) => [option.flag, option]));
  const normal: string[] = [];
  for (let at = 0; at < args.length; at++) {
    const arg = args[at] ?? "";
    const [, name = "", value] = /^--?([a-z][a-z-]*)(?:=(.*))?$/s.exec(arg) ?? [];
    const option = byFlag.get(name);
    if (option === undefined) {
      normal.push(arg === "-help" || arg === "-h" ? "--help" : arg);
    } else if (value !== undefined) {
      normal.push(`--${name}=${value}`);
    } else if (option.value === undefined) {
      normal.push(`--${name}=true`);
    } else {
      const next = args[++at];
      normal.push(...(next === undefined ? [`--${name}`] : [`--${name}=${next}`]));
    }
  }
  return normal;
}

function parseSwitch(text: string): boolean {
  if (text === "true" || text === "1") return true;
  if (text === "false" || text === "0") return false;
  throw new Error("must be true or false");
}

function parseAllowedClient(text: string): AllowedClient {
  const [, name, role = "admin"] = /^([^=]+)(?:=(admin|read))?$/.exec(text.trim()) ?? [];
  if (name === undefined || (role !== "admin" && role !== "read")) {
    throw new Error("must be NAME, NAME=admin or NAME=read");
  }
  return { name, role };
}

function parseHttpUrl(text: string): URL {
  const url = URL.parse(text);
  if (url === null || !["http:", "https:"].includes(url.protocol)) throw new Error("must be an http or https URL");
  if (url.username !== "" || url.password !== "" || url.search !== "" || url.hash !== "") {
    throw new Error("must be an address and a path, no more");
  }
  return url;
}

function parseSize(least: "64K" | "1M"): (text: string) => number {
  const min = { "64K": 64 * 1024, "1M": 1024 * 1024 }[least];
  return (text) => {
    const [, digits, unit = ""] = /^(\d{1,10})([KM]?)$/.exec(text) ?? [];
    const bytes = Number(digits) * { "": 1, K: 1024, M: 1024 * 1024 }[unit as "" | "K" | "M"];
    if (!(bytes >= min && bytes <= 1024 ** 3)) throw new Error(`must be a size from ${least} to 1024M`);
    return bytes;
  };
}

function wholeNumber(min: number, max: number): (text: string) => number {
  return (text) => {
    const number = /^\d{1,10}$/.test(text) ? Number(text) : Number.NaN;
    if (!(number >= min && number <= max)) throw new Error(`must be a whole number from ${min} to ${max}`);
    return number;
  };
}

function zeroOr(parse: (text: string) => number): (text: string) => number {
  return (text) => {
    if (text === "0") return 0;
    try {
      return parse(text);
    } catch (error) {
      throw new Error(`${error instanceof Error ? error.message : error}, or 0`);
    }
  };
}

function absoluteOrNone(text: string): string {
  if (text !== "" && !isAbsolute(text)) throw new Error("must be an absolute path");
  return text;
}

function choice<T extends string>(choices: readonly T[]): (text: string) => T {
  return (text) => {
    const chosen = choices.find((candidate) => candidate === text);
    if (chosen === undefined) throw new Error(`must be one of ${choices.join(", ")}`);
    return chosen;
  };
}

function defaultOf({ default: value, defaultText }: OptionRow<unknown>): string {
  return defaultText ?? (value === false ? "off" : value === "" ? "none" : `\`${String(value)}\``);
}

function plain(markdown: string): string {
  return markdown.replaceAll("`", "");
}

/** docs/configuration.md. */
export function configurationMarkdown(): string {
  const rows = ROWS.map(([, option]) => {
    const value = option.value === undefined ? "" : ` ${option.value.toUpperCase()}`;
    return `| \`--${option.flag}${value}\` | \`${option.env}\` | ${defaultOf(option)} | ${option.help} |`;
  });
  return `# Configuration of janusd

<!-- Generated from src/config.ts by \`npm run docs\`. Do not edit. -->

Every flag has an environment variable; the flag wins. Flags take a single dash or two, and their
value after \`=\` or a space. A switch alone means true; \`--switch=false\` (or the variable set to
\`false\`) turns it off.

| Flag | Variable | Default | What it does |
| --- | --- | --- | --- |
${rows.join("\n")}

Exit status: 0 after \`SIGTERM\` or \`SIGINT\`; 1 if this machine cannot run the daemon (capabilities, a
kernel without BTF or without fanotify permission events), an address is not to be had, or a part of
it failed; 2 if the configuration, a file that it names, or the guard file makes no sense. Each
comes with one line for each thing that is wrong, on standard error, before anything is enforced.

## TLS

With TLS, a client needs a certificate signed by \`--tlscafile\`. The three files come together, and
turn TLS on by themselves. It is for TCP: a Unix socket has none. See [who may
command](operations.md#who-may-command).

## The guard file

\`--guards\` names a file of one or more documents; the daemon takes up each as soon as its containers
run, and again when they come back. One container that is absent unguards no other of its guard. A
guard of the file can neither be replaced nor destroyed over gRPC, nor does the file take a guard
that a client made. \`SIGHUP\` has the file read again, and so has a change of it:
[operations](operations.md#changing-the-guard-file).

\`\`\`yaml
apiVersion: januscontroller.clustergarage.io/v1alpha1
kind: JanusGuard
metadata:
  name: secrets          # namespace: optional
spec:
  containers:            # ids, as strings or with the container's name; exact, never a prefix
    - containerd://4f0c5e0d6d1b2f3a4c5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f7081920a1b
    - { id: my-runc-container, name: web }
  podName: web-1         # optional, as podUid and nodeName: for events only
  logFormat: "<{response}> {event} {path}"
  mode: enforce          # or audit: allowed, and recorded as what would have been denied
  subjects:
    - deny: [/etc/secrets]
      allow: [/etc/secrets/public]
      events: [open, access]   # open, access, exec, all (= open and access)
      recursive: true
      maxDepth: 0              # levels below a path; 0 = no limit
      exclude: ["*.tmp"]       # globs, relative to the paths; "." is the path itself
      autoAllowOwner: true     # the container's first process and its direct children may pass
      onlyDir: false
      audit: false
      scope: everyone          # or container: only its own processes are judged
      exact: false             # every open is an event of its own
      tags: { team: payments }
    - watch: [/var/log]        # only observed; modify, close and open events too
      events: [modify, closewrite]
    - deny: [/usr]             # not to be changed, where the kernel can deny that (docs/tiers.md)
      events: [create, delete, move, attrib, link, truncate, write]
      recursive: true
      scope: container         # needed here; no allow, exclude, maxDepth, onlyDir, audit then
\`\`\`

Errors name the file, the line, the document and the field. Unknown fields are errors.

## The state file

Guards that came over gRPC or from the cluster are kept in \`--state-file\` (mode 0600) and restored
at the next start before anything is served. Guards whose containers are gone by then are dropped:
those that are left must not wait for them, and whoever made a guard makes it again.

The file begins with a snapshot, one JSON document with all guards. Each change since is one line of
JSON: \`{"set":…}\` or \`{"remove":[name, namespace, podName]}\` (of a guard from the cluster, its kind
and the pod's uid come after). So a change costs its own size, however many guards there are. When
the lines have made the file longer than twice its guards, and when the daemon ends, a new snapshot
replaces it atomically. What is written is synced to the disk. The file and its directory belong to
the daemon: symlinks are not followed, and \`FILE.new\` is made there for a moment.

A directory that cannot be written is found at the start (exit status 1). A write that fails later
is tried again each second, and fails \`/readyz\` (\`state-file\`). A line or guard that makes no sense,
such as a line that a power cut tore, costs itself only; the file as it was is kept as
\`FILE.corrupt-TIME\`.

Two daemons may share one file: see [operations](operations.md#restart-and-upgrade).

\`FILE.resources\` has the cluster's guards (\`--kubernetes\`) as they were when they last made sense.

\`FILE.stalled\` is there between the end of a daemon that stood still (\`--stall-limit\`) and the next
start, which says so.
`;
}
