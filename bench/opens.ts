/** What an open costs: unwatched, with the floor, with ours. And what it costs the daemon. */
import type { GuardInit } from "../test/support/daemon.js";
import type { FigureName, Figures } from "./figures.js";
import { type Floor, LoadedContainer, startFloor } from "./load.js";
import { residentMegabytes, threadTimes, timesSince } from "./process.js";
import type { Watched } from "./watched.js";

const rounds = 15;
const distinct = 2000;
const coldDirectories = 200;

/** Files of the image, as most that a container opens are; the same in every container, so that only the listener differs. */
const image: Readonly<Record<string, string>> = Object.fromEntries(
  [
    ...["plain", "exact", "deny", "owner"].map((directory) => `/g/${directory}/file`),
    ...Array.from({ length: distinct }, (_, index) => `/g/async/${index}`),
    ...Array.from({ length: rounds + 1 }, (_, round) =>
      Array.from({ length: coldDirectories }, (_, index) => `/cold/${round}/${index}/file`),
    ).flat(),
  ].map((path) => [path, "x"]),
);

function guardOf(id: string): GuardInit {
  const event = ["open"];
  return {
    name: "opens",
    podName: "bench",
    nodeName: "testnode",
    cid: [id],
    subject: [
      { allow: ["/g/exact"], event, exact: true },
      { deny: ["/g/deny"], event },
      { deny: ["/g/owner"], event, autoAllowOwner: true },
      { allow: ["/g/async"], event },
    ],
  };
}

/** Everything that the sections below share. */
interface Stage {
  readonly figures: Figures;
  readonly watched: Watched;
  readonly unwatched: LoadedContainer;
  readonly allowed: LoadedContainer;
  readonly denied: LoadedContainer;
  readonly guarded: LoadedContainer;
  /** With a deny path and nothing else. */
  readonly refused: LoadedContainer;
}

type Measure = (round: number) => Promise<number>;

/** One short run of each kind a round, each round beginning with another: drift of the machine hits all alike. */
async function measureOpens({ figures, watched, unwatched, allowed, denied, guarded, refused }: Stage): Promise<void> {
  const variants: readonly (readonly [FigureName, Measure])[] = [
    ["null_syscall_ns", () => unwatched.load.nullCall()],
    ["unwatched_ns", () => unwatched.load.openUndisturbed("/g/plain/file")],
    ["unguarded_warm_ns", () => guarded.load.openUndisturbed("/g/plain/file")],
    ["unguarded_warm_deny_ns", () => refused.load.openUndisturbed("/g/plain/file")],
    ["unguarded_written_ns", () => guarded.load.open("/g/written/file", 1, 4000, "opened")],
    ["floor_allow_ns", () => allowed.load.open("/g/exact/file", 1, 4000, "opened")],
    ["allow_answered_ns", () => guarded.load.open("/g/exact/file", 1, 4000, "opened")],
    ["floor_deny_ns", () => denied.load.open("/g/deny/file", 1, 4000, "denied")],
    ["deny_answered_ns", () => guarded.load.open("/g/deny/file", 1, 4000, "denied")],
    ["owner_allowed_ns", () => guarded.owner.open("/g/owner/file", 1, 4000, "opened")],
    ["unwatched_distinct_ns", () => unwatched.load.open("/g/async/#", distinct, 2, "opened")],
    ["allow_async_ns", () => guarded.load.open("/g/async/#", distinct, 2, "opened")],
    ["unwatched_cold_ns", (round) => unwatched.load.open(`/cold/${round}/#/file`, coldDirectories, 1, "opened")],
    ["unguarded_cold_ns", (round) => guarded.load.open(`/cold/${round}/#/file`, coldDirectories, 1, "opened")],
  ];
  const ratios: readonly (readonly [FigureName, FigureName, FigureName])[] = [
    ["allow_answered_vs_floor", "allow_answered_ns", "floor_allow_ns"],
    ["deny_answered_vs_floor", "deny_answered_ns", "floor_deny_ns"],
    ["unguarded_warm_vs_unwatched", "unguarded_warm_ns", "unwatched_ns"],
    ["unguarded_warm_deny_vs_unwatched", "unguarded_warm_deny_ns", "unwatched_ns"],
  ];
  for (let round = 0; round <= rounds; ++round) {
    const measured = new Map<FigureName, number>();
    // Rotated by a step that has no divisor in common with their number.
    const first = (round * 5) % variants.length;
    for (const [name, measure] of [...variants.slice(first), ...variants.slice(0, first)]) {
      measured.set(name, await measure(round));
      await watched.settle();
    }
    if (round === 0) continue; // warms up
    for (const [name, ns] of measured) figures.add(name, ns);
    for (const [ratio, ours, other] of ratios)
      figures.add(ratio, (measured.get(ours) ?? 0) / (measured.get(other) ?? 0));
  }
}

async function measureCost(
  { figures, watched, allowed, denied, guarded }: Stage,
  floors: readonly [Floor, Floor],
): Promise<void> {
  const { daemon } = watched;
  const count = 10_000;
  for (let run = 0; run < 5; ++run) {
    const [blocked, decided] = await Promise.all([
      daemon.metric("janusd_decision_blocked_seconds_sum"),
      daemon.metric("janusd_decision_blocked_seconds_count"),
    ]);
    await watched.settle();
    const before = threadTimes(daemon.pid);
    await guarded.load.open("/g/exact/file", 1, count, "opened");
    await guarded.load.open("/g/deny/file", 1, count, "denied");
    await watched.settle();
    const spent = timesSince(daemon.pid, before);
    figures.add("cpu_us_per_event", spent.total / (2 * count) / 1000);
    for (const [thread, ns] of spent.threads) figures.add(`cpu_us_per_event_of_${thread}`, ns / (2 * count) / 1000);
    const decisions = (await daemon.metric("janusd_decision_blocked_seconds_count")) - decided;
    figures.add(
      "decision_us",
      (((await daemon.metric("janusd_decision_blocked_seconds_sum")) - blocked) / decisions) * 1e6,
    );

    const floorsBefore = floors.map(({ pid }) => threadTimes(pid));
    await allowed.load.open("/g/exact/file", 1, count, "opened");
    await denied.load.open("/g/deny/file", 1, count, "denied");
    const floorSpent = floors.reduce(
      (sum, { pid }, index) => sum + timesSince(pid, floorsBefore[index] ?? new Map()).total,
      0,
    );
    figures.add("floor_cpu_us_per_event", floorSpent / (2 * count) / 1000);

    // By the events that came, since the kernel merges those that are equal and unread.
    const seen = await daemon.metric("janusd_events_total", { guard: "opens" });
    await watched.settle();
    const beforeSeen = threadTimes(daemon.pid);
    await guarded.load.open("/g/async/#", distinct, 5, "opened");
    await watched.settle();
    const spentSeen = timesSince(daemon.pid, beforeSeen);
    const events = (await daemon.metric("janusd_events_total", { guard: "opens" })) - seen;
    figures.add("cpu_us_per_async_event", spentSeen.total / events / 1000);
    for (const [thread, ns] of spentSeen.threads)
      figures.add(`cpu_us_per_async_event_of_${thread}`, ns / events / 1000);
  }
}

async function measureStorm({ figures, watched, guarded }: Stage): Promise<void> {
  for (let run = 0; run < 3; ++run) {
    const lost = await watched.lost();
    const delivered = await watched.daemon.metric("janusd_events_delivered_total");
    const { ns, denied } = await guarded.load.storm("/g/deny/file", 1, 4, 2000);
    figures.add("rss_load_mb", residentMegabytes(watched.daemon.pid));
    figures.add("events_per_s", denied / (ns / 1e9));
    await watched.settle();
    const lostNow = (await watched.lost()) - lost;
    const accounted = (await watched.daemon.metric("janusd_events_delivered_total")) - delivered + lostNow;
    if (accounted < denied)
      throw new Error(`${denied - accounted} of ${denied} events neither came nor were counted as lost`);
    figures.add("events_lost", lostNow);
  }
}

export async function opens(figures: Figures, watched: Watched): Promise<void> {
  await using unwatched = await LoadedContainer.start({ files: image });
  await using allowed = await LoadedContainer.start({ files: image });
  await using denied = await LoadedContainer.start({ files: image });
  await using guarded = await LoadedContainer.start({ files: image });
  await using refused = await LoadedContainer.start({ files: image });
  // What the container wrote itself lies in a directory that could be renamed, so it is never ignored.
  await guarded.load.makeFiles("/g/written/file", 1);
  using floorAllow = await startFloor("allow", allowed.container);
  using floorDeny = await startFloor("deny", denied.container);
  const guard = guardOf(guarded.container.id);
  await watched.daemon.createGuard(guard);
  const refusal: GuardInit = {
    name: "refused",
    podName: "refused",
    nodeName: "testnode",
    cid: [refused.container.id],
    subject: [{ deny: ["/g/deny"], event: ["open"] }],
  };
  await watched.daemon.createGuard(refusal);

  const stage: Stage = { figures, watched, unwatched, allowed, denied, guarded, refused };
  await measureOpens(stage);
  await measureCost(stage, [floorAllow, floorDeny]);
  await measureStorm(stage);
  await watched.daemon.destroyGuard(guard);
  await watched.daemon.destroyGuard(refusal);
}
