/** What a container was denied is told on its pod: one Event, with a count, however often it asks. */
import t from "tap";
import { eventually, startDaemon } from "../support/daemon.js";
import { installCrds, kubeSkip, startKubeApi } from "../support/kube-api.js";
import { apply, guardResource, isDenied, NODE, startPod } from "../support/pod.js";

t.setTimeout(600_000); // of all, on a busy machine

interface Told {
  readonly metadata: { readonly name: string };
  readonly count: number;
}

t.test("Events on pods", { skip: kubeSkip("kube-apiserver") }, async (t) => {
  const api = await startKubeApi(t);
  await installCrds(api);
  api.kubectl(["create", "--filename=-"], JSON.stringify({ apiVersion: "v1", kind: "Node", metadata: { name: NODE } }));
  const pod = await startPod(api, { name: "web", labels: { app: "web" } }, t);
  const other = await startPod(api, { name: "other", labels: { app: "web" } }, t);
  apply(api, guardResource("secrets"));
  const start = (...flags: readonly string[]) =>
    startDaemon({ flags: [`--kubeconfig=${api.kubeconfig}`, ...flags] }, t);
  const told = (name: string): Told[] => {
    const of = `--field-selector=involvedObject.name=${name}`;
    return JSON.parse(api.kubectl(["get", "events", of, "--output=json"])).items;
  };

  await t.test("none where they are not wanted", async (t) => {
    const daemon = await start("--kubernetes-events=false");
    t.ok(await isDenied(pod.container()));
    await daemon.waitForLine((line) => line.startsWith("<DENY>"));
    t.notMatch(await (await daemon.http("/metrics")).text(), "janusd_kubernetes_events_total{");
    await daemon.stop();
    t.same(told("web"), []);
  });

  const daemon = await start();
  const events = (outcome: string) => daemon.metric("janusd_kubernetes_events_total", { outcome });

  await t.test("as kubectl shows them", async (t) => {
    t.ok(await isDenied(pod.container()));
    await eventually("it is told", () => told("web").length > 0);
    t.match(
      api.kubectl(["describe", "pod", "web"]),
      /Warning +OpenDenied +\d+s +janusd +cat \(uid 0\) was denied to open '\/etc\/secret' in container main by default\/secrets/,
    );
    t.match(api.kubectl(["get", "events"]), /\d+s +Warning +OpenDenied +pod\/web +cat \(uid 0\) was denied/);
    t.match(told("web"), [
      {
        involvedObject: { kind: "Pod", namespace: "default", name: "web", uid: pod.uid },
        source: { component: "janusd", host: NODE },
        count: 1,
      },
    ]);
  });

  await t.test("a storm is one Event, and a few writes", async (t) => {
    const before = await events("written");
    const { stdout } = await pod
      .container()
      .exec(["sh", "-c", "i=0; while [ $i -lt 2000 ]; do true < /etc/secret; i=$((i+1)); done 2>&1 | wc -l"]);
    t.match(stdout, "2000");
    const [first] = told("web");
    await eventually("all of them are counted", () => told("web")[0]?.count === 2001);
    t.same(
      told("web").map(({ metadata }) => metadata.name),
      [first?.metadata.name],
    );
    t.match(api.kubectl(["describe", "pod", "web"]), /OpenDenied +\d+s \(x2001 over \d+s\)/);
    t.ok((await events("written")) - before < 10);
    t.equal(await events("suppressed"), 0);
    t.equal(await events("failed"), 0);
  });

  await t.test("an Event that the cluster has forgotten is followed by another", async (t) => {
    api.kubectl(["delete", "events", "--all"]);
    t.ok(await isDenied(pod.container()));
    await eventually("there is another", () => told("web").length > 0);
    t.match(told("web"), [{ count: 1 }]);
  });

  await t.test("an API server that is away is told later", async (t) => {
    await api.stopServer();
    for (let i = 0; i < 3; ++i) t.ok(await isDenied(other.container()));
    await eventually("it is tried", async () => (await events("failed")) > 0);
    await api.startServer();
    await eventually("it is told", () => told("other").length > 0);
    t.match(told("other"), [{ count: 3 }]);
    t.equal(await events("suppressed"), 0);
  });
});
