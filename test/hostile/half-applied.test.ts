/** CreateGuard on two containers, of which one ends meanwhile: the guard is there, or it is not. */
import { openSync } from "node:fs";
import t from "tap";
import { startContainer } from "../support/container.js";
import { startDaemon } from "../support/daemon.js";
import { EPERM, guardOn } from "../support/guard.js";
import { seconds } from "./length.js";

t.test("all or nothing, whenever the end comes", { timeout: 120_000 + seconds * 40_000 }, async (t) => {
  const tries = 4 * seconds;
  const flags = ["--container-wait=0", "--identity-limit=100000"];
  const daemon = await startDaemon({ flags, stdout: openSync("/dev/null", "w") }, t);
  const stays = await startContainer({ files: { "/etc/secret": "" } }, t);
  const actor = await stays.actor();
  const outcomes = new Set<string>();
  for (let i = 0; i < tries; ++i) {
    const goes = await startContainer({ files: { "/etc/secret": "" } }, t);
    const guard = guardOn(stays, { deny: ["/etc/secret"] }, { cid: [stays.id, goes.id] });
    const call = daemon.createGuard(guard).then(
      () => true,
      () => false,
    );
    // Before it, within it, or after it.
    setTimeout(() => process.kill(goes.initPid, "SIGKILL"), (i * 30) / tries);
    const made = await call;
    const denied = (await actor.open("/etc/secret")) === EPERM;
    outcomes.add(`${made ? "made" : "refused"}, ${denied ? "denied" : "open"}`);
    t.equal(denied, made, made ? "it is in force" : "it is not");
    t.equal((await daemon.getGuardState()).length > 0, made, made ? "it is listed" : "nothing is listed");
    if (made) await daemon.destroyGuard({ name: "guard", podName: "pod" });
    t.equal(await actor.open("/etc/secret"), 0, "nothing is left of it");
    await goes.stop();
  }
  t.comment([...outcomes].join("; "));
  await daemon.stop();
});
