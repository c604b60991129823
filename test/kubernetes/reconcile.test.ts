/** What is uncertain stays as it is; what is certain is done. On the real registry. */
import t from "tap";
import { GuardRegistry } from "../../src/guard/registry.js";
import type { Pod } from "../../src/kubernetes/desired.js";
import { Reconciler, type View } from "../../src/kubernetes/reconcile.js";
import { type ReadResource, readResource } from "../../src/kubernetes/resource.js";
import { EngineRecorder, LogRecorder } from "../support/engine-recorder.js";

const [A, B] = ["a".repeat(64), "b".repeat(64)];
const ALL = { JanusGuard: true, ClusterJanusGuard: true, pods: true };

const podOf = (pod: Partial<Pod> = {}): Pod => ({
  ...{ uid: "uid-1", namespace: "shop", name: "web", labels: { app: "web" }, containers: [{ id: A, name: "app" }] },
  ...pod,
});

function resource(path: string, generation = 1, name = "secrets", labels = { app: "web" }): ReadResource {
  const metadata = { name, namespace: "shop", uid: name, generation };
  const spec = { selector: { matchLabels: labels }, subjects: [{ deny: [path], events: ["open"] }] };
  return readResource("JanusGuard", { metadata, spec });
}

function setUp(
  t: { teardown(end: () => void): unknown },
  parts: { engine?: EngineRecorder; registry?: GuardRegistry } = {},
) {
  const engine = parts.engine ?? new EngineRecorder();
  const log = new LogRecorder();
  const registry = parts.registry ?? new GuardRegistry({ engine, node: "node", log });
  const view: { -readonly [Key in keyof View]: View[Key] } = {
    ...{ resources: [], pods: [], namespaces: new Map(), complete: ALL },
  };
  let passed: () => void = () => undefined;
  const reconciler = new Reconciler({ registry, engine, log, view: () => view, onPass: () => passed() });
  t.teardown(() => reconciler.close());
  const pass = (change: Partial<View> = {}): Promise<void> => {
    Object.assign(view, change);
    return new Promise((resolve) => {
      passed = resolve;
      reconciler.look();
    });
  };
  const held = (): string[] =>
    registry
      .ofResources()
      .map(
        ({ config }) => `${config.name} ${config.podUid} ${config.subject[0]?.deny} ${config.cid.map((id) => id[0])}`,
      );
  return { engine, log, registry, reconciler, pass, held };
}

t.test("what the cluster wants is held, replaced and removed", async (t) => {
  const { engine, reconciler, pass, held } = setUp(t);
  engine.run(A);
  await pass({ resources: [resource("/x")], pods: [podOf()] });
  t.same(held(), ["secrets uid-1 /x a"]);
  await pass();
  t.same(engine.take(), ["apply 1 1"], "again without a change: nobody is asked for anything");
  await pass({ resources: [resource("/y", 2)] });
  t.same(engine.take(), ["apply 1 2"], "replaced, under the same key");
  t.match(reconciler.outcomes, [
    { name: "secrets", generation: 2, enforced: 2, selectedPods: 1, guardedPods: 1, containers: 1, faults: [] },
  ]);
  await pass({ pods: [podOf({ labels: {} })] });
  t.same(held(), [], "the pod is not selected any more");
  await pass({ pods: [podOf()] });
  await pass({ resources: [] });
  t.same(held(), [], "the resource is gone");
  t.same(reconciler.outcomes, []);
});

t.test("nothing is removed because nobody could be asked", async (t) => {
  const { engine, pass, held } = setUp(t);
  engine.run(A);
  await pass({ resources: [resource("/x")], pods: [podOf()] });
  const { registry } = { registry: new GuardRegistry({ engine, node: "node", log: new LogRecorder() }) };
  const stored = { key: 7, kind: "JanusGuard", ids: new Map() } as const;
  const [before] = held();
  t.equal(before, "secrets uid-1 /x a");

  const restarted = setUp(t, { engine, registry });
  const another = setUp(t, { engine });
  await another.pass({ resources: [resource("/x")], pods: [podOf()] });
  for (const { config } of another.registry.ofResources()) registry.restore({ ...stored, config });
  t.same(restarted.held(), [before], "by the state file");
  await restarted.pass({ complete: { JanusGuard: false, ClusterJanusGuard: false, pods: false } });
  t.same(restarted.held(), [before], "nothing is known yet");
  await restarted.pass({ complete: { ...ALL, JanusGuard: false } });
  t.same(restarted.held(), [before], "the guards are not known yet");
  await restarted.pass({ complete: { ...ALL, pods: false }, resources: [resource("/x")] });
  t.same(restarted.held(), [before], "the pods are not known yet");
  await restarted.pass({ complete: ALL });
  t.same(restarted.held(), [before], "its pod's object is gone, its containers run");
  await restarted.pass({ resources: [resource("relative")] });
  t.same(restarted.held(), [before], "the resource makes no sense, and never did since the start");
  await restarted.pass({ resources: [] });
  t.same(restarted.held(), [], "the resource is gone");
});

t.test("a resource that makes no sense changes nothing, and says why", async (t) => {
  const { engine, log, reconciler, pass, held } = setUp(t);
  engine.run(A);
  engine.run(B);
  await pass({ resources: [resource("/x")], pods: [podOf()] });
  await pass({ resources: [resource("relative", 2)] });
  t.same(held(), ["secrets uid-1 /x a"]);
  t.match(reconciler.outcomes, [
    { generation: 2, enforced: 1, guardedPods: 1, faults: [{ field: "spec.subjects[0].deny[0]" }] },
  ]);
  await pass({ pods: [podOf(), podOf({ uid: "uid-2", name: "new", containers: [{ id: B, name: "app" }] })] });
  t.same(held(), ["secrets uid-1 /x a", "secrets uid-2 /x b"], "also pods that come later have the last good one");
  await pass();
  t.equal(log.messages.filter((message) => message.includes("makes no sense: ")).length, 1, "it is said once");
  await pass({ resources: [resource("/y", 3)] });
  t.same(held(), ["secrets uid-1 /y a", "secrets uid-2 /y b"]);
  t.match(reconciler.outcomes, [{ generation: 3, enforced: 3, faults: [] }]);
});

t.test("a guard on a thousand pods of one node", async (t) => {
  const { engine, reconciler, pass, held } = setUp(t);
  const pods = Array.from({ length: 1000 }, (_, index) => {
    const id = index.toString(16).padStart(64, "0");
    engine.run(id);
    return podOf({ uid: `uid-${index}`, name: `web-${index}`, containers: [{ id, name: "app" }] });
  });
  await pass({ resources: [resource("/x")], pods });
  t.equal(held().length, 1000);
  t.match(reconciler.outcomes, [{ selectedPods: 1000, guardedPods: 1000 }]);
  engine.take();
  await pass({ pods: pods.slice(1) });
  t.same(engine.take(), [], "one whose object goes costs the others nothing");
  await pass({ resources: [] });
  t.equal(held().length, 0);
});

t.test("what the kernel refuses leaves the last one in force, for that pod alone", async (t) => {
  const { engine, reconciler, pass, held } = setUp(t);
  engine.run(A);
  engine.run(B);
  const other = podOf({ uid: "uid-2", name: "other", containers: [{ id: B, name: "app" }] });
  await pass({ resources: [resource("/x")], pods: [podOf(), other] });
  engine.refuse("INVALID", { subjectIndex: 0, path: "/y" });
  await pass({ resources: [resource("/y", 2)] });
  t.same(held(), ["secrets uid-1 /x a", "secrets uid-2 /y b"]);
  t.match(reconciler.outcomes, [
    { selectedPods: 2, guardedPods: 1, faults: [{ field: "spec.subjects[0].deny[0]", description: "native INVALID" }] },
  ]);
});

t.test("containers that restart, are added, and are left out", async (t) => {
  const { engine, registry, pass, held } = setUp(t);
  engine.run(A);
  await pass({ resources: [resource("/x")], pods: [podOf()] });
  engine.end(A);
  registry.ended([A]);
  t.same(held(), [], "the container ended");
  await pass({ pods: [podOf({ containers: [{ id: B, name: "app" }] })] });
  t.same(held(), [], "its successor is known and does not run yet");
  engine.run(B);
  await pass();
  t.same(held(), ["secrets uid-1 /x b"]);
  engine.run(A);
  const both = [
    { id: B, name: "app" },
    { id: A, name: "debug" },
  ];
  await pass({ pods: [podOf({ containers: both })] });
  t.same(held(), ["secrets uid-1 /x b,a"]);
  const left = resource("/x", 2);
  const guard = left.guard && { ...left.guard, selectsContainer: () => false };
  await pass({ resources: [{ ...left, guard }] });
  t.same(held(), [], "none of them is meant any more");
});

t.test("a pod whose object is gone is guarded, and follows its resource, while its containers run", async (t) => {
  const { engine, registry, pass, held } = setUp(t);
  engine.run(A);
  await pass({ resources: [resource("/x")], pods: [podOf()] });
  await pass({ pods: [] });
  t.same(held(), ["secrets uid-1 /x a"]);
  await pass({ resources: [resource("/y", 2)] });
  t.same(held(), ["secrets uid-1 /y a"]);
  engine.end(A);
  registry.ended([A]);
  await pass();
  t.same(held(), []);
});
