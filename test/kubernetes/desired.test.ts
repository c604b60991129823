import t from "tap";
import { GuardMode } from "../../src/gen/janus_pb.js";
import { configOf, desiredGuards, fingerprintOf, type Pod } from "../../src/kubernetes/desired.js";
import { readPod, withContainers } from "../../src/kubernetes/pod.js";
import { type GuardResource, nameOf, type ReadResource, readResource, textOf } from "../../src/kubernetes/resource.js";

const ids = { app: "a".repeat(64), sidecar: "b".repeat(64), setup: "c".repeat(64) };
const subjects = [{ deny: ["/etc/secret"], events: ["open"] }];

const podOf = (pod: Partial<Pod> = {}): Pod => ({
  ...{ uid: "uid-1", namespace: "shop", name: "web-0", labels: { app: "web" } },
  containers: [
    { id: ids.app, name: "app" },
    { id: ids.sidecar, name: "sidecar" },
  ],
  ...pod,
});

function read(
  spec: Readonly<Record<string, unknown>>,
  kind: "JanusGuard" | "ClusterJanusGuard" = "JanusGuard",
): ReadResource {
  const namespace = kind === "JanusGuard" ? { namespace: "shop" } : {};
  const metadata = { name: "secrets", ...namespace, uid: "guard-1", generation: 3 };
  return readResource(kind, { metadata, spec: { selector: {}, subjects, ...spec } });
}

function guardOf(...args: Parameters<typeof read>): GuardResource {
  const { guard, faults } = read(...args);
  if (guard === undefined) throw new Error(textOf(faults));
  return guard;
}

const selected = (guard: GuardResource, pods: readonly Pod[], namespaces = new Map()) =>
  desiredGuards({ resources: [guard], pods, namespaces });

t.test("a guard for each resource and pod that it selects", async (t) => {
  const guard = guardOf({ selector: { matchLabels: { app: "web" } } });
  const pods = [podOf(), podOf({ uid: "uid-2", name: "db", labels: {} }), podOf({ uid: "uid-3", namespace: "other" })];
  const { desired, undecided } = selected(guard, pods);
  t.same(
    desired.map(({ id }) => id),
    ['["secrets","shop","web-0","JanusGuard","uid-1"]'],
    "of its own namespace alone",
  );
  t.equal(undecided.size, 0);
  const [one] = desired;
  if (one === undefined) return;
  t.match(configOf(one), {
    ...{ name: "secrets", namespace: "shop", podName: "web-0", podUid: "uid-1", mode: GuardMode.ENFORCE },
    cid: [ids.app, ids.sidecar],
    containerNames: { [ids.app]: "app", [ids.sidecar]: "sidecar" },
    subject: [{ deny: ["/etc/secret"], event: ["open"] }],
  });
});

t.test("a successor of the same name is another pod", async (t) => {
  const { desired } = selected(guardOf({}), [podOf(), podOf({ uid: "uid-2" })]);
  t.equal(new Set(desired.map(({ id }) => id)).size, 2);
});

t.test("namespaces of a cluster's guard", async (t) => {
  const pods = [podOf(), podOf({ uid: "uid-2", namespace: "other" })];
  const guard = guardOf({ namespaceSelector: { matchLabels: { team: "a" } } }, "ClusterJanusGuard");
  const namespaces = new Map([
    ["shop", { team: "a" }],
    ["other", { team: "b" }],
  ]);
  const { desired, undecided } = selected(guard, pods, namespaces);
  t.same(
    desired.map(({ id }) => id),
    ['["secrets","shop","web-0","ClusterJanusGuard","uid-1"]'],
  );
  t.equal(undecided.size, 0);
  const unknown = selected(guard, pods);
  t.same(unknown.desired, [], "nobody knows their labels");
  t.same([...unknown.undecided].length, 2, "so what is held of it stays");
  const every = guardOf({ namespaceSelector: {} }, "ClusterJanusGuard");
  t.equal(selected(every, pods).desired.length, 2, "an empty selector: all of them, whatever their labels");
});

t.test("containers by name", async (t) => {
  const names = (containers: object) =>
    selected(guardOf({ containers }), [podOf()]).desired[0]?.containers.map(({ name }) => name);
  t.same(names({}), ["app", "sidecar"]);
  t.same(names({ include: ["app"] }), ["app"]);
  t.same(names({ exclude: ["app"] }), ["sidecar"]);
  t.same(names({ include: ["app", "sidecar"], exclude: ["sidecar"] }), ["app"]);
  t.same(names({ include: ["none"] }), []);
});

t.test("the fingerprint changes with the resource and the containers alone", async (t) => {
  const of = (guard: GuardResource, pod: Pod) => selected(guard, [pod]).desired.map(fingerprintOf).join();
  const guard = guardOf({});
  const base = of(guard, podOf());
  t.equal(of(guard, podOf({ labels: { other: "label" } })), base);
  t.not(of({ ...guard, generation: 4 }, podOf()), base);
  t.not(of({ ...guard, uid: "guard-2" }, podOf()), base, "deleted and made again");
  t.not(of(guard, podOf({ containers: [{ id: ids.app, name: "app" }] })), base);
});

t.test("a resource that makes no sense says where", async (t) => {
  const said = (spec: Readonly<Record<string, unknown>>) => textOf(read(spec).faults);
  t.equal(said({ selector: undefined }), "spec.selector: is missing; {} selects every pod");
  t.match(said({ subjects: [{ deny: ["etc"], events: ["open"] }] }), /^spec\.subjects\[0\]\.deny\[0\]: is relative/);
  t.match(
    said({ subjects: [{ deny: ["/a"], events: ["opens"] }] }),
    /^spec\.subjects\[0\]\.events\[0\]: unknown event/,
  );
  t.match(said({ subjects: [] }), /^spec\.subjects: a guard needs at least one subject/);
  t.match(said({ logFormat: "{nothing}" }), /^spec\.logFormat: at position/);
  t.match(said({ mode: "off" }), "spec.mode: must be enforce or audit");
  t.match(said({ containers: [ids.app] }), "spec.containers: must be a mapping");
  t.match(said({ containers: { only: ["a"] } }), /^spec\.containers\.only: unknown field/);
  t.match(said({ namespaceSelector: {} }), /^spec\.namespaceSelector: unknown field/, "a JanusGuard has none");
  t.match(said({ selector: { matchLabels: { a: "/" } } }), /^spec\.selector\.matchLabels\.a: /);
  t.match(textOf(read({}, "ClusterJanusGuard").faults), /^spec\.namespaceSelector: is missing/);
  t.equal(nameOf(read({})), "JanusGuard shop/secrets");
  t.equal(nameOf(read({}, "ClusterJanusGuard")), "ClusterJanusGuard secrets");
});

t.test("a pod's status names its containers, of all kinds, until they end", async (t) => {
  const pod = readPod({
    metadata: { uid: "u", namespace: "shop", name: "web", labels: { app: "web" } },
    status: {
      phase: "Pending",
      initContainerStatuses: [{ name: "setup", containerID: `containerd://${ids.setup}`, state: { terminated: {} } }],
      containerStatuses: [{ name: "app", containerID: `containerd://${ids.app}` }, { name: "waits" }],
      ephemeralContainerStatuses: [{ name: "debug", containerID: `cri-o://${ids.sidecar}` }],
    },
  });
  t.same(pod.containers, [
    { id: ids.app, name: "app" },
    { id: ids.sidecar, name: "debug" },
  ]);
  t.match(pod, { uid: "u", runtimeUid: "u", starting: true });
  const more = withContainers(pod, [
    { id: ids.setup, name: "setup" },
    { id: ids.app, name: "app" },
  ]);
  t.same(
    more.containers.map(({ name }) => name),
    ["app", "debug", "setup"],
    "the runtime may know more",
  );
});

t.test("a static pod is known to the runtime by another uid", async (t) => {
  const pod = readPod({ metadata: { uid: "u", annotations: { "kubernetes.io/config.mirror": "hash" } } });
  t.equal(pod.runtimeUid, "hash");
});
