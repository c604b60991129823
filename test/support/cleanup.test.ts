import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { basename } from "node:path";
import t from "tap";
import { cgroupsNamed, mountsBelow, sweep, workspaces } from "./cleanup.js";
import { eventually } from "./daemon.js";

const program = new URL("abandon.ts", import.meta.url).pathname;

for (const [signal, swept] of [
  ["SIGINT", false],
  ["SIGTERM", false],
  ["SIGKILL", true],
] as const) {
  t.test(`${signal}: what it made is gone${swept ? " after the next run's sweep" : ""}`, async (t) => {
    const child = spawn(process.execPath, [...process.execArgv, program], { stdio: ["ignore", "pipe", "inherit"] });
    t.teardown(() => child.kill("SIGKILL"));
    const [directory = "", pid = ""] = await new Promise<string[]>((resolve) =>
      child.stdout.once("data", (line: Buffer) => resolve(line.toString().trim().split(" "))),
    );
    t.ok(existsSync(`/proc/${pid}`), "the container runs");
    t.ok(workspaces(true).includes(directory));
    t.not(mountsBelow(directory).length, 0);
    const ended = new Promise((resolve) => child.once("exit", (_code, by) => resolve(by)));
    child.kill(signal);
    t.equal(await ended, signal);
    if (swept) {
      t.ok(workspaces(false).includes(directory), "it could not clean up");
      sweep();
    }
    await eventually("the container's process is reaped", () => !existsSync(`/proc/${pid}`));
    t.notOk(existsSync(directory));
    t.same(mountsBelow(directory), []);
    t.same(cgroupsNamed(basename(directory)), []);
  });
}
