/** How many mount namespaces there are is a container's to choose: what a neighbour makes is seen all the same. */
import t from "tap";
import { startContainer, staticProgram } from "../support/container.js";
import { startDaemon } from "../support/daemon.js";
import { guardOn } from "../support/guard.js";
import { CLONE_NEWNS, seen, volumeContainer } from "../support/new-mounts.js";

const programs = { "/bin/storm9": staticProgram(new URL("storm9.c", import.meta.url).pathname) };

for (const [burst, limit] of [
  [200, 2000],
  [1000, 4000],
] as const) {
  t.test(`${burst} namespaces in another container, by uid 1000 in a user namespace`, async (t) => {
    const daemon = await startDaemon({}, t);
    const neighbour = await volumeContainer(t);
    const attacker = await startContainer({ programs, volumes: [{ target: "/data" }] }, t);
    await daemon.createGuard(seen(neighbour));
    const attacked = guardOn(attacker, { deny: ["/data/s"], recursive: true });
    await daemon.createGuard({ ...attacked, name: "attacker", podName: "attacker" });
    void attacker.exec(["storm9", "usens", String(burst)], { uid: 1000 });
    const actor = await neighbour.actor({ capabilities: "sys_admin" });
    await new Promise((resolve) => setTimeout(resolve, 3000));
    // Without an exec or a fork only the look tells.
    t.equal(await actor.unshare(CLONE_NEWNS), 0);
    const begun = Date.now();
    while ((await daemon.metric("janusd_events_total", { event: "open" })) === 0 && Date.now() - begun < 60_000)
      for (let i = 0; i < 20; ++i) await actor.open("/data/file");
    const ms = Date.now() - begun;
    t.comment(`seen after ${ms} ms`);
    t.ok(ms < limit, "while the other container's are marked, too");
    await daemon.kill();
  });
}
