/** The wire contract, driven by Python's gRPC with the original's definitions: plaintext and mutual TLS. */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { credentials } from "@grpc/grpc-js";
import t from "tap";
import { JanusClient } from "../../src/cli/client.js";
import { workspaceDirectory } from "../support/cleanup.js";
import { startContainer } from "../support/container.js";
import { type Daemon, rpcError, startDaemon } from "../support/daemon.js";

const directory = new URL(".", import.meta.url).pathname;
const made = mkdtempSync(join(workspaceDirectory(), "contract-"));
// Debian's: that is where python3-grpcio is.
const python = "/usr/bin/python3";
execFileSync("protoc", [`--proto_path=${directory}`, `--python_out=${made}`, "original.proto", "standard.proto"]);

const container = await startContainer({ files: { "/etc/secret": "" } }, t);

function drive(t: Tap, daemon: Daemon, ...tls: string[]): Promise<unknown> {
  return t.spawn(python, [join(directory, "client.py"), daemon.grpcAddress, container.id, ...tls], {
    env: { ...process.env, PYTHONPATH: made, PYTHONDONTWRITEBYTECODE: "1" },
  });
}
type Tap = Pick<typeof t, "spawn">;

function openssl(...args: string[]): void {
  const { status: ended, stderr } = spawnSync("openssl", args, { cwd: made, encoding: "utf8" });
  if (ended !== 0) throw new Error(`openssl ${args.join(" ")}: ${stderr}`);
}

/** NAME.crt and NAME.key, signed by ISSUER; by itself, if there is none. */
function certificate(name: string, issuer?: string): void {
  const subject = [
    "-nodes",
    "-newkey",
    "ec",
    "-pkeyopt",
    "ec_paramgen_curve:prime256v1",
    "-subj",
    `/CN=${name}`,
    "-keyout",
    `${name}.key`,
  ];
  if (issuer === undefined) {
    openssl("req", "-x509", ...subject, "-days", "2", "-out", `${name}.crt`);
    return;
  }
  openssl("req", ...subject, "-out", `${name}.csr`);
  writeFileSync(join(made, "extensions"), "subjectAltName=IP:127.0.0.1,DNS:localhost\n");
  const signed = [
    "-CA",
    `${issuer}.crt`,
    "-CAkey",
    `${issuer}.key`,
    "-CAcreateserial",
    "-days",
    "2",
    "-extfile",
    "extensions",
  ];
  openssl("x509", "-req", "-in", `${name}.csr`, ...signed, "-out", `${name}.crt`);
}

const file = (name: string) => join(made, name);

t.test("plaintext", async (t) => {
  const daemon = await startDaemon({}, t);
  await drive(t, daemon);
  await daemon.stop();
});

t.test("mutual TLS", async (t) => {
  certificate("ca");
  certificate("server", "ca");
  certificate("client", "ca");
  certificate("other-ca");
  certificate("stranger", "other-ca");
  const files = [
    `-tlscafile=${file("ca.crt")}`,
    "-tlscertfile",
    file("server.crt"),
    "--tlskeyfile",
    file("server.key"),
  ];
  for (const flags of [["-tls", ...files], files]) {
    await t.test(flags.length === files.length ? "the files alone mean TLS" : "-tls", async (t) => {
      const daemon = await startDaemon({ flags }, t);
      await drive(t, daemon, file("ca.crt"), file("client.crt"), file("client.key"));
      const refused = async (name: string, ...keyPair: string[]) => {
        const [key, cert] = keyPair.map((pem) => readFileSync(file(pem)));
        const creds = credentials.createSsl(readFileSync(file("ca.crt")), key ?? null, cert ?? null);
        const client = new JanusClient(daemon.grpcAddress, creds);
        const error = await rpcError(client.getGuardState());
        client.close();
        t.equal(error.code, "UNAVAILABLE", `${name}: ${error.message}`);
      };
      await refused("no client certificate");
      await refused("a certificate by another CA", "stranger.key", "stranger.crt");
      await daemon.stop();
    });
  }
});
