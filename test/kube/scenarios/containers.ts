/** Init, sidecar, ordinary and ephemeral containers; `kubectl cp`; containers that are restarted, and that crash. */
import { existsSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { DENIED, guardManifest } from "../guards.js";
import { appImage, firstProgram, secret } from "../images.js";
import { container, podManifest } from "../pods.js";
import type { Scenario } from "../scenario.js";

export const containers: Scenario = async (t, cluster, janusd) => {
  const namespace = "containers";
  const kubectl = (...args: string[]) => cluster.api.kubectl([`--namespace=${namespace}`, ...args]);
  const tryKubectl = (...args: string[]) => cluster.api.tryKubectl([`--namespace=${namespace}`, ...args]);
  const denied = { status: 1, stderr: DENIED };
  await cluster.namespace(namespace);
  cluster.apply(guardManifest("secrets", { app: "web" }, { namespace }));

  const labels = { app: "web" };
  const first = [firstProgram, secret];
  cluster.startPod("web", {
    namespace,
    labels,
    spec: {
      initContainers: [container("init", first), container("sidecar", undefined, { restartPolicy: "Always" })],
    },
  });
  await janusd.guards(namespace, "secrets", 2);
  t.equal(kubectl("logs", "web", "--container=init"), "Operation not permitted\n", "an init container's first open");
  for (const name of ["main", "sidecar"])
    t.match(cluster.exec("web", ["cat", secret], { namespace, container: name }), denied, `container ${name}`);

  kubectl(
    "debug",
    "web",
    `--image=${appImage}`,
    "--image-pull-policy=Never",
    "--container=debugger",
    "--",
    "sleep",
    "1000",
  );
  await janusd.guards(namespace, "secrets", 3);
  t.match(cluster.exec("web", ["cat", secret], { namespace, container: "debugger" }), denied, "kubectl debug");

  const copy = (path: string) => {
    const file = join(cluster.directory, "copied");
    rmSync(file, { force: true });
    tryKubectl("cp", `web:${path}`, file, "--container=main");
    return existsSync(file) ? readFileSync(file, "utf8") : "nothing";
  };
  t.equal(copy(secret), "nothing", "kubectl cp of a denied file");
  t.equal(copy("/etc/app/open"), "open\n", "kubectl cp of another one");

  // The first process ends: the kubelet starts the container anew.
  const id = () => cluster.get("pod", "web", ".status.containerStatuses[0].containerID", namespace);
  const before = id();
  cluster.containerd.kill(before);
  await janusd.until(
    "it was restarted",
    () => id() !== before && cluster.exec("web", ["true"], { namespace }).status === 0,
  );
  t.match(cluster.exec("web", ["cat", secret], { namespace }), denied, "restarted");

  const volume = "out";
  cluster.apply(
    podManifest("crashes", {
      ...{ namespace, labels, command: [...first, `/${volume}/log`] },
      container: { volumeMounts: [{ name: volume, mountPath: `/${volume}` }] },
      spec: { volumes: [{ name: volume, emptyDir: {} }] },
    }),
    podManifest("finishes", { namespace, labels, command: first, spec: { restartPolicy: "Never" } }),
  );
  const restarts = () => Number(cluster.get("pod", "crashes", ".status.containerStatuses[0].restartCount", namespace));
  await janusd.until("it crashed three times", () => restarts() >= 3);
  const uid = cluster.get("pod", "crashes", ".metadata.uid", namespace);
  const outcomes = readFileSync(join(cluster.volume(uid, "empty-dir", volume), "log"), "utf8")
    .trim()
    .split("\n");
  t.same([...new Set(outcomes)], ["Operation not permitted"], `a crash loop, ${outcomes.length} times`);
  const phase = () => cluster.get("pod", "finishes", ".status.phase", namespace);
  await janusd.until("the one-shot pod is done", () => phase() === "Succeeded");
  t.equal(kubectl("logs", "finishes"), "Operation not permitted\n", "a one-shot pod");

  // The same name, another pod.
  kubectl("delete", "pod", "web", "crashes", "finishes");
  await janusd.guards(namespace, "secrets", 0);
  cluster.startPod("web", { namespace, labels });
  t.match(cluster.exec("web", ["cat", secret], { namespace }), denied, "deleted, and made again");
  kubectl("delete", "namespace", namespace, "--wait=false");
};
