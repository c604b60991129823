/**
 * What to alert on. The only source of rules.yaml, of the PrometheusRule in operator.yaml, and of
 * the table in docs/operations.md.
 */

export interface Alert {
  readonly name: string;
  readonly expr: string;
  /** How long the expression must hold. Left out: it fires at once. */
  readonly for?: string;
  /** `critical`: something is not guarded now. `warning`: it may not be, or what happened may not be known. */
  readonly severity: "critical" | "warning" | "info";
  /** Markdown, with links as seen from docs/. Both. */
  readonly means: string;
  readonly action: string;
}

export const ALERTS: readonly Alert[] = [
  {
    name: "JanusdDown",
    expr: 'up{job="janusd"} == 0',
    for: "2m",
    severity: "critical",
    means: "nothing is guarded on that node",
    action: "see why it doesn't start: standard error has a line for each reason",
  },
  {
    name: "JanusdAbsent",
    expr: 'absent(up{job="janusd"})',
    for: "5m",
    severity: "critical",
    means: "Prometheus knows no daemon at all",
    action: "is the DaemonSet there, and do the scrape configuration's `job` and labels fit?",
  },
  {
    name: "JanusdNotProven",
    expr: "increase(janusd_canary_seconds_count[2m]) == 0",
    for: "1m",
    severity: "critical",
    means: "the canary doesn't prove any more that denying works",
    action: "`/readyz` says where the way from the kernel's question to the record ends",
  },
  {
    name: "JanusdGuardsPending",
    expr: "min_over_time(janusd_guards_pending[5m]) > 0",
    severity: "critical",
    means: "a guard of the last run is not enforced",
    action: "`janusctl list` says which, and why",
  },
  {
    name: "JanusdPathsUnguarded",
    expr: "min_over_time(janusd_paths_unguarded[5m]) > 0",
    severity: "critical",
    means: "a guard holds without some of its paths",
    action: "`janusctl list` says which, and why ([more](#a-path-that-cannot-be-guarded-now))",
  },
  {
    name: "JanusdThreadStuck",
    expr: "janusd_thread_heartbeat_age_seconds > 10",
    for: "1m",
    severity: "critical",
    means: "a native thread stands still",
    action: "`/readyz` says which; look at the node's load, and for a debugger",
  },
  {
    name: "JanusdAnswersLate",
    expr: 'increase(janusd_exposure_total{cause="deadline"}[5m]) > 0',
    severity: "critical",
    means: "answers took too long, and were allow",
    action: "look at the node's load; `janusd_decision_blocked_seconds`",
  },
  {
    name: "JanusdQueueOverflow",
    expr: 'increase(janusd_exposure_total{cause="queue_overflow"}[5m]) > 0',
    severity: "critical",
    means: "the kernel allowed what did not fit",
    action: "memory pressure: a breach, not noise",
  },
  {
    name: "JanusdIdentityLimit",
    expr: 'increase(janusd_exposure_total{cause="identity_limit"}[1h]) > 0',
    severity: "warning",
    means: "a guarded tree has more files than may be pinned; `janusd_share_refused_total` names the container",
    action: "raise `--identity-limit`, or guard less",
  },
  {
    name: "JanusdScansPending",
    expr: "min_over_time(janusd_scans_pending[5m]) > 0",
    severity: "warning",
    means: "guarded trees grow faster than they can be pinned",
    action: "who writes there; guard less",
  },
  {
    name: "JanusdMountChanged",
    expr: 'increase(janusd_exposure_total{cause="mount_changed"}[1h]) > 0',
    severity: "warning",
    means: "somebody mounted over or below a guarded path",
    action: "who can mount there, and why",
  },
  {
    name: "JanusdServedElsewhere",
    expr: 'increase(janusd_exposure_total{cause="served_elsewhere"}[1h]) > 0',
    severity: "warning",
    means: "a FUSE, NFS or similar mount lies below a guarded path, and isn't guarded",
    action: "who mounts there; guard its source on the node instead",
  },
  {
    name: "JanusdCertificateExpires",
    expr: "janusd_tls_certificate_expiry_timestamp_seconds - time() < 7 * 86400",
    severity: "warning",
    means: "the daemon's certificate is not renewed",
    action: "who renews it; the controller can't connect once it is past",
  },
  {
    name: "JanusdClientRefused",
    expr: "increase(janusd_grpc_refused_total[1h]) > 0",
    severity: "info",
    means: "somebody knocks who may not",
    action: "the log has a line with the address and the reason",
  },
  {
    name: "JanusdThreadFailed",
    expr: 'increase(janusd_exposure_total{cause="thread_failed"}[1h]) > 0',
    severity: "warning",
    means: "a thread's round ended with an error, and it went on",
    action: "standard error: a line names the thread and what failed",
  },
  {
    name: "JanusdPathUnresolved",
    expr: 'increase(janusd_exposure_total{cause="unresolved_path"}[1h]) > 0',
    severity: "warning",
    means: "a guarded path changed faster than it could be followed, or can't be followed at all",
    action: "the file system of that path",
  },
  {
    name: "JanusdEventsLost",
    expr: "increase(janusd_events_lost_total[5m]) > 0",
    severity: "warning",
    means: "events are missing from the log; decisions and counters are right",
    action: "the log's reader; `--ring-size`",
  },
  {
    name: "JanusdEbpfMapFull",
    expr: "increase(janusd_ebpf_map_full_total[5m]) > 0",
    severity: "warning",
    means:
      "more processes, containers or pinned inodes than [the machine's size](architecture/holding.md#ebpf-maps) lets us follow",
    action: "`map` says which; `records` repairs itself",
  },
  {
    name: "JanusdStateFileFails",
    expr: "increase(janusd_state_file_errors_total[5m]) > 0",
    severity: "warning",
    means: "a restart would lose guards; `/readyz` says why",
    action: "the disk of `--state-file`",
  },
  {
    name: "JanusdLogFileFails",
    expr: "increase(janusd_log_file_errors_total[5m]) > 0",
    severity: "warning",
    means: "the event log's file can't be written, or opened again; `/readyz` says why",
    action: "the disk and directory of `--log-file`",
  },
  {
    name: "JanusdLogLinesDropped",
    expr: "increase(janusd_log_lines_dropped_total[5m]) > 0",
    severity: "warning",
    means: "the log's reader is slow or gone, or the disk full",
    action: "the log's reader",
  },
];

interface Rule {
  readonly alert: string;
  readonly expr: string;
  readonly for?: string;
  readonly labels: { readonly severity: string };
  readonly annotations: { readonly summary: string; readonly description: string };
}

/** Links become their text. */
const plain = (markdown: string): string => markdown.replaceAll(/ \(\[more\]\([^)]*\)\)|\[([^\]]*)\]\([^)]*\)/g, "$1");

/** As Prometheus reads them. */
export function ruleGroups(): {
  readonly groups: readonly { readonly name: string; readonly rules: readonly Rule[] }[];
} {
  const rules = ALERTS.map((alert) => ({
    alert: alert.name,
    expr: alert.expr,
    ...(alert.for !== undefined && { for: alert.for }),
    labels: { severity: alert.severity },
    annotations: {
      summary: `{{ with $labels.instance }}{{ . }}: {{ end }}${plain(alert.means)}`,
      description: plain(alert.action),
    },
  }));
  return { groups: [{ name: "janusd", rules }] };
}

/** The table of docs/operations.md. */
export function alertsMarkdown(): string {
  const rows = ALERTS.map((alert) => {
    const expr = alert.for === undefined ? `\`${alert.expr}\`` : `\`${alert.expr}\` for ${alert.for}`;
    return `| \`${alert.name}\` | ${expr} | ${alert.means} | ${alert.action} |`;
  });
  return ["| alert | expression | means | do |", "|---|---|---|---|", ...rows].join("\n");
}
