/** README.md, In Kubernetes: its guard, and each command that it shows with what it prints. */
import { readFileSync } from "node:fs";
import { parse } from "yaml";
import type { Scenario } from "../scenario.js";

const [, section = ""] = readFileSync(new URL("../../../README.md", import.meta.url), "utf8").split(
  "## In Kubernetes\n",
);

/** The lines after each `$ kubectl`, by what stands there. */
const shown = [...section.matchAll(/^ {4}\$ kubectl (.*)\n((?: {4}(?!\$).*\n)*)/gm)].map(
  ([, command = "", output = ""]) => ({
    command,
    output,
  }),
);

/** Ages and the width of columns are each time's own. */
const shape = (output: string): string[] =>
  output
    .trim()
    .split("\n")
    .map((line) =>
      line
        .trim()
        .replace(/\b\d+[smh]\b/g, "AGE")
        .replace(/ +/g, " "),
    );

export const readme: Scenario = async (t, cluster, janusd) => {
  const [, guard = ""] = /^```yaml\n(.*?)^```$/ms.exec(section) ?? [];
  const namespace = "shop";
  await cluster.namespace(namespace);
  cluster.startPod("cart-1", { namespace, labels: { app: "cart" } });
  cluster.apply(parse(guard));
  await janusd.until("the guard is ready", () => {
    const ready = '.status.conditions[?(@.type=="Ready")].status';
    return cluster.get("jg", "secrets", ready, namespace) === "True";
  });
  t.not(shown.length, 0);
  for (const { command, output } of shown) {
    const run = () => {
      const { stdout, stderr } = cluster.api.tryKubectl(command.split(" "));
      return shape(stdout + stderr);
    };
    // What was denied is told a moment later.
    await janusd.until(command, () => run().length >= shape(output).length);
    t.same(run(), shape(output), command);
  }
  cluster.api.kubectl(["delete", "namespace", namespace, "--wait=false"]);
};
