/** The API server is gone, slow, or refuses; resources that make no sense. What is guarded stays guarded. */
import { copyFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import t, { type Test } from "tap";
import { checkCredentials } from "../../src/kubernetes/credentials.js";
import { type Daemon, eventually, runToEnd, startDaemon } from "../support/daemon.js";
import { installCrds, type KubeApi, kubeSkip, startKubeApi } from "../support/kube-api.js";
import { apply, guardResource, isDenied, NODE, startPod } from "../support/pod.js";

t.setTimeout(600_000); // of all, on a busy machine

const skip = kubeSkip("kube-apiserver");

t.test("credentials that make no sense end the daemon before it enforces anything", async (t) => {
  const file = join(t.testdir(), "kubeconfig");
  const context = { contexts: [{ name: "c", context: { cluster: "k", user: "u" } }], "current-context": "c" };
  const user = { users: [{ name: "u", user: {} }] };
  const cases: readonly [content: string, said: RegExp][] = [
    ["a: [", /^--kubeconfig \S+: /],
    ["{}", /has no current-context$/],
    [JSON.stringify({ "current-context": "c" }), /has no context "c"$/],
    [JSON.stringify({ ...context, ...user }), /has no cluster "k"$/],
    [
      JSON.stringify({ ...context, ...user, clusters: [{ name: "k", cluster: { server: "nowhere" } }] }),
      /no URL: "nowhere"$/,
    ],
    [
      JSON.stringify({ ...context, clusters: [{ name: "k", cluster: { server: "https://[::1]" } }] }),
      /has no user "u"$/,
    ],
  ];
  for (const [content, said] of cases) {
    writeFileSync(file, content);
    t.throws(() => checkCredentials(file, {}), { name: "ConfigError", message: said });
  }
  const { status, lines, log } = runToEnd([`--kubeconfig=${file}`]);
  t.equal(status, 2);
  t.match(lines, [/^janusd: --kubeconfig \S+: has no user "u"$/]);
  t.equal(lines.length, 1);
  t.notOk(log.some((line) => line.includes("enforcing")));
  t.throws(() => checkCredentials("/nowhere", {}), { message: /^--kubeconfig \/nowhere: ENOENT: no such file/ });
  const said = /^--kubernetes: not in a pod \(KUBERNETES_SERVICE_HOST is not set\)/;
  t.throws(() => checkCredentials(undefined, {}), { message: said });
});

const readiness = async (daemon: Daemon): Promise<string> => (await daemon.http("/readyz")).text();

/** Passes the schema. */
const BAD = { subjects: [{ deny: [`/${"ü".repeat(200)}`], events: ["open"] }] };

t.test("an API server", { skip }, async (t) => {
  const api: KubeApi = await startKubeApi(t);
  await installCrds(api);
  api.kubectl(["create", "--filename=-"], JSON.stringify({ apiVersion: "v1", kind: "Node", metadata: { name: NODE } }));
  const pod = await startPod(api, { name: "web", labels: { app: "web" } }, t);
  const main = pod.container();
  apply(api, guardResource("secrets"));
  const start = (t: Test, kubeconfig: string, options: Parameters<typeof startDaemon>[0] = {}) =>
    startDaemon({ ...options, flags: [`--kubeconfig=${kubeconfig}`] }, t);

  await t.test("a resource that passes the schema and makes no sense", async (t) => {
    const daemon = await start(t, api.kubeconfig);
    t.ok(await isDenied(main));
    apply(api, guardResource("secrets", BAD));
    await eventually("it is told", () => daemon.stderr.includes("the resource makes no sense"));
    t.match(daemon.stderr, "spec.subjects[0].deny[0]: holds a name longer than 255 bytes");
    t.ok(await isDenied(main), "the last good version holds");
    t.equal(await daemon.metric("janusd_kubernetes_faulty_resources"), 1);
    const late = await startPod(api, { name: "late", labels: { app: "web" } }, t);
    await eventually("also for a pod that comes later", () => isDenied(late.container()));
    await daemon.stop();
    const next = await start(t, api.kubeconfig, { stateFile: daemon.stateFile });
    const later = await startPod(api, { name: "later", labels: { app: "web" } }, t);
    await eventually("also after a restart", () => isDenied(later.container()));
    api.kubectl(["delete", "jg", "secrets"]);
    await eventually("it is deleted", async () => !(await isDenied(later.container())));
    apply(api, guardResource("secrets", BAD));
    await eventually(
      "another of that name",
      async () => (await next.metric("janusd_kubernetes_faulty_resources")) === 1,
    );
    t.notOk(await isDenied(main), "has no good version");
    apply(api, guardResource("secrets"));
    await eventually("it is mended", async () => (await next.metric("janusd_kubernetes_faulty_resources")) === 0);
    t.ok(await isDenied(main));
    for (const pod of [late, later]) pod.delete();
    await next.stop();
  });

  await t.test("rights that are missing are named, and waited for", async (t) => {
    api.kubectl(["create", "serviceaccount", "janusd"]);
    const daemon = await start(t, api.serviceAccount("default", "janusd"), { until: "/livez" });
    const said = /cannot list pods: forbidden \(403\): pods is forbidden: User \S+ cannot list resource/;
    await eventually("it is told", () => said.test(daemon.stderr));
    await eventually("/readyz tells", async () => said.test(await readiness(daemon)));
    t.equal((await daemon.http("/livez")).status, 200);
    t.notOk(await isDenied(main));
    api.kubectl([
      "create",
      "clusterrolebinding",
      "janusd",
      "--clusterrole=cluster-admin",
      "--serviceaccount=default:janusd",
    ]);
    await eventually("it goes on by itself", () => isDenied(main));
    await eventually("it is ready", async () => (await daemon.http("/readyz")).status === 200);
    await daemon.stop();
  });

  await t.test("credentials that have expired, and are renewed", async (t) => {
    const kubeconfig = api.kubeconfigFor("no-such-token", "expired");
    const daemon = await start(t, kubeconfig, { until: "/livez" });
    await eventually("it is told", () => daemon.stderr.includes("(401): have they expired?"));
    await eventually("/readyz tells", async () => (await readiness(daemon)).includes("have they expired"));
    copyFileSync(api.kubeconfig, kubeconfig);
    await eventually("the new ones are taken", () => isDenied(main));
    await daemon.stop();
  });

  await t.test("gone for a while", async (t) => {
    const daemon = await start(t, api.kubeconfig);
    t.ok(await isDenied(main));
    await api.stopServer();
    await eventually("it is told", () => /cannot (list|watch) \S+: .*ECONNREFUSED/.test(daemon.stderr));
    t.ok(await isDenied(main), "guards stay");
    const said = /the API server was heard \d+ s ago; cannot/;
    await eventually("/readyz tells", async () => said.test(await readiness(daemon)));
    t.equal((await daemon.http("/readyz")).status, 200, "for a while");
    await daemon.stop();
    t.notOk(await isDenied(main));

    const { stateFile } = daemon;
    const next = await start(t, api.kubeconfig, { until: "/livez", stateFile });
    t.ok(await isDenied(main), "the state file's guard is enforced");
    t.equal((await next.http("/readyz")).status, 503, "nobody knows whether it is still wanted");
    const age = await next.metric("janusd_kubernetes_last_contact_seconds");
    t.ok(age > 0, `${age}`);
    await api.startServer();
    await eventually("it is ready", async () => (await next.http("/readyz")).status === 200);
    t.ok(await isDenied(main));
    apply(api, guardResource("secrets", { subjects: [{ deny: ["/etc/other"], events: ["open"] }] }));
    await eventually("it follows again", () => isDenied(main, "/etc/other"));
    t.notOk(await isDenied(main));
    await next.stop();

    const without = await startDaemon({ stateFile }, t);
    t.notOk(await isDenied(main, "/etc/other"), "a daemon that follows no cluster drops the cluster's guards");
    t.equal(await without.metric("janusd_guards"), 0);
    await without.stop();
  });
});
