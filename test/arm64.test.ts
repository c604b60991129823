/** The sources are for arm64, too: what this machine can't run is at least compiled, with that architecture's headers. */
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import t from "tap";

// A compiler run for each source.
t.setTimeout(600_000);

const top = new URL("..", import.meta.url).pathname;
/** Of libc6-dev-arm64-cross and linux-libc-dev-arm64-cross (scripts/install.sh); clang finds the C++ library's. */
const arm64Headers = "/usr/aarch64-linux-gnu/include";

function compile(program: string, ...args: readonly string[]): void {
  execFileSync(program, args, { cwd: top, stdio: ["ignore", "inherit", "inherit"] });
}

function sources(directory: string, ending: string): string[] {
  return readdirSync(join(top, directory))
    .filter((name) => name.endsWith(ending))
    .map((name) => join(directory, name));
}

t.test("the eBPF programs", async (t) => {
  const flags = ["-O2", "-g", "-Wall", "-Werror", "-target", "bpf", "-mcpu=v3", "-D__TARGET_ARCH_arm64"];
  for (const source of sources("bpf", ".bpf.c"))
    t.doesNotThrow(() => compile("clang", ...flags, `-I${arm64Headers}`, "-c", source, "-o", "/dev/null"), source);
});

t.test("the addon", async (t) => {
  const { include_dir } = createRequire(import.meta.url)("node-addon-api");
  // Where node-gyp found, or put, Node's headers.
  const [, nodedir] = /"nodedir": "(.*)"/.exec(readFileSync(join(top, "native/build/config.gypi"), "utf8")) ?? [];
  const node = `${nodedir}/include/node`;
  // libbpf's headers are the same everywhere; those of arm64 come first.
  const headers = [arm64Headers, include_dir, node, "/usr/include"].flatMap((path) => ["-idirafter", path]);
  const flags = [
    "--target=aarch64-linux-gnu",
    "-fsyntax-only",
    "-std=c++20",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Inative",
    "-I.",
  ];
  const built = readdirSync(join(top, "native"), { withFileTypes: true })
    .filter((entry) => entry.isDirectory() && entry.name !== "build" && entry.name !== "test")
    .map(({ name }) => join("native", name));
  for (const source of ["native", ...built].flatMap((room) => sources(room, ".cc")))
    t.doesNotThrow(() => compile("clang++", ...flags, "-DNAPI_VERSION=8", ...headers, source), source);
});
