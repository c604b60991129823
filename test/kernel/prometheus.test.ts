/** Debian's Prometheus scrapes a daemon: the dashboard's queries and the alerts are about what is there. */
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import { parse } from "yaml";
import { ruleGroups } from "../../deploy/monitoring/alerts.js";
import { metricsMarkdown } from "../../src/metrics.js";
import { endWith, workspaceDirectory } from "../support/cleanup.js";
import { startContainer } from "../support/container.js";
import { eventually, freePort, startDaemon } from "../support/daemon.js";
import { guardOn } from "../support/guard.js";

const rulesFile = new URL("../../deploy/monitoring/rules.yaml", import.meta.url).pathname;
const dashboardFile = new URL("../../deploy/monitoring/dashboard.json", import.meta.url);

interface Query {
  readonly expr: string;
  readonly legend: string;
}

/** What a document asks Prometheus: `expr` of panels and alerts, and the values of the dashboard's variables. */
function queriesIn(value: unknown): Query[] {
  if (typeof value !== "object" || value === null) return [];
  const inner = Object.values(value).flatMap(queriesIn);
  if ("query" in value && typeof value.query === "string") {
    const [, selector, label] = /^label_values\((.*), (\w+)\)$/.exec(value.query) ?? [];
    return selector === undefined ? inner : [{ expr: `count by (${label}) (${selector})`, legend: "" }, ...inner];
  }
  if (!("expr" in value) || typeof value.expr !== "string") return inner;
  const legend = "legendFormat" in value && typeof value.legendFormat === "string" ? value.legendFormat : "";
  return [{ expr: value.expr, legend }, ...inner];
}

const dashboardQueries = queriesIn(JSON.parse(readFileSync(dashboardFile, "utf8")));
const alertQueries = queriesIn(parse(readFileSync(rulesFile, "utf8")));

interface Exposed {
  /** Labels, by metric. Those of the scrape aren't among them. */
  readonly labels: ReadonlyMap<string, readonly string[]>;
  readonly samples: readonly string[];
}

const list = (text = ""): string[] => text.split(/, ?/).filter((item) => item !== "");

/** Names as the daemon exposes them, labels as its table says: not each has a sample now. */
function exposed(text: string): Exposed {
  const table = new Map(
    [...metricsMarkdown().matchAll(/^\| `(\w+)` \| \w+ \| (.*?) \|/gm)].map(([, name = "", labels]) => [
      name,
      list(labels?.replaceAll("`", "")),
    ]),
  );
  const types = [...text.matchAll(/^# TYPE (\w+) (\w+)$/gm)].map(([, name = "", type = ""]) => ({ name, type }));
  const labels = new Map([
    ["up", []],
    ["ALERTS", ["alertname", "alertstate"]],
    ...types.flatMap(({ name, type }): [string, string[]][] => {
      const own = table.get(name) ?? [];
      if (type !== "histogram") return [[name, own]];
      return [
        [`${name}_bucket`, [...own, "le"]],
        [`${name}_sum`, own],
        [`${name}_count`, own],
      ];
    }),
  ]);
  return { labels, samples: text.split("\n").filter((line) => !line.startsWith("#")) };
}

/** What a query names that isn't there. */
function unknownIn({ expr, legend }: Query, { labels, samples }: Exposed): string[] {
  const unknown: string[] = [];
  const bare = expr.replaceAll(/"[^"]*"/g, "");
  const grouped = [...bare.matchAll(/\bby \(([^)]*)\)/g)].flatMap(([, names]) => list(names));
  const shown = [...legend.matchAll(/\{\{(\w+)\}\}/g)].map(([, name = ""]) => name);
  unknown.push(...shown.filter((name) => !grouped.includes(name)).map((name) => `legend ${name}`));
  for (const [, name = "", , matchers = ""] of expr.matchAll(
    /\b((?:janusd|process|nodejs)_\w+|up|ALERTS)\b(\{([^}]*)\})?/g,
  )) {
    const known = labels.get(name);
    if (known === undefined) {
      unknown.push(name);
      continue;
    }
    const all = [...known, "job", "instance"];
    unknown.push(...grouped.filter((label) => !all.includes(label)).map((label) => `${name} by ${label}`));
    for (const [, label = "", operator, value] of matchers.matchAll(/(\w+)(=~?)"([^"]*)"/g)) {
      if (!all.includes(label)) unknown.push(`${name}{${label}}`);
      const fixed = operator === "=" && name.startsWith("janusd_") && known.includes(label);
      const has = (line: string) => line.startsWith(`${name}{`) && line.includes(`${label}="${value}"`);
      if (fixed && !samples.some(has)) unknown.push(`${name}{${label}="${value}"}`);
    }
  }
  return unknown;
}

interface Prometheus {
  /** What the API answers to a path. Rejects unless that is success. */
  readonly ask: (path: string, parameters?: Readonly<Record<string, string>>) => Promise<unknown>;
}

/** Scrapes that address each second, and judges the alerts as often. Ended in the test's teardown. */
async function startPrometheus(
  target: string,
  t: { teardown(handler: () => Promise<unknown>): unknown },
): Promise<Prometheus> {
  const directory = mkdtempSync(join(workspaceDirectory(), "prometheus-"));
  const config = {
    global: { scrape_interval: "1s", evaluation_interval: "1s" },
    rule_files: [rulesFile],
    scrape_configs: [{ job_name: "janusd", static_configs: [{ targets: [target] }] }],
  };
  writeFileSync(join(directory, "prometheus.yml"), JSON.stringify(config));
  const address = `127.0.0.1:${await freePort()}`;
  const child = spawn(
    "prometheus",
    [
      `--config.file=${directory}/prometheus.yml`,
      `--storage.tsdb.path=${directory}/data`,
      `--web.listen-address=${address}`,
      "--log.level=error",
    ],
    { stdio: ["ignore", "ignore", "inherit"], env: { PATH: process.env["PATH"] } },
  );
  endWith(t, child);
  const get = (path: string) => fetch(`http://${address}${path}`, { headers: { connection: "close" } });
  await eventually("Prometheus is ready", () =>
    get("/-/ready").then(
      ({ ok }) => ok,
      () => false,
    ),
  );
  return {
    ask: async (path, parameters = {}) => {
      const response = await get(`/api/v1/${path}?${new URLSearchParams(parameters)}`);
      const body: unknown = await response.json();
      if (typeof body === "object" && body !== null && "data" in body && response.ok) return body.data;
      throw new Error(`${path} ${JSON.stringify(parameters)}: ${JSON.stringify(body)}`);
    },
  };
}

/** The values of an answer to an instant query. */
function valuesOf(data: unknown): number[] {
  const result = typeof data === "object" && data !== null && "result" in data ? data.result : [];
  if (!Array.isArray(result)) throw new Error(`no vector: ${JSON.stringify(data)}`);
  return result.map(({ value }) => Number(value[1]));
}

/** As Grafana would send it, for everything. */
const filled = (expr: string): string =>
  expr.replaceAll(/\$__(rate_interval|range)/g, "30s").replaceAll(/\$(instance|namespace|guard)/g, ".*");

t.test("Prometheus scrapes the daemon", async (t) => {
  const daemon = await startDaemon({}, t);
  const prometheus = await startPrometheus(daemon.httpAddress, t);
  const container = await startContainer({ files: { "/etc/secret": "", "/etc/public": "" } }, t);
  const actor = await container.actor();
  await daemon.createGuard(
    guardOn(container, { deny: ["/etc/secret"], allow: ["/etc/public"] }, { namespace: "shop" }),
  );
  const ask = async (expr: string) => valuesOf(await prometheus.ask("query", { query: filled(expr) }));
  await eventually("the guard's first scrape, before anybody opens anything", async () => {
    return (await ask('janusd_decisions_total{guard="guard",response="deny"}')).length > 0;
  });
  const denials = 7;
  for (let i = 0; i < denials; i++) await actor.open("/etc/secret");

  t.test("it has what the daemon counts", async (t) => {
    await eventually("all denials are there", async () => {
      const [denied] = await ask(
        'sum(janusd_events_total{job="janusd",namespace="shop",guard="guard",response="deny"})',
      );
      return denied === denials;
    });
    t.same(await ask('up{job="janusd"}'), [1]);
  });

  t.test("the first denials are an increase", async (t) => {
    const [query = { expr: "" }] = dashboardQueries.filter(({ expr }) => expr.includes("[$__range]"));
    const increase = await ask(query.expr);
    t.equal(increase.length, 1);
    t.ok(
      increase.every((value) => value >= denials),
      increase.join(),
    );
  });

  t.test("the dashboard shows it", async (t) => {
    // None of that happens here: no TLS, no alert, nothing exposed, lost or refused.
    const maybe = /^(topk\(10, )?sum by \(\w+(, \w+)?\) \(increase|expiry_timestamp|ALERTS/;
    const queries = dashboardQueries.filter(({ expr }) => !maybe.test(expr));
    t.ok(queries.length > 30);
    let unanswered: readonly string[] = [];
    await eventually("each query has an answer", async () => {
      await actor.open("/etc/secret");
      const answers = await Promise.all(queries.map(async ({ expr }) => ({ expr, values: await ask(expr) })));
      unanswered = answers.filter(({ values }) => values.length === 0).map(({ expr }) => expr);
      return unanswered.length === 0;
    }).catch(() => undefined);
    t.same(unanswered, []);
    for (const { expr } of dashboardQueries) await t.resolves(ask(expr), expr);
  });

  t.test("every alert is judged, and none fires", async (t) => {
    const { groups } = ruleGroups();
    t.equal(groups.flatMap(({ rules }) => rules).length, alertQueries.length);
    const rules = () => prometheus.ask("rules").then((data) => JSON.stringify(data));
    await eventually("all were judged", async () => !(await rules()).includes('"health":"unknown"'));
    t.equal((await rules()).split('"health":"ok"').length - 1, alertQueries.length);
    t.same(await prometheus.ask("query", { query: 'ALERTS{alertstate="firing"}' }), {
      resultType: "vector",
      result: [],
    });
  });

  t.test("every metric, label and value that is asked for is the daemon's", async (t) => {
    const known = exposed(await daemon.metrics());
    t.same(
      [...dashboardQueries, ...alertQueries].flatMap((query) => unknownIn(query, known)),
      [],
    );
    const wrong = (expr: string, legend = "") => unknownIn({ expr, legend }, known);
    t.same(wrong("sum(janusd_gards)"), ["janusd_gards"]);
    t.same(wrong("sum by (node) (janusd_guards)"), ["janusd_guards by node"]);
    t.same(wrong('janusd_guards{guard="a"}'), ["janusd_guards{guard}"]);
    t.same(wrong('increase(janusd_exposure_total{cause="dead"}[5m])'), ['janusd_exposure_total{cause="dead"}']);
    t.same(wrong("sum by (job) (up)", "{{instance}}"), ["legend instance"]);
  });
});
