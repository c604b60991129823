/** Container images of a test's own: no registry is asked. */
import { execFileSync } from "node:child_process";
import { copyFileSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** What an image says about how it is run; the names are Docker's. */
export interface ImageConfig {
  readonly Cmd?: readonly string[];
  readonly Entrypoint?: readonly string[];
  readonly Env?: readonly string[];
}

/** An image of one layer, which `fill` puts into a directory. Returns the archive's file, below `directory`. */
export function dockerArchive(
  directory: string,
  name: string,
  config: ImageConfig,
  fill: (root: string) => void,
): string {
  const root = join(directory, "root");
  mkdirSync(root, { recursive: true });
  fill(root);
  execFileSync("tar", ["-C", root, "-cf", join(directory, "layer.tar"), "."]);
  const [sum = ""] = execFileSync("sha256sum", [join(directory, "layer.tar")], { encoding: "utf8" }).split(" ");
  const content = {
    ...{ architecture: process.arch === "x64" ? "amd64" : process.arch, os: "linux", config },
    rootfs: { type: "layers", diff_ids: [`sha256:${sum}`] },
  };
  writeFileSync(join(directory, "config.json"), JSON.stringify(content));
  const manifest = [{ Config: "config.json", RepoTags: [name], Layers: ["layer.tar"] }];
  writeFileSync(join(directory, "manifest.json"), JSON.stringify(manifest));
  const archive = join(directory, "image.tar");
  execFileSync("tar", ["-C", directory, "-cf", archive, "manifest.json", "config.json", "layer.tar"]);
  return archive;
}

/** Debian's static busybox, some of its applets, and the directories that a container wants. */
export function installBusybox(root: string, applets: readonly string[]): void {
  for (const made of ["bin", "etc", "proc", "sys", "dev", "tmp", "run"])
    mkdirSync(join(root, made), { recursive: true });
  copyFileSync("/bin/busybox", join(root, "bin/busybox"));
  for (const applet of applets) symlinkSync("busybox", join(root, "bin", applet));
}
