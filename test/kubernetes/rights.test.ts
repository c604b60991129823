/** What the daemon asks of the API server is what docs/kubernetes.md says, and a role with just that is enough. */
import { readFileSync } from "node:fs";
import t from "tap";
import { eventually, startDaemon } from "../support/daemon.js";
import { installCrds, kubeSkip, startKubeApi } from "../support/kube-api.js";
import { apply, guardResource, isDenied, NODE, startPod } from "../support/pod.js";

interface Rule {
  readonly apiGroups: readonly string[];
  readonly resources: readonly string[];
  readonly verbs: readonly string[];
}

const GROUP = "januscontroller.clustergarage.io";
const CLUSTER: readonly Rule[] = [
  { apiGroups: [GROUP], resources: ["janusguards", "clusterjanusguards"], verbs: ["list", "watch"] },
  { apiGroups: [GROUP], resources: ["janusguards/status", "clusterjanusguards/status"], verbs: ["patch"] },
  { apiGroups: [GROUP], resources: ["janusnodes"], verbs: ["create", "list", "watch"] },
  { apiGroups: [GROUP], resources: ["janusnodes/status"], verbs: ["patch"] },
  { apiGroups: [""], resources: ["pods", "namespaces"], verbs: ["list", "watch"] },
  { apiGroups: [""], resources: ["nodes"], verbs: ["get"] },
  { apiGroups: [""], resources: ["events"], verbs: ["create", "patch"] },
];
const NAMESPACE: readonly Rule[] = [
  { apiGroups: ["coordination.k8s.io"], resources: ["leases"], verbs: ["get", "create", "update"] },
];

const asked = (rules: readonly Rule[]): string[] =>
  rules
    .flatMap(({ resources, verbs }) => resources.flatMap((resource) => verbs.map((verb) => `${verb} ${resource}`)))
    .sort();

t.setTimeout(600_000); // of all, on a busy machine

t.test("rights", { skip: kubeSkip("kube-apiserver") }, async (t) => {
  const api = await startKubeApi(t);
  await installCrds(api);
  const about = { apiVersion: "rbac.authorization.k8s.io/v1", metadata: { name: "janusd", namespace: "default" } };
  const roleRef = (kind: string) => ({ apiGroup: "rbac.authorization.k8s.io", kind, name: "janusd" });
  const subjects = [{ kind: "ServiceAccount", name: "janusd", namespace: "default" }];
  for (const object of [
    { apiVersion: "v1", kind: "Node", metadata: { name: NODE } },
    { apiVersion: "v1", kind: "ServiceAccount", metadata: { name: "janusd" } },
    { ...about, kind: "ClusterRole", rules: CLUSTER },
    { ...about, kind: "Role", rules: NAMESPACE },
    { ...about, kind: "ClusterRoleBinding", roleRef: roleRef("ClusterRole"), subjects },
    { ...about, kind: "RoleBinding", roleRef: roleRef("Role"), subjects },
  ]) {
    api.kubectl(["create", "--filename=-"], JSON.stringify(object));
  }
  const pod = await startPod(api, { name: "web", labels: { app: "web" } }, t);
  apply(
    api,
    guardResource("everywhere", { namespaceSelector: { matchLabels: { "kubernetes.io/metadata.name": "default" } } }),
  );
  apply(api, guardResource("secrets"));
  const daemon = await startDaemon({ flags: [`--kubeconfig=${api.serviceAccount("default", "janusd")}`] }, t);
  t.ok(await isDenied(pod.container()), "ready means enforced");
  const isReady = (kind: string, name: string) =>
    api.kubectl(["get", kind, name, "--output=jsonpath={.status.conditions[0].status}"]) === "True";
  await eventually("both guards are ready", () => isReady("jg", "secrets") && isReady("cjg", "everywhere"));
  await eventually("the lease is renewed", () => seen().includes("update leases"));
  await eventually("an Event is brought up to date", async () => {
    await isDenied(pod.container());
    return seen().includes("patch events");
  });
  t.notMatch(daemon.stderr, /forbidden/);
  t.same(seen(), asked([...CLUSTER, ...NAMESPACE]));
  await daemon.stop();

  /** By the API server's own audit log. */
  function seen(): string[] {
    const lines = readFileSync(api.auditLog, "utf8")
      .split("\n")
      .filter((line) => line !== "");
    const requests = lines.map((line): string => {
      const { verb, objectRef } = JSON.parse(line);
      const { resource = "", subresource } = objectRef ?? {};
      return `${verb} ${subresource === undefined ? resource : `${resource}/${subresource}`}`;
    });
    return [...new Set(requests)].sort();
  }

  const documented = readFileSync(new URL("../../docs/kubernetes.md", import.meta.url), "utf8");
  for (const { resources, verbs } of [...CLUSTER, ...NAMESPACE]) {
    for (const resource of resources) {
      const row = documented
        .split("\n")
        .find((line) => line.startsWith("|") && line.split("|")[1]?.includes(`\`${resource}\``));
      for (const verb of verbs) t.ok(row?.split("|")[2]?.includes(`\`${verb}\``), `docs: ${verb} ${resource}`);
    }
  }
});
