/** Directories in watched trees: each container has a share, and no other pays for what is beyond it. */
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync } from "node:fs";
import { join } from "node:path";
import t, { type Test } from "tap";
import { workspaceDirectory } from "../support/cleanup.js";
import { startContainer } from "../support/container.js";
import { eventually, startDaemon } from "../support/daemon.js";
import { guardOn } from "../support/guard.js";

function tmpfs(t: Test): string {
  const at = mkdtempSync(join(workspaceDirectory(), "tmpfs-"));
  execFileSync("mount", ["-t", "tmpfs", "tmpfs", at]);
  t.teardown(() => execFileSync("umount", ["--lazy", at]));
  return at;
}

t.test("directories beyond the container's share are counted, and no other container pays", async (t) => {
  const daemon = await startDaemon({ flags: ["--log-format=off"] }, t);
  const container = await startContainer({ volumes: [{ source: tmpfs(t), target: "/data" }] }, t);
  const other = await startContainer({ volumes: [{ source: tmpfs(t), target: "/data" }] }, t);
  const subject = { watch: ["/data"], recursive: true, event: ["create"] };
  await daemon.createGuard(guardOn(container, subject));
  await daemon.createGuard(guardOn(other, subject, { name: "other" }));
  const refused = () =>
    daemon.metric("janusd_share_refused_total", { container: container.id, resource: "directories" });
  const volume = container.volumes[0] ?? "";
  for (let i = 0; i < 66_000; i++) mkdirSync(join(volume, String(i)));
  await eventually("it is refused", async () => (await refused()) > 0);
  await other.exec(["sh", "-c", "mkdir -p /data/a/b/c; touch /data/a/b/c/d"]);
  const told = () => daemon.metric("janusd_events_total", { guard: "other", event: "create" });
  await eventually("each of the other's is told", async () => (await told()) === 4);
  t.equal(await daemon.metric("janusd_share_refused_total", { container: other.id, resource: "directories" }), 0);
});
