/** Writes what is generated here, and the table of alerts in docs/operations.md. Part of `make docs`. */
import { readFileSync, writeFileSync } from "node:fs";
import { stringify } from "yaml";
import { alertsMarkdown, ruleGroups } from "./alerts.ts";
import { dashboard } from "./dashboard.ts";

const HEADER = "# Generated from deploy/monitoring/alerts.ts by `make docs`. Do not edit.\n";

/** For the Prometheus Operator. */
const podMonitor = {
  apiVersion: "monitoring.coreos.com/v1",
  kind: "PodMonitor",
  metadata: { name: "janusd", namespace: "janus", labels: { daemon: "janusd" } },
  spec: {
    selector: { matchLabels: { daemon: "janusd" } },
    // The value of this label, "janusd", becomes `job`.
    jobLabel: "daemon",
    podMetricsEndpoints: [
      {
        port: "http",
        // `namespace` and `container` of a sample are the guard's, not the daemon's.
        honorLabels: true,
        relabelings: [{ sourceLabels: ["__meta_kubernetes_pod_node_name"], targetLabel: "instance" }],
      },
    ],
  },
};

const prometheusRule = {
  apiVersion: "monitoring.coreos.com/v1",
  kind: "PrometheusRule",
  metadata: { name: "janusd", namespace: "janus", labels: { daemon: "janusd" } },
  spec: ruleGroups(),
};

const yaml = (value: object): string => stringify(value, { lineWidth: 0 });

function write(name: string, text: string): void {
  writeFileSync(new URL(name, import.meta.url), text);
}

write("dashboard.json", `${JSON.stringify(dashboard(), undefined, 2)}\n`);
write("rules.yaml", HEADER + yaml(ruleGroups()));
write("operator.yaml", `${HEADER}${yaml(podMonitor)}---\n${yaml(prometheusRule)}`);

const operations = new URL("../../docs/operations.md", import.meta.url);
const text = readFileSync(operations, "utf8");
const [begin, end] = [
  "<!-- alerts: generated from deploy/monitoring/alerts.ts by `make docs` -->\n",
  "\n<!-- /alerts -->",
];
const [from, to] = [text.indexOf(begin), text.indexOf(end)];
if (from === -1 || to < from) throw new Error("docs/operations.md has no place for the table of alerts");
writeFileSync(operations, text.slice(0, from + begin.length) + alertsMarkdown() + text.slice(to));
