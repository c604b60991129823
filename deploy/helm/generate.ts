/** Writes what of the chart comes from values.ts, the alerts and the dashboard. Part of `make docs`. */
import { mkdirSync, writeFileSync } from "node:fs";
import { Document, type Pair, type Scalar, stringify } from "yaml";
import { ruleGroups } from "../monitoring/alerts.ts";
import { dashboard } from "../monitoring/dashboard.ts";
import { type Group, type Json, VALUES, type Value, type Values } from "./values.ts";

const isGroup = (one: Value | Group): one is Group => "values" in one;

function defaults(values: Values): Json {
  return Object.fromEntries(
    Object.entries(values).map(([name, one]) => [name, isGroup(one) ? defaults(one.values) : one.default]),
  );
}

function schema(values: Values, description = ""): Json {
  const properties = Object.entries(values).map(([name, one]): [string, Json] => [
    name,
    isGroup(one)
      ? schema(one.values, one.text)
      : { ...(one.text === "" ? {} : { description: one.text }), ...one.schema },
  ]);
  return {
    ...(description === "" ? {} : { description }),
    type: "object",
    // A misspelt value is refused, and not ignored.
    additionalProperties: false,
    properties: Object.fromEntries(properties),
  };
}

/** Lines of at most `width` characters. */
function wrap(text: string, width: number): string {
  const lines: string[] = [""];
  for (const word of text.split(" ")) {
    const line = lines.at(-1) ?? "";
    if (line.length + word.length + 1 > width) lines.push(` ${word}`);
    else lines[lines.length - 1] = `${line} ${word}`;
  }
  return lines.join("\n");
}

function valuesYaml(): string {
  const document = new Document(defaults(VALUES));
  const comment = (values: Values, path: readonly string[]): void => {
    for (const [name, one] of Object.entries(values)) {
      const at = [...path, name];
      const parent = path.length === 0 ? document.contents : document.getIn(path, true);
      const pair = pairOf(parent, name);
      if (pair !== undefined && one.text !== "") pair.key.commentBefore = wrap(one.text, 98 - 2 * path.length);
      if (pair !== undefined && path.length === 0) pair.key.spaceBefore = true;
      if (isGroup(one)) comment(one.values, at);
    }
  };
  comment(VALUES, []);
  return `# Generated from deploy/helm/values.ts by \`make docs\`: edit that. Users give values of their own.\n${document.toString({ lineWidth: 0 })}`;
}

function pairOf(map: unknown, name: string): Pair<Scalar, unknown> | undefined {
  const items = typeof map === "object" && map !== null && "items" in map ? map.items : [];
  const pairs = Array.isArray(items) ? (items as readonly Pair<Scalar, unknown>[]) : [];
  return pairs.find(({ key }) => key.value === name);
}

function rows(values: Values, path = ""): string[] {
  return Object.entries(values).flatMap(([name, one]) => {
    const at = `${path}${name}`;
    if (isGroup(one)) return rows(one.values, `${at}.`);
    const choice = one.schema["enum"];
    const among = Array.isArray(choice) ? ` One of ${choice.map((each) => `\`${each}\``).join(", ")}.` : "";
    const text = `${one.text}${among}`.trim().replaceAll("|", "\\|");
    return [`| \`${at}\` | \`${JSON.stringify(one.default)}\` | ${text} |`];
  });
}

const README = `<!-- Generated from deploy/helm/values.ts by \`make docs\`. Do not edit. -->
# Helm chart of janusd

Installs the daemon on every Linux node, and the resources that it is driven by:

    helm install janusd deploy/helm/janusd --namespace janus --create-namespace
    kubectl label namespace janus pod-security.kubernetes.io/enforce=privileged

One release a cluster. The names are fixed: controllers find the daemons by the label \`daemon: janusd\`
and the service \`janusd-svc\`. Installing, upgrading and removing: [docs/kubernetes-install.md](../../../docs/kubernetes-install.md).

## Values

A value that is misspelt or of the wrong kind is refused (\`values.schema.json\`).

| value | default | |
|---|---|---|
${rows(VALUES).join("\n")}
`;

const chart = new URL("janusd/", import.meta.url);
const write = (name: string, text: string): void => writeFileSync(new URL(name, chart), text);

mkdirSync(new URL("files/", chart), { recursive: true });
write("values.yaml", valuesYaml());
const whole = { $schema: "http://json-schema.org/draft-07/schema#", title: "Values of the janusd chart" };
const root = schema({ ...VALUES, global: { text: "Helm's own.", default: {}, schema: { type: "object" } } });
write("values.schema.json", `${JSON.stringify({ ...whole, ...Object(root) }, undefined, 2)}\n`);
write("README.md", README);
write("files/alerts.yaml", stringify(ruleGroups(), { lineWidth: 0 }));
write("files/dashboard.json", `${JSON.stringify(dashboard(), undefined, 2)}\n`);
