/** The images of the suite's pods. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { dockerArchive, installBusybox } from "../support/image.js";

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
    mkdirSync(join(root, "etc/app"));
    writeFileSync(join(root, secret), "s3cret\n");
    writeFileSync(join(root, "etc/app/open"), "open\n");
  });
}
