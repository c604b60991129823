/** The API server is away for a minute: guards stay, also on a container that the kubelet starts meanwhile. */
import { setTimeout as sleep } from "node:timers/promises";
import { DENIED, guardManifest } from "../guards.js";
import { secret } from "../images.js";
import type { Scenario } from "../scenario.js";

const OUTAGE_MS = 60_000;

export const outage: Scenario = async (t, cluster, janusd) => {
  const namespace = "outage";
  await cluster.namespace(namespace);
  cluster.apply(guardManifest("secrets", { app: "web" }, { namespace }));
  for (const name of ["web", "restarts"]) cluster.startPod(name, { namespace, labels: { app: "web" } });
  await janusd.guards(namespace, "secrets", 2);
  const id = (name: string) => cluster.get("pod", name, ".status.containerStatuses[0].containerID", namespace);
  const [web, restarts] = [id("web"), id("restarts")];
  const uid = cluster.get("pod", "restarts", ".metadata.uid", namespace);

  await cluster.api.stopServer();
  const back = performance.now() + OUTAGE_MS;
  const denied = { status: 1, stderr: DENIED };
  t.match(cluster.containerd.exec(web, ["cat", secret]), denied, "right after it went");
  cluster.containerd.kill(restarts);
  const started = () => cluster.containerd.containersOf(uid).find((container) => !restarts.endsWith(container));
  await janusd.until("the kubelet starts it anew", () => started() !== undefined);
  const anew = started() ?? "";
  t.match(cluster.containerd.exec(anew, ["cat", secret]), denied, "a container that was started meanwhile");
  await sleep(back - performance.now());
  t.match(cluster.containerd.exec(web, ["cat", secret]), denied, "a minute later");
  t.match(cluster.containerd.exec(anew, ["cat", secret]), denied, "and the newer one");

  await cluster.api.startServer();
  // Whatever is asked of the kubelet needs the node's heartbeat first.
  await janusd.until("exec works", () => cluster.exec("web", ["true"], { namespace }).status === 0);
  t.match(cluster.exec("web", ["cat", secret], { namespace }), denied, "and when it is back");
  cluster.api.kubectl(["delete", "janusguard", "secrets", `--namespace=${namespace}`]);
  await janusd.guards(namespace, "secrets", 0);
  t.match(cluster.exec("web", ["cat", secret], { namespace }), { status: 0 }, "it is listened to again");
  cluster.api.kubectl(["delete", "namespace", namespace, "--wait=false"]);
};
