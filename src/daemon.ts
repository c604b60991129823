/**
 * The whole daemon: what is wired to what, in which order it starts, and in
 * which order it ends.
 */
import { formatAddress } from "./address.js";
import { SocketLocks, tryAddresses } from "./bind.js";
import type { BuildInfo } from "./build.js";
import { Canary } from "./canary.js";
import type { Config } from "./config.js";
import { EventHistory } from "./event/history.js";
import { assertLayout } from "./event/layout.js";
import { EventPipeline } from "./event/pipeline.js";
import type { Sink } from "./event/sink.js";
import { FileGuards, openGuardFile } from "./guard/file-guards.js";
import { GuardIntake } from "./guard/intake.js";
import { PodArrivals } from "./guard/pod-arrivals.js";
import { GuardRegistry, type StoredGuard } from "./guard/registry.js";
import { StateFile } from "./guard/state.js";
import { Health } from "./health.js";
import type { Cluster } from "./kubernetes/cluster.js";
import type { Denials } from "./kubernetes/denials.js";
import type { Log } from "./log.js";
import { type Addon, type Engine, loadAddon } from "./native.js";
import { Notices } from "./notices.js";
import { Refusals } from "./rpc/refusals.js";
import { openLogFile, openLogSink } from "./sink/log.js";
import type { LogFile } from "./sink/log-file.js";
import { forgetStall, readStall } from "./stall.js";

/** Of one batch of events between two turns of the event loop. */
const BATCH_BYTES = 256 * 1024;

/** How often what health services say follows what can be proven. Milliseconds. */
const HEALTH_INTERVAL_MS = 1000;

/** How soon losses and the like are said in the log. Milliseconds. */
const NOTICE_INTERVAL_MS = 1000;

/** How often it is looked whether a pending guard is to be tried again. Milliseconds. */
const RETRY_INTERVAL_MS = 1000;

/** This machine cannot run the daemon. One line for each reason. */
export class CannotRun extends Error {
  override readonly name = "CannotRun";

  constructor(readonly reasons: readonly string[]) {
    super(reasons.join("\n"));
  }
}

export interface DaemonContext {
  readonly log: Log;
  readonly build: BuildInfo;
  /** Aborted: give up starting. */
  readonly signal: AbortSignal;
}

export interface Daemon {
  /** SIGHUP: reads the guard file again, and opens the log file again. */
  reload(): void;
  /** Ends all in order, keeps the guards in the state file. Never rejects. */
  close(): Promise<void>;
}

/**
 * Guards of the last run are enforced before anything is served. Throws
 * CannotRun, ConfigError, GuardFileError, ListenError, or what a part threw; then nothing is left behind.
 */
export async function initDaemon(config: Config, { log, build, signal }: DaemonContext): Promise<Daemon> {
  const addon = loadAddon();
  const probe = addon.probe();
  if (probe.missing.length > 0) throw new CannotRun(probe.missing);
  assertLayout(addon.layout());
  const guardFile = config.guardsFile === undefined ? undefined : await openGuardFile(config.guardsFile);
  if (config.kubernetes !== undefined) {
    const { checkCredentials } = await import("./kubernetes/credentials.js");
    checkCredentials(config.kubernetes.kubeconfig, process.env);
  }
  const tls =
    config.tls === undefined ? undefined : new (await import("./rpc/tls-reload.js")).TlsReload(config.tls, log);
  if (tls !== undefined && config.allowedClients.length === 0) {
    log.info(
      { ca: config.tls?.ca },
      "each client with a certificate of the CA commands: --allow-client would limit it",
    );
  }
  // What has to be undone if a later step fails, and at the end: last first.
  const steps: Step[] = [];
  const close = async (): Promise<void> => {
    for (const step of steps.splice(0).reverse()) {
      try {
        await step.close();
      } catch (error) {
        log.error({ err: error }, `could not close ${step.what}`);
      }
    }
  };

  try {
    const locks = new SocketLocks(addon);
    steps.push({ what: "the sockets' locks", close: () => locks.close() });
    const addresses = config.listen.map((address) => ["--listen", address] as const);
    await tryAddresses([["--http", config.http], ...addresses], locks);
    const file = config.stateFile;
    const state = file === undefined ? undefined : await StateFile.open({ file, log, tryLock: addon.tryLock });
    const logFile = config.logFile === undefined ? undefined : openLogFile(config.logFile);
    steps.push({ what: "the log file", close: () => logFile?.close() });
    const denials = await openDenials(config);
    const sinks = [...(await openSinks(config, logFile, build)), ...(denials === undefined ? [] : [denials])];
    const enforcing = startEnforcing({ addon, config, state, log, sinks }, steps);
    const { engine, history, pipeline, registry, canary, podArrivals } = enforcing;
    const notices = new Notices(log);
    const noticing = setInterval(() => notices.look(engine.troubles()), NOTICE_INTERVAL_MS);
    steps.push({ what: "notices", close: () => clearInterval(noticing) });
    const retrying = setInterval(() => registry.retryPending(), RETRY_INTERVAL_MS);
    steps.push({ what: "pending guards", close: () => clearInterval(retrying) });
    const fileGuards = guardFile && new FileGuards(guardFile, { registry, engine, log });
    fileGuards?.start();
    steps.push({ what: "the file's guards", close: () => fileGuards?.close() });
    const { holdTier, programs, kernelDecides, kernelAlone, kept } = engine.stats(); // as they stay
    const takeOver = () => {
      const tookOver = engine.takeOver();
      if (tookOver.daemons > 0) log.info(tookOver, "took over what earlier daemons had left in the kernel");
    };
    takeOver();
    const takingOver = setInterval(takeOver, NOTICE_INTERVAL_MS);
    steps.push({ what: "what others leave in the kernel", close: () => clearInterval(takingOver) });
    if (config.engine.away === "deny" && !kept)
      log.warn({}, "nothing is denied while no daemon is there (--away): nothing is kept in the kernel");
    if (kernelDecides && !kernelAlone)
      log.info({}, "the kernel may interrupt its programs for other tasks (PREEMPT): nothing is left to it alone");
    log.info(
      { guards: registry.size, hold: holdTier, kernelDecides, kept, msSinceStart: Math.round(performance.now()) },
      "enforcing",
    );

    // Only now: loading what serves takes longer than all of the above, and containers were unguarded meanwhile.
    const cluster = await openCluster(config, { registry, engine, arrivals: podArrivals, denials, log });
    cluster?.start();
    steps.push({ what: "Kubernetes", close: () => cluster?.close() });
    const [{ HttpServer }, { openRpcServer }, { EventStreams }, { Metrics }] = await Promise.all([
      import("./http/server.js"),
      import("./rpc/server.js"),
      import("./rpc/event-streams.js"),
      import("./metrics.js"),
    ]);
    const refusals = new Refusals(log);
    const streams = new EventStreams(history);
    const health = new Health({
      vitals: () => engine.vitals(),
      pending: () => registry.pending(),
      stateFile: state,
      logFile,
      guardFile: fileGuards,
      kubernetes: cluster,
      tls,
      canary,
      drained: () => pipeline.stats.delivered + pipeline.stats.unattributed + pipeline.stats.malformed,
      programs,
    });
    const metrics = new Metrics({
      stats: () => engine.stats(),
      lookup: registry.lookup,
      build: { ...build, kernel: probe.kernel },
      features: probe.features,
      guards: () => registry.size,
      names: () => registry.names,
      guardsPending: () => registry.pendingCount,
      pathsUnguarded: () => registry.unguardedPaths,
      guardChanges: (change, source) => registry.audit.count(change, source),
      stateErrors: () => state?.failures ?? 0,
      logFileErrors: () => logFile?.errors ?? 0,
      certificateExpires: () => tls?.expires,
      kubernetes: cluster,
      refusals: refusals.counts,
      streams,
      pipeline: () => pipeline.stats,
      proofs: () => canary?.proofs,
      sinks,
      blockedBoundsSeconds: addon.blockedBoundsSeconds,
    });

    signal.throwIfAborted();
    const status = () => {
      const { ready, checks } = health.assess();
      const { exposure } = engine.troubles();
      return {
        ...build,
        nodeName: config.nodeName,
        pid: process.pid,
        startedMs: Math.round(performance.timeOrigin),
        ready,
        checks,
        features: probe.features,
        guards: registry.size,
        programs,
        exposure,
        holdTier,
      };
    };
    const http = new HttpServer({
      listen: config.http,
      report: health.assess(),
      about: { holdTier, kernel: probe },
      metrics,
      metricsMs: config.metricsIntervalMs,
      onFailure: (error) => log.error({ err: error }, "the HTTP thread ended: it is started again"),
    });
    steps.push({ what: "HTTP", close: () => http.close() });
    const intake = new GuardIntake({ registry, engine, waitMs: config.containerWaitMs });
    const guards = () => [...registry.details(), ...(fileGuards?.waiting() ?? [])];
    const parts = { intake, registry, engine, guards, status, streams, history, log };
    const rpc = await openRpcServer({
      listen: config.listen,
      locks,
      tls: tls?.material,
      allowedClients: config.allowedClients,
      peer: addon.peer,
      refusals,
      ...parts,
    });
    // Whoever starts next need not wait for the rest.
    steps.push({ what: "gRPC", close: () => rpc.close().finally(() => locks.close()) });
    steps.push({ what: "event streams", close: () => streams.close() });
    tls?.follow((material) => rpc.setTls(material));
    steps.push({ what: "the TLS files", close: () => tls?.close() });
    steps.push({ what: "what waits for containers", close: () => intake.close() });

    cluster?.publish(status);

    // Last: whoever is told that the daemon is ready finds it serving.
    signal.throwIfAborted();
    await http.open();

    canary?.start();
    const follow = (): void => {
      const report = health.assess();
      http.report(report);
      rpc.setServing(report.ready);
    };
    follow();
    const timer = setInterval(follow, HEALTH_INTERVAL_MS);
    steps.push({ what: "health", close: () => clearInterval(timer) });
    steps.push({ what: "readiness", close: () => http.drain() });
    const grpc = rpc.addresses.map(formatAddress);
    log.info({ grpc, tls: tls !== undefined, http: formatAddress(http.address) }, "serving");
    const reload = (): void => {
      logFile?.reopen();
      if (logFile?.failure !== undefined)
        log.error({ failure: logFile.failure }, "event log (--log-file) not opened again");
      else if (logFile !== undefined) log.info({ signal: "SIGHUP" }, "event log (--log-file) opened again");
      if (fileGuards !== undefined) void fileGuards.reload("SIGHUP");
      else if (logFile === undefined) {
        log.info({ signal: "SIGHUP" }, "there is no guard file (--guards) to read again, and no log file (--log-file)");
      }
    };
    return { reload, close };
  } catch (error) {
    await close();
    throw error;
  }
}

interface Step {
  readonly what: string;
  readonly close: () => void | Promise<void>;
}

interface Beginnings {
  readonly addon: Addon;
  readonly config: Config;
  readonly state: StateFile | undefined;
  readonly log: Log;
  readonly sinks: readonly Sink[];
}

/** Nothing has to be closed before the pipeline has them. */
async function openSinks(
  { logFormat, otlpEndpoint, nodeName }: Config,
  logFile: LogFile | undefined,
  { version }: BuildInfo,
): Promise<Sink[]> {
  const sinks: Sink[] = [];
  if (logFormat !== "off") sinks.push(openLogSink({ format: logFormat, to: logFile ?? 1 }));
  if (otlpEndpoint !== undefined) {
    // Loaded by who wants it only: it takes memory.
    const { OtlpSink } = await import("./sink/otlp.js");
    sinks.push(new OtlpSink({ endpoint: otlpEndpoint, node: nodeName, version }));
  }
  return sinks;
}

async function openDenials({ kubernetes }: Config): Promise<Denials | undefined> {
  if (kubernetes?.events !== true) return undefined;
  const { Denials } = await import("./kubernetes/denials.js");
  return new Denials();
}

/** The engine with its threads, and the way of its events out. */
function startEnforcing({ addon, config, state, log, sinks }: Beginnings, steps: Step[]) {
  let running = true;
  const { stallFile } = config.engine;
  const stall = stallFile === "" ? undefined : readStall(stallFile);
  const engine: Engine = new addon.Engine({ ...config.engine, stalls: stall === undefined ? 0 : 1 }, () => {
    if (!running) return;
    podArrivals.deliver(); // first: they wait
    try {
      registry.ended(engine.takeEnded());
    } catch (error) {
      log.error({ err: error }, "could not drop the guards of ended containers");
    }
    pipeline.wake();
  });
  const podArrivals = new PodArrivals({ engine, log });
  const history = new EventHistory(config.eventHistoryBytes, (): number => pipeline.lost);
  const registry = new GuardRegistry({
    engine,
    node: config.nodeName,
    log,
    onChange: () => state?.save(),
  });
  const pipeline: EventPipeline = new EventPipeline({
    engine,
    lookup: registry.lookup,
    sinks: [...sinks, history],
    bufferBytes: BATCH_BYTES,
    onCanary: (timeNs) => canary?.heard(timeNs),
    onFailure: (what, error) => log.error({ err: error }, `${what} failed`),
  });
  // Ends after the engine, whose ring can still be read: every event that was decided is delivered.
  steps.push({ what: "the event pipeline", close: () => pipeline.close() });
  engine.start();
  if (stall !== undefined) {
    log.warn(stall, "the last run stood still, and its keeper killed it: nothing was guarded since");
    try {
      forgetStall(stallFile);
    } catch (error) {
      log.error({ err: error }, "the next start will say so again");
    }
  }
  steps.push({
    what: "the engine",
    close: () => {
      running = false;
      engine.stop();
    },
  });
  const { canaryMs: intervalMs } = config;
  const boundsSeconds = addon.blockedBoundsSeconds;
  const canary = intervalMs === 0 ? undefined : new Canary({ root: engine.canary(), intervalMs, boundsSeconds });
  steps.push({ what: "the canary", close: () => canary?.close() });
  if (state !== undefined) {
    // Nobody else would ever remove what is the cluster's.
    const isOurs = ({ kind }: StoredGuard): boolean => kind === undefined || config.kubernetes !== undefined;
    restoreGuards(state.guards.filter(isOurs), registry, log);
    state.follow({
      guards: () => registry.stored(),
      adopt: (stored) => {
        if (isOurs(stored)) registry.adopt(stored);
      },
      abandon: (id) => registry.abandon(id),
    });
    steps.push({ what: "the state file", close: () => state.close() });
  }
  return { engine, history, pipeline, registry, canary, podArrivals };
}

async function openCluster({ kubernetes, nodeName, stateFile }: Config, parts: Parts): Promise<Cluster | undefined> {
  if (kubernetes === undefined) return undefined;
  // Its client takes a second and much memory to load.
  const { Cluster } = await import("./kubernetes/cluster.js");
  const resources = stateFile === undefined ? undefined : `${stateFile}.resources`;
  return new Cluster({ ...kubernetes, nodeName, stateFile: resources, ...parts });
}

interface Parts {
  readonly registry: GuardRegistry;
  readonly engine: Engine;
  readonly arrivals: PodArrivals;
  readonly denials: Denials | undefined;
  readonly log: Log;
}

function restoreGuards(guards: readonly StoredGuard[], registry: GuardRegistry, log: Log): void {
  for (const stored of guards) {
    const about = { guard: stored.config.name, pod: stored.config.podName, namespace: stored.config.namespace };
    try {
      registry.restore(stored);
    } catch (error) {
      log.error({ ...about, err: error }, "guard of the last run could not be restored: it is kept, and tried again");
    }
  }
}
