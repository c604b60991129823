/** A real containerd says which containers run, of which pods. */
import { join } from "node:path";
import t from "tap";
import { ContainerRuntime } from "../../src/kubernetes/cri.js";
import { cgroupParent } from "../support/cleanup.js";
import { Containerd } from "../support/runtimes.js";

t.test("containers of pods, until they end; never the sandbox", async (t) => {
  const containerd = await Containerd.start(t);
  const runtime = new ContainerRuntime(containerd.socket);
  t.teardown(() => runtime.close());
  t.same(await runtime.list(), []);
  containerd.run("alone"); // no pod's
  await t.test("of a pod", async (t) => {
    const { container } = await containerd.pod(join(cgroupParent(), "kubepods/poduid"), t);
    t.same(await runtime.list(), [{ podUid: "uid", id: container.id, name: "web" }]);
  });
  t.same(await runtime.list(), [], "the pod was removed");
});

t.test("a socket that nobody serves", async (t) => {
  const runtime = new ContainerRuntime("/nowhere/containerd.sock");
  t.teardown(() => runtime.close());
  await t.rejects(runtime.list(), { message: /^cannot list containers at \/nowhere\/containerd\.sock: / });
});
