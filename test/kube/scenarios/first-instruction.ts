/** Containers whose first act is to read what is denied: init containers, one after the other, and one-shot pods. */
import { guardManifest } from "../guards.js";
import { firstProgram, secret } from "../images.js";
import { container, podManifest } from "../pods.js";
import type { Scenario } from "../scenario.js";

const PODS = Number(process.env["KUBE_FIRST_PODS"] ?? 10);
/** Of each pod. */
const CONTAINERS = 10;
/** It fails what hangs, it does not measure. */
const POD_MS = 60_000;

export const firstInstruction: Scenario = async (t, cluster, janusd) => {
  const namespace = "first";
  t.setTimeout(PODS * POD_MS);
  await cluster.namespace(namespace);
  cluster.apply(guardManifest("secrets", { app: "job" }, { namespace }));
  const command = [firstProgram, secret];
  const names = Array.from({ length: PODS }, (_, index) => `job-${index}`);
  const init = Array.from({ length: CONTAINERS - 1 }, (_, index) => container(`init-${index}`, command));
  const spec = { restartPolicy: "Never", initContainers: init };
  const counts = new Map<string, number>();
  for (const name of names) {
    cluster.apply(podManifest(name, { namespace, labels: { app: "job" }, command, spec }));
    await janusd.until(`${name} is done`, () => cluster.get("pod", name, ".status.phase", namespace) === "Succeeded");
    const output = cluster.api.kubectl(["logs", name, "--all-containers", `--namespace=${namespace}`]);
    for (const line of output.trim().split("\n")) counts.set(line, (counts.get(line) ?? 0) + 1);
  }
  t.comment(`${PODS * CONTAINERS} containers: ${JSON.stringify(Object.fromEntries(counts))}`);
  t.same(Object.fromEntries(counts), { "Operation not permitted": PODS * CONTAINERS });
  cluster.api.kubectl(["delete", "namespace", namespace, "--wait=false"]);
};
