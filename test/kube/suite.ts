/**
 * What `test/kube/run` runs: the scenarios, one after the other, on one cluster.
 *
 *     test/kube/run --only selectors,volumes --image build/image/janusd-0.1.0-amd64.tar
 */
import { parseArgs } from "node:util";
import t from "tap";
import { Cluster } from "./cluster.js";
import { Janusd } from "./janusd.js";
import type { Scenario } from "./scenario.js";
import { containers } from "./scenarios/containers.js";
import { drain } from "./scenarios/drain.js";
import { firstInstruction } from "./scenarios/first-instruction.js";
import { outage } from "./scenarios/outage.js";
import { readme } from "./scenarios/readme.js";
import { rollout } from "./scenarios/rollout.js";
import { selectors } from "./scenarios/selectors.js";
import { startTime } from "./scenarios/start-time.js";
import { uninstall } from "./scenarios/uninstall.js";
import { volumes } from "./scenarios/volumes.js";

/** In this order: the last ends the daemon. */
const scenarios: Readonly<Record<string, Scenario>> = {
  readme,
  selectors,
  containers,
  "first-instruction": firstInstruction,
  "start-time": startTime,
  volumes,
  outage,
  rollout,
  drain,
  uninstall,
};

const { values } = parseArgs({ options: { only: { type: "string" }, image: { type: "string" } } });
const names = values.only?.split(",") ?? Object.keys(scenarios);
for (const name of names)
  if (scenarios[name] === undefined) throw new Error(`no scenario ${name}: ${Object.keys(scenarios).join(", ")}`);

/** Of each part, of which some take longer by their own word. It fails what hangs, it does not measure. */
const timeout = 600_000;
t.setTimeout(0);

let cluster: Cluster | undefined;
let janusd: Janusd | undefined;
t.teardown(() => cluster?.stop());
await t.test("a node is ready", { timeout }, async () => {
  cluster = await Cluster.start();
});
await t.test("janusd is installed", { timeout }, async () => {
  if (cluster !== undefined) janusd = await Janusd.install(cluster, values.image);
});
for (const name of names)
  await t.test(name, { timeout }, async (t) => {
    if (cluster === undefined || janusd === undefined) return t.fail("there is no daemon");
    await scenarios[name]?.(t, cluster, janusd);
  });
