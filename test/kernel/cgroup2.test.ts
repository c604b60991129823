import t from "tap";
import { startContainer } from "../support/container.js";
import { startDaemon } from "../support/daemon.js";
import { EPERM, guardOn } from "../support/guard.js";
import { mountNamespace, onlyV2 } from "../support/namespace.js";

t.test("a node with cgroup v2 alone", async (t) => {
  const enter = await mountNamespace(onlyV2, t);
  const daemon = await startDaemon({ enter }, t);
  const container = await startContainer({ enter, files: { "/etc/secret": "" }, init: "actor" }, t);
  const actor = await container.actor();
  const handle = await daemon.createGuard(guardOn(container, { deny: ["/etc/secret"], autoAllowOwner: true }));
  t.same(handle.pid, [container.initPid]);
  t.equal(await actor.open("/etc/secret"), EPERM);
  t.equal(await container.init.open("/etc/secret"), 0);
  await container.stop();
  await daemon.stop();
});
