/**
 * The kernel tier: this computer's kernel need not take its programs, Debian's 6.12 does. It is booted with two emulated
 * processors, and smoke.ts runs there. `make kernels` has more kernels, and all tests of the tier.
 */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import t from "tap";
import { workspaceDirectory } from "../support/cleanup.js";
import { boot, makeDisk, makeKernel, type Step } from "./machine.js";

/** Some ten times what it takes on a computer that does nothing else. */
const patienceMs = 20 * 60_000;
t.setTimeout(patienceMs + 5 * 60_000);

const directory = join(workspaceDirectory(), "machine");

/** Why there can be no machine. What it boots is there if there can. */
function missing(): string | undefined {
  if (process.arch !== "x64") return `the machine is an x86-64, this build is of ${process.arch}`;
  const { error } = spawnSync("qemu-system-x86_64", ["--version"]);
  if (error !== undefined) return `no qemu-system-x86_64: ${error.message}`;
  return makeKernel("6.12", directory) === undefined ? "apt has no kernel 6.12, and none is kept" : undefined;
}

t.test("Linux 6.12 in a virtual machine", { skip: missing() ?? false, timeout: patienceMs + 240_000 }, async (t) => {
  const disk = join(directory, "disk");
  makeDisk(disk);
  const steps: Step[] = [];
  await boot({ directory, disk, processors: 2, patienceMs }, ["smoke"], (step) => steps.push(step));
  for (const { ok, seconds, output } of steps) {
    t.comment(`${seconds} s`);
    for (const line of output) {
      const [, result, what = ""] = /^(ok|not ok) \d+ - (.*)$/.exec(line) ?? [];
      if (result !== undefined) t.equal(result, "ok", what);
    }
    t.ok(ok, "it came to its end", ok ? {} : { output });
  }
  t.equal(steps.length, 1, "of one step");
});
