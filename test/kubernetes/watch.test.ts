/** `janusd --kubernetes` against a real API server: what the cluster says is enforced in real containers, and follows. */
import t, { type Test } from "tap";
import { type Daemon, eventually, startDaemon } from "../support/daemon.js";
import { installCrds, type KubeApi, kubeSkip, startKubeApi } from "../support/kube-api.js";
import { apply, createPod, guardResource, isDenied, NODE, startPod } from "../support/pod.js";

t.setTimeout(600_000); // of all, on a busy machine

const skip = kubeSkip("kube-apiserver");

async function startCluster(t: Test): Promise<KubeApi> {
  const api = await startKubeApi(t);
  await installCrds(api);
  api.kubectl(["create", "--filename=-"], JSON.stringify({ apiVersion: "v1", kind: "Node", metadata: { name: NODE } }));
  return api;
}

function follow(api: KubeApi, t: Test, stateFile?: string): Promise<Daemon> {
  return startDaemon(
    { flags: [`--kubeconfig=${api.kubeconfig}`], ...(stateFile === undefined ? {} : { stateFile }) },
    t,
  );
}

const denied = (container: Parameters<typeof isDenied>[0], path?: string) => () => isDenied(container, path);
const allowed = (container: Parameters<typeof isDenied>[0], path?: string) => async () =>
  !(await isDenied(container, path));

t.test("guards by selectors", { skip }, async (t) => {
  const api = await startCluster(t);
  const pod = await startPod(api, { name: "web", labels: { app: "web" } }, t);
  const bystander = await startPod(api, { name: "db", labels: { app: "db" } }, t);
  const elsewhere = createPod(api, { name: "other-node", labels: { app: "web" }, node: "othernode" }, t);
  await elsewhere.start();
  elsewhere.report();
  apply(api, guardResource("secrets"));
  const daemon = await follow(api, t);

  await t.test("a daemon that is ready enforces what the cluster wants", async (t) => {
    t.ok(await isDenied(pod.container()), "the selected pod");
    t.notOk(await isDenied(bystander.container()), "another pod");
    t.notOk(await isDenied(elsewhere.container()), "another node's pod");
    const line = await daemon.waitForLine((line) => line.startsWith("<DENY>"));
    t.match(line, `(web:${NODE})`);
  });

  await t.test("a resource that comes, changes and goes", async (t) => {
    apply(api, guardResource("more", { subjects: [{ deny: ["/etc/other"], events: ["open"] }] }));
    await eventually("the new one holds", denied(pod.container(), "/etc/other"));
    t.ok(await isDenied(pod.container()), "the first one still holds");
    apply(api, guardResource("more", { subjects: [{ deny: ["/etc/passwd"], events: ["open"] }] }));
    await eventually("the new rule holds", denied(pod.container(), "/etc/passwd"));
    t.notOk(await isDenied(pod.container(), "/etc/other"), "the old one does not");
    api.kubectl(["delete", "jg", "more"]);
    await eventually("it is gone", allowed(pod.container(), "/etc/passwd"));
    t.ok(await isDenied(pod.container()), "the first one still holds");
  });

  await t.test("a container that restarts has the guard anew", async () => {
    await pod.end();
    await pod.start();
    pod.report();
    await eventually("the successor is guarded", denied(pod.container()));
  });

  await t.test("labels of a pod", async () => {
    bystander.label("app=web");
    await eventually("it is selected now", denied(bystander.container()));
    bystander.label("app=db");
    await eventually("it is not any more", allowed(bystander.container()));
  });

  await t.test("a pod that is made after the guard, and all kinds of its containers", async (t) => {
    const late = createPod(api, { name: "late", labels: { app: "web" }, initContainers: ["setup"] }, t);
    const setup = await late.start("setup", "init");
    late.report("Pending");
    await eventually("the init container is guarded", denied(setup));
    const main = await late.start("main");
    const debug = await late.start("debug", "ephemeral");
    late.report();
    await eventually("the ordinary one is", denied(main));
    await eventually("the ephemeral one is", denied(debug));
    t.ok(await isDenied(setup), "the init container still is");
    apply(api, guardResource("secrets", { containers: { exclude: ["debug"] } }));
    await eventually("one is left out", allowed(debug));
    t.ok(await isDenied(main), "the others are not");
    apply(api, guardResource("secrets", { containers: { include: ["debug"] } }));
    await eventually("only that one is meant", denied(debug));
    await eventually("the others are not", allowed(main));
    apply(api, guardResource("secrets"));
    await eventually("all are", denied(main));
    late.delete();
    // Its object is gone while its containers run: they are not let go.
    apply(api, guardResource("secrets", { logFormat: "changed {path}" }));
    await eventually("what runs on without an object follows the resource", async () => {
      await isDenied(main);
      return daemon.lines.includes("changed /etc/secret");
    });
    t.ok(await isDenied(main), "and is guarded");
  });

  await t.test("a guard over gRPC and one of a resource, of the same name, are two", async (t) => {
    const ofClient = { name: "secrets", namespace: "default", podName: "web" };
    const subject = [{ deny: ["/etc/other"], event: ["open"] }];
    await daemon.createGuard({ ...ofClient, cid: [pod.container().id], subject });
    t.ok(await isDenied(pod.container(), "/etc/other"));
    t.ok(await isDenied(pod.container()));
    t.match(await daemon.getGuardState(), [{ podName: "web", name: "secrets" }], "a controller sees its own alone");
    t.equal((await daemon.getGuardState()).length, 1);
    await daemon.destroyGuard({ podName: "web" });
    t.notOk(await isDenied(pod.container(), "/etc/other"));
    t.ok(await isDenied(pod.container()), "the resource's is not a client's to remove");
    await t.rejects(daemon.destroyGuard({ name: "secrets" }), /comes from a JanusGuard of the cluster/);
    await daemon.createGuard({ ...ofClient, cid: [pod.container().id], subject });
    api.kubectl(["delete", "jg", "secrets"]);
    await eventually("the resource's is gone", allowed(pod.container()));
    t.ok(await isDenied(pod.container(), "/etc/other"), "a client's is not the cluster's to remove");
  });
});
