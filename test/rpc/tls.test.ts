/** Who gets in by TLS, as what, and what is told of those who don't. Certificates and handshakes are real. */
import { mkdtempSync, readFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { connect as connectTls } from "node:tls";
import { credentials } from "@grpc/grpc-js";
import t from "tap";
import { formatAddress } from "../../src/address.js";
import { SocketLocks } from "../../src/bind.js";
import { JanusClient } from "../../src/cli/client.js";
import type { AllowedClient } from "../../src/config.js";
import { EventHistory } from "../../src/event/history.js";
import { GuardIntake } from "../../src/guard/intake.js";
import { GuardRegistry } from "../../src/guard/registry.js";
import { loadAddon } from "../../src/native.js";
import { EventStreams } from "../../src/rpc/event-streams.js";
import { Refusals } from "../../src/rpc/refusals.js";
import { openRpcServer } from "../../src/rpc/server.js";
import { readTlsFiles } from "../../src/rpc/tls-files.js";
import { certificate } from "../support/certificates.js";
import { workspaceDirectory } from "../support/cleanup.js";
import { eventually, rpcError } from "../support/daemon.js";
import { EngineRecorder, LogRecorder } from "../support/engine-recorder.js";

const directory = mkdtempSync(join(workspaceDirectory(), "tls-"));
const file = (name: string) => join(directory, name);
const read = (name: string) => readFileSync(file(name));

certificate(directory, "ca");
certificate(directory, "server", { issuer: "ca" });
certificate(directory, "renewed", { issuer: "ca" });
certificate(directory, "client", {
  issuer: "ca",
  names: "DNS:client.example,URI:spiffe://cluster/ns/a,email:x@example",
});
certificate(directory, "nameless", { issuer: "ca", names: "URI:spiffe://cluster/ns/b", subject: "/" });
certificate(directory, "sly", { issuer: "ca", names: "DNS:sly", subject: "/O=x, CN=client/OU=CN=client" });
certificate(directory, "expired", { issuer: "ca", days: -1 });
certificate(directory, "other-ca");
certificate(directory, "stranger", { issuer: "other-ca" });

const A = "a".repeat(64);
const guard = { name: "g", podName: "pod", cid: [A], subject: [{ deny: ["/etc/secret"], event: ["open"] }] };
const material = (name: string) =>
  readTlsFiles({ ca: file("ca.crt"), cert: file(`${name}.crt`), key: file(`${name}.key`) });

async function serve(t: Tap, allowedClients: readonly AllowedClient[] = []) {
  const engine = new EngineRecorder();
  engine.run(A);
  const log = new LogRecorder();
  const registry = new GuardRegistry({ engine, node: "node", log });
  const refusals = new Refusals(log);
  const server = await openRpcServer({
    listen: [{ host: "127.0.0.1", port: 0 }],
    tls: material("server"),
    allowedClients,
    locks: new SocketLocks(loadAddon()),
    peer: loadAddon().peer,
    refusals,
    streams: new EventStreams(new EventHistory(1024 * 1024, () => 0)),
    history: new EventHistory(1024 * 1024, () => 0),
    engine,
    registry,
    intake: new GuardIntake({ registry, engine, waitMs: 0 }),
    guards: () => registry.details(),
    status: () => {
      throw new Error("nobody asks");
    },
    log,
  });
  t.teardown(() => server.close());
  const address = server.addresses.map(formatAddress).join();
  const client = (name?: string) => {
    const own = name === undefined ? [null, null] : [read(`${name}.key`), read(`${name}.crt`)];
    const made = new JanusClient(address, credentials.createSsl(read("ca.crt"), own[0], own[1]));
    t.teardown(() => made.close());
    return made;
  };
  return { server, address, port: Number(address.split(":")[1]), client, log, refusals, registry };
}
type Tap = { teardown(handler: () => unknown): unknown };

/** The serial number of the certificate that a new connection is shown. */
function serialOf(port: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const options = { ca: read("ca.crt"), cert: read("client.crt"), key: read("client.key"), ALPNProtocols: ["h2"] };
    const socket = connectTls({ host: "127.0.0.1", port, ...options }, () => {
      resolve(socket.getPeerCertificate().serialNumber);
      socket.destroy();
    });
    socket.on("error", reject);
  });
}

t.test("without a list each certificate of the CA commands, and its names are logged", async (t) => {
  const { client, log } = await serve(t);
  await client("client").createGuard(guard);
  t.match(log.entries, [
    { level: "info", guard: "g", by: { names: ["client", "client.example", "spiffe://cluster/ns/a", "x@example"] } },
  ]);
  await client("nameless").destroyGuard({ name: "g" });
  t.match(log.entries[1], { guard: "g", message: "guard removed", by: { names: ["spiffe://cluster/ns/b"] } });
});

t.test("with one: by common name, DNS, URI and email; what only reads, for who may only read", async (t) => {
  for (const name of ["client", "client.example", "spiffe://cluster/ns/a", "x@example"]) {
    const { client, registry } = await serve(t, [{ name, role: "admin" }]);
    await client("client").createGuard(guard);
    t.equal(registry.size, 1, name);
  }
  const { client, registry, log, refusals } = await serve(t, [
    { name: "spiffe://cluster/ns/b", role: "read" },
    { name: "client", role: "admin" },
  ]);
  const reader = client("nameless");
  await client("client").createGuard(guard);
  t.match(await reader.getGuardState(), [{ name: "g" }]);
  t.match(await reader.listContainers(true), [{ id: A }]);
  for await (const items of reader.watch({})) t.match(items, [{ item: { case: "opened" } }]);
  for (const call of [reader.createGuard({ ...guard, name: "h" }), reader.destroyGuard({ name: "g" })]) {
    t.match(await rpcError(call), {
      code: "PERMISSION_DENIED",
      message: /^the certificate \("spiffe:\/\/cluster\/ns\/b"\) may only read: \/janus\.Janusd\/\w+ takes /,
    });
  }
  for (const call of [client("sly").getGuardState(), client("sly").createGuard(guard)]) {
    t.match(await rpcError(call), {
      code: "PERMISSION_DENIED",
      message: /^no --allow-client names this certificate \("sly"\)$/,
    });
  }
  t.equal(registry.size, 1);
  t.equal(refusals.counts.not_allowed, 4);
  t.match(log.entries[1], {
    level: "warn",
    reason: "not_allowed",
    names: ["spiffe://cluster/ns/b"],
    peer: /127.0.0.1:/,
  });
  t.equal(log.entries.length, 2, "a line for all of them");
});

t.test("who has both roles by two names is an admin", async (t) => {
  const { client, registry } = await serve(t, [
    { name: "client", role: "read" },
    { name: "x@example", role: "admin" },
  ]);
  await client("client").createGuard(guard);
  t.equal(registry.size, 1);
});

t.test("a handshake that is refused is counted, and logged with the reason and the address", async (t) => {
  const { client, address, port, log, refusals } = await serve(t);
  const plain = new JanusClient(address, credentials.createInsecure());
  t.teardown(() => plain.close());
  const raw = (work: (socket: ReturnType<typeof connect>) => void) =>
    new Promise((resolve) => {
      const socket = connect(port, "127.0.0.1", () => work(socket));
      socket.on("error", () => undefined).on("close", resolve);
    });
  const cases: [reason: keyof Refusals["counts"], attempt: () => Promise<unknown>, level?: string][] = [
    ["plaintext", () => rpcError(plain.getGuardState())],
    ["no_certificate", () => rpcError(client().getGuardState())],
    ["unknown_ca", () => rpcError(client("stranger").getGuardState())],
    ["certificate_expired", () => rpcError(client("expired").getGuardState())],
    ["hung_up", () => raw((socket) => socket.end()), "debug"],
    [
      "protocol",
      () =>
        new Promise((resolve) => {
          const options = { ca: read("ca.crt"), cert: read("client.crt"), key: read("client.key") };
          connectTls({ host: "127.0.0.1", port, ...options }).on("close", resolve);
        }),
    ],
  ];
  for (const [reason, attempt, level = "warn"] of cases) {
    await attempt();
    await eventually(reason, () => refusals.counts[reason] > 0);
    const lines = log.entries.filter((entry) => Reflect.get(entry, "reason") === reason);
    t.equal(lines.length, 1, reason);
    t.match(lines[0], { level, peer: /^127\.0\.0\.1:\d+$/, error: String }, reason);
  }
});

t.test("one who knocks all the time is a line each 10 s, with how often meanwhile", (t) => {
  const log = new LogRecorder();
  let now = 0;
  const refusals = new Refusals(log, () => now);
  for (let i = 0; i < 1000; i++) refusals.note("plaintext", { peer: "a" });
  refusals.note("no_certificate", {});
  t.equal(log.entries.length, 2);
  now = 10_000;
  refusals.note("plaintext", { peer: "b" });
  t.match(log.entries[2], { reason: "plaintext", peer: "b", more: 999 });
  t.equal(refusals.counts.plaintext, 1001);
  t.end();
});

t.test("a new certificate holds for new connections; one that is there goes on", async (t) => {
  const { server, client, port, registry } = await serve(t);
  const old = client("client");
  await old.createGuard(guard);
  const before = await serialOf(port);
  const watched = old.createGuard({ ...guard, name: "h" });
  server.setTls(material("renewed"));
  await watched;
  const after = await serialOf(port);
  t.not(after, before);
  await old.createGuard({ ...guard, name: "i" });
  t.equal(registry.size, 3);
  // Another CA: who was let in by the first is not any more.
  server.setTls({ ...material("renewed"), ca: String(read("other-ca.crt")) });
  t.match(await rpcError(client("client").getGuardState()), { code: "UNAVAILABLE" });
  await client("stranger").destroyGuard({ name: "g" });
  await old.destroyGuard({ name: "h" });
  t.equal(registry.size, 1);
});
