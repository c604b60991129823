import t from "tap";
import { startContainer } from "../support/container.js";
import { startDaemon } from "../support/daemon.js";
import { EPERM, guardOn } from "../support/guard.js";

// The original let the first open slip in 7 of 150.
const rounds = 300;

t.test("not one open slips after CreateGuard returned, none is denied after DestroyGuard returned", async (t) => {
  const daemon = await startDaemon({}, t);
  const container = await startContainer({ files: { "/etc/secret": "s3cret" }, volumes: [{ target: "/data" }] }, t);
  container.writeVolume(0, "secret", "s3cret");
  const actor = await container.actor();
  for (const path of ["/etc/secret", "/data/secret"]) {
    let slipped = 0;
    let stuck = 0;
    for (let round = 0; round < rounds; round++) {
      await daemon.createGuard(guardOn(container, { deny: [path] }));
      if ((await actor.open(path)) !== EPERM) slipped++;
      await daemon.destroyGuard({ name: "guard", podName: "pod" });
      if ((await actor.open(path)) !== 0) stuck++;
    }
    t.same({ slipped, stuck }, { slipped: 0, stuck: 0 }, path);
  }
});

t.test("replacing a guard has no unguarded moment", async (t) => {
  const daemon = await startDaemon({}, t);
  const container = await startContainer({ files: { "/etc/secret": "s3cret", "/etc/other": "" } }, t);
  const actor = await container.actor();
  await daemon.createGuard(guardOn(container, { deny: ["/etc/secret"] }));
  const calm = actor.storm("/etc/secret");
  const start = performance.now();
  let replaced = 0;
  // (Where the kernel denies by itself, the storm leaves an emulated machine's only processor to nobody for long.)
  while (replaced <= 10 || performance.now() - start < 3000) {
    await daemon.createGuard(
      guardOn(container, { deny: ["/etc/secret", "/etc/other"], tags: { round: String(replaced++) } }),
    );
    await daemon.createGuard(guardOn(container, { deny: ["/etc/secret"] }));
  }
  const { opened, denied } = await calm();
  t.ok(denied > 1000, `${replaced} replacements, ${denied} denied`);
  t.equal(opened, 0);
});
