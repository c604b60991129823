/** Mount namespaces that look like other nodes. */
import { spawn } from "node:child_process";
import { killAtExit } from "./cleanup.js";

/** Cgroup v2 alone, as on a current node. */
export const onlyV2 = "umount --recursive /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup";

/** Cgroup v1 alone, as on an old one. Where the machine itself has both. */
export const onlyV1 = "umount /sys/fs/cgroup/unified";

/** A mount namespace in which `script` ran; it ends with the test. Returns the prefix of commands that enter it. */
export async function mountNamespace(
  script: string,
  t: { teardown(handler: () => void): unknown },
): Promise<readonly string[]> {
  const keeper = spawn(
    "unshare",
    ["--mount", "sh", "-c", `mount --make-rprivate / && ${script} && echo ready && exec sleep 1000000`],
    { stdio: ["ignore", "pipe", "inherit"] },
  );
  const { pid } = keeper;
  if (pid === undefined) throw new Error("cannot start unshare");
  const forget = killAtExit(pid);
  t.teardown(() => {
    keeper.kill("SIGKILL");
    forget();
  });
  await new Promise<void>((resolve, reject) => {
    keeper.stdout.once("data", () => resolve());
    keeper.once("exit", () => reject(new Error(`failed: ${script}`)));
  });
  return ["nsenter", `--mount=/proc/${pid}/ns/mnt`, "--"];
}
