/**
 * What the daemon tells Prometheus. The only file that knows prom-client.
 *
 * One table (`DEFINITIONS`) makes both the metrics and docs/metrics.md. All
 * numbers of ours are read at scrape time from where they are kept (natively,
 * in the pipeline, in the sinks): an event costs nothing here.
 */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";
import type { Proofs } from "./canary.js";
import { EVENT_KINDS, RESPONSES } from "./event/layout.js";
import type { PipelineStats } from "./event/pipeline.js";
import type { Sink } from "./event/sink.js";
import { CHANGE_SOURCES, type ChangeSource, GUARD_CHANGES, type GuardChange } from "./guard/audit.js";
import type { EngineStats, Trial } from "./native.js";
import type { GuardName, SubjectLookup } from "./subject.js";

/** Guards with labels of their own; more share those of OTHER_GUARDS, so that the number of series stays bounded. */
const GUARD_LABELS = 200;

export interface BuildInfo {
  readonly version: string;
  readonly commit: string;
  readonly kernel: string;
}

export interface MetricsOptions {
  readonly stats: () => EngineStats;
  readonly lookup: SubjectLookup;
  readonly build: BuildInfo;
  readonly features: Readonly<Record<string, Trial>>;
  /** How many guards are held. */
  readonly guards: () => number;
  /** Those guards. */
  readonly names: () => Iterable<GuardName>;
  /** How many guards of the last run could not be taken up yet. */
  readonly guardsPending: () => number;
  /** How many paths of held guards cannot be guarded now. */
  readonly pathsUnguarded: () => number;
  readonly guardChanges: (change: GuardChange, source: ChangeSource) => number;
  /** How often the state file could not be written. */
  readonly stateErrors: () => number;
  /** How often the event log's file could not be written or opened again. */
  readonly logFileErrors: () => number;
  /** When the TLS certificate in use ends. Undefined: no TLS. */
  readonly certificateExpires: () => Date | undefined;
  /** What follows the cluster. Undefined: nothing does. */
  readonly kubernetes?: KubernetesFigures | undefined;
  /** gRPC connections and calls that were refused, by reason. */
  readonly refusals: Readonly<Record<string, number>>;
  readonly streams: {
    readonly subscribers: number;
    readonly sent: number;
    readonly lost: Readonly<Record<string, number>>;
  };
  readonly pipeline: () => PipelineStats;
  /** Undefined: there is no canary. */
  readonly proofs: () => Proofs | undefined;
  readonly sinks: readonly Sink[];
  /** Upper bounds of the native histogram's buckets. */
  readonly blockedBoundsSeconds: readonly number[];
}

/** Of what follows the cluster. */
export interface KubernetesFigures {
  readonly contactAgeSeconds: number;
  readonly failures: number;
  readonly faulty: number;
  /** Of Events on pods, by outcome. Undefined: there are none. */
  readonly events: Readonly<Record<string, number>> | undefined;
}

type Labels = Readonly<Record<string, string>>;

const OTHER_GUARDS: Labels = { guard: "other" };

interface Sample {
  readonly labels: Labels;
  readonly value: number;
}

interface HistogramSample {
  readonly labels: Labels;
  /** Not cumulative; the last is +Inf. */
  readonly buckets: readonly number[];
  readonly sum: number;
}

/** Everything that one scrape reads, read once. */
interface Snapshot {
  readonly options: MetricsOptions;
  readonly stats: EngineStats;
  readonly pipeline: PipelineStats;
  readonly totals: GuardTotals;
}

interface Described {
  readonly name: string;
  readonly help: string;
  readonly labels: readonly string[];
}

interface ScalarDefinition extends Described {
  readonly type: "counter" | "gauge";
  readonly read: (snapshot: Snapshot) => Iterable<Sample>;
}

interface HistogramDefinition extends Described {
  readonly type: "histogram";
  readonly read: (snapshot: Snapshot) => Iterable<HistogramSample>;
}

type Definition = ScalarDefinition | HistogramDefinition;

const DEFINITIONS: readonly Definition[] = [
  {
    name: "janusd_build_info",
    type: "gauge",
    help: "Always 1. What runs, and on which kernel.",
    labels: ["version", "commit", "kernel"],
    read: ({ options }) => [{ labels: { ...options.build }, value: 1 }],
  },
  {
    name: "janusd_feature",
    type: "gauge",
    help: "1 for each feature that this kernel has, 0 for those that it lacks or refuses. Tried at the start.",
    labels: ["feature"],
    read: ({ options }) =>
      Object.entries(options.features).map(([feature, { works }]) => ({ labels: { feature }, value: works ? 1 : 0 })),
  },
  {
    name: "janusd_guards",
    type: "gauge",
    help: "Guards held.",
    labels: [],
    read: ({ options }) => single(options.guards()),
  },
  {
    name: "janusd_guards_pending",
    type: "gauge",
    help: "Guards of the last run that could not be restored yet: kept, tried again, not enforced.",
    labels: [],
    read: ({ options }) => single(options.guardsPending()),
  },
  {
    name: "janusd_paths_unguarded",
    type: "gauge",
    help: "Paths of guards that are held without them, since they cannot be guarded now: kept, tried again.",
    labels: [],
    read: ({ options }) => single(options.pathsUnguarded()),
  },
  {
    name: "janusd_guard_changes_total",
    type: "counter",
    help: "Guards created, replaced and removed, by what asked for it: rpc, file (--guards), kubernetes (--kubernetes), state (the last run, or another daemon with the same state file), container (its end).",
    labels: ["change", "source"],
    read: ({ options }) =>
      GUARD_CHANGES.flatMap((change) =>
        CHANGE_SOURCES.filter((source) => source !== "container" || change === "removed").map((source) => ({
          labels: { change, source },
          value: options.guardChanges(change, source),
        })),
      ),
  },
  {
    name: "janusd_state_file_errors_total",
    type: "counter",
    help: "Attempts to write the state file that failed; a restart loses what it lacks. Tried again each second.",
    labels: [],
    read: ({ options }) => single(options.stateErrors()),
  },
  {
    name: "janusd_log_file_errors_total",
    type: "counter",
    help: "Attempts to write to the event log's file (--log-file), or to open it again, that failed. Lines that were lost by it are in janusd_log_lines_dropped_total.",
    labels: [],
    read: ({ options }) => single(options.logFileErrors()),
  },
  {
    name: "janusd_tls_certificate_expiry_timestamp_seconds",
    type: "gauge",
    help: "When the daemon's certificate in use expires, as Unix time. None without TLS.",
    labels: [],
    read: ({ options }) => {
      const expires = options.certificateExpires();
      return expires === undefined ? [] : single(expires.getTime() / 1000);
    },
  },
  {
    name: "janusd_kubernetes_last_contact_seconds",
    type: "gauge",
    help: "Seconds since the API server was heard last, of the resource of which it was not heard for longest. A quiet one is heard of each minute. None without --kubernetes.",
    labels: [],
    read: ({ options }) => ofKubernetes(options, ({ contactAgeSeconds }) => contactAgeSeconds),
  },
  {
    name: "janusd_kubernetes_failures_total",
    type: "counter",
    help: "Times that resources of one kind could not be listed or watched with --kubernetes; each is tried again.",
    labels: [],
    read: ({ options }) => ofKubernetes(options, ({ failures }) => failures),
  },
  {
    name: "janusd_kubernetes_faulty_resources",
    type: "gauge",
    help: "JanusGuards and ClusterJanusGuards that are not enforced as they are: they make no sense, or cannot be held on this node. None without --kubernetes.",
    labels: [],
    read: ({ options }) => ofKubernetes(options, ({ faulty }) => faulty),
  },
  {
    name: "janusd_kubernetes_events_total",
    type: "counter",
    help: "Events on pods that tell of denials: objects made or brought up to date (written), requests of which nothing came (failed), and denials that no Event tells of (suppressed): there was no room, or the API server refused. None without --kubernetes or with --kubernetes-events=false.",
    labels: ["outcome"],
    read: ({ options }) => byLabel("outcome", options.kubernetes?.events ?? {}),
  },
  {
    name: "janusd_grpc_refused_total",
    type: "counter",
    help: "gRPC connections that were not let in, and calls that the client may not make (not_allowed), by reason.",
    labels: ["reason"],
    read: ({ options }) => byLabel("reason", options.refusals),
  },
  {
    name: "janusd_containers",
    type: "gauge",
    help: "Running containers that the tracker knows, guarded or not.",
    labels: [],
    read: ({ stats }) => single(stats.containers),
  },
  {
    name: "janusd_processes",
    type: "gauge",
    help: "Processes of those containers.",
    labels: [],
    read: ({ stats }) => single(stats.processes),
  },
  {
    name: "janusd_events_total",
    type: "counter",
    help: "File events of a guard, answered or only seen. Exact, also where the event's record was lost.",
    labels: ["namespace", "guard", "event", "response"],
    read: ({ totals }) => totals.events(),
  },
  {
    name: "janusd_decisions_total",
    type: "counter",
    help: "Permission events of a guard that were answered while the actor waited, and changes that the kernel denied. From 0, as soon as the guard is held.",
    labels: ["namespace", "guard", "response"],
    read: ({ totals }) => totals.decisions(),
  },
  {
    name: "janusd_decision_blocked_seconds",
    type: "histogram",
    help: "How long the actor waited, from the question being read to its answer.",
    labels: ["namespace", "guard", "response"],
    read: ({ totals }) => totals.blocked(),
  },
  {
    name: "janusd_canary_seconds",
    type: "histogram",
    help: "How long the canary took each time: from the request to open a denied file until the record of its denial had come by the whole way.",
    labels: [],
    read: ({ options }) => {
      const proofs = options.proofs();
      return proofs === undefined ? [] : [{ labels: {}, ...proofs }];
    },
  },
  {
    name: "janusd_asked_total",
    type: "counter",
    help: "Every permission event that was read, by what became of it. Those of late and unplanned count among the others, too.",
    labels: ["outcome"],
    read: ({ stats }) => byLabel("outcome", stats.asked),
  },
  {
    name: "janusd_events_lost_total",
    type: "counter",
    help: "Event records (or kernel events) that reached no sink, by cause. Decisions were made all the same.",
    labels: ["cause"],
    read: ({ stats, pipeline }) =>
      byLabel("cause", {
        ...stats.losses,
        unattributed: pipeline.unattributed,
        malformed: pipeline.malformed,
      }),
  },
  {
    name: "janusd_exposure_total",
    type: "counter",
    help: "Opens that were not judged, or moments in which they might not have been, by cause.",
    labels: ["cause"],
    read: ({ stats }) => byLabel("cause", stats.exposure),
  },
  {
    name: "janusd_directories_unwatched_total",
    type: "counter",
    help: "Directories in trees whose entries or attributes are watched, of which events may have gone unseen, by cause: it held entries before it was watched (late; they are recorded as found), it was gone before it was looked at or could not be read (unknown), its container has used up its share (limit).",
    labels: ["cause"],
    read: ({ stats }) => byLabel("cause", stats.unwatched),
  },
  {
    name: "janusd_share_refused_total",
    type: "counter",
    help: "What the guards of a container did not get, since they had used up its share (docs/limits.md), by resource. Others are not affected.",
    labels: ["container", "resource"],
    read: ({ stats }) =>
      stats.refused.map(({ container, resource, count }) => ({ labels: { container, resource }, value: count })),
  },
  {
    name: "janusd_marks",
    type: "gauge",
    help: "fanotify marks held, by kind. Ignore marks are the kernel's to take back: those since the last forgetting.",
    labels: ["kind"],
    read: ({ stats }) => byLabel("kind", stats.marks),
  },
  {
    name: "janusd_scans_pending",
    type: "gauge",
    help: "Guarded directories whose contents are not all pinned yet: their paths hold, but a file that is moved out unseen isn't known again.",
    labels: [],
    read: ({ stats }) => single(stats.scansPending),
  },
  {
    name: "janusd_ebpf_program_attached",
    type: "gauge",
    help: "1 for each eBPF program that is loaded and attached.",
    labels: ["program"],
    read: ({ stats }) => stats.programs.map((program) => ({ labels: { program }, value: 1 })),
  },
  {
    name: "janusd_ebpf_map_bytes",
    type: "gauge",
    help: "Kernel memory that each eBPF map takes.",
    labels: ["map"],
    read: ({ stats }) => stats.maps.map(({ name: map, bytes }) => ({ labels: { map }, value: bytes })),
  },
  {
    name: "janusd_ebpf_map_max_entries",
    type: "gauge",
    help: "What fits into each eBPF map: entries, or the bytes of a ring.",
    labels: ["map"],
    read: ({ stats }) => stats.maps.map(({ name: map, maxEntries }) => ({ labels: { map }, value: maxEntries })),
  },
  {
    name: "janusd_ebpf_map_full_total",
    type: "counter",
    help: "Entries, or records of a ring, for which an eBPF map had no room.",
    labels: ["map"],
    read: ({ stats }) => stats.maps.map(({ name: map, full }) => ({ labels: { map }, value: full })),
  },
  {
    name: "janusd_ebpf_records_total",
    type: "counter",
    help: "Records of processes and cgroups that the eBPF programs sent. Only guarded containers cause any.",
    labels: [],
    read: ({ stats }) => single(stats.bpfRecords),
  },
  {
    name: "janusd_ebpf_ring_peak_bytes",
    type: "gauge",
    help: "Bytes of the eBPF ring that waited to be read at once, at most, since the start.",
    labels: [],
    read: ({ stats }) => single(stats.bpfRingPeak),
  },
  {
    name: "janusd_hold_tier",
    type: "gauge",
    help: "Always 1. What tells of new mounts and mount namespaces: fentry, syscalls, scheduler or off (--hold).",
    labels: ["tier"],
    read: ({ stats }) => [{ labels: { tier: stats.holdTier }, value: 1 }],
  },
  {
    name: "janusd_kernel_decides",
    type: "gauge",
    help: "1: the kernel denies by itself what is certain (--kernel-decides); `alone`: and nobody is asked where all is; `kept`: and goes on when the daemon is gone (--keep).",
    labels: ["alone", "kept"],
    read: ({ stats: { kernelDecides, kernelAlone, kept } }) => [
      { labels: { alone: String(kernelAlone), kept: String(kept) }, value: kernelDecides ? 1 : 0 },
    ],
  },
  {
    name: "janusd_away_opens_total",
    type: "counter",
    help: "Opens, execs and changes of guarded containers before this daemon took over, while none was there (--keep), as the kernel counted them: denied by what is certain, too_deep (of the denied: since not all directories above were looked at), unjudged (only a daemon could have judged: allowed; also exposure `away`) and refused (... denied, by --away=deny). Without records, and in no guard's figures.",
    labels: ["outcome"],
    read: ({ stats }) => byLabel("outcome", stats.away),
  },
  {
    name: "janusd_away_seconds_total",
    type: "counter",
    help: "How long that was.",
    labels: [],
    read: ({ stats }) => single(stats.awaySeconds),
  },
  {
    name: "janusd_holds_total",
    type: "counter",
    help: "Processes of guarded containers that changed what they see of the file system: held until it was guarded, skipped (traced or stopped by somebody else, or no keeper), those of the held that the keeper let go after --hold-limit, and opens that were denied: since the container has more mounts than its share (docs/limits.md), or, before Linux 6.5, by an overlay of its own (docs/architecture/windows.md).",
    labels: ["outcome"],
    read: ({ stats }) => byLabel("outcome", stats.holds),
  },
  {
    name: "janusd_arrivals_total",
    type: "counter",
    help: "Containers of pods that began to run: held and then admitted, held for all of --pod-wait (expired), or not held (the hold tier is off, --pod-wait is 0).",
    labels: ["outcome"],
    read: ({ stats }) => byLabel("outcome", stats.arrivals.outcomes),
  },
  {
    name: "janusd_arrival_wait_seconds",
    type: "histogram",
    help: "How long containers of pods were held at their first program before they were admitted.",
    labels: [],
    read: ({ stats }) => [{ labels: {}, buckets: stats.arrivals.waited, sum: stats.arrivals.waitedSeconds }],
  },
  {
    name: "janusd_ring_capacity_bytes",
    type: "gauge",
    help: "Size of the event ring between the native threads and the sinks.",
    labels: [],
    read: ({ stats }) => single(stats.ring.bytes),
  },
  {
    name: "janusd_ring_used_bytes",
    type: "gauge",
    help: "Bytes of the event ring that wait to be read.",
    labels: [],
    read: ({ stats }) => single(stats.ring.used),
  },
  {
    name: "janusd_ring_records_total",
    type: "counter",
    help: "Event records written into the ring.",
    labels: [],
    read: ({ stats }) => single(stats.ring.written),
  },
  {
    name: "janusd_events_delivered_total",
    type: "counter",
    help: "Event records given to the sinks.",
    labels: [],
    read: ({ pipeline }) => single(pipeline.delivered),
  },
  {
    name: "janusd_events_missing_total",
    type: "counter",
    help: "Gaps seen in the events' sequence numbers. The reader's own count of what the ring had no room for.",
    labels: [],
    read: ({ pipeline }) => single(pipeline.missing),
  },
  {
    name: "janusd_thread_heartbeat_age_seconds",
    type: "gauge",
    help: "Time since each native thread last proved that it moves. Each does at least once a second.",
    labels: ["thread"],
    read: ({ stats }) =>
      Object.entries(stats.heartbeatMs).map(([thread, ms]) => ({ labels: { thread }, value: ms / 1000 })),
  },
  {
    name: "janusd_thread_urgent",
    type: "gauge",
    help: "1 while the thread runs before all ordinary ones of the node. 0: it lacks CAP_SYS_NICE, or took most of a processor.",
    labels: ["thread"],
    read: ({ stats }) => byLabel("thread", stats.urgent),
  },
  {
    name: "janusd_log_lines_dropped_total",
    type: "counter",
    help: "Events that a sink could not deliver: its reader is slow or gone, the disk is full, or a collector rejects them.",
    labels: ["reason"],
    read: ({ options }) => byLabel("reason", sumOf(options.sinks.map((sink) => sink.drops))),
  },
  {
    name: "janusd_event_streams",
    type: "gauge",
    help: "Clients that follow the events, or read what is kept of them (`janusctl events`).",
    labels: [],
    read: ({ options }) => single(options.streams.subscribers),
  },
  {
    name: "janusd_event_stream_sent_total",
    type: "counter",
    help: "Events given to such clients: one that two get counts twice.",
    labels: [],
    read: ({ options }) => single(options.streams.sent),
  },
  {
    name: "janusd_event_stream_lost_total",
    type: "counter",
    help: "Events that such clients were told they lost: the client is slow (queue), it asked for more than is kept or the daemon is busy (history), the daemon has no record (record).",
    labels: ["cause"],
    read: ({ options }) => byLabel("cause", options.streams.lost),
  },
  {
    name: "janusd_sink_queue_bytes",
    type: "gauge",
    help: "Bytes that wait for a sink's reader.",
    labels: ["sink"],
    read: ({ options }) => options.sinks.map((sink) => ({ labels: { sink: sink.name }, value: sink.queueBytes })),
  },
  {
    name: "janusd_sink_failures_total",
    type: "counter",
    help: "Calls of a sink that threw. A fault of the program.",
    labels: ["sink"],
    read: ({ pipeline }) => byLabel("sink", pipeline.failures),
  },
];

/** Gauges whose name ends like a counter's: promtool refuses them, and others say the same. */
const MISNAMED_DEFAULTS = [
  "nodejs_active_handles_total",
  "nodejs_active_requests_total",
  "nodejs_active_resources_total",
];

/** The event loop's delay is sampled with a timer; more often than this would show in the daemon's idle load. */
const LOOP_SAMPLE_MS = 100;

export class Metrics {
  readonly #options: MetricsOptions;
  readonly #registry = new Registry();
  readonly #totals: GuardTotals;
  readonly #refreshers: readonly ((snapshot: Snapshot) => void)[];

  constructor(options: MetricsOptions) {
    this.#options = options;
    this.#totals = new GuardTotals(options);
    this.#refreshers = DEFINITIONS.map((definition) =>
      register(definition, this.#registry, options.blockedBoundsSeconds),
    );
    collectDefaultMetrics({ register: this.#registry, eventLoopMonitoringPrecision: LOOP_SAMPLE_MS });
    for (const name of MISNAMED_DEFAULTS) this.#registry.removeSingleMetric(name);
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  /** The exposition text. Rejects if the engine cannot be asked. */
  async render(): Promise<string> {
    const stats = this.#options.stats();
    this.#totals.fold(stats);
    const snapshot = { options: this.#options, stats, pipeline: this.#options.pipeline(), totals: this.#totals };
    for (const refresh of this.#refreshers) refresh(snapshot);
    return this.#registry.metrics();
  }
}

function register(definition: Definition, registry: Registry, bounds: readonly number[]): (snapshot: Snapshot) => void {
  const { name, help } = definition;
  const configuration = { name, help, labelNames: [...definition.labels], registers: [registry] };
  if (definition.type === "histogram") {
    const histogram = new NativeHistogram({ ...configuration, buckets: [...bounds] });
    return (snapshot) => {
      histogram.samples = [...definition.read(snapshot)];
    };
  }
  if (definition.type === "gauge") {
    const gauge = new Gauge(configuration);
    return (snapshot) => {
      gauge.reset();
      // A gauge without labels is reset to 0. One that has no value now is to have no sample.
      if (definition.labels.length === 0) gauge.remove();
      for (const { labels, value } of definition.read(snapshot)) gauge.set(labels, value);
    };
  }
  const counter = new Counter(configuration);
  return (snapshot) => {
    counter.reset();
    for (const { labels, value } of definition.read(snapshot)) counter.inc(labels, value);
  };
}

interface Series {
  readonly metricName: string;
  readonly labels: Readonly<Record<string, string | number>>;
  readonly sharedLabels: Labels;
  readonly value: number;
}

/**
 * A histogram whose buckets are counted elsewhere. prom-client has no way in
 * for those, but asks each metric for its series through `getForPromString`.
 */
class NativeHistogram extends Histogram {
  samples: readonly HistogramSample[] = [];
  readonly #name: string;
  readonly #help: string;
  readonly #bounds: readonly number[];

  constructor(configuration: ConstructorParameters<typeof Histogram>[0] & { buckets: number[] }) {
    super(configuration);
    this.#name = configuration.name;
    this.#help = configuration.help;
    this.#bounds = configuration.buckets;
  }

  async getForPromString(): Promise<{ name: string; help: string; type: string; values: Series[] }> {
    return {
      name: this.#name,
      help: this.#help,
      type: "histogram",
      values: this.samples.flatMap((sample) => this.#series(sample)),
    };
  }

  #series({ labels: sharedLabels, buckets, sum }: HistogramSample): Series[] {
    let count = 0;
    const series = buckets.map((inBucket, index): Series => {
      count += inBucket;
      const le = this.#bounds[index] ?? "+Inf";
      return { metricName: `${this.#name}_bucket`, labels: { le }, sharedLabels, value: count };
    });
    return [
      ...series,
      { metricName: `${this.#name}_sum`, labels: {}, sharedLabels, value: sum },
      { metricName: `${this.#name}_count`, labels: {}, sharedLabels, value: count },
    ];
  }
}

/**
 * The engine counts by subject, and forgets a subject some minutes after it is
 * removed. What we publish is by guard, and never goes down: so what was added
 * since the last look is added to the guard's total.
 *
 * When all labels are taken, a guard that is held takes those of one that is
 * not, whose series end. What is still counted for that one goes to the others'.
 */
class GuardTotals {
  readonly #lookup: SubjectLookup;
  readonly #names: () => Iterable<GuardName>;
  /** Those with labels of their own, oldest first. */
  readonly #guards = new Map<string, Labels>();
  readonly #events = new Map<string, { labels: Labels; value: number }>();
  readonly #decisions = new Map<string, { labels: Labels; value: number }>();
  readonly #blocked = new Map<string, { labels: Labels; buckets: number[]; sum: number }>();
  /** What was last seen of each subject's counters, and the guard that they count for. */
  #labels = new Map<number, Labels>();
  #seenCounts = new Map<string, number>();
  #seenBlocked = new Map<string, { buckets: readonly number[]; sum: number }>();
  /** Made once a fold, if at all: the held guards, and those with labels that are not. */
  #turn: { readonly held: ReadonlySet<string>; readonly gone: string[] } | undefined;

  constructor({ lookup, names }: Pick<MetricsOptions, "lookup" | "names">) {
    this.#lookup = lookup;
    this.#names = names;
  }

  events(): Iterable<Sample> {
    return this.#events.values();
  }

  decisions(): Iterable<Sample> {
    return this.#decisions.values();
  }

  blocked(): Iterable<HistogramSample> {
    return this.#blocked.values();
  }

  fold(stats: EngineStats): void {
    const previous = this.#labels;
    this.#labels = new Map();
    this.#turn = undefined;
    this.#foldDecisions(stats, previous);
    this.#foldBlocked(stats, previous);
    this.#startDecisions();
  }

  /** Each guard that is held counts from 0: an increase from no sample to one is none to Prometheus. */
  #startDecisions(): void {
    for (const guard of this.#names()) {
      const labels = this.#labelsFor(guard);
      if (labels === OTHER_GUARDS) continue;
      for (const response of RESPONSES) add(this.#decisions, { ...labels, response }, 0);
    }
  }

  #foldDecisions(stats: EngineStats, previous: ReadonlyMap<number, Labels>): void {
    const seen = new Map<string, number>();
    for (const { subjectId, kind, response, answered, count } of stats.decisions) {
      const key = `${subjectId} ${kind} ${response} ${answered}`;
      const added = count - (this.#seenCounts.get(key) ?? 0);
      seen.set(key, count);
      const guard = this.#labelsOf(subjectId, previous);
      const answer = responseLabel(response);
      const event = EVENT_KINDS[kind] ?? "unknown";
      add(this.#events, { ...guard, event, response: answer }, added);
      if (answered) add(this.#decisions, { ...guard, response: answer }, added);
    }
    this.#seenCounts = seen;
  }

  #foldBlocked(stats: EngineStats, previous: ReadonlyMap<number, Labels>): void {
    const seen = new Map<string, { buckets: readonly number[]; sum: number }>();
    for (const { subjectId, response, buckets, sumSeconds } of stats.blocked) {
      const key = `${subjectId} ${response}`;
      const before = this.#seenBlocked.get(key);
      seen.set(key, { buckets, sum: sumSeconds });
      const labels = { ...this.#labelsOf(subjectId, previous), response: responseLabel(response) };
      const total = getOrMake(this.#blocked, keyOf(labels), () => ({ labels, buckets: buckets.map(() => 0), sum: 0 }));
      for (const [index, count] of buckets.entries()) {
        total.buckets[index] = (total.buckets[index] ?? 0) + count - (before?.buckets[index] ?? 0);
      }
      total.sum += sumSeconds - (before?.sum ?? 0);
    }
    this.#seenBlocked = seen;
  }

  /** Its guard's own, also while it is being removed, unless another guard has taken them. */
  #labelsOf(subjectId: number, previous: ReadonlyMap<number, Labels>): Labels {
    return getOrMake(this.#labels, subjectId, () => {
      const before = previous.get(subjectId);
      if (before === undefined || before === OTHER_GUARDS) return this.#newLabels(subjectId);
      return this.#guards.has(keyOf(before)) ? before : OTHER_GUARDS;
    });
  }

  #newLabels(subjectId: number): Labels {
    const subject = this.#lookup(subjectId);
    return subject === undefined ? OTHER_GUARDS : this.#labelsFor(subject);
  }

  #labelsFor(guard: GuardName): Labels {
    const labels = labelsOf(guard);
    const key = keyOf(labels);
    const room = this.#guards.has(key) || this.#guards.size < GUARD_LABELS || this.#makeRoom(key);
    return room ? getOrMake(this.#guards, key, () => labels) : OTHER_GUARDS;
  }

  /** For a guard that is held. False: all that have labels are. */
  #makeRoom(key: string): boolean {
    if (this.#turn === undefined) {
      const held = new Set([...this.#names()].map((name) => keyOf(labelsOf(name))));
      this.#turn = { held, gone: [...this.#guards.keys()].filter((name) => !held.has(name)) };
    }
    const gone = this.#turn.held.has(key) ? this.#turn.gone.shift() : undefined;
    const labels = gone === undefined ? undefined : this.#guards.get(gone);
    if (gone === undefined || labels === undefined) return false;
    this.#guards.delete(gone);
    for (const series of [this.#events, this.#decisions, this.#blocked]) forget(series, labels);
    for (const [subjectId, of] of this.#labels) if (keyOf(of) === gone) this.#labels.set(subjectId, OTHER_GUARDS);
    return true;
  }
}

function labelsOf({ namespace, guard }: GuardName): Labels {
  return namespace === "" ? { guard } : { namespace, guard };
}

function forget(series: Map<string, { readonly labels: Labels }>, guard: Labels): void {
  for (const [key, { labels }] of series) {
    if (labels["guard"] === guard["guard"] && labels["namespace"] === guard["namespace"]) series.delete(key);
  }
}

function add(into: Map<string, { labels: Labels; value: number }>, labels: Labels, value: number): void {
  getOrMake(into, keyOf(labels), () => ({ labels, value: 0 })).value += value;
}

function keyOf(labels: Labels): string {
  return JSON.stringify(labels);
}

function getOrMake<K, V>(map: Map<K, V>, key: K, make: () => V): V {
  let value = map.get(key);
  if (value === undefined) {
    value = make();
    map.set(key, value);
  }
  return value;
}

function responseLabel(response: number): string {
  return RESPONSES[response] ?? "unknown";
}

function ofKubernetes({ kubernetes }: MetricsOptions, read: (figures: KubernetesFigures) => number): Sample[] {
  return kubernetes === undefined ? [] : single(read(kubernetes));
}

function single(value: number): Sample[] {
  return [{ labels: {}, value }];
}

function byLabel(label: string, counts: Readonly<Record<string, number>>): Sample[] {
  return Object.entries(counts).map(([key, value]) => ({ labels: { [label]: key }, value }));
}

function sumOf(records: readonly Readonly<Record<string, number>>[]): Record<string, number> {
  const sum: Record<string, number> = {};
  for (const record of records) {
    for (const [key, value] of Object.entries(record)) sum[key] = (sum[key] ?? 0) + value;
  }
  return sum;
}

/** docs/metrics.md. */
export function metricsMarkdown(): string {
  const rows = DEFINITIONS.map(({ name, type, labels, help }) => {
    const labelCell = labels.map((label) => `\`${label}\``).join(", ");
    return `| \`${name}\` | ${type} | ${labelCell} | ${help} |`;
  });
  const kinds = EVENT_KINDS.map((kind) => `\`${kind}\``);
  return `# Metrics

<!-- Generated from src/metrics.ts by \`npm run docs\`. Do not edit. -->

\`GET /metrics\` on the HTTP address answers in the Prometheus text format. Besides these, there are
the usual \`process_*\` and \`nodejs_*\` metrics of a Node program.

| Metric | Type | Labels | What it says |
| --- | --- | --- | --- |
${rows.join("\n")}

- \`guard\` is the guard's name, \`namespace\` its namespace (absent if the controller sent none).
  ${GUARD_LABELS} guards have labels of their own; further ones count together as
  \`${OTHER_GUARDS["guard"]}\`. A guard that is gone keeps its series until a guard that is held needs
  its labels; then they end. A guard of that name that comes back starts from 0.
- \`event\` is one of
  ${kinds.slice(0, 7).join(", ")},
  ${kinds.slice(7, 14).join(", ")},
  ${kinds.slice(14).join(", ")}.
- \`response\` is \`allow\`, \`deny\`, or \`audit\`: allowed, and a guard in mode \`audit\` would have
  denied it. An open counts once, for the guard that its record is of.
- Counters by guard are kept natively and by guard, not by subject: they stay exact when event
  records are lost, and never go down when a guard is replaced or removed.
`;
}
