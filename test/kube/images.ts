/** The images of the suite's pods. */
import { execFileSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { dockerArchive, installBusybox } from "../support/image.js";

/** Opens what its argument names, before anything else, and writes what came of it: READ, or the error. */
export const firstProgram = "/first";

/** Does the same, and writes before that when it began. */
export const startedProgram = "/started";

/** Busybox, with a file that guards deny and one that they don't. */
export const appImage = "janusd.test/app:1";

export const secret = "/etc/app/secret";

/** Returns the archive's file, below `directory`. */
export function makeAppImage(directory: string): string {
  return dockerArchive(directory, appImage, { Cmd: ["sleep", "1000000"] }, (root) => {
    installBusybox(root, [
      "sh",
      "cat",
      "sleep",
      "true",
      "false",
      "ls",
      "tar",
      "ln",
      "mkdir",
      "echo",
      "date",
      "seq",
      "wc",
    ]);
    for (const program of [firstProgram, startedProgram]) {
      const source = new URL(`.${program}.c`, import.meta.url).pathname;
      execFileSync("cc", ["-static", "-Os", "-s", "-o", join(root, program), source]);
    }
    mkdirSync(join(root, "etc/app"));
    writeFileSync(join(root, secret), "s3cret\n");
    writeFileSync(join(root, "etc/app/open"), "open\n");
  });
}
