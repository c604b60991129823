/**
 * An image layer with a C compiler and npm in it, copied from the node, and a
 * tree of sources to build: work such as containers do, on the container's own
 * overlay, which a mark of ours covers.
 */
import { execFileSync } from "node:child_process";
import {
  copyFileSync,
  cpSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";

const read = (command: string, ...args: string[]) => execFileSync(command, args, { encoding: "utf8" }).trim();

const npmFlags = ["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", "--logs-max=0"];

const project = new URL("..", import.meta.url).pathname;

class Layer {
  readonly root: string;

  constructor(root: string) {
    this.root = root;
    for (const directory of ["usr/bin", "usr/lib", "usr/lib64", "usr/include", "src"])
      mkdirSync(join(root, directory), { recursive: true });
    for (const name of ["lib", "lib64"]) symlinkSync(`usr/${name}`, join(root, name));
  }

  /** Copies a file, whatever links lead to it, to the same path. */
  copy(path: string): void {
    const target = join(this.root, path);
    mkdirSync(dirname(target), { recursive: true });
    copyFileSync(path, target);
  }

  copyTree(path: string): void {
    cpSync(path, join(this.root, path), { recursive: true, verbatimSymlinks: true });
  }

  /** A program or plug-in, and the libraries that it loads. */
  copyProgram(path: string): void {
    this.copy(path);
    for (const match of read("ldd", path).matchAll(/(\/\S+) \(0x/g)) if (match[1] !== undefined) this.copy(match[1]);
  }
}

function addCompiler(layer: Layer): void {
  for (const name of ["gcc", "make"]) layer.copyProgram(`/usr/bin/${name}`);
  // gcc looks for its parts under fixed names: `as` and `ld` on the PATH, the rest in its own directory.
  for (const name of ["as", "ld"]) layer.copyProgram(`/usr/bin/${name}`);
  for (const name of ["cc1", "collect2"]) layer.copyProgram(read("gcc", `-print-prog-name=${name}`));
  layer.copyProgram(read("gcc", "-print-file-name=liblto_plugin.so"));
  layer.copyTree(read("gcc", "-print-file-name=include"));
  const system = dirname(realpathSync(read("gcc", "-print-file-name=libc.so")));
  const own = dirname(read("gcc", "-print-libgcc-file-name"));
  for (const name of ["libc.so", "libc.so.6", "libc_nonshared.a", "crti.o", "crtn.o", "Scrt1.o"])
    layer.copy(join(system, name));
  for (const name of ["libgcc.a", "libgcc_s.so", "crtbeginS.o", "crtendS.o"]) layer.copy(join(own, name));
  layer.copy(join(system, "libgcc_s.so.1"));
  for (const entry of readdirSync("/usr/include")) if (entry.endsWith(".h")) layer.copy(`/usr/include/${entry}`);
  for (const name of ["x86_64-linux-gnu", "linux", "asm-generic"]) layer.copyTree(`/usr/include/${name}`);
}

/** Many small sources and headers, each including some of the others and of the system's. */
function addSources(layer: Layer): void {
  const modules = 40;
  const source = join(layer.root, "src", "tree");
  mkdirSync(source);
  for (let module = 0; module < modules; ++module) {
    const directory = join(source, `part${module % 8}`);
    mkdirSync(directory, { recursive: true });
    const others = [1, 2, 3, 5, 8].map((step) => (module + step) % modules);
    writeFileSync(
      join(directory, `m${module}.h`),
      `#pragma once\n#include <stddef.h>\nint m${module}(size_t n, const char *text);\n`,
    );
    writeFileSync(
      join(directory, `m${module}.c`),
      [
        ...["stdio", "stdlib", "string", "errno", "unistd"].map((name) => `#include <${name}.h>`),
        ...[module, ...others].map((other) => `#include "part${other % 8}/m${other}.h"`),
        ...Array.from(
          { length: 20 },
          (_, index) =>
            `static int f${index}(size_t n, const char *s) { return n ? (int)strlen(s) + ${index} : errno; }`,
        ),
        `int m${module}(size_t n, const char *text) {`,
        `  return n == 0 ? 0 : ${Array.from({ length: 20 }, (_, index) => `f${index}(n, text)`).join(" + ")}`,
        `    + ${others.map((other) => `m${other}(n - 1, text)`).join(" + ")};`,
        "}",
        "",
      ].join("\n"),
    );
  }
  writeFileSync(
    join(source, "main.c"),
    '#include "part0/m0.h"\nint main(int argc, char **argv) { return m0((size_t)argc, argv[0]) == 0; }\n',
  );
  writeFileSync(
    join(source, "Makefile"),
    `objects := main.o $(patsubst %.c,%.o,$(wildcard part*/*.c))\nprogram: $(objects)\n\tgcc -o $@ $^\n%.o: %.c\n\tgcc -O1 -I. -c -o $@ $<\n`,
  );
  execFileSync("tar", ["-czf", join(layer.root, "src/tree.tar.gz"), "-C", source, "."]);
  rmSync(source, { recursive: true });
}

function readJson(file: string): Record<string, unknown> {
  return JSON.parse(readFileSync(join(project, file), "utf8")) as Record<string, unknown>;
}

/** npm, what the lockfile says of this project's run-time dependencies, and the packages as `npm ci` left them in the cache. */
function addNpm(layer: Layer): void {
  const npm = realpathSync(read("sh", "-c", "command -v npm"));
  layer.copyProgram(process.execPath);
  layer.copyTree(dirname(dirname(npm)));
  symlinkSync(npm, join(layer.root, "src/npm-cli.js"));
  symlinkSync(process.execPath, join(layer.root, "src/node"));
  const { name, version, dependencies, overrides } = readJson("package.json");
  const { lockfileVersion, packages } = readJson("package-lock.json");
  const locked = Object.entries(packages as Record<string, { dev?: boolean }>).filter(
    ([path, { dev }]) => path !== "" && dev !== true,
  );
  const root = { name, version, dependencies, overrides };
  writeFileSync(join(layer.root, "src/package.json"), JSON.stringify(root));
  writeFileSync(
    join(layer.root, "src/package-lock.json"),
    JSON.stringify({
      name,
      version,
      lockfileVersion,
      requires: true,
      packages: { "": root, ...Object.fromEntries(locked) },
    }),
  );
  // Kept between runs: only the first one needs the registry.
  const cache = new URL("build/npm-cache", import.meta.url).pathname;
  const app = join(layer.root, "src/app");
  mkdirSync(app);
  for (const file of ["package.json", "package-lock.json"])
    copyFileSync(join(layer.root, "src", file), join(app, file));
  execFileSync("npm", ["ci", "--prefer-offline", "--cache", cache, ...npmFlags], {
    cwd: app,
    stdio: ["ignore", "ignore", "inherit"],
  });
  rmSync(app, { recursive: true });
  cpSync(join(cache, "_cacache"), join(layer.root, "src/cache/_cacache"), { recursive: true });
}

/** The compiler and the tree alone. */
export function makeCompiler(root: string): Layer {
  const layer = new Layer(root);
  addCompiler(layer);
  addSources(layer);
  return layer;
}

export function makeToolchain(root: string): void {
  addNpm(makeCompiler(root));
}

/** Shell scripts; each begins from nothing. */
export const unpackAndCompile =
  "rm -rf /tmp/build && mkdir /tmp/build && tar -xzf /src/tree.tar.gz -C /tmp/build && make -s -j2 -C /tmp/build";
export const installPackages =
  "rm -rf /tmp/app && mkdir /tmp/app && cp /src/package*.json /tmp/app && cd /tmp/app && " +
  `/src/node /src/npm-cli.js ci --offline --cache /src/cache ${npmFlags.join(" ")}`;
