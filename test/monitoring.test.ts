/** The alerts fire when they should, and not otherwise; what is generated is what the sources say. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import { isMap, parse, parseAllDocuments } from "yaml";
import { ALERTS, alertsMarkdown, ruleGroups } from "../deploy/monitoring/alerts.js";
import { dashboard } from "../deploy/monitoring/dashboard.js";
import { workspaceDirectory } from "./support/cleanup.js";

const deployed = (name: string): string =>
  readFileSync(new URL(`../deploy/monitoring/${name}`, import.meta.url), "utf8");

/** Series of `promtool test rules`, one value a minute for half an hour: `up` is 1 in each unless it is said. */
type Series = Readonly<Record<string, string>>;

interface Trial {
  readonly fires: Series;
  /** As near to that as it can be. */
  readonly quiet: Series;
}

const up = 'up{job="janusd",instance="n1"}';
const on = (metric: string, labels = ""): string => `${metric}{${labels}job="janusd",instance="n1"}`;
const exposure = (cause: string): string => on("janusd_exposure_total", `cause="${cause}",`);

/** A counter that moves once, late, and one that has moved long ago. */
const moves = (series: string): Trial => ({ fires: { [series]: "5x28 6x2" }, quiet: { [series]: "5x30" } });
/** A gauge that doesn't come back to 0, and one that always does. */
const stays = (series: string): Trial => ({
  fires: { [series]: "0x20 1x10" },
  quiet: { [series]: `${"1 0 ".repeat(15)}1` },
});

const TRIALS: Readonly<Record<string, Trial>> = {
  JanusdDown: { fires: { [up]: "1x20 0x10" }, quiet: { [up]: "1x28 0x2" } },
  JanusdAbsent: { fires: { [up]: "1x10 _x20" }, quiet: { [up]: "_x20 1x10" } },
  JanusdNotProven: {
    fires: { [on("janusd_canary_seconds_count")]: "0+30x10 300x20" },
    quiet: { [on("janusd_canary_seconds_count")]: "0+1x30" },
  },
  JanusdGuardsPending: stays(on("janusd_guards_pending")),
  JanusdPathsUnguarded: stays(on("janusd_paths_unguarded")),
  JanusdThreadStuck: {
    fires: { [on("janusd_thread_heartbeat_age_seconds", 'thread="gate",')]: "0.2x26 20 80 140 200" },
    quiet: { [on("janusd_thread_heartbeat_age_seconds", 'thread="gate",')]: "9.9x30" },
  },
  JanusdAnswersLate: moves(exposure("deadline")),
  JanusdQueueOverflow: moves(exposure("queue_overflow")),
  JanusdIdentityLimit: moves(exposure("identity_limit")),
  JanusdScansPending: stays(on("janusd_scans_pending")),
  JanusdMountChanged: moves(exposure("mount_changed")),
  JanusdServedElsewhere: moves(exposure("served_elsewhere")),
  JanusdCertificateExpires: {
    fires: { [on("janusd_tls_certificate_expiry_timestamp_seconds")]: `${7 * 86400}x30` },
    quiet: { [on("janusd_tls_certificate_expiry_timestamp_seconds")]: `${8 * 86400}x30` },
  },
  JanusdClientRefused: moves(on("janusd_grpc_refused_total", 'reason="plaintext",')),
  JanusdThreadFailed: moves(exposure("thread_failed")),
  JanusdPathUnresolved: moves(exposure("unresolved_path")),
  JanusdEventsLost: moves(on("janusd_events_lost_total", 'cause="ring_full",')),
  JanusdEbpfMapFull: moves(on("janusd_ebpf_map_full_total", 'map="tasks",')),
  JanusdStateFileFails: moves(on("janusd_state_file_errors_total")),
  JanusdLogFileFails: moves(on("janusd_log_file_errors_total")),
  JanusdLogLinesDropped: moves(on("janusd_log_lines_dropped_total", 'reason="queue_full",')),
};

/** What `promtool test rules` says about the rules as they are deployed; "" if all of it holds. */
function promtool(tests: readonly object[]): string {
  const directory = mkdtempSync(join(workspaceDirectory(), "rules-"));
  writeFileSync(join(directory, "rules.yaml"), deployed("rules.yaml"));
  writeFileSync(
    join(directory, "test.yaml"),
    JSON.stringify({ rule_files: ["rules.yaml"], evaluation_interval: "1m", tests }),
  );
  const { status, stdout, stderr, error } = spawnSync("promtool", ["test", "rules", join(directory, "test.yaml")], {
    encoding: "utf8",
  });
  if (error !== undefined) throw error;
  return status === 0 ? "" : stdout + stderr;
}

/** At the end of half an hour exactly these alerts fire. */
function trial(name: string, series: Series, firing: readonly string[]) {
  return {
    name,
    interval: "1m",
    input_series: Object.entries({ [up]: "1x30", ...series }).map(([series, values]) => ({ series, values })),
    promql_expr_test: [
      {
        expr: 'count by (alertname, instance) (ALERTS{alertstate="firing"})',
        eval_time: "30m",
        exp_samples: firing.map((alertname) => ({
          labels:
            alertname === "JanusdAbsent" ? `{alertname="${alertname}"}` : `{alertname="${alertname}",instance="n1"}`,
          value: 1,
        })),
      },
    ],
  };
}

t.test("each alert fires, and it alone", async (t) => {
  t.same(
    Object.keys(TRIALS),
    ALERTS.map(({ name }) => name),
    "each has its trial",
  );
  t.equal(promtool(Object.entries(TRIALS).map(([name, { fires }]) => trial(name, fires, [name]))), "");
});

t.test("each alert stays quiet", async (t) => {
  t.equal(promtool(Object.entries(TRIALS).map(([name, { quiet }]) => trial(name, quiet, []))), "");
});

t.test("what a growing volume and a rotated secret count is no alert", async (t) => {
  const ordinary = { [exposure("scan_pending")]: "0+10x30", [exposure("path_changed")]: "0+10x30" };
  t.equal(promtool([trial("ordinary", ordinary, [])]), "");
});

t.test("a trial that doesn't hold fails", async (t) => {
  t.match(promtool([trial("wrong", {}, ["JanusdDown"])]), /wrong|JanusdDown/);
});

t.test("an alert says where, what it means, and what to do, in plain text", async (t) => {
  const expected = (summary: string, description: string) => ({
    exp_annotations: { summary, description },
  });
  const { input_series } = trial("", TRIALS["JanusdAnswersLate"]?.fires ?? {}, []);
  t.equal(
    promtool([
      {
        interval: "1m",
        input_series,
        alert_rule_test: [
          {
            eval_time: "30m",
            alertname: "JanusdAnswersLate",
            exp_alerts: [
              {
                exp_labels: { severity: "critical", cause: "deadline", job: "janusd", instance: "n1" },
                ...expected(
                  "n1: answers took too long, and were allow",
                  "look at the node's load; `janusd_decision_blocked_seconds`",
                ),
              },
            ],
          },
        ],
      },
      {
        interval: "1m",
        input_series: [],
        alert_rule_test: [
          {
            eval_time: "30m",
            alertname: "JanusdAbsent",
            exp_alerts: [
              {
                exp_labels: { severity: "critical", job: "janusd" },
                ...expected(
                  "Prometheus knows no daemon at all",
                  "is the DaemonSet there, and do the scrape configuration's `job` and labels fit?",
                ),
              },
            ],
          },
        ],
      },
    ]),
    "",
  );
  t.notMatch(deployed("rules.yaml"), /\]\(/, "no links");
});

t.test("what is deployed is what the sources say", async (t) => {
  t.same(JSON.parse(deployed("dashboard.json")), JSON.parse(JSON.stringify(dashboard())));
  t.same(parse(deployed("rules.yaml")), ruleGroups());
  const [monitor, rule] = [...parseAllDocuments(deployed("operator.yaml"))].filter((document) =>
    isMap(document.contents),
  );
  t.same(rule?.toJS().spec, ruleGroups());
  t.equal(monitor?.getIn(["spec", "podMetricsEndpoints", 0, "port"]), "http");
  const daemonSet = readFileSync(new URL("../deploy/janusd.yaml", import.meta.url), "utf8");
  t.match(daemonSet, /- name: http\n/);
  t.match(daemonSet, /daemon: janusd/);
  const operations = readFileSync(new URL("../docs/operations.md", import.meta.url), "utf8");
  t.ok(operations.includes(alertsMarkdown()));
});

t.test("no panel lies on another, and each has a title and an id of its own", async (t) => {
  const { panels = [] } = dashboard();
  const titles = panels.map(({ title }) => title);
  t.same([...new Set(titles)], titles);
  t.equal(new Set(panels.map(({ id }) => id)).size, panels.length);
  const places = panels.flatMap(({ gridPos }) => gridPos ?? []);
  t.equal(places.length, panels.length);
  const cells = places.flatMap(({ x, y, w, h }) =>
    Array.from({ length: w * h }, (_, at) => `${x + (at % w)},${y + Math.floor(at / w)}`),
  );
  t.equal(new Set(cells).size, cells.length);
  t.ok(places.every(({ x, w }) => x + w <= 24));
});
