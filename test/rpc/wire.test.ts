/** Our definitions are still the original's, and more: buf compares them. */
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import t from "tap";

const root = new URL("../..", import.meta.url).pathname;
const original = readFileSync(new URL("../contract/original.proto", import.meta.url), "utf8");

/** buf's complaints about our proto/, if clients were built from `directory`. */
function breaks(directory: string): string {
  const args = ["breaking", "proto", "--against", directory];
  const { status, stdout, stderr } = spawnSync(`${root}node_modules/.bin/buf`, args, { cwd: root, encoding: "utf8" });
  if (status !== 0 && stdout === "") throw new Error(stderr);
  return stdout;
}

t.test("a client built from the original's definitions works", async (t) => {
  t.equal(breaks(t.testdir({ "janus.proto": original })), "");
});

t.test("and if it did not, this would say so", async (t) => {
  const earlier = original.replace("string podName = 3;", "int32 podName = 3;");
  t.not(earlier, original);
  t.match(breaks(t.testdir({ "janus.proto": earlier })), /podName/);
});
