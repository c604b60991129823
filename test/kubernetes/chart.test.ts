/** The Helm chart: what it renders, refuses, installs and leaves, by a real helm and a real API server. */
import { readFileSync } from "node:fs";
import t from "tap";
import { type Document, parseAllDocuments } from "yaml";
import { plainManifests } from "../../deploy/helm/plain.ts";
import { eventually } from "../support/daemon.js";
import { type KubeApi, kubeProgram, kubeSkip, startKubeApi } from "../support/kube-api.js";

// helm and kubectl are started a hundred times, beside other tests.
t.setTimeout(600_000);

const deploy = new URL("../../deploy/", import.meta.url);
const chart = new URL("helm/janusd", deploy).pathname;

const textOf = (name: string): string => readFileSync(new URL(name, deploy), "utf8");
const set = (values: readonly string[]): string[] => values.map((value) => `--set=${value}`);

/** Throws if helm fails. */
function helm(api: KubeApi, ...args: readonly string[]): string {
  const { status, stdout, stderr } = api.tryHelm(args);
  if (status !== 0) throw new Error(`helm ${args.join(" ")}: ${stderr}`);
  return stdout;
}

function documents(rendered: string): Document[] {
  return [...parseAllDocuments(rendered)].filter((document) => document.contents !== null);
}

const TLS = ["none", "secret", "certManager", "selfSigned"] as const;

/** Sets of values, each of which must render to what an API server takes. */
const VALUE_SETS: readonly (readonly string[])[] = [
  [],
  ...TLS.map((mode) => [`tls.mode=${mode}`, "networkPolicy.enabled=true", "tls.allowedClients={a,b=read}"]),
  ["kubernetes.enabled=false"],
  ["kubernetes.events=false"],
  ["kubernetes.criSocket=/run/k3s/containerd/containerd.sock"],
  ["namespace.create=true", "crds.install=false", "rbac.create=false", "serviceAccount.create=false"],
  ["priorityClass.create=false", "priorityClass.name=system-node-critical"],
  [
    `image.digest=sha256:${"a".repeat(64)}`,
    "image.repository=registry.example.org/a/janusd",
    "imagePullSecrets[0].name=a",
  ],
  [
    "dashboard.enabled=true",
    "podMonitor.enabled=true",
    "prometheusRule.enabled=true",
    "podMonitor.labels.release=prom",
  ],
  ["openshift.securityContextConstraints=true"],
  ["nodeSelector.disk=ssd", "podAnnotations.a=b", "podLabels.c=d", "extraArgs={--deadline=500}", "extraEnv[0].name=A"],
  [
    "affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].key=a",
    "affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].operator=Exists",
  ],
  ["networkPolicy.enabled=true", "networkPolicy.metricsFrom[0].namespaceSelector.matchLabels.a=b", "tls.mode=secret"],
];

/** Of other operators: no definition of theirs is here. */
const FOREIGN = ["Certificate", "PodMonitor", "PrometheusRule", "SecurityContextConstraints"];

t.test("the plain manifests are what the chart renders", { skip: kubeSkip("helm") }, async (t) => {
  for (const [name, text] of plainManifests(kubeProgram("helm"))) {
    t.equal(textOf(name), text, `deploy/${name}: \`make manifests\` renders it`);
  }
});

t.test("the chart is released with the daemon", async (t) => {
  const { version } = JSON.parse(readFileSync(new URL("../package.json", deploy), "utf8"));
  const [document] = documents(textOf("helm/janusd/Chart.yaml"));
  t.equal(document?.get("appVersion"), version);
});

t.test("a real API server", { skip: kubeSkip("kube-apiserver", "helm") }, async (t) => {
  const api = await startKubeApi(t);
  const template = (...args: string[]) => api.tryHelm(["template", "janusd", chart, "--namespace=janus", ...args]);

  t.test("helm lint finds nothing", async (t) => {
    t.match(helm(api, "lint", "--strict", chart), "0 chart(s) failed");
  });

  t.test("takes what each set of values renders", async (t) => {
    api.kubectl(["create", "namespace", "janus"]);
    const all: string[] = [];
    for (const values of VALUE_SETS) {
      // The definitions are the same for all of them.
      const { status, stdout, stderr } = template(
        ...set(all.length === 0 ? values : ["crds.install=false", ...values]),
      );
      t.equal(status, 0, stderr);
      const rendered = documents(stdout);
      t.same(
        rendered.flatMap(({ errors, warnings }) => [...errors, ...warnings]),
        [],
      );
      all.push(...rendered.filter((document) => !FOREIGN.includes(String(document.get("kind")))).map(String));
    }
    const dryRun = ["apply", "--server-side", "--dry-run=server", "--filename=-"];
    const { status, stderr } = api.tryKubectl(dryRun, [...new Set(all)].join("---\n"));
    // What the API server doesn't know, or what is outdated, it warns of.
    t.same({ status, stderr }, { status: 0, stderr: "" });
    api.kubectl(["delete", "namespace", "janus", "--wait=false"]);
  });

  t.test("bad values are refused, with their names", async (t) => {
    const bad: Readonly<Record<string, readonly string[]>> = {
      "tls.mod=none": ["/tls", "mod"],
      "tls.mode=mutual": ["/tls/mode", "none"],
      "tsl.mode=none": ["tsl"],
      "image.digest=latest": ["/image/digest"],
      "kubernetes.enabled=maybe": ["/kubernetes/enabled", "boolean"],
      "kubernetes.criSocket=run/containerd.sock": ["/kubernetes/criSocket"],
      "priorityClass.value=2000000000": ["/priorityClass/value"],
      "extraArgs={deadline}": ["/extraArgs/0"],
      "startupProbe.periodSeconds=0": ["/startupProbe/periodSeconds"],
      "podMonitor.interval=often": ["/podMonitor/interval"],
      "tolerations=all": ["/tolerations", "array"],
      "stateDirectory=here": ["/stateDirectory"],
      "tls.allowedClients=me": ["/tls/allowedClients", "array"],
    };
    for (const [value, parts] of Object.entries(bad)) {
      const { status, stderr } = template(...set([value]));
      t.equal(status, 1, value);
      for (const part of parts) t.match(stderr, part, value);
    }
  });

  t.test("install, upgrade, roll back, uninstall", async (t) => {
    const named = (kinds: string, ...args: string[]): string[] =>
      api
        .kubectl(["get", kinds, "--output=name", ...args])
        .split("\n")
        .filter((name) => name !== "");
    const secret = (name: string) =>
      api.kubectl(["get", "secret", name, "--namespace=prod", "--output=jsonpath={.data}"]);
    const argsOf = () => {
      const path = "--output=jsonpath={.spec.template.spec.containers[0].args}";
      return api.kubectl(["get", "daemonset", "janusd", "--namespace=prod", path]);
    };
    const clusterWide =
      "clusterroles,clusterrolebindings,priorityclasses,validatingadmissionpolicies,validatingadmissionpolicybindings";
    const before = named(clusterWide);

    helm(api, "install", "janusd", chart, "--namespace=prod", "--create-namespace", ...set(["tls.mode=selfSigned"]));
    await eventually("the resources are served", () => api.tryKubectl(["get", "jg"]).status === 0);
    const guard = {
      ...{ apiVersion: "januscontroller.clustergarage.io/v1alpha1", kind: "JanusGuard" },
      metadata: { name: "secrets" },
      spec: { selector: {}, subjects: [{ deny: ["/etc/app"], events: ["open"] }] },
    };
    api.kubectl(["apply", "--filename=-"], JSON.stringify(guard));
    const [server, client] = [secret("janusd-tls"), secret("janusd-client-tls")];
    t.same(Object.keys(JSON.parse(server)).sort(), ["ca.crt", "tls.crt", "tls.key"]);
    t.equal(JSON.parse(server)["ca.crt"], JSON.parse(client)["ca.crt"]);

    t.test("the daemon may do what it does, and no more", async (t) => {
      const can = async (verb: string, what: string, namespace = ""): Promise<boolean> => {
        const [resource = "", group = ""] = what.split(/\.(.*)/);
        const spec = {
          user: "system:serviceaccount:prod:janusd",
          resourceAttributes: { verb, resource, group, namespace },
        };
        const body = { apiVersion: "authorization.k8s.io/v1", kind: "SubjectAccessReview", spec };
        const { content } = await api.request("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", body);
        return typeof content.status === "object" && content.status.allowed === true;
      };
      const ours = "januscontroller.clustergarage.io";
      for (const what of ["pods", "namespaces", `janusguards.${ours}`, `clusterjanusguards.${ours}`]) {
        for (const verb of ["list", "watch"]) t.ok(await can(verb, what), `${verb} ${what}`);
        for (const verb of ["create", "update", "patch", "delete"]) t.notOk(await can(verb, what), `${verb} ${what}`);
      }
      for (const verb of ["create", "patch"]) t.ok(await can(verb, "events", "any"), `${verb} events`);
      for (const verb of ["list", "watch", "delete"]) t.notOk(await can(verb, "events", "any"), `${verb} events`);
      t.ok(await can("update", "leases.coordination.k8s.io", "prod"));
      t.notOk(await can("update", "leases.coordination.k8s.io", "kube-system"));
      for (const what of ["secrets", "configmaps", "serviceaccounts"]) t.notOk(await can("get", what, "prod"), what);
      t.notOk(await can("create", "pods/exec", "prod"));
      t.notOk(await can("delete", `janusnodes.${ours}`));
      t.notOk(await can("update", "nodes"));
    });

    t.test("a daemon writes the JanusNode of its own node only", async (t) => {
      const pod = {
        ...{ apiVersion: "v1", kind: "Pod", metadata: { name: "daemon", namespace: "prod" } },
        spec: { nodeName: "node-1", serviceAccountName: "janusd", containers: [{ name: "janusd", image: "janusd" }] },
      };
      const node = (name: string) => JSON.stringify({ ...{ apiVersion: "v1", kind: "Node", metadata: { name } } });
      for (const name of ["node-1", "node-2"]) api.kubectl(["create", "--filename=-"], node(name));
      api.kubectl(["create", "--filename=-"], JSON.stringify(pod));
      const bound = ["--bound-object-kind=Pod", "--bound-object-name=daemon"];
      const token = api.kubectl(["create", "token", "janusd", "--namespace=prod", ...bound]).trim();
      const kubeconfig = api.kubeconfigFor(token, "daemon");
      const janusNode = (name: string) =>
        JSON.stringify({
          apiVersion: "januscontroller.clustergarage.io/v1alpha1",
          kind: "JanusNode",
          metadata: { name },
        });
      const create = (name: string) =>
        api.tryKubectl(["create", "--filename=-", "--validate=false"], janusNode(name), kubeconfig);
      const refused = "a daemon writes the JanusNode of its own node only";
      // A policy is in force some moments after it was made.
      await eventually("node-2 is refused", () => create("node-2").stderr.includes(refused));
      t.equal(create("node-1").status, 0);
      const holdTier = (name: string) => {
        const apply = ["apply", "--server-side", "--subresource=status", "--validate=false", "--filename=-"];
        const changed = { ...JSON.parse(janusNode(name)), status: { holdTier: "fentry" } };
        return api.tryKubectl(apply, JSON.stringify(changed), kubeconfig);
      };
      t.match(holdTier("node-1"), { status: 0 });
      api.kubectl(["create", "--filename=-", "--validate=false"], janusNode("node-3"));
      t.match(holdTier("node-3").stderr, refused);

      const told = (name: string, host: string, as = kubeconfig) => {
        const event = {
          ...{ apiVersion: "v1", kind: "Event", metadata: { name, namespace: "prod" } },
          involvedObject: { kind: "Pod", namespace: "prod", name: "daemon" },
          source: { component: "janusd", host },
        };
        return api.tryKubectl(
          ["apply", "--server-side", "--force-conflicts", "--filename=-"],
          JSON.stringify(event),
          as,
        );
      };
      const own = "a daemon writes the Events of its own node only";
      await eventually("an Event of another node is refused", () => told("a", "node-2").stderr.includes(own));
      t.match(told("b", "node-1"), { status: 0, stderr: "" });
      t.match(told("c", "node-2", api.kubeconfig), { status: 0 });
      t.match(told("c", "node-1").stderr, own, "another's is not overwritten");
    });

    const upgrade = set(["tls.mode=selfSigned", "logFormat=json", "tls.allowedClients={janus-controller}"]);
    helm(api, "upgrade", "janusd", chart, "--namespace=prod", ...upgrade);
    t.match(argsOf(), /--allow-client=janus-controller.*--log-format=json/);
    t.same([secret("janusd-tls"), secret("janusd-client-tls")], [server, client], "the certificates are kept");
    t.notMatch(argsOf(), "--away");
    helm(api, "upgrade", "janusd", chart, "--namespace=prod", "--reuse-values", "--set=away=deny");
    t.match(argsOf(), /--log-format=json.*--away=deny/);
    helm(api, "rollback", "janusd", "1", "--namespace=prod");
    t.match(argsOf(), "--log-format=text");
    t.same([secret("janusd-tls"), secret("janusd-client-tls")], [server, client]);

    helm(api, "uninstall", "janusd", "--namespace=prod");
    t.match(named("janusguards"), ["janusguard.januscontroller.clustergarage.io/secrets"], "guards stay");
    t.same(named(clusterWide), before);
    const inNamespace = "daemonsets,services,serviceaccounts,roles,rolebindings,secrets,configmaps,networkpolicies";
    t.same(named(inNamespace, "--namespace=prod"), []);

    helm(api, "install", "janusd", chart, "--namespace=prod");
    t.match(named("janusguards"), ["janusguard.januscontroller.clustergarage.io/secrets"], "and are found again");
  });
});
