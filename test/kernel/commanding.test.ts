/** Who may command the daemon, with the real one: its Unix socket, its TLS files, and what it logs of who did. */
import { X509Certificate } from "node:crypto";
import { cpSync, mkdtempSync, readFileSync, renameSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import { certificate } from "../support/certificates.js";
import { workspaceDirectory } from "../support/cleanup.js";
import { startContainer } from "../support/container.js";
import { eventually, runToEnd, startDaemon } from "../support/daemon.js";
import { EPERM } from "../support/guard.js";
import { janusctl } from "../support/janusctl.js";
import { WITHIN } from "../support/times.js";

/** Has `/run` for itself, as in a container: what listens by default on this machine is left alone. */
const ownRun = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /run && exec "$@"', "sh"];
const nobody = [
  "setpriv",
  "--reuid=65534",
  "--regid=65534",
  "--clear-groups",
  "--inh-caps=-all",
  "--bounding-set=-all",
];

const guardFile = (id: string) => `
apiVersion: januscontroller.clustergarage.io/v1alpha1
kind: JanusGuard
metadata: { name: secret }
spec: { containers: ["${id}"], subjects: [{ deny: [/etc/secret], events: [open] }] }
`;

t.test("by default root commands over a Unix socket, nobody else does, and janusctl needs no flags", async (t) => {
  const container = await startContainer({ files: { "/etc/secret": "" } }, t);
  const actor = await container.actor();
  const daemon = await startDaemon({ enter: ownRun, flags: ["--listen=unix:///run/janusd/janusd.sock"] }, t);
  const there = ["nsenter", `--mount=/proc/${daemon.pid}/ns/mnt`];
  t.equal(statSync(`/proc/${daemon.pid}/root/run/janusd`).mode & 0o777, 0o700);
  t.equal(statSync(`/proc/${daemon.pid}/root/run/janusd/janusd.sock`).mode & 0o777, 0o600);

  const created = await janusctl(["create", "-f", "-"], { stdin: guardFile(container.id), enter: there });
  t.match(created, { status: 0, err: "" });
  t.equal(await actor.open("/etc/secret"), EPERM);

  for (const command of [["list"], ["delete", "secret"]]) {
    const { status, err } = await janusctl(command, { enter: [...there, ...nobody] });
    t.equal(status, 1);
    t.match(err, /^janusctl: UNAVAILABLE: not permitted to connect to \/run\/janusd\/janusd\.sock: only root /);
  }
  t.equal(await actor.open("/etc/secret"), EPERM);

  t.match(await janusctl(["delete", "secret"], { enter: there }), { status: 0 });
  t.equal(await actor.open("/etc/secret"), 0);
  await daemon.stop();
  const changes = daemon.stderr.split("\n").filter((line) => line.includes('"guard":"secret"'));
  t.equal(changes.length, 2);
  for (const line of changes) t.match(JSON.parse(line), { level: "info", by: { peer: "unix", uid: 0, pid: Number } });
});

t.test("a daemon that was killed leaves no obstacle; one that lives keeps its socket", async (t) => {
  const path = join(mkdtempSync(join(workspaceDirectory(), "socket-")), "janusd.sock");
  const flags = [`--listen=unix://${path}`];
  const killed = await startDaemon({ flags }, t);
  await killed.kill();
  const daemon = await startDaemon({ flags }, t);
  const second = runToEnd(flags);
  t.match(second, {
    status: 1,
    lines: [`janusd: --listen unix://${path}: in use: process ${daemon.pid} listens there`],
    log: [],
  });
  t.match(await janusctl(["--address", `unix://${path}`, "list"]), { status: 0 });
  await daemon.stop();
  t.match(await janusctl(["--address", `unix://${path}`, "list"]), { status: 1, err: /there is no socket / });
});

t.test("TLS: new files without a restart; bad ones are told, and change nothing", async (t) => {
  const directory = mkdtempSync(join(workspaceDirectory(), "rotation-"));
  const file = (name: string) => join(directory, name);
  certificate(directory, "ca");
  for (const name of ["first", "second", "me", "reader"]) certificate(directory, name, { issuer: "ca" });
  const use = (name: string) => {
    for (const part of ["crt", "key"]) {
      cpSync(file(`${name}.${part}`), file("new"));
      renameSync(file("new"), file(`tls.${part}`));
    }
  };
  use("first");
  const flags = [
    ["--tlscafile", file("ca.crt"), "--tlscertfile", file("tls.crt"), "--tlskeyfile", file("tls.key")],
    ["--allow-client=me", "--allow-client=reader=read"],
  ].flat();
  const daemon = await startDaemon({ flags }, t);
  const as = (name: string, ...command: string[]) => {
    const own = ["--tlscertfile", file(`${name}.crt`), "--tlskeyfile", file(`${name}.key`)];
    return janusctl(["--address", daemon.grpcAddress, "--tlscafile", file("ca.crt"), ...own, ...command]);
  };
  const expiry = () => daemon.metric("janusd_tls_certificate_expiry_timestamp_seconds");
  const expires = (name: string) => new X509Certificate(readFileSync(file(name))).validToDate.getTime() / 1000;
  t.equal(await expiry(), expires("first.crt"));
  t.match(await as("me", "delete", "x"), { status: 1, err: /not found/ });
  t.match(await as("reader", "list"), { status: 0, err: "" });
  t.match(await as("reader", "delete", "x"), {
    status: 1,
    err: /PERMISSION_DENIED: the certificate \("reader", .* may only read/,
  });

  certificate(directory, "second", { issuer: "ca", days: 9 });
  use("second");
  await eventually(
    "the second certificate is in use",
    async () => (await expiry()) === expires("second.crt"),
    WITHIN.tlsFiles,
  );
  t.match(await as("me", "list"), { status: 0, err: "" });

  writeFileSync(file("tls.key"), "rubbish");
  const tls = async () => {
    const report: unknown = await (await daemon.http("/readyz")).json();
    return JSON.stringify(report);
  };
  await eventually(
    "the bad key is told",
    async () => /"tls","ok":false,"detail":"new files cannot/.test(await tls()),
    WITHIN.tlsFiles + WITHIN.report,
  );
  t.equal((await daemon.http("/readyz")).status, 503);
  t.match(await as("me", "list"), { status: 0, err: "" });
  use("second");
  await eventually(
    "all is well again",
    async () => (await daemon.http("/readyz")).status === 200,
    WITHIN.tlsFiles + WITHIN.report,
  );

  t.match(await janusctl(["--address", daemon.grpcAddress, "list"]), { status: 1, err: /wants TLS: give --tlscafile/ });
  t.equal(await daemon.metric("janusd_grpc_refused_total", { reason: "not_allowed" }), 1);
  t.ok((await daemon.metric("janusd_grpc_refused_total", { reason: "plaintext" })) > 0);
  await daemon.stop();
  t.match(daemon.stderr, /"level":"warn",.*"reason":"plaintext","peer":"127\.0\.0\.1:\d+"/);
});
