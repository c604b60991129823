/** What keeps the daemon from starting: the exit status, and one clear line for each reason. */
import { existsSync, lstatSync, mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { credentials } from "@grpc/grpc-js";
import t from "tap";
import { JanusClient } from "../../src/cli/client.js";
import { certificate } from "../support/certificates.js";
import { workspaceDirectory } from "../support/cleanup.js";
import { freePort, runToEnd, startDaemon } from "../support/daemon.js";

const directory = mkdtempSync(join(workspaceDirectory(), "start-"));

t.test("not root", async (t) => {
  const { status, lines } = runToEnd([], ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]);
  t.equal(status, 1);
  t.match(lines[0], /^janusd: .*root/);
  for (const line of lines) t.match(line, /^janusd: /);
});

t.test("no BTF", async (t) => {
  // Only this process' mount namespace loses it.
  const hidden = 'mount -t tmpfs none /sys/kernel/btf && exec "$@"';
  const { status, lines } = runToEnd([], ["unshare", "--mount", "sh", "-c", hidden, "sh"]);
  t.equal(status, 1);
  t.match(lines, [/^janusd: .*BTF/]);
});

t.test("a command line that makes no sense", async (t) => {
  const { status, lines } = runToEnd(["--bogus"]);
  t.equal(status, 2);
  t.match(lines, [/^janusd: .*--bogus/]);
});

t.test("a guard file that makes no sense, or isn't there", async (t) => {
  const file = join(directory, "guards.yaml");
  writeFileSync(
    file,
    `apiVersion: januscontroller.clustergarage.io/v1alpha1\nkind: JanusGuard\nspec: { containers: [] }\n`,
  );
  const bad = runToEnd(["--guards", file]);
  t.equal(bad.status, 2);
  t.ok(bad.lines.length > 1);
  for (const line of bad.lines) t.ok(line.startsWith(`janusd: ${file}:`), line);
  const missing = runToEnd(["--guards", join(directory, "nowhere.yaml")]);
  t.equal(missing.status, 2);
  t.match(missing.lines, [/^janusd: --guards: .*nowhere\.yaml/]);
});

t.test("a state file that cannot be written", async (t) => {
  writeFileSync(join(directory, "file"), "");
  const there = [join(directory, "file", "guards.json"), directory, "/sys/nope/guards.json", "/proc/nope/guards.json"];
  for (const file of there) {
    const { status, lines } = runToEnd([`--state-file=${file}`]);
    t.equal(status, 1, file);
    t.equal(lines.length, 1);
    t.ok(lines[0]?.startsWith(`janusd: --state-file ${file}: cannot keep guards there: `), lines.join());
  }
});

t.test("an address that is taken", async (t) => {
  const taken = createServer();
  const port = await freePort();
  await new Promise<void>((resolve) => taken.listen(port, "127.0.0.1", resolve));
  t.teardown(() => taken.close());
  for (const flag of ["--http", "--listen"]) {
    const { status, lines, log } = runToEnd([`${flag}=127.0.0.1:${port}`]);
    t.equal(status, 1, flag);
    t.same(lines, [`janusd: ${flag} 127.0.0.1:${port}: in use: another process listens there`]);
    t.same(log, [], "before anything is enforced");
  }
});

t.test("several that start at once on a dead daemon's socket: one serves, the others name it and end", async (t) => {
  const path = join(directory, "janusd.sock");
  const flags = [`--listen=unix://${path}`];
  const first = await startDaemon({ flags }, t);
  await first.kill();
  t.ok(lstatSync(path).isSocket(), "it is left");
  const starts = await Promise.allSettled([1, 2, 3].map(() => startDaemon({ flags }, t)));
  const [serving, ...more] = starts.flatMap((start) => (start.status === "fulfilled" ? [start.value] : []));
  if (serving === undefined) throw new Error("none serves");
  t.same(more, []);
  for (const start of starts) {
    if (start.status === "fulfilled") continue;
    t.match(start.reason, { message: `in use: process ${serving.pid} listens there` });
    t.notMatch(start.reason, { message: "enforcing" });
  }
  const client = new JanusClient(`unix://${path}`, credentials.createInsecure());
  t.teardown(() => client.close());
  t.match(await client.getStatus(), { pid: serving.pid });
  await serving.stop();
  for (const left of [path, `${path}.lock`]) t.notOk(existsSync(left), left);
});

t.test("TLS files that cannot be used", async (t) => {
  const file = (name: string) => join(directory, name);
  certificate(directory, "ca");
  certificate(directory, "server", { issuer: "ca" });
  certificate(directory, "client", { issuer: "ca" });
  writeFileSync(file("rubbish.pem"), "no certificate\n");
  writeFileSync(file("torn.pem"), readFileSync(file("ca.crt"), "utf8").replace("\nMI", "\n!!"));
  const good = { tlscafile: file("ca.crt"), tlscertfile: file("server.crt"), tlskeyfile: file("server.key") };
  const cases: [flag: keyof typeof good, file: string, reason: RegExp][] = [
    ["tlscafile", "rubbish.pem", /there is no certificate in it/],
    ["tlscafile", "torn.pem", /no usable PEM/],
    ["tlscafile", "server.key", /there is no certificate in it/],
    ["tlscertfile", "rubbish.pem", /no usable PEM/],
    ["tlskeyfile", "rubbish.pem", /no usable PEM/],
    ["tlskeyfile", "client.key", /it is another certificate's key/],
    ["tlscafile", "nowhere.pem", /there is no such file/],
    ["tlscertfile", "nowhere.pem", /there is no such file/],
    ["tlskeyfile", "nowhere.pem", /there is no such file/],
  ];
  for (const [flag, name, reason] of cases) {
    const flags = Object.entries({ ...good, [flag]: file(name) }).map(([key, value]) => `--${key}=${value}`);
    const { status, lines, log } = runToEnd(flags);
    t.equal(status, 2, `${flag} ${name}`);
    t.equal(lines.length, 1, lines.join("\n"));
    t.ok(lines[0]?.startsWith(`janusd: --${flag} ${file(name)}: `), lines.join());
    t.match(lines[0], reason);
    t.same(log, []);
  }
});
