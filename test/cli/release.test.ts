import { mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Readable } from "node:stream";
import t from "tap";
import { release } from "../../src/cli/release.js";

async function released(directory: string): Promise<string> {
  let text = "";
  const io = { stdin: Readable.from([]), stdout: (part: string) => (text += part), stderr: () => undefined };
  t.equal(await release(io, directory), 0);
  return text;
}

t.test("everything that is held goes, and it is said of how many", async (t) => {
  const base = t.testdir();
  const directory = join(base, "janusd");
  t.equal(await released(directory), "Nothing is held in the kernel.\n", "no daemon was ever there");
  for (const daemon of ["1-2", "3-4"]) {
    mkdirSync(join(directory, daemon), { recursive: true });
    for (const link of ["decide_open", "on_fork"]) writeFileSync(join(directory, daemon, link), "");
  }
  t.equal(await released(directory), "Released what was held in the kernel by 2 daemons.\n");
  t.same(readdirSync(directory), []);
  t.equal(await released(directory), "Nothing is held in the kernel.\n");
});

t.test("what cannot be read is said", async (t) => {
  const file = join(t.testdir({ file: "" }), "file");
  await t.rejects(released(file), /ENOTDIR/);
});
