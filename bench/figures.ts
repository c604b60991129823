/** The figures: their units and aims, their samples, and the two ways in which they are shown. */

interface Definition {
  readonly unit: string;
  /** The figure is to be at most this. */
  readonly aim?: number;
}

const DEFINITIONS = {
  null_syscall_ns: { unit: "ns" },
  unwatched_ns: { unit: "ns" },
  unwatched_distinct_ns: { unit: "ns" },
  unwatched_cold_ns: { unit: "ns" },
  floor_allow_ns: { unit: "ns" },
  floor_deny_ns: { unit: "ns" },
  allow_answered_ns: { unit: "ns" },
  deny_answered_ns: { unit: "ns" },
  allow_answered_vs_floor: { unit: "ratio", aim: 1.15 },
  deny_answered_vs_floor: { unit: "ratio", aim: 1.15 },
  owner_allowed_ns: { unit: "ns" },
  allow_async_ns: { unit: "ns", aim: 2500 },
  unguarded_warm_ns: { unit: "ns" },
  unguarded_warm_vs_unwatched: { unit: "ratio", aim: 1.2 },
  unguarded_warm_deny_ns: { unit: "ns" },
  unguarded_warm_deny_vs_unwatched: { unit: "ratio", aim: 1.2 },
  unguarded_written_ns: { unit: "ns" },
  unguarded_cold_ns: { unit: "ns" },
  decision_us: { unit: "us" },
  busy_answered_urgent_us: { unit: "us" },
  busy_answered_ordinary_us: { unit: "us" },
  events_per_s: { unit: "1/s" },
  events_lost: { unit: "events", aim: 0 },
  cpu_us_per_event: { unit: "us", aim: 15 },
  floor_cpu_us_per_event: { unit: "us" },
  cpu_us_per_async_event: { unit: "us", aim: 5 },
  rss_idle_mb: { unit: "MB", aim: 70 },
  rss_load_mb: { unit: "MB" },
  rss_node_mb: { unit: "MB" },
  rss_node_thread_mb: { unit: "MB" },
  rss_node_fastify_mb: { unit: "MB" },
  stream_events_per_s: { unit: "1/s" },
  stream_lost: { unit: "events", aim: 0 },
  stream_cpu_us_per_event: { unit: "us" },
  stream_p50_us_alone: { unit: "us" },
  stream_p50_us_busy: { unit: "us" },
  stream_p50_us_followed: { unit: "us" },
  stream_p99_us_alone: { unit: "us" },
  stream_p99_us_busy: { unit: "us" },
  stream_p99_us_followed: { unit: "us" },
  stream_p99_us_unasked_alone: { unit: "us" },
  stream_p99_us_unasked_busy: { unit: "us" },
  stream_p99_us_unasked_followed: { unit: "us" },
  arrival_slips: { unit: "reads", aim: 0 },
  arrival_unselected_p50_ms: { unit: "ms" },
  arrival_unselected_p99_ms: { unit: "ms" },
  arrival_guarded_p50_ms: { unit: "ms" },
  arrival_guarded_p99_ms: { unit: "ms" },
  arrival_start_unheld_ms: { unit: "ms" },
  arrival_start_unselected_ms: { unit: "ms" },
  arrival_start_guarded_ms: { unit: "ms" },
  explain_ms: { unit: "ms" },
  canary_ms: { unit: "ms" },
  dirent_storm_lost: { unit: "events", aim: 0 },
  dirent_create_vs_unwatched: { unit: "ratio" },
  dirent_beside_vs_unwatched: { unit: "ratio" },
  dirent_cpu_us_per_event: { unit: "us" },
  create_p50_ms: { unit: "ms", aim: 1 },
  create_p50_ms_1000_guards: { unit: "ms", aim: 1 },
  rss_1000_guards_mb: { unit: "MB" },
  ended_unlisted_ms: { unit: "ms", aim: 10 },
  rss_growth_40_containers_mb: { unit: "MB" },
  scale_create_first_ms: { unit: "ms" },
  scale_create_last_ms: { unit: "ms" },
  scale_loop_p99_ms: { unit: "ms", aim: 50 },
  scale_end_loop_ms: { unit: "ms", aim: 50 },
  scale_list_ms: { unit: "ms" },
  scale_state_written_mb: { unit: "MB" },
  scale_end_state_written_mb: { unit: "MB" },
  scale_rss_mb: { unit: "MB", aim: 150 },
  cluster_watches: { unit: "watches" },
  cluster_heap_mb: { unit: "MB" },
  cluster_start_kb: { unit: "KB" },
  cluster_idle_requests_per_min: { unit: "1/min" },
  cluster_idle_kb_per_min: { unit: "KB/min" },
  cluster_rollout_requests_per_min: { unit: "1/min" },
  cluster_rollout_kb_per_min: { unit: "KB/min" },
  cluster_enforced_p50_ms: { unit: "ms" },
  cluster_enforced_p99_ms: { unit: "ms" },
  cluster_back_peak_requests_per_s: { unit: "1/s" },
  cluster_5000_idle_requests_per_s: { unit: "1/s" },
  cluster_5000_idle_mb_per_s: { unit: "MB/s" },
  fork_exec_untracked_us: { unit: "us" },
  fork_exec_vs_untracked: { unit: "ratio", aim: 1.02 },
  fork_exec_programs_ns: { unit: "ns" },
  search_us_per_process: { unit: "us" },
  storm_fork_exec_us: { unit: "us" },
  storm_lost: { unit: "records", aim: 0 },
  storm_ring_peak_kb: { unit: "KB" },
  storm_ring_kb: { unit: "KB" },
  bpf_maps_mb: { unit: "MB" },
  find_100k_first_vs_unwatched: { unit: "ratio" },
  find_100k_vs_unwatched: { unit: "ratio" },
  build_c_vs_unwatched: { unit: "ratio" },
  build_npm_vs_unwatched: { unit: "ratio" },
  build_vs_unwatched: { unit: "ratio", aim: 1.03 },
  build_cpu_vs_unwatched: { unit: "ratio" },
  build_questions: { unit: "opens" },
  rename_storm_unwatched_ns: { unit: "ns" },
  rename_storm_ns: { unit: "ns" },
  rename_storm_slips: { unit: "opens", aim: 0 },
  neighbour_p99_ms_quiet: { unit: "ms" },
  neighbour_p99_ms_under_names: { unit: "ms", aim: 5 },
  neighbour_p99_ms_unasked_under_names: { unit: "ms" },
  neighbour_create_p50_ms_under_names: { unit: "ms" },
  neighbour_p99_ms_under_threads: { unit: "ms", aim: 5 },
  neighbour_p99_ms_unasked_under_threads: { unit: "ms" },
  neighbour_create_p50_ms_under_threads: { unit: "ms" },
  neighbour_p99_ms_under_mounts: { unit: "ms", aim: 5 },
  neighbour_p99_ms_unasked_under_mounts: { unit: "ms" },
  neighbour_create_p50_ms_under_mounts: { unit: "ms" },
  neighbour_p99_ms_under_namespaces: { unit: "ms", aim: 5 },
  neighbour_p99_ms_unasked_under_namespaces: { unit: "ms" },
  neighbour_create_p50_ms_under_namespaces: { unit: "ms" },
  neighbour_p99_ms_under_links: { unit: "ms", aim: 5 },
  neighbour_p99_ms_unasked_under_links: { unit: "ms" },
  neighbour_create_p50_ms_under_links: { unit: "ms" },
  neighbour_p99_ms_under_pins: { unit: "ms", aim: 5 },
  neighbour_p99_ms_unasked_under_pins: { unit: "ms" },
  neighbour_create_p50_ms_under_pins: { unit: "ms" },
  neighbour_create_p50_ms_quiet: { unit: "ms" },
  neighbour_slips: { unit: "opens", aim: 0 },
  node_open_vs_unwatched: { unit: "ratio", aim: 1.05 },
  scan_100k_ms: { unit: "ms" },
  recursive_million_create_ms: { unit: "ms", aim: 10 },
  recursive_million_rss_mb: { unit: "MB", aim: 1 },
  k_unwatched_ns: { unit: "ns" },
  k_floor_allow_vs_unwatched: { unit: "ratio" },
  k_floor_allow_work_vs_unwatched: { unit: "ratio" },
  k_floor_deny_vs_unwatched: { unit: "ratio" },
  k_floor_deny_work_vs_unwatched: { unit: "ratio" },
  k_deny_vs_unwatched: { unit: "ratio", aim: 1.2 },
  k_deny_work_vs_unwatched: { unit: "ratio" },
  k_allow_vs_unwatched: { unit: "ratio", aim: 1.5 },
  k_allow_work_vs_unwatched: { unit: "ratio" },
  k_written_vs_unwatched: { unit: "ratio", aim: 1.1 },
  k_written_work_vs_unwatched: { unit: "ratio" },
  k_node_vs_absent: { unit: "ratio", aim: 1.02 },
  k_node_fork_vs_absent: { unit: "ratio", aim: 1.02 },
  k_build_vs_unwatched: { unit: "ratio", aim: 1.01 },
  k_maps_mb: { unit: "MB" },
  k_maps_mb_1000_guards: { unit: "MB" },
  k_policy_p50_ms: { unit: "ms" },
  k_policy_p50_ms_1000_guards: { unit: "ms" },
  k_sigkills: { unit: "runs" },
  k_unjudged_sigkill: { unit: "opens", aim: 0 },
  k_denied_sigkill: { unit: "opens" },
  k_upgrades: { unit: "runs" },
  k_unjudged_upgrade: { unit: "opens", aim: 0 },
  k_denied_upgrade: { unit: "opens" },
} as const satisfies Record<string, Definition>;

const definitions: ReadonlyMap<string, Definition> = new Map(Object.entries(DEFINITIONS));

/** One of the table above, or the share of one of the daemon's threads in a figure of processor time. */
export type FigureName =
  | keyof typeof DEFINITIONS
  | `cpu_us_per_event_of_${string}`
  | `cpu_us_per_async_event_of_${string}`;

export interface Figure {
  readonly median: number;
  readonly min: number;
  readonly max: number;
  readonly unit: string;
  readonly runs: number;
}

/** Of at least one: the value that this part of them is at most. */
export function quantile(values: readonly number[], part: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.ceil(part * sorted.length) - 1)] ?? 0;
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle];
  const lower = sorted[sorted.length % 2 === 1 ? middle : middle - 1];
  if (upper === undefined || lower === undefined) throw new RangeError("a median of nothing");
  return (lower + upper) / 2;
}

/** Four significant digits: what follows is noise. */
function short(value: number): number {
  return Number(value.toPrecision(4));
}

export class Figures {
  readonly #samples = new Map<FigureName, number[]>();

  add(name: FigureName, value: number): void {
    if (!Number.isFinite(value)) throw new RangeError(`${name}: ${value}`);
    const samples = this.#samples.get(name);
    if (samples === undefined) this.#samples.set(name, [value]);
    else samples.push(value);
  }

  median(name: FigureName): number | undefined {
    const samples = this.#samples.get(name);
    return samples === undefined ? undefined : median(samples);
  }

  toJSON(): Record<string, Figure> {
    return Object.fromEntries(
      [...this.#samples].map(([name, samples]) => [
        name,
        {
          median: short(median(samples)),
          min: short(Math.min(...samples)),
          max: short(Math.max(...samples)),
          unit: definitions.get(name)?.unit ?? "us",
          runs: samples.length,
        },
      ]),
    );
  }
}

/** In the order of the definitions; figures of single threads last. */
export function table(measured: Readonly<Record<string, Figure>>): string {
  const names = new Set([...definitions.keys(), ...Object.keys(measured)]);
  const rows = [["figure", "median", "min", "max", "unit", "runs", "aim", "reached", "of aim"]];
  for (const name of names) {
    const figure = measured[name];
    if (figure === undefined) continue;
    const aim = definitions.get(name)?.aim;
    rows.push([
      name,
      ...[figure.median, figure.min, figure.max].map(String),
      figure.unit,
      String(figure.runs),
      aim === undefined ? "" : `<= ${aim}`,
      aim === undefined ? "" : figure.median <= aim ? "yes" : "NO",
      aim === undefined || aim === 0 ? "" : (figure.median / aim).toFixed(2),
    ]);
  }
  const widths = rows[0]?.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0))) ?? [];
  return rows
    .map((row) =>
      row
        .map((cell, column) =>
          column === 0 || column === 4 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0),
        )
        .join("  "),
    )
    .join("\n");
}
