/** The daemon is rolled out and rolled back while a pod tries to read what it may not. */
import { DENIED, guardManifest } from "../guards.js";
import { secret } from "../images.js";
import type { Scenario } from "../scenario.js";

/** Forever; the kubelet keeps what it writes. */
const load = ["sh", "-c", `while :; do if cat ${secret} 2>/dev/null; then echo READ; else echo denied; fi; done`];

export const rollout: Scenario = async (t, cluster, janusd) => {
  const namespace = "rollout";
  await cluster.namespace(namespace);
  cluster.apply(guardManifest("secrets", { app: "web" }, { namespace }));
  cluster.startPod("web", { namespace, labels: { app: "web" } });
  await janusd.guards(namespace, "secrets", 1);
  cluster.startPod("load", { namespace, labels: { app: "web" }, command: load });
  await janusd.guards(namespace, "secrets", 2);
  const counts = () => {
    const lines = cluster.api.kubectl(["logs", "load", `--namespace=${namespace}`, "--tail=-1"]).split("\n");
    return {
      reads: lines.filter((line) => line === "READ").length,
      denied: lines.filter((line) => line === "denied").length,
    };
  };
  const before = counts();
  const pod = () => janusd.podName();
  const old = pod();

  janusd.helm("upgrade", "podAnnotations.rollout=second");
  janusd.rolledOut();
  const second = pod();
  t.not(second, old, "another pod");
  await janusd.guards(namespace, "secrets", 2);
  t.match(cluster.exec("web", ["cat", secret], { namespace }), { status: 1, stderr: DENIED }, "rolled out");

  janusd.rollback(1);
  janusd.rolledOut();
  t.not(pod(), second, "another pod again");
  await janusd.guards(namespace, "secrets", 2);
  t.match(cluster.exec("web", ["cat", secret], { namespace }), { status: 1, stderr: DENIED }, "rolled back");
  const after = counts();
  t.comment(
    `${after.denied - before.denied} denied, ${after.reads - before.reads} reads while the daemon was replaced twice`,
  );
  t.equal(after.reads, before.reads, "no read came through");
  t.ok(after.denied > before.denied);
  cluster.api.kubectl(["delete", "namespace", namespace, "--wait=false"]);
};
