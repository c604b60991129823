/** With a real API server and a real container runtime: a container of a selected pod can do nothing before it is guarded. */
import t, { type Test } from "tap";
import { cgroupParent } from "../support/cleanup.js";
import { eventually, startDaemon } from "../support/daemon.js";
import { installCrds, kubeSkip, startKubeApi } from "../support/kube-api.js";
import { apply, createPod, guardResource, NODE } from "../support/pod.js";
import { Containerd } from "../support/runtimes.js";

const skip = kubeSkip("kube-apiserver");

const READ = ["cat", "/etc/secret"] as const;

async function exitOf(containerd: Containerd, id: string): Promise<number> {
  let code: number | undefined;
  await eventually("it ends", async () => {
    code = await containerd.exitCode(id);
    return code !== undefined;
  });
  return code ?? 0;
}

t.test("a container of a selected pod is guarded before its first instruction", { skip }, async (t: Test) => {
  const api = await startKubeApi(t);
  await installCrds(api);
  api.kubectl(["create", "--filename=-"], JSON.stringify({ apiVersion: "v1", kind: "Node", metadata: { name: NODE } }));
  const containerd = await Containerd.start(t);
  apply(api, guardResource("secrets", { containers: { exclude: ["free"] } }));
  const flags = [`--kubeconfig=${api.kubeconfig}`, `--cri-endpoint=${containerd.socket}`, "--pod-wait=15000"];
  const daemon = await startDaemon({ flags }, t);
  const podOf = async (name: string, labels: Readonly<Record<string, string>>) => {
    const { uid } = createPod(api, { name, labels, containers: ["main", "free"] }, t);
    return containerd.sandbox({ uid, name, cgroup: `${cgroupParent()}/kubepods/burstable/pod${uid}` }, t);
  };
  const web = await podOf("web", { app: "web" });
  for (let i = 0; i < 5; ++i) t.equal(await exitOf(containerd, await web.start("main", ...READ)), 1, "a selected one");
  t.equal(await exitOf(containerd, await web.start("free", ...READ)), 0, "one that the guard leaves out");
  const db = await podOf("db", { app: "db" });
  t.equal(await exitOf(containerd, await db.start("main", ...READ)), 0, "one of another pod");
  t.ok((await daemon.metric("janusd_arrivals_total", { outcome: "admitted" })) >= 9, "sandboxes, too");
  t.equal(await daemon.metric("janusd_arrivals_total", { outcome: "expired" }), 0);
  t.equal(await daemon.metric("janusd_exposure_total", { cause: "pod_unknown" }), 0);

  const uid = "99999999-1d2a-4c6b-8e9f-001122334455"; // no object is of it
  const cgroup = `${cgroupParent()}/kubepods/burstable/pod${uid}`;
  api.kubectl(["delete", "jg", "secrets"]);
  const waits = () => daemon.metric("janusd_ebpf_program_attached", { program: "arrival_mkdir" });
  await eventually("without a guard nobody is held", async () => (await waits()) === 0);
  const nobody = await containerd.sandbox({ uid, name: "nobody", cgroup }, t);
  t.equal(await exitOf(containerd, await nobody.start("main", ...READ)), 0);
  t.equal(await daemon.metric("janusd_arrivals_total", { outcome: "expired" }), 0);
});
