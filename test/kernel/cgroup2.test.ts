import { spawn } from "node:child_process";
import t from "tap";
import { killAtExit } from "../support/cleanup.js";
import { startContainer } from "../support/container.js";
import { startDaemon } from "../support/daemon.js";
import { EPERM, guardOn } from "../support/guard.js";

// A mount namespace in which /sys/fs/cgroup is cgroup v2 and nothing else, as on a current node.
const script = `
  mount --make-rprivate / &&
  umount --recursive /sys/fs/cgroup &&
  mount -t cgroup2 cgroup2 /sys/fs/cgroup &&
  echo ready && exec sleep 1000000`;

t.test("a node with cgroup v2 alone", async (t) => {
  const keeper = spawn("unshare", ["--mount", "sh", "-c", script], { stdio: ["ignore", "pipe", "inherit"] });
  const { pid } = keeper;
  if (pid === undefined) throw new Error("no keeper");
  const forget = killAtExit(pid);
  t.teardown(() => {
    keeper.kill("SIGKILL");
    forget();
  });
  const [line] = await new Promise<Buffer[]>((resolve) =>
    keeper.stdout.once("data", (chunk: Buffer) => resolve([chunk])),
  );
  t.equal(line?.toString(), "ready\n");
  const enter = ["nsenter", `--mount=/proc/${pid}/ns/mnt`, "--"];
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
