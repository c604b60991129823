/** What a guard would have changed of what was recorded: before it is held, and without holding it. */
import t from "tap";
import { Response } from "../../src/gen/janus/v1/events_pb.js";
import { type Container, startContainer } from "../support/container.js";
import { type GuardInit, startDaemon } from "../support/daemon.js";
import { EPERM, guardOn } from "../support/guard.js";
import { janusctl } from "../support/janusctl.js";

const files = { "/etc/secret": "", "/etc/open": "", "/etc/other": "" };

const guardFile = (container: Container, deny: string) => `
apiVersion: januscontroller.clustergarage.io/v1alpha1
kind: JanusGuard
metadata: { name: guard }
spec:
  podName: pod
  containers: ["containerd://${container.id}"]
  subjects:
    - { deny: [${deny}], events: [open] }
`;

t.test("which verdicts would differ, and nothing changes by it", async (t) => {
  const daemon = await startDaemon({}, t);
  const container = await startContainer({ files, init: "actor" }, t);
  const actor = await container.actor({ uid: 1000 });
  const now = { deny: ["/etc/secret"], allow: ["/etc"], recursive: true, exact: true };
  await daemon.createGuard(guardOn(container, now));
  for (const path of ["/etc/secret", "/etc/secret", "/etc/open", "/etc/other"]) await actor.open(path);
  await container.init.open("/etc/other");
  await daemon.waitForLine((line) => line.includes("/etc/other") && daemon.lines.length === 5);

  const rehearse = async (subject: Parameters<typeof guardOn>[1], rest: GuardInit = {}) => {
    const config = guardOn(container, subject, { name: "guard", podName: "pod", ...rest });
    const said = await daemon.client.rehearse({
      config,
      events: 100,
      examples: 10,
    });
    return said.examples.map(
      ({ count, event, path, uid, was, wouldBe }) =>
        `${count} ${event} ${path} ${uid} ${Response[was]} ${Response[wouldBe]}`,
    );
  };
  t.same(await rehearse(now), [], "as it is");
  t.same(await rehearse({ deny: ["/etc/open"], allow: ["/etc"], recursive: true }), [
    "2 open /etc/secret 1000 DENY ALLOW",
    "1 open /etc/open 1000 ALLOW DENY",
  ]);
  t.same(
    await rehearse({ deny: ["/etc/open"] }, { name: "second" }),
    ["1 open /etc/open 1000 ALLOW DENY"],
    "beside the one that denies",
  );
  t.same(await rehearse({ deny: ["/etc/secret", "/etc/open"] }, { mode: 1 }), [
    "2 open /etc/secret 1000 DENY AUDIT",
    "1 open /etc/open 1000 ALLOW AUDIT",
  ]);
  t.same(
    await rehearse({ deny: ["/etc/secret", "/etc/other"], autoAllowOwner: true }),
    ["1 open /etc/other 1000 ALLOW DENY"],
    "the owner lives, so that it is one is known",
  );
  t.equal(await daemon.metric("janusd_guards"), 1);
  t.equal(await actor.open("/etc/secret"), EPERM);
  t.equal(await actor.open("/etc/open"), 0);
  await daemon.stop();
});

t.test("rules on a link and on a volume are judged where they lead; who has ended is said to be assumed", async (t) => {
  const daemon = await startDaemon({}, t);
  const container = await startContainer({ files, init: "actor", volumes: [{ target: "/data" }] }, t);
  await daemon.createGuard(
    guardOn(container, {
      allow: ["/bin", "/etc/other", "/data"],
      event: ["exec", "open"],
      recursive: true,
      exact: true,
    }),
  );
  const actor = await container.actor();
  t.equal(await actor.write("/data/sub", ""), 0);
  t.equal(await container.init.exec("/bin/cat", "/etc/other"), 0);
  await daemon.waitForLine((line) => line.includes("/etc/other"));
  const config = guardOn(container, {
    deny: ["/bin/wget", "/etc/other", "/data/sub"],
    event: ["exec", "open"],
    autoAllowOwner: true,
  });
  const said = await daemon.client.rehearse({ config, events: 10_000, examples: 10 });
  t.same(said.examples.map(({ event, path }) => `${event} ${path}`).sort(), [
    "exec /bin/busybox",
    "open /bin/busybox",
    "open /data/sub",
    "open /etc/other",
  ]);
  t.ok(said.assumed > 0n, "the child of the first process has ended");
  await daemon.stop();
});

t.test("janusctl: dry run and diff, with the last events", async (t) => {
  const daemon = await startDaemon({}, t);
  const container = await startContainer({ files }, t);
  const actor = await container.actor();
  await daemon.createGuard(guardOn(container, { deny: ["/etc/secret"], allow: ["/etc"], exact: true }));
  for (let count = 0; count < 3; ++count) t.equal(await actor.open("/etc/open"), 0);
  await daemon.waitForLine(() => daemon.lines.length === 3);
  const stdin = guardFile(container, "/etc/open");
  const address = ["--address", daemon.grpcAddress];
  const dry = await janusctl([...address, "apply", "--dry-run", "-f", "-"], { stdin });
  t.match(dry, { status: 0 });
  t.match(
    dry.out,
    /^guard configured \(dry run\)\nof the last 3 events \(since .*Z\), 3 would be answered otherwise: 3 ALLOW -> DENY\n/,
  );
  t.match(dry.out, /\n3 +open +\/etc\/open +\/bin\/actor +actor +0 +[0-9a-f]{12} +ALLOW +DENY\n$/);
  t.match(await janusctl([...address, "create", "--dry-run", "--events", "1", "-f", "-"], { stdin }), {
    status: 0,
    out: /of the last 1 events .* 1 would be answered otherwise/,
  });
  const diff = await janusctl([...address, "diff", "-f", "-"], { stdin });
  t.equal(diff.status, 1);
  t.match(diff.out, /\n# of the last 3 events .*3 ALLOW -> DENY\n# COUNT/);
  t.notMatch((await janusctl([...address, "diff", "--events", "0", "-f", "-"], { stdin })).out, /# of the last/);
  t.equal(await actor.open("/etc/open"), 0);
  t.match(await janusctl([...address, "diff", "--events", "-1", "-f", "-"], { stdin }), { status: 2, err: /--events/ });
  await daemon.stop();
});
