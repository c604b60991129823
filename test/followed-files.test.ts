import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import { FollowedFiles } from "../src/followed-files.js";
import { workspaceDirectory } from "./support/cleanup.js";
import { eventually } from "./support/daemon.js";

const directory = mkdtempSync(join(workspaceDirectory(), "followed-"));

t.test("each way to change a file is told, once", async (t) => {
  const file = join(directory, "file");
  const swap = (version: string, content: string) => {
    mkdirSync(join(directory, version));
    writeFileSync(join(directory, version, "file"), content);
    symlinkSync(version, join(directory, "..data.new"));
    renameSync(join(directory, "..data.new"), join(directory, "..data"));
  };
  writeFileSync(file, "first");
  const followed = new FollowedFiles([file], 10);
  t.teardown(() => followed.close());
  let told = 0;
  const expected = async (what: string, change: () => void) => {
    const before = told;
    change();
    await eventually(what, () => told > before);
    await new Promise((resolve) => setTimeout(resolve, 100));
    t.equal(told, before + 1, what);
  };
  writeFileSync(file, "between the first look and the first turn");
  await expected("changed after the first look", () => followed.follow(() => told++));
  await expected("written in place", () => writeFileSync(file, "second"));
  await expected("renamed over, as editors do", () => {
    writeFileSync(join(directory, "new"), "third!");
    renameSync(join(directory, "new"), file);
  });
  await expected("gone", () => rmSync(file));
  swap("..1", "fourth");
  await expected("a link two levels up", () => symlinkSync(join("..data", "file"), file));
  await expected("which is swapped, as the kubelet does", () => swap("..2", "fifth!"));
  followed.close();
  swap("..3", "sixth");
  await new Promise((resolve) => setTimeout(resolve, 100));
  t.equal(told, 6, "nothing is told after the end");
});
