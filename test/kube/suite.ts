/**
 * What `test/kube/run` runs: the scenarios, one after the other, on one cluster.
 *
 *     test/kube/run --only selectors,volumes
 */
import { parseArgs } from "node:util";
import t from "tap";
import { Cluster } from "./cluster.js";
import type { Scenario } from "./scenario.js";
import { byHand } from "./scenarios/by-hand.js";

/** In this order. */
const scenarios: Readonly<Record<string, Scenario>> = { "by-hand": byHand };

const { values } = parseArgs({ options: { only: { type: "string" } } });
const names = values.only?.split(",") ?? Object.keys(scenarios);

const cluster = await Cluster.start();
t.teardown(() => cluster.stop());
for (const name of names) {
  const scenario = scenarios[name];
  if (scenario === undefined) throw new Error(`no scenario ${name}: ${Object.keys(scenarios).join(", ")}`);
  await t.test(name, { bail: false, timeout: 300_000 }, (t) => scenario(t, cluster));
}
