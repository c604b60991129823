/** What janusctl says when it does not get through: each cause has words of its own. The servers are real. */
import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { join } from "node:path";
import { createServer as createTlsServer } from "node:tls";
import t from "tap";
import { connectionOf } from "../../src/cli/connection.js";
import { janusctl } from "../../src/cli/janusctl.js";
import { certificate } from "../support/certificates.js";
import { workspaceDirectory } from "../support/cleanup.js";

const directory = mkdtempSync(join(workspaceDirectory(), "connection-"));
const file = (name: string) => join(directory, name);
certificate(directory, "ca");
certificate(directory, "server", { issuer: "ca" });
certificate(directory, "elsewhere", { issuer: "ca", names: "DNS:elsewhere" });
certificate(directory, "past", { issuer: "ca", days: -1 });
certificate(directory, "me", { issuer: "ca" });
certificate(directory, "old", { issuer: "ca", days: -1 });
certificate(directory, "other");
certificate(directory, "stranger", { issuer: "other" });
writeFileSync(file("rubbish"), "rubbish");

function portOf(t: Tap, server: Server): Promise<string> {
  t.teardown(() => server.close());
  return new Promise((resolve, reject) => {
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      if (typeof address === "object" && address !== null) resolve(`127.0.0.1:${address.port}`);
      else reject(new Error("no address"));
    });
  });
}
type Tap = { teardown(handler: () => unknown): unknown };

/** As the daemon listens; nobody answers behind it. */
function tlsServer(name: string): Server {
  const read = (pem: string) => readFileSync(file(pem));
  const options = { ca: read("ca.crt"), cert: read(`${name}.crt`), key: read(`${name}.key`) };
  const server = createTlsServer({ ...options, requestCert: true, ALPNProtocols: ["h2"] });
  server.on("tlsClientError", () => undefined);
  server.on("connection", (socket) => socket.on("error", () => undefined));
  return server;
}

async function list(...args: string[]): Promise<{ exit: number; err: string }> {
  let err = "";
  const io = { stdin: process.stdin, stdout: () => undefined, stderr: (text: string) => (err += text) };
  return { exit: await janusctl([...args, "list"], io), err };
}

const trust = ["--tlscafile", file("ca.crt")];
const own = (name: string) => ["--tlscertfile", file(`${name}.crt`), "--tlskeyfile", file(`${name}.key`)];

t.test("over TCP", async (t) => {
  const tls = await portOf(t, tlsServer("server"));
  const plain = await portOf(
    t,
    createServer((socket) => socket.once("data", () => socket.end("HTTP/1.1 400\r\n\r\n"))),
  );
  const cases: [args: string[], message: string | RegExp][] = [
    [["--address", "127.0.0.1:1", "--insecure"], "nobody listens at 127.0.0.1:1"],
    [["--address", "nowhere.invalid:1", "--insecure"], "there is no host nowhere.invalid"],
    [["--address", tls, "--insecure"], `${tls} wants TLS: give --tlscafile, --tlscertfile and --tlskeyfile`],
    [["--address", tls, ...trust], `${tls} wants a client certificate: give --tlscertfile and --tlskeyfile`],
    [
      ["--address", tls, ...trust, ...own("stranger")],
      `${tls} refused the certificate in ${file("stranger.crt")} (CN=stranger): the daemon's CA has not signed it (CN=other has), or not for a client`,
    ],
    [["--address", tls, ...trust, ...own("old")], /refused the certificate in \S+old\.crt: it expired 20/],
    [
      ["--address", tls, "--tlscafile", file("other.crt"), ...own("me")],
      `the certificate of ${tls} is not signed by the CA in ${file("other.crt")}`,
    ],
    [
      ["--address", tls, ...own("me")],
      `the certificate of ${tls} is not signed by a CA of this system: give --tlscafile`,
    ],
    [
      ["--address", plain, ...trust, ...own("me")],
      `${plain} does not speak TLS: leave the TLS files out, and give --insecure`,
    ],
  ];
  for (const [args, message] of cases) {
    const { exit, err } = await list(...args);
    t.equal(exit, 1, args.join(" "));
    if (typeof message === "string") t.equal(err, `janusctl: UNAVAILABLE: ${message}\n`);
    else t.match(err, message);
  }
});

t.test("a daemon whose own certificate is for another host, or past", async (t) => {
  const elsewhere = await portOf(t, tlsServer("elsewhere"));
  t.match((await list("--address", elsewhere, ...trust, ...own("me"))).err, /is for another host: .*127\.0\.0\.1/);
  const past = await portOf(t, tlsServer("past"));
  t.match((await list("--address", past, ...trust, ...own("me"))).err, /the certificate of \S+ has expired\n$/);
});

t.test("over a Unix socket", async (t) => {
  const path = file("a.sock");
  t.same(await list("--address", `unix://${path}`), {
    exit: 1,
    err: `janusctl: UNAVAILABLE: there is no socket ${path}: janusd does not run here, or listens elsewhere (--address)\n`,
  });
});

t.test("a command line that does not go together: exit 2, and nothing is tried", async (t) => {
  const cases: [args: string[], message: string | RegExp][] = [
    [["--address", "127.0.0.1:1"], /TCP needs --tlscafile, --tlscertfile and --tlskeyfile, or --insecure/],
    [["--address", "localhost"], /--address localhost:50051: TCP needs/],
    [["--address", "a b"], /--address "a b": must be unix:\/\/\/path, host:port/],
    [["--address", "unix:///a", ...trust], /--address unix:\/\/\/a: TLS is for TCP/],
    [
      ["--address", "a", "--tlscafile", file("rubbish")],
      `--tlscafile ${file("rubbish")}: there is no certificate in it`,
    ],
    [
      ["--address", "a", "--tlscertfile", file("me.crt"), "--tlskeyfile", file("old.key")],
      /it is another certificate's key/,
    ],
  ];
  for (const [args, message] of cases) {
    const { exit, err } = await list(...args);
    t.equal(exit, 2, args.join(" "));
    t.match(err, message);
    t.equal(err.trim().split("\n").length, 1);
  }
});

t.test("an address without a port is the daemon's port; IPv6 needs no brackets then", async (t) => {
  for (const [address, target] of [
    ["node-1", "node-1:50051"],
    ["10.0.0.1", "10.0.0.1:50051"],
    ["[::1]", "[::1]:50051"],
    ["fe80::1", "[fe80::1]:50051"],
    ["::1", "[::1]:50051"],
    ["[::1]:7", "[::1]:7"],
    ["node-1:7", "node-1:7"],
    ["unix:///a", "unix:///a"],
  ] as const) {
    t.equal(connectionOf({ address }, { JANUSD_INSECURE: "true" }).target, target);
  }
  t.throws(() => connectionOf({ address: "node-1" }, { JANUSD_INSECURE: "false" }), /TCP needs/);
});
