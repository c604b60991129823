import { spawnSync } from "node:child_process";
import t from "tap";
import type { PipelineStats } from "../src/event/pipeline.js";
import type { Sink } from "../src/event/sink.js";
import { Metrics, metricsMarkdown } from "../src/metrics.js";
import type { BlockedHistogram, DecisionCount, EngineStats } from "../src/native.js";
import type { GuardName, SubjectContext } from "../src/subject.js";
import { subjectOf } from "./support/records.js";

const bounds = [0.00001, 0.001, 1];

function statsOf(decisions: DecisionCount[] = [], blocked: BlockedHistogram[] = []): EngineStats {
  return {
    decisions,
    blocked,
    asked: { guarded: 5, unguarded: 2, self: 0, late: 0 },
    full: {},
    losses: { ring_full: 3, kernel_queue_overflow: 0 },
    exposure: { overflow: 1, deadline: 0 },
    unwatched: { late: 2, unknown: 0, limit: 0 },
    marks: { superblock: 1, mount: 2, ignore: 40 },
    scansPending: 1,
    containers: 2,
    processes: 17,
    programs: ["on_fork", "on_exit"],
    maps: [
      { name: "tasks", bytes: 65536, maxEntries: 4096, full: 6 },
      { name: "records", bytes: 1048576, maxEntries: 1048576, full: 0 },
    ],
    bpfRecords: 31,
    bpfRingPeak: 512,
    holdTier: "scheduler",
    kernelDecides: true,
    kernelAlone: true,
    kept: false,
    away: { denied: 7, too_deep: 1, unjudged: 2, refused: 0 },
    awaySeconds: 1.5,
    holds: { held: 4, skipped: 1, expired: 0 },
    arrivals: { outcomes: { admitted: 3, expired: 1, unheld: 0 }, waited: [1, 1, 1, 0], waitedSeconds: 0.25 },
    refused: [{ container: "abc", resource: "pins", count: 8 }],
    ring: { bytes: 65536, used: 100, written: 12 },
    heartbeatMs: {
      gate: 250,
      observer: 0,
      dirents: 0,
      planner: 0,
      mounts: 2,
      tracker: 1000,
      watchdog: 3,
      scanner: 4,
      waker: 5,
      last_resort: 6,
    },
    urgent: { gate: 1, watchdog: 0 },
  };
}

const pipeline: PipelineStats = { delivered: 9, missing: 3, unattributed: 1, malformed: 0, failures: { log: 2 } };

const sink: Sink = {
  name: "log",
  write: () => undefined,
  flush: () => undefined,
  close: async () => undefined,
  dropped: 7,
  drops: { queue_full: 4, closed: 3 },
  queueBytes: 4096,
};

/** Metrics of an engine that says what `state` says. */
function metricsOf(state: {
  stats: EngineStats;
  subjects: Map<number, SubjectContext>;
  held?: GuardName[];
  certificateExpires?: Date | undefined;
}): Metrics {
  return new Metrics({
    stats: () => state.stats,
    lookup: (id) => state.subjects.get(id),
    build: { version: "1.2.3", commit: "abc", kernel: "6.18" },
    features: {
      fentry: { works: false, needed: false, reason: "Operation not permitted" },
      tp_btf: { works: true, needed: true, reason: "" },
    },
    guards: () => 4,
    names: () => state.held ?? [...state.subjects.values()],
    guardsPending: () => 1,
    pathsUnguarded: () => 1,
    guardChanges: (change, source) => (change === "removed" && source === "container" ? 7 : 0),
    stateErrors: () => 2,
    logFileErrors: () => 6,
    certificateExpires: () => ("certificateExpires" in state ? state.certificateExpires : new Date(1_700_000_000_000)),
    refusals: { plaintext: 3, no_certificate: 0 },
    streams: { subscribers: 2, sent: 31, lost: { queue: 5, history: 0, record: 1 } },
    pipeline: () => pipeline,
    proofs: () => ({ buckets: bounds.map(() => 1).concat(0), sum: 0.5 }),
    sinks: [sink],
    blockedBoundsSeconds: bounds,
  });
}

const decision = (subjectId: number, count: number, more: Partial<DecisionCount> = {}): DecisionCount => ({
  subjectId,
  kind: 0,
  response: 1,
  answered: true,
  count,
  ...more,
});

/** Our lines of the exposition text, without comments. */
async function ours(metrics: Metrics): Promise<string[]> {
  return (await metrics.render()).split("\n").filter((line) => line.startsWith("janusd_"));
}

t.test("promtool finds nothing to say about it", async (t) => {
  const metrics = metricsOf({
    stats: statsOf([decision(1, 2)], [{ subjectId: 1, response: 1, buckets: [1, 1, 0, 0], sumSeconds: 0.01 }]),
    subjects: new Map([[1, subjectOf()]]),
  });
  const promtool = spawnSync("promtool", ["check", "metrics"], { input: await metrics.render(), encoding: "utf8" });
  t.equal(promtool.error, undefined);
  t.equal(promtool.stdout + promtool.stderr, "");
  t.equal(promtool.status, 0);
  t.match(metrics.contentType, /^text\/plain; version=0\.0\.4/);
});

t.test("every number has its place", async (t) => {
  const state = { stats: statsOf(), subjects: new Map<number, SubjectContext>() };
  t.same(await ours(metricsOf(state)), [
    'janusd_build_info{version="1.2.3",commit="abc",kernel="6.18"} 1',
    'janusd_feature{feature="fentry"} 0',
    'janusd_feature{feature="tp_btf"} 1',
    "janusd_guards 4",
    "janusd_guards_pending 1",
    "janusd_paths_unguarded 1",
    'janusd_guard_changes_total{change="created",source="rpc"} 0',
    'janusd_guard_changes_total{change="created",source="file"} 0',
    'janusd_guard_changes_total{change="created",source="kubernetes"} 0',
    'janusd_guard_changes_total{change="created",source="state"} 0',
    'janusd_guard_changes_total{change="replaced",source="rpc"} 0',
    'janusd_guard_changes_total{change="replaced",source="file"} 0',
    'janusd_guard_changes_total{change="replaced",source="kubernetes"} 0',
    'janusd_guard_changes_total{change="replaced",source="state"} 0',
    'janusd_guard_changes_total{change="removed",source="rpc"} 0',
    'janusd_guard_changes_total{change="removed",source="file"} 0',
    'janusd_guard_changes_total{change="removed",source="kubernetes"} 0',
    'janusd_guard_changes_total{change="removed",source="state"} 0',
    'janusd_guard_changes_total{change="removed",source="container"} 7',
    "janusd_state_file_errors_total 2",
    "janusd_log_file_errors_total 6",
    "janusd_tls_certificate_expiry_timestamp_seconds 1700000000",
    "janusd_kubernetes_failures_total 0",
    'janusd_grpc_refused_total{reason="plaintext"} 3',
    'janusd_grpc_refused_total{reason="no_certificate"} 0',
    "janusd_containers 2",
    "janusd_processes 17",
    'janusd_canary_seconds_bucket{le="0.00001"} 1',
    'janusd_canary_seconds_bucket{le="0.001"} 2',
    'janusd_canary_seconds_bucket{le="1"} 3',
    'janusd_canary_seconds_bucket{le="+Inf"} 3',
    "janusd_canary_seconds_sum 0.5",
    "janusd_canary_seconds_count 3",
    'janusd_asked_total{outcome="guarded"} 5',
    'janusd_asked_total{outcome="unguarded"} 2',
    'janusd_asked_total{outcome="self"} 0',
    'janusd_asked_total{outcome="late"} 0',
    'janusd_events_lost_total{cause="ring_full"} 3',
    'janusd_events_lost_total{cause="kernel_queue_overflow"} 0',
    'janusd_events_lost_total{cause="unattributed"} 1',
    'janusd_events_lost_total{cause="malformed"} 0',
    'janusd_exposure_total{cause="overflow"} 1',
    'janusd_exposure_total{cause="deadline"} 0',
    'janusd_directories_unwatched_total{cause="late"} 2',
    'janusd_directories_unwatched_total{cause="unknown"} 0',
    'janusd_directories_unwatched_total{cause="limit"} 0',
    'janusd_share_refused_total{container="abc",resource="pins"} 8',
    'janusd_marks{kind="superblock"} 1',
    'janusd_marks{kind="mount"} 2',
    'janusd_marks{kind="ignore"} 40',
    "janusd_scans_pending 1",
    'janusd_ebpf_program_attached{program="on_fork"} 1',
    'janusd_ebpf_program_attached{program="on_exit"} 1',
    'janusd_ebpf_map_bytes{map="tasks"} 65536',
    'janusd_ebpf_map_bytes{map="records"} 1048576',
    'janusd_ebpf_map_max_entries{map="tasks"} 4096',
    'janusd_ebpf_map_max_entries{map="records"} 1048576',
    'janusd_ebpf_map_full_total{map="tasks"} 6',
    'janusd_ebpf_map_full_total{map="records"} 0',
    "janusd_ebpf_records_total 31",
    "janusd_ebpf_ring_peak_bytes 512",
    'janusd_hold_tier{tier="scheduler"} 1',
    'janusd_kernel_decides{alone="true",kept="false"} 1',
    'janusd_away_opens_total{outcome="denied"} 7',
    'janusd_away_opens_total{outcome="too_deep"} 1',
    'janusd_away_opens_total{outcome="unjudged"} 2',
    'janusd_away_opens_total{outcome="refused"} 0',
    "janusd_away_seconds_total 1.5",
    'janusd_holds_total{outcome="held"} 4',
    'janusd_holds_total{outcome="skipped"} 1',
    'janusd_holds_total{outcome="expired"} 0',
    'janusd_arrivals_total{outcome="admitted"} 3',
    'janusd_arrivals_total{outcome="expired"} 1',
    'janusd_arrivals_total{outcome="unheld"} 0',
    'janusd_arrival_wait_seconds_bucket{le="0.00001"} 1',
    'janusd_arrival_wait_seconds_bucket{le="0.001"} 2',
    'janusd_arrival_wait_seconds_bucket{le="1"} 3',
    'janusd_arrival_wait_seconds_bucket{le="+Inf"} 3',
    "janusd_arrival_wait_seconds_sum 0.25",
    "janusd_arrival_wait_seconds_count 3",
    "janusd_ring_capacity_bytes 65536",
    "janusd_ring_used_bytes 100",
    "janusd_ring_records_total 12",
    "janusd_events_delivered_total 9",
    "janusd_events_missing_total 3",
    'janusd_thread_heartbeat_age_seconds{thread="gate"} 0.25',
    'janusd_thread_heartbeat_age_seconds{thread="observer"} 0',
    'janusd_thread_heartbeat_age_seconds{thread="dirents"} 0',
    'janusd_thread_heartbeat_age_seconds{thread="planner"} 0',
    'janusd_thread_heartbeat_age_seconds{thread="mounts"} 0.002',
    'janusd_thread_heartbeat_age_seconds{thread="tracker"} 1',
    'janusd_thread_heartbeat_age_seconds{thread="watchdog"} 0.003',
    'janusd_thread_heartbeat_age_seconds{thread="scanner"} 0.004',
    'janusd_thread_heartbeat_age_seconds{thread="waker"} 0.005',
    'janusd_thread_heartbeat_age_seconds{thread="last_resort"} 0.006',
    'janusd_thread_urgent{thread="gate"} 1',
    'janusd_thread_urgent{thread="watchdog"} 0',
    'janusd_log_lines_dropped_total{reason="queue_full"} 4',
    'janusd_log_lines_dropped_total{reason="closed"} 3',
    "janusd_event_streams 2",
    "janusd_event_stream_sent_total 31",
    'janusd_event_stream_lost_total{cause="queue"} 5',
    'janusd_event_stream_lost_total{cause="history"} 0',
    'janusd_event_stream_lost_total{cause="record"} 1',
    'janusd_sink_queue_bytes{sink="log"} 4096',
    'janusd_sink_failures_total{sink="log"} 2',
  ]);
  const text = await metricsOf(state).render();
  t.match(text, /^process_resident_memory_bytes /m);
  t.match(text, /^nodejs_eventloop_lag_p99_seconds /m);
});

t.test("without TLS there is no time at which the certificate expires", async (t) => {
  const metrics = metricsOf({ stats: statsOf(), subjects: new Map(), certificateExpires: undefined });
  const expiry = async () => (await ours(metrics)).filter((line) => line.includes("expiry"));
  t.same(await expiry(), []);
  t.same(await expiry(), []);
});

t.test("a guard's decisions are 0 as soon as it is held", async (t) => {
  const state = { stats: statsOf(), subjects: new Map<number, SubjectContext>(), held: [subjectOf({ guard: "a" })] };
  t.same(
    (await ours(metricsOf(state))).filter((line) => line.includes("guard=")),
    [
      'janusd_decisions_total{namespace="default",guard="a",response="allow"} 0',
      'janusd_decisions_total{namespace="default",guard="a",response="deny"} 0',
      'janusd_decisions_total{namespace="default",guard="a",response="audit"} 0',
    ],
  );
});

t.test("events, decisions and blocked time by guard, all its subjects together", async (t) => {
  const subjects = new Map([
    [1, subjectOf({ guard: "a" })],
    [2, subjectOf({ guard: "a", subjectIndex: 1 })],
    [3, subjectOf({ guard: "b", namespace: "" })],
  ]);
  const stats = statsOf(
    [
      decision(1, 2),
      decision(2, 3),
      decision(2, 4, { response: 0 }),
      decision(2, 5, { response: 0, answered: false }),
      decision(2, 7, { response: 2 }),
      decision(3, 6, { kind: 8, response: 0, answered: false }),
    ],
    [
      { subjectId: 1, response: 1, buckets: [1, 0, 1, 0], sumSeconds: 0.5 },
      { subjectId: 2, response: 1, buckets: [0, 2, 0, 1], sumSeconds: 2 },
    ],
  );
  const lines = (await ours(metricsOf({ stats, subjects }))).filter((line) => line.includes("guard="));
  t.same(lines, [
    'janusd_events_total{namespace="default",guard="a",event="open",response="deny"} 5',
    'janusd_events_total{namespace="default",guard="a",event="open",response="allow"} 9',
    'janusd_events_total{namespace="default",guard="a",event="open",response="audit"} 7',
    'janusd_events_total{guard="b",event="delete",response="allow"} 6',
    'janusd_decisions_total{namespace="default",guard="a",response="deny"} 5',
    'janusd_decisions_total{namespace="default",guard="a",response="allow"} 4',
    'janusd_decisions_total{namespace="default",guard="a",response="audit"} 7',
    'janusd_decisions_total{guard="b",response="allow"} 0',
    'janusd_decisions_total{guard="b",response="deny"} 0',
    'janusd_decisions_total{guard="b",response="audit"} 0',
    'janusd_decision_blocked_seconds_bucket{le="0.00001",namespace="default",guard="a",response="deny"} 1',
    'janusd_decision_blocked_seconds_bucket{le="0.001",namespace="default",guard="a",response="deny"} 3',
    'janusd_decision_blocked_seconds_bucket{le="1",namespace="default",guard="a",response="deny"} 4',
    'janusd_decision_blocked_seconds_bucket{le="+Inf",namespace="default",guard="a",response="deny"} 5',
    'janusd_decision_blocked_seconds_sum{namespace="default",guard="a",response="deny"} 2.5',
    'janusd_decision_blocked_seconds_count{namespace="default",guard="a",response="deny"} 5',
  ]);
});

t.test("counters never go down: removed subjects stay in their guard's total, new ones add to it", async (t) => {
  const state = { stats: statsOf(), subjects: new Map([[1, subjectOf({ guard: "a", namespace: "" })]]) };
  const metrics = metricsOf(state);
  const blocked = (subjectId: number, count: number): BlockedHistogram => ({
    subjectId,
    response: 1,
    buckets: [count, 0, 0, 0],
    sumSeconds: count,
  });
  const total = async () => {
    const lines = (await ours(metrics)).filter((line) =>
      /^janusd_(events_total|decision_blocked_seconds_(count|sum))\{guard=/.test(line),
    );
    return lines.map((line) => `${/guard="(.*?)"/.exec(line)?.[1]} ${line.split(" ").at(-1)}`);
  };
  state.stats = statsOf([decision(1, 10)], [blocked(1, 10)]);
  t.same(await total(), ["a 10", "a 10", "a 10"]);
  t.same(await total(), ["a 10", "a 10", "a 10"], "nothing new");

  // Not known to the registry any more, but counted to the end by the engine.
  state.subjects = new Map([[2, subjectOf({ id: 2, guard: "a", namespace: "" })]]);
  state.stats = statsOf([decision(1, 12), decision(2, 1)], [blocked(1, 12), blocked(2, 1)]);
  await metrics.render();
  state.stats = statsOf([decision(2, 4)], [blocked(2, 4)]);
  t.same(await total(), ["a 16", "a 16", "a 16"]);

  state.stats = statsOf();
  state.subjects.clear();
  t.same(await total(), ["a 16", "a 16", "a 16"], "the guard is gone");
});

t.test("the number of guard labels is bounded", async (t) => {
  const ids = Array.from({ length: 1000 }, (_, index) => index + 1);
  const state = {
    stats: statsOf(ids.map((id) => decision(id, 1))),
    subjects: new Map(ids.map((id) => [id, subjectOf({ id, guard: `g${id}`, namespace: "" })])),
  };
  const metrics = metricsOf(state);
  const counts = (await ours(metrics)).filter((line) => line.startsWith("janusd_events_total"));
  t.equal(counts.length, 201);
  t.ok(counts.includes('janusd_events_total{guard="other",event="open",response="deny"} 800'));
  t.ok(counts.includes('janusd_events_total{guard="g1",event="open",response="deny"} 1'));
});

t.test("labels of guards that are gone are taken by guards that are held, of those only", async (t) => {
  const named = (id: number) => subjectOf({ id, guard: `g${id}`, namespace: "" });
  const ids = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, index) => from + index);
  const blocked = (subjectId: number): BlockedHistogram => ({
    subjectId,
    response: 1,
    buckets: [1, 0, 0, 0],
    sumSeconds: 1,
  });
  const state = { stats: statsOf(), subjects: new Map<number, SubjectContext>(), held: [] as SubjectContext[] };
  const metrics = metricsOf(state);
  /** `known` have subjects, each with one decision; `held` of those are held. */
  const counts = async (known: number[], held: number[]) => {
    state.subjects = new Map(known.map((id) => [id, named(id)]));
    state.held = held.map(named);
    state.stats = statsOf(
      known.map((id) => decision(id, 1)),
      known.map(blocked),
    );
    const lines = await ours(metrics);
    const of = (metric: string) =>
      new Map(
        lines.flatMap((line) => {
          const [, guard, value] =
            new RegExp(`^${metric}\\{.*guard="(\\w+)".*response="deny".* (\\d+)$`).exec(line) ?? [];
          return guard === undefined ? [] : [[guard, Number(value)] as const];
        }),
      );
    const events = of("janusd_events_total");
    t.same(of("janusd_decisions_total"), events);
    t.same(of("janusd_decision_blocked_seconds_count"), events);
    return events;
  };
  let events = await counts(ids(1, 200), ids(1, 200));
  t.equal(events.size, 200);
  events = await counts(ids(1, 201), ids(1, 201));
  t.same([events.size, events.get("other"), events.has("g201")], [201, 1, false], "all are held");

  // Five are gone, two of which are still counted; 202 to 206 are new, of which 206 is gone already.
  for (const again of [false, true]) {
    events = await counts(ids(4, 206), ids(6, 205));
    t.equal(events.size, 201, again ? "again" : "200 and the others");
    t.same(
      [202, 203, 204, 205].map((id) => events.get(`g${id}`)),
      [1, 1, 1, 1],
      "new ones have labels of their own",
    );
    t.same(
      ids(1, 5).filter((id) => events.has(`g${id}`)),
      [],
      "of those that made room",
    );
    t.equal(events.has("g206"), false, "one that is gone takes nobody's");
    t.equal(events.get("g201"), 0, "one that had to wait has labels now");
    t.equal(events.get("other"), 2, "its first decision, and that of 206");
    t.equal(events.get("g6"), 1, "nothing is counted twice");
  }

  // A name that comes back starts anew.
  events = await counts(ids(301, 500), ids(301, 500));
  t.same(
    [...events.keys()].filter((name) => name !== "other").sort(),
    ids(301, 500)
      .map((id) => `g${id}`)
      .sort(),
  );
  const again = subjectOf({ id: 900, guard: "g101", namespace: "" });
  state.subjects = new Map([[900, again]]);
  state.held = [again];
  state.stats = statsOf([decision(900, 7)]);
  t.ok((await ours(metrics)).includes('janusd_events_total{guard="g101",event="open",response="deny"} 7'));
});

t.test("names that somebody else chose cannot break the format", async (t) => {
  const metrics = metricsOf({
    stats: statsOf([decision(1, 1)]),
    subjects: new Map([[1, subjectOf({ guard: 'x"} 1\njanusd_guards 99\\', namespace: "" })]]),
  });
  t.ok(
    (await ours(metrics)).includes(
      'janusd_events_total{guard="x\\"} 1\\njanusd_guards 99\\\\",event="open",response="deny"} 1',
    ),
  );
});

t.test("an engine that cannot be asked is an error, not an empty page", async (t) => {
  const metrics = metricsOf({
    get stats(): EngineStats {
      throw new Error("stopped");
    },
    subjects: new Map(),
  });
  await t.rejects(metrics.render(), { message: "stopped" });
});

t.test("the documentation names every metric of ours, with its labels", async (t) => {
  const text = await metricsOf({ stats: statsOf(), subjects: new Map() }).render();
  const names = [...text.matchAll(/^# TYPE (janusd_\w+) (\w+)$/gm)].map(
    ([, name, type]) => `| \`${name}\` | ${type} |`,
  );
  t.ok(names.length > 15);
  const rows = metricsMarkdown()
    .split("\n")
    .filter((line) => line.startsWith("| `"));
  t.same(
    rows.map((row) => row.split("|").slice(0, 3).join("|").concat("|")),
    names,
  );
  t.ok(
    rows.some((row) =>
      row.startsWith("| `janusd_events_total` | counter | `namespace`, `guard`, `event`, `response` | "),
    ),
  );
});
