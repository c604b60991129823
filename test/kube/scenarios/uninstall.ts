/** `helm uninstall`: nothing is denied any more; the resources stay, as documented. */
import { existsSync } from "node:fs";
import { DENIED, guardManifest } from "../guards.js";
import { secret } from "../images.js";
import { namespace as janus } from "../janusd.js";
import type { Scenario } from "../scenario.js";

export const uninstall: Scenario = async (t, cluster, janusd) => {
  const namespace = "uninstall";
  await cluster.namespace(namespace);
  cluster.apply(guardManifest("secrets", { app: "web" }, { namespace }));
  cluster.startPod("web", { namespace, labels: { app: "web" } });
  await janusd.guards(namespace, "secrets", 1);
  const read = () => cluster.exec("web", ["cat", secret], { namespace });
  t.match(read(), { status: 1, stderr: DENIED });

  janusd.uninstall();
  await janusd.until("its pod is gone", () => cluster.api.kubectl(["get", "pods", `--namespace=${janus}`]) === "");
  t.match(read(), { status: 0, stdout: "s3cret\n" }, "nothing is denied");
  t.ok(cluster.has("janusguard", "secrets", namespace), "the guard's resource stays");
  const left = ["serviceaccount", "daemonset", "clusterrole", "clusterrolebinding", "priorityclass"];
  for (const kind of left) t.notOk(cluster.has(kind, "janusd", janus), `no ${kind} stays`);
  t.ok(existsSync("/var/lib/janusd"), "the node's state directory stays, as documented");
};
