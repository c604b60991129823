/** A request that needs more descriptors than there are is refused before anybody else lacks one. */
import t from "tap";
import { startContainer } from "../support/container.js";
import { rpcError, startDaemon } from "../support/daemon.js";
import { EPERM, guardOn } from "../support/guard.js";
import { seconds } from "./length.js";

t.test("a guard of 5,000 paths with 1,024 descriptors: opens elsewhere are not denied", async (t) => {
  const daemon = await startDaemon({ enter: ["prlimit", "--nofile=1024:1024"] }, t);
  const large = await startContainer({}, t);
  const other = await startContainer({ files: { "/etc/secret": "", "/etc/open": "" } }, t);
  await daemon.createGuard({ ...guardOn(other, { deny: ["/etc/secret"] }), name: "other", podName: "other" });
  await large.exec(["sh", "-c", "mkdir /etc/many; cd /etc/many; seq 0 4999 | xargs touch"]);
  const deny = Array.from({ length: 5000 }, (_, i) => `/etc/many/${i}`);
  const milliseconds = 2000 + seconds * 1000;
  const actor = await other.actor();
  const secret = await other.actor();
  const opening = actor.repeat("/etc/open", 1e9, milliseconds);
  const secretly = secret.repeat("/etc/secret", 1e9, milliseconds);
  const until = Date.now() + milliseconds;
  let refused = 0;
  for (; Date.now() < until; ++refused)
    t.match(await rpcError(daemon.createGuard(guardOn(large, { deny }))), { code: "RESOURCE_EXHAUSTED" });
  t.ok(refused > 0);
  t.match(await opening, { denied: 0, other: 0 }, "nobody denies this one");
  t.match(await secretly, { opened: 0 });
  t.equal(await daemon.metric("janusd_exposure_total", { cause: "unreadable" }), 0);
  t.equal(await actor.open("/etc/secret"), EPERM);
  await daemon.createGuard(guardOn(large, { deny: deny.slice(0, 300) }));
  t.equal(await (await large.actor()).open("/etc/many/299"), EPERM, "what fits is guarded");
  await daemon.stop();
});
