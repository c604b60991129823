import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import { forgetStall, readStall } from "../src/stall.js";

t.test("what the keeper left is read, and told once", async (t) => {
  const file = join(t.testdir({}), "guards.json.stalled");
  t.equal(readStall(file), undefined, "nothing stood still");
  writeFileSync(file, '{"stoodMs":10250,"endedMs":1764063600000}\n');
  t.same(readStall(file), { stoodMs: 10_250, endedMs: 1_764_063_600_000 });
  forgetStall(file);
  t.equal(readStall(file), undefined);
});

t.test("of a file that is cut off, or anything else, it is only known that there was one", async (t) => {
  const directory = t.testdir({});
  for (const [i, text] of ["", '{"stoodMs":10250,"end', "null\n", '{"stoodMs":"x","endedMs":1}\n'].entries()) {
    const file = join(directory, String(i));
    writeFileSync(file, text);
    t.same(readStall(file), {}, JSON.stringify(text));
  }
  mkdirSync(join(directory, "directory"));
  t.equal(readStall(join(directory, "directory")), undefined);
});
