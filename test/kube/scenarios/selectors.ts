/** Who is guarded: labels of pods and namespaces, and the guard itself, change. */
import { clusterGuardManifest, DENIED, guardManifest } from "../guards.js";
import { secret } from "../images.js";
import type { Scenario } from "../scenario.js";

const open = "/etc/app/open";

export const selectors: Scenario = async (t, cluster, janusd) => {
  const namespace = "selectors";
  const kubectl = (...args: string[]) => cluster.api.kubectl([`--namespace=${namespace}`, ...args]);
  const read = (pod: string, path: string = secret) => cluster.exec(pod, ["cat", path], { namespace });
  const denied = { status: 1, stderr: DENIED };
  await cluster.namespace(namespace);
  cluster.startPod("web", { namespace, labels: { app: "web" } });
  cluster.startPod("other", { namespace, labels: { app: "other" } });
  t.match(read("web"), { status: 0, stdout: "s3cret\n" }, "nothing is guarded yet");

  cluster.apply(guardManifest("secrets", { app: "web" }, { namespace }));
  await janusd.guards(namespace, "secrets", 1);
  t.match(read("web"), denied, "kubectl exec in a selected pod");
  t.match(read("web", open), { status: 0 }, "another file of it");
  t.match(read("other"), { status: 0 }, "a pod that isn't selected");
  t.match(janusd.log(), new RegExp(`<DENY> OPEN_PERM file '${secret}' \\(web:`), "the event log");

  kubectl("label", "pod", "other", "app=web", "--overwrite");
  await janusd.guards(namespace, "secrets", 2);
  t.match(read("other"), denied, "its label was changed to the guard's");
  kubectl("label", "pod", "other", "app=other", "--overwrite");
  await janusd.guards(namespace, "secrets", 1);
  t.match(read("other"), { status: 0 }, "and back");

  cluster.apply(guardManifest("secrets", { app: "web" }, { namespace, deny: [open] }));
  await janusd.until("the edited guard", () => read("web", open).status === 1);
  t.match(read("web"), { status: 0 }, "edited: it denies another path");

  const broken = guardManifest("secrets", { app: "web" }, { namespace, deny: ["relative/path"] });
  t.match(
    cluster.tryApply(broken),
    { status: 1, stderr: /spec\.subjects\[0\]\.deny/ },
    "broken: refused, with the field",
  );
  t.match(read("web", open), denied, "the last good version stays");

  cluster.apply(guardManifest("secrets", { app: "web" }, { namespace }));
  await janusd.until("the mended guard", () => read("web").status === 1);
  t.match(read("web", open), { status: 0 }, "mended");

  kubectl("delete", "janusguard", "secrets");
  await janusd.guards(namespace, "secrets", 0);
  t.match(read("web"), { status: 0 }, "deleted");

  cluster.apply(clusterGuardManifest("tier", { tier: "shop" }, { app: "web" }));
  await janusd.until("the cluster guard is known", () => cluster.has("clusterjanusguard", "tier"));
  t.match(read("web"), { status: 0 }, "a cluster guard of other namespaces");
  cluster.api.kubectl(["label", "namespace", namespace, "tier=shop"]);
  await janusd.until("the namespace is selected", () => read("web").status === 1);
  t.match(read("other"), { status: 0 }, "and only the pods that it selects");
  cluster.api.kubectl(["label", "namespace", namespace, "tier-"]);
  await janusd.until("the namespace is not selected any more", () => read("web").status === 0);
  cluster.api.kubectl(["delete", "clusterjanusguard", "tier"]);
  cluster.api.kubectl(["delete", "namespace", namespace, "--wait=false"]);
};
