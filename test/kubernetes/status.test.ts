/** What the cluster is told: JanusNode by each daemon, the guards' status by one of them. */
import t, { type Test } from "tap";
import { type Daemon, eventually, startDaemon } from "../support/daemon.js";
import { installCrds, type KubeApi, kubeSkip, startKubeApi } from "../support/kube-api.js";
import { apply, createPod, guardResource, isDenied, NODE, startPod } from "../support/pod.js";

t.setTimeout(600_000); // of all, on a busy machine

/** Every namespace, by its labels. */
const NAMED = [{ key: "kubernetes.io/metadata.name", operator: "Exists" }];

const skip = kubeSkip("kube-apiserver");

t.test("status", { skip }, async (t) => {
  const api: KubeApi = await startKubeApi(t);
  await installCrds(api);
  const node = JSON.stringify({ apiVersion: "v1", kind: "Node", metadata: { name: NODE } });
  const pod = await startPod(api, { name: "web", labels: { app: "web" } }, t);
  apply(api, guardResource("secrets"));
  const start = (t: Test, ...flags: readonly string[]): Promise<Daemon> =>
    startDaemon({ flags: [`--kubeconfig=${api.kubeconfig}`, ...flags] }, t);
  const read = (...what: readonly string[]): unknown => {
    const { status, stdout } = api.tryKubectl(["get", ...what, "--output=json"]);
    return status === 0 ? JSON.parse(stdout) : undefined;
  };
  const columns = (...what: readonly string[]): string[] =>
    api
      .kubectl(["get", ...what, "--no-headers"])
      .trim()
      .split(/\s+/);

  await t.test("a node of another name is told, and its object is made once there is one", async (t) => {
    const daemon = await start(t);
    await eventually("it is told", () => daemon.stderr.includes(`the cluster has no Node \\"${NODE}\\"`));
    t.equal(read("jn", NODE), undefined);
    api.kubectl(["create", "--filename=-"], node);
    await eventually("it is there", () => JSON.stringify(read("jn", NODE) ?? {}).includes('"guardedPods":1'));
    t.match(read("jn", NODE), {
      metadata: {
        ownerReferences: [
          { kind: "Node", name: NODE, uid: api.kubectl(["get", "node", NODE, "-o", "jsonpath={.metadata.uid}"]) },
        ],
      },
      status: {
        version: /^\d+\.\d+\.\d+ \(/,
        holdTier: String,
        features: { fanotify_permission_events: true },
        containers: { selected: 1, guarded: 1 },
        guards: [
          {
            namespace: "default",
            name: "secrets",
            observablePods: 1,
            guardedPods: 1,
            containers: 1,
            ready: true,
            reason: "",
          },
        ],
        conditions: [{ type: "Ready", status: "True", reason: "Proven" }],
      },
    });
    t.ok(Date.now() - Date.parse(api.kubectl(["get", "jn", NODE, "-o", "jsonpath={.status.heartbeat}"])) < 120_000);
    await daemon.stop();
  });

  await t.test("a guard's status, by one daemon of two", async (t) => {
    const speak = (heartbeat: Date, guards: readonly object[], ...verb: readonly string[]) => {
      const dead = {
        apiVersion: "januscontroller.clustergarage.io/v1alpha1",
        kind: "JanusNode",
        metadata: { name: "dead" },
      };
      const input = JSON.stringify({ ...dead, status: { heartbeat: heartbeat.toISOString(), guards } });
      api.kubectl([...verb, "--filename=-"], input);
    };
    // Silent for long when the leader sees it first.
    const status = ["apply", "--server-side", "--force-conflicts", "--subresource=status"];
    speak(new Date(), [], "create");
    speak(new Date(Date.now() - 600_000), [], ...status);
    const one = await start(t);
    const two = await start(t, "--node-name=other");
    await eventually("the guard is ready", () => columns("jg", "secrets").slice(2, 5).join() === "1,1,True");
    t.match(read("jg", "secrets"), {
      status: {
        ...{ observedGeneration: 1, enforcedGeneration: 1, observablePods: 1, guardedPods: 1 },
        conditions: [
          { type: "Ready", status: "True", reason: "Guarded", observedGeneration: 1 },
          { type: "Degraded", status: "False", reason: "AsSpecified" },
        ],
      },
    });
    const leaders = [one, two].filter(({ stderr }) => stderr.includes('"leading":true'));
    t.equal(leaders.length, 1);

    apply(api, guardResource("secrets", { subjects: [{ deny: [`/${"ü".repeat(200)}`], events: ["open"] }] }));
    await eventually("it is degraded", () => JSON.stringify(read("jg", "secrets")).includes('"reason":"Invalid"'));
    t.match(read("jg", "secrets"), {
      status: {
        ...{ observedGeneration: 2, observablePods: 1, guardedPods: 1 },
        conditions: [
          { type: "Ready", status: "False", message: /^spec\.subjects\[0\]\.deny\[0\]: .*stays enforced$/ },
          { type: "Degraded", status: "True", reason: "Invalid", message: /^spec\.subjects\[0\]\.deny\[0\]: / },
        ],
      },
    });
    await eventually("the node says what is enforced", () =>
      JSON.stringify(read("jg", "secrets")).includes('"enforcedGeneration":1'),
    );
    t.ok(await isDenied(pod.container()), "the last good version holds");

    apply(api, guardResource("secrets"));
    await eventually("it is mended", () => columns("jg", "secrets")[4] === "True");
    const uid = api.kubectl(["get", "jg", "secrets", "--output=jsonpath={.metadata.uid}"]);
    for (const name of ["web-1", "web-2", "over"]) createPod(api, { name, labels: { app: "web" }, node: "dead" }, t);
    const late = createPod(api, { name: "late", labels: { app: "late" }, node: "dead" }, t);
    api.kubectl([
      "patch",
      "pod",
      "over",
      "--subresource=status",
      "--type=merge",
      '--patch={"status":{"phase":"Failed"}}',
    ]);
    await eventually("a node is silent", () => JSON.stringify(read("jg", "secrets")).includes("NodeSilent"));
    await eventually("one of its pods is over", () => columns("jg", "secrets")[2] === "3");
    const message = "node dead: its daemon is not heard of any more: nothing is guarded there";
    t.match(read("jg", "secrets"), {
      status: {
        ...{ observablePods: 3, guardedPods: 1, enforcedGeneration: 3 },
        conditions: [
          { type: "Ready", status: "False", reason: "NodeSilent", message },
          { type: "Degraded", status: "True", reason: "NodeSilent", message },
        ],
      },
    });
    // Made now, so that the daemon that is gone never heard of them.
    const selector = { matchLabels: { app: "late" } };
    apply(api, guardResource("later", { selector }));
    apply(api, guardResource("everywhere", { selector, namespaceSelector: { matchExpressions: NAMED } }));
    for (const [kind, name] of [
      ["jg", "later"],
      ["cjg", "everywhere"],
    ] as const) {
      const says = () => JSON.stringify(read(kind, name));
      await eventually(`${kind} ${name} selects a pod there`, () => says().includes("NodeSilent"));
      t.match(read(kind, name), {
        status: {
          ...{ observablePods: 1, guardedPods: 0, observedGeneration: 1 },
          conditions: [
            { type: "Ready", status: "False", reason: "NodeSilent", message },
            { type: "Degraded", status: "True", reason: "NodeSilent", message },
          ],
        },
      });
    }
    late.label("app=other");
    await eventually("it does no longer", () => columns("jg", "later").slice(2, 5).join() === "0,0,True");
    await eventually("nor of all namespaces", () => columns("cjg", "everywhere").slice(2, 5).join() === "0,0,True");
    const said = {
      ...{ namespace: "default", name: "secrets", observedGeneration: 3, enforcedGeneration: 3, ready: true },
      ...{ observablePods: 2, guardedPods: 2, containers: 2, reason: "", message: "" },
    };
    speak(new Date(), [{ ...said, uid }], ...status);
    await eventually("it is heard again", () => columns("jg", "secrets").slice(2, 5).join() === "3,3,True");
    api.kubectl(["delete", "jn", "dead"]);
    await eventually("it goes with its Node", () => columns("jg", "secrets").slice(2, 5).join() === "1,1,True");
    const [leader] = leaders;
    await leader?.stop();
    const other = leader === one ? two : one;
    await eventually("the other takes over", () => other.stderr.includes('"leading":true'), 40_000);
    await other.stop();
  });
});
