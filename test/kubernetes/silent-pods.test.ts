/** What a guard selects on a node whose daemon says nothing. Against a real API server: status.test.ts. */
import t from "tap";
import { readPod, type SeenPod } from "../../src/kubernetes/pod.js";
import { readResource } from "../../src/kubernetes/resource.js";
import { SilentPods, silentReport } from "../../src/kubernetes/silent-pods.js";

const readPods = (count: number): SeenPod[] =>
  Array.from({ length: count }, (_, i) =>
    readPod({ metadata: { uid: `pod-${i}`, namespace: "shop", name: `web-${i}`, labels: { app: "web" } } }),
  );

t.test("no more nodes are followed than the limit, and others as soon as there is room", async (t) => {
  const open = new Set<string>();
  const synced = new Set<string>();
  const pods = new SilentPods((node) => ({
    start: () => open.add(node),
    close: () => open.delete(node),
    get synced() {
      return synced.has(node);
    },
    failure: undefined,
    items: readPods(2),
  }));
  const nodes = Array.from({ length: 120 }, (_, i) => `node-${i}`);
  pods.follow(new Set(nodes));
  t.equal(open.size, 100);
  t.equal(pods.settled, false);
  t.equal(pods.of("node-0"), undefined, "not yet");
  for (const node of nodes) synced.add(node);
  t.equal(pods.settled, true);
  t.equal(pods.of("node-0")?.length, 2);
  t.equal(pods.of("node-110"), undefined, "past the limit");
  pods.follow(new Set(nodes.slice(100)));
  t.same([...open], nodes.slice(100));
  t.equal(pods.of("node-110")?.length, 2);
  t.equal(pods.of("node-0"), undefined);
  pods.close();
  t.equal(open.size, 0);
});

t.test("what isn't known is as the daemon said last", async (t) => {
  const subjects = [{ deny: ["/etc/secret"], events: ["open"] }];
  const metadata = { name: "secrets", uid: "guard-1", generation: 3 };
  const selector = { matchLabels: { app: "web" } };
  const namespaceSelector = { matchLabels: { tier: "front" } };
  const guard = readResource("ClusterJanusGuard", { metadata, spec: { selector, namespaceSelector, subjects } });
  const broken = readResource("ClusterJanusGuard", { metadata, spec: { selector } });
  const said = {
    ...{ namespace: "", name: "secrets", uid: "guard-1", observedGeneration: 2, enforcedGeneration: 2, ready: true },
    ...{ observablePods: 7, guardedPods: 7, containers: 7, reason: "", message: "" },
  };
  const pods = readPods(2);
  const front = new Map([["shop", { tier: "front" }]]);
  t.equal(silentReport(guard, undefined, front, said), said, "its pods");
  t.equal(silentReport(guard, pods, new Map(), said), said, "their namespace's labels");
  t.equal(silentReport(broken, pods, front, said), said, "what the guard means");
  t.match(silentReport(guard, pods, front, undefined), { observablePods: 2, guardedPods: 0, ready: false });
  t.equal(silentReport(guard, pods, new Map([["shop", {}]]), said), undefined, "they are not selected any more");
});
