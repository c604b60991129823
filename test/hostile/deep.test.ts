/** The depth of a path is a container's to choose: judging it costs no neighbour anything. */
import t from "tap";
import { startContainer, staticProgram } from "../support/container.js";
import { startDaemon } from "../support/daemon.js";
import { guardOn } from "../support/guard.js";

const programs = { "/bin/storm9": staticProgram(new URL("storm9.c", import.meta.url).pathname) };

for (const exclude of [["*.log"], ["**/*.log"], ["**/*.log", "**/cache/**", "**/*.tmp", "**/.git/**"]]) {
  t.test(`a denied file 16,000 levels down: exclude ${exclude}`, async (t) => {
    const daemon = await startDaemon({}, t);
    const container = await startContainer({ programs, files: { "/data/s/token": "", "/data/w/x": "" } }, t);
    const neighbour = await startContainer({ files: { "/secrets/token": "" } }, t);
    await daemon.createGuard({ ...guardOn(neighbour, { deny: ["/secrets"] }), name: "n", podName: "n" });
    await daemon.createGuard(guardOn(container, { deny: ["/data/s"], recursive: true, exclude }));
    const actor = await neighbour.actor();
    const opening = actor.repeat("/secrets/token", 1e9, 4000);
    const { stdout } = await container.exec(["sh", "-c", "cd /data/s && storm9 deep 16000 /data/s/token 4"]);
    t.equal(stdout.match(/not permitted/g)?.length, 4, "each open is denied");
    t.match(await opening, { opened: 0 }, "the neighbour's secret, too");
    t.equal(await daemon.metric("janusd_exposure_total", { cause: "deadline" }), 0);
    await daemon.stop();
  });
}
