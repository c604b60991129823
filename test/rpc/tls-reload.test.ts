import { cpSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import type { TlsMaterial } from "../../src/rpc/tls-files.js";
import { TlsReload } from "../../src/rpc/tls-reload.js";
import { certificate } from "../support/certificates.js";
import { workspaceDirectory } from "../support/cleanup.js";
import { eventually } from "../support/daemon.js";
import { LogRecorder } from "../support/engine-recorder.js";
import { WITHIN } from "../support/times.js";

const made = mkdtempSync(join(workspaceDirectory(), "tls-reload-"));
certificate(made, "ca");
for (const name of ["first", "second", "third"]) certificate(made, name, { issuer: "ca" });

/** As the kubelet lays a secret out: `tls.crt` is `..data/tls.crt`, and `..data` a link to a directory of this version. */
class Secret {
  readonly directory = mkdtempSync(join(workspaceDirectory(), "secret-"));
  readonly files = {
    ca: join(this.directory, "ca.crt"),
    cert: join(this.directory, "tls.crt"),
    key: join(this.directory, "tls.key"),
  };
  #version = 0;

  constructor(name: string) {
    this.swap(name);
    for (const file of ["ca.crt", "tls.crt", "tls.key"]) symlinkSync(join("..data", file), join(this.directory, file));
  }

  swap(name: string, keyName = name): void {
    const version = `..version${this.#version++}`;
    mkdirSync(join(this.directory, version));
    cpSync(join(made, "ca.crt"), join(this.directory, version, "ca.crt"));
    cpSync(join(made, `${name}.crt`), join(this.directory, version, "tls.crt"));
    cpSync(join(made, `${keyName}.key`), join(this.directory, version, "tls.key"));
    symlinkSync(version, join(this.directory, "..data.new"));
    renameSync(join(this.directory, "..data.new"), join(this.directory, "..data"));
    if (this.#version > 1) rmSync(join(this.directory, `..version${this.#version - 2}`), { recursive: true });
  }
}

function follow(t: { teardown(handler: () => void): unknown }, files: Secret["files"]) {
  const log = new LogRecorder();
  const reload = new TlsReload(files, log);
  const taken: TlsMaterial[] = [];
  reload.follow((material) => taken.push(material));
  t.teardown(() => reload.close());
  return { log, reload, taken };
}

const pem = (name: string) => readFileSync(join(made, name), "utf8");

t.test("a secret that is swapped is taken up, once", async (t) => {
  const secret = new Secret("first");
  const { log, reload, taken } = follow(t, secret.files);
  t.equal(reload.material.cert, pem("first.crt"));
  secret.swap("second");
  await eventually("the second is taken up", () => taken.length > 0, WITHIN.tlsFiles);
  t.same(taken, [{ ca: pem("ca.crt"), cert: pem("second.crt"), key: pem("second.key") }]);
  t.equal(reload.material, taken[0]);
  // The same again, as the kubelet does at times.
  secret.swap("second");
  await new Promise((resolve) => setTimeout(resolve, 6000));
  t.equal(taken.length, 1);
  t.match(log.entries, [{ level: "info", subject: "CN=second" }]);
});

t.test("what cannot be used changes nothing, is one line and a failure, until it can", async (t) => {
  const secret = new Secret("first");
  const { log, reload, taken } = follow(t, secret.files);
  secret.swap("second", "third");
  await eventually("it is told", () => reload.failure !== undefined, WITHIN.tlsFiles);
  t.equal(reload.failure, `--tlskeyfile ${secret.files.key}: it is another certificate's key`);
  t.equal(reload.material.cert, pem("first.crt"));
  await new Promise((resolve) => setTimeout(resolve, 5000));
  t.match(log.entries, [{ level: "error", reason: reload.failure }]);
  t.equal(log.entries.length, 1);
  rmSync(join(secret.directory, "..data"));
  await eventually("it is told again", () => log.entries.length > 1, WITHIN.tlsFiles);
  t.match(reload.failure, /--tlscafile .*: there is no such file$/);
  secret.swap("third");
  await eventually("the third is taken up", () => reload.failure === undefined, WITHIN.tlsFiles);
  t.equal(taken.length, 1);
  t.equal(reload.material.cert, pem("third.crt"));
});

t.test("files that are written in place, one after the other, are read when all is there", async (t) => {
  const directory = mkdtempSync(join(workspaceDirectory(), "plain-"));
  const files = { ca: join(directory, "ca"), cert: join(directory, "cert"), key: join(directory, "key") };
  const write = (name: string) => writeFileSync(files.cert, pem(`${name}.crt`));
  cpSync(join(made, "ca.crt"), files.ca);
  write("first");
  cpSync(join(made, "first.key"), files.key);
  const { log, taken } = follow(t, files);
  write("second");
  await new Promise((resolve) => setTimeout(resolve, 1000));
  writeFileSync(files.key, pem("second.key"));
  await eventually("both are taken up", () => taken.length > 0, WITHIN.tlsFiles);
  t.match(log.entries, [{ level: "info", subject: "CN=second" }]);
});
