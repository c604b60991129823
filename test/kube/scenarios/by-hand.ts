/** The daemon as a process on the node, and a guard over gRPC: containers of a real kubelet are guarded. */
import { eventually, startDaemon } from "../../support/daemon.js";
import { secret } from "../images.js";
import { readSecret } from "../pods.js";
import type { Scenario } from "../scenario.js";

export const byHand: Scenario = async (t, cluster) => {
  const daemon = await startDaemon({}, t);
  cluster.startPod("by-hand");
  const id = cluster.get("pod", "by-hand", ".status.containerStatuses[0].containerID");
  t.match(id, /^containerd:\/\/[0-9a-f]{64}$/);
  t.match(cluster.exec("by-hand", readSecret), { status: 0, stdout: "s3cret\n" }, "before");

  const guard = { name: "by-hand", podName: "by-hand", cid: [id], subject: [{ deny: [secret], event: ["open"] }] };
  await daemon.createGuard(guard);
  t.match(cluster.exec("by-hand", readSecret), { status: 1, stderr: /Operation not permitted/ }, "guarded");
  t.match(cluster.exec("by-hand", ["cat", "/etc/app/open"]), { status: 0, stdout: "open\n" }, "another file");
  await daemon.waitForLine((line) => line.startsWith("<DENY>") && line.includes(secret));

  cluster.api.kubectl(["delete", "pod", "by-hand"]);
  await eventually("the guard is gone with its container", async () => (await daemon.getGuardState()).length === 0);
};
