/** What people get wrong, and what the cluster does to a daemon: one clear line, and nothing that is guarded is lost. */
import t, { type Test } from "tap";
import { eventually, startDaemon } from "../support/daemon.js";
import { installCrds, kubeSkip, startKubeApi } from "../support/kube-api.js";
import { apply, createPod, guardResource, isDenied, NODE, startPod } from "../support/pod.js";

t.setTimeout(600_000); // of all, on a busy machine

const skip = kubeSkip("kube-apiserver");
const denies = (...deny: readonly string[]) => ({ subjects: [{ deny, events: ["open"] }] });

t.test("bad input", { skip }, async (t) => {
  const api = await startKubeApi(t);
  await installCrds(api);
  api.kubectl(["create", "--filename=-"], JSON.stringify({ apiVersion: "v1", kind: "Node", metadata: { name: NODE } }));
  const web = await startPod(api, { name: "web", labels: { app: "web" } }, t);
  const db = await startPod(api, { name: "db", labels: { app: "db" } }, t);
  apply(api, guardResource("secrets"));
  const daemon = await startDaemon({ flags: [`--kubeconfig=${api.kubeconfig}`] }, t);
  /** Selected, guarded and Ready, as `kubectl get jg` has them. */
  const shows = (name: string, columns: string) => () =>
    api.kubectl(["get", "jg", name, "--no-headers"]).split(/\s+/).slice(2, 5).join() === columns;
  const stays = async (t: Test) => t.ok(await isDenied(web.container()), "what was guarded is guarded");

  await t.test("a selector that selects nothing, and one that selects everything", async (t) => {
    apply(api, guardResource("wide", { selector: { matchLabels: { app: "nobody" } }, ...denies("/etc/other") }));
    await eventually("nothing is selected", shows("wide", "0,0,True"));
    t.notOk(await isDenied(db.container(), "/etc/other"));
    apply(api, guardResource("wide", { selector: {}, ...denies("/etc/other") }));
    await eventually("both pods are", shows("wide", "2,2,True"));
    for (const pod of [web, db]) t.ok(await isDenied(pod.container(), "/etc/other"));
    await stays(t);
    api.kubectl(["delete", "jg", "wide"]);
  });

  await t.test("a path that some of the selected containers lack", async (t) => {
    await db.container().exec(["sh", "-c", "mkdir /srv && echo text > /srv/file"]);
    apply(api, guardResource("some", { selector: {}, ...denies("/srv/file") }));
    await eventually("both are guarded all the same", shows("some", "2,2,True"));
    t.ok(await isDenied(db.container(), "/srv/file"));
    await web.container().exec(["sh", "-c", "mkdir /srv && echo text > /srv/file"]);
    await eventually("also where the path comes later", () => isDenied(web.container(), "/srv/file"));
    await stays(t);
    api.kubectl(["delete", "jg", "some"]);
  });

  await t.test("two guards that contradict each other: what one denies is denied", async (t) => {
    const allow = { subjects: [{ allow: ["/etc/secret", "/etc/other"], events: ["open"] }] };
    apply(api, guardResource("contrary", allow));
    await eventually("both are ready", () => shows("contrary", "1,1,True")() && shows("secrets", "1,1,True")());
    t.ok(await isDenied(web.container()));
    t.notOk(await isDenied(web.container(), "/etc/other"));
    await stays(t);
    api.kubectl(["delete", "jg", "contrary"]);
  });

  await t.test("a thousand paths: refused, with the limit; as many as it allows are held", async (t) => {
    const paths = (count: number) => Array.from({ length: count }, (_, index) => `/etc/many/${index}`);
    apply(api, guardResource("many", denies(...paths(511), "/etc/other")));
    await eventually("it is ready", shows("many", "1,1,True"));
    const { status, stderr } = api.tryKubectl(["apply", "--filename=-"], guardResource("many", denies(...paths(1000))));
    t.equal(status, 1);
    t.match(stderr, /spec\.subjects\[0\]\.deny: Too many: 1000: must have at most 512 items/);
    t.ok(await isDenied(web.container(), "/etc/other"), "the version before stays");
    await stays(t);
    api.kubectl(["delete", "jg", "many"]);
  });

  await t.test("pods that are deleted while they are being guarded", async (t) => {
    for (let turn = 0; turn < 5; ++turn) {
      const pod = createPod(api, { name: `brief-${turn}`, labels: { app: "web" } }, t);
      const [container] = await Promise.all([pod.start(), pod.report("Pending")]);
      pod.report();
      pod.delete();
      await container.kill();
    }
    await eventually("they are forgotten", shows("secrets", "1,1,True"));
    await eventually("their guards are gone", async () => (await daemon.metric("janusd_guards")) === 1);
    t.equal((await daemon.http("/livez")).status, 200);
    await stays(t);
  });
});

t.test("each right that is missing is named, with its verb", { skip }, async (t) => {
  const api = await startKubeApi(t);
  await installCrds(api);
  api.kubectl(["create", "--filename=-"], JSON.stringify({ apiVersion: "v1", kind: "Node", metadata: { name: NODE } }));
  const pod = await startPod(api, { name: "web", labels: { app: "web" } }, t);
  apply(api, guardResource("secrets"));
  apply(api, guardResource("all", { namespaceSelector: { matchLabels: { tier: "shop" } } }));
  const start = (name: string) => {
    api.kubectl(["create", "serviceaccount", name]);
    return startDaemon({ flags: [`--kubeconfig=${api.serviceAccount("default", name)}`], until: "/livez" }, t);
  };
  const grant = (name: string, verbs: string, ...resources: readonly string[]) => {
    const role = `${name}-${verbs.replaceAll(",", "-")}`;
    api.kubectl(["create", "clusterrole", role, `--verb=${verbs}`, `--resource=${resources.join(",")}`]);
    api.kubectl(["create", "clusterrolebinding", role, `--clusterrole=${role}`, `--serviceaccount=default:${name}`]);
  };
  const group = "januscontroller.clustergarage.io";

  const none = await start("none");
  for (const [verb, resource] of [
    ["list", "pods"],
    ["list", `janusguards.${group}`],
    ["list", `clusterjanusguards.${group}`],
    ["get", `nodes \\"${NODE}\\"`],
    ["get, create or update", 'leases \\"janusd\\"'],
  ]) {
    await eventually(`${verb} ${resource}`, () => none.stderr.includes(`cannot ${verb} ${resource}: forbidden (403)`));
  }
  await none.stop();

  grant("reader", "list,watch", `janusguards.${group}`, `clusterjanusguards.${group}`, `janusnodes.${group}`, "pods");
  grant("reader", "get", "nodes");
  grant("reader", "get,create,update", "leases.coordination.k8s.io");
  const reader = await start("reader");
  await eventually("the guard is held", () => isDenied(pod.container()));
  for (const [verb, resource] of [
    ["list", "namespaces"],
    ["create", "janusnodes"],
    ["patch", "janusguards/status"],
    ["create", "events"],
  ]) {
    await eventually(`${verb} ${resource}`, () =>
      reader.stderr.includes(`cannot ${verb} ${resource}: forbidden (403)`),
    );
  }
  t.ok(await isDenied(pod.container()), "none of them is needed to guard");
});
