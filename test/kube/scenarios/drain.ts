/** The node is drained: pods go, the daemon stays; pods that come back are guarded. */
import { DENIED, guardManifest } from "../guards.js";
import { secret } from "../images.js";
import { nodeName } from "../node.js";
import { container } from "../pods.js";
import type { Scenario } from "../scenario.js";

export const drain: Scenario = async (t, cluster, janusd) => {
  const namespace = "drain";
  await cluster.namespace(namespace);
  cluster.apply(guardManifest("secrets", { app: "web" }, { namespace }));
  const labels = { app: "web" };
  cluster.apply({
    ...{ apiVersion: "apps/v1", kind: "Deployment", metadata: { name: "web", namespace } },
    spec: {
      ...{ replicas: 3, selector: { matchLabels: labels } },
      template: {
        metadata: { labels },
        spec: { terminationGracePeriodSeconds: 0, containers: [container("main")] },
      },
    },
  });
  const kubectl = (...args: string[]) => cluster.api.kubectl(args);
  await janusd.guards(namespace, "secrets", 3);
  const daemon = janusd.podName();
  kubectl("drain", nodeName, "--ignore-daemonsets", "--force", "--delete-emptydir-data", "--timeout=120s");
  await janusd.guards(namespace, "secrets", 0);
  t.equal(janusd.podName(), daemon, "the daemon stays");
  kubectl("uncordon", nodeName);
  await janusd.guards(namespace, "secrets", 3);
  const read = () =>
    cluster.api.tryKubectl(["exec", `--namespace=${namespace}`, "deployment/web", "--", "cat", secret]);
  t.match(read(), { status: 1, stderr: DENIED }, "pods are back, guarded");
  kubectl("delete", "namespace", namespace, "--wait=false");
};
