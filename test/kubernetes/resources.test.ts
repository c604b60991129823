/** What the API server itself says about the resources' definitions. */
import { readFileSync } from "node:fs";
import { isDeepStrictEqual } from "node:util";
import t from "tap";
import { parse } from "yaml";
import { eventually } from "../support/daemon.js";
import { crds, installCrds, kubeSkip, startKubeApi } from "../support/kube-api.js";

// The API server is started beside other tests.
t.setTimeout(300_000);

t.test("the API server takes the resources", { skip: kubeSkip("kube-apiserver") }, async (t) => {
  const api = await startKubeApi(t);
  await installCrds(api);
  for (const plural of ["janusguards", "clusterjanusguards", "janusnodes"]) {
    const name = `${plural}.januscontroller.clustergarage.io`;
    const reasons = "{.status.conditions[*].type}";
    const types = api.kubectl(["get", "crd", name, `--output=jsonpath=${reasons}`]).split(" ");
    // What is not structural would keep fields that nobody checks.
    t.same(types.sort(), ["Established", "NamesAccepted"], plural);
    const stored: unknown = JSON.parse(
      api.kubectl(["get", "crd", name, "--output=jsonpath={.spec.versions[0].schema}"]),
    );
    const { spec } = parse(crds(plural));
    t.ok(isDeepStrictEqual(stored, spec.versions[0].schema), `${plural}: nothing was dropped or added`);
  }

  t.test("kubectl explain is documentation", async (t) => {
    const explained = (field: string) => api.kubectl(["explain", field]).replace(/\s+/g, " ");
    // The API server publishes the descriptions some moments later.
    await eventually("explained", () => api.tryKubectl(["explain", "jg.spec"]).status === 0);
    t.match(explained("jg.spec.subjects.deny"), /may not be opened: it fails with EPERM/);
    t.match(explained("cjg.spec.namespaceSelector"), /every namespace, kube-system too/);
  });

  t.test("what makes no sense is refused in the words of docs/kubernetes-install.md", async (t) => {
    const { stderr } = api.tryKubectl(["apply", "--filename=-"], JSON.stringify(guardOf(["etc/app"])));
    const documented = readFileSync(new URL("../../docs/kubernetes-install.md", import.meta.url), "utf8");
    t.match(documented.replace(/\s+/g, " "), stderr.trim());
    t.match(stderr, "spec.subjects[0].deny[0]");
  });

  t.test("defaults and columns", async (t) => {
    api.kubectl(["apply", "--filename=-"], JSON.stringify(guardOf(["/etc/app"])));
    const of = (path: string) => api.kubectl(["get", "jg", "secrets", `--output=jsonpath=${path}`]);
    t.equal(of("{.spec.mode} {.spec.subjects[0].scope}"), "enforce everyone");
    const status = {
      ...{ observedGeneration: 1, observablePods: 3, guardedPods: 2 },
      conditions: [
        {
          ...{ type: "Ready", status: "False", reason: "Pending", message: "2 of 3 pods are guarded" },
          lastTransitionTime: "2026-11-29T09:00:00Z",
        },
      ],
    };
    api.kubectl([
      "patch",
      "jg",
      "secrets",
      "--subresource=status",
      "--type=merge",
      `--patch=${JSON.stringify({ status })}`,
    ]);
    const [head, line] = api.kubectl(["get", "jg"]).split("\n");
    t.same(head?.split(/ +/), ["NAME", "MODE", "SELECTED", "GUARDED", "READY", "AGE"]);
    t.match(line, /^secrets +enforce +3 +2 +False +/);
    t.match(api.kubectl(["get", "jg", "--output=wide"]), "2 of 3 pods are guarded");
    t.match(api.kubectl(["get", "all"]), "janusguard.januscontroller.clustergarage.io/secrets");
  });
});

function guardOf(deny: readonly string[]): object {
  return {
    ...{ apiVersion: "januscontroller.clustergarage.io/v1alpha1", kind: "JanusGuard" },
    metadata: { name: "secrets" },
    spec: { selector: {}, subjects: [{ deny, events: ["open"] }] },
  };
}
