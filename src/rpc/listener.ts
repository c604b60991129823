/**
 * Where gRPC comes in: accepts connections, makes sure who is at the other end, and hands on those that may talk.
 *
 * We accept ourselves, not grpc-js: it tells neither the credentials of a Unix peer nor why a handshake failed.
 */
import { createServer, type Server, type Socket } from "node:net";
import { createServer as createTlsServer, type TLSSocket, Server as TlsServer } from "node:tls";
import type { Address } from "../address.js";
import { descriptorOf, listen, type SocketLocks } from "../bind.js";
import type { Requester } from "../guard/audit.js";
import type { Peer } from "../native.js";
import type { Reason } from "./refusals.js";
import type { TlsMaterial } from "./tls-files.js";

/** Of one listener: who fills it up keeps nobody out of another. */
const MAX_CONNECTIONS = 1024;
/** A TLS handshake takes so long, at most. Milliseconds. */
const HANDSHAKE_MS = 5000;

export interface ListenerOptions {
  readonly address: Address;
  /** Of Unix sockets. */
  readonly locks: SocketLocks;
  /** For TCP. Undefined: plaintext. */
  readonly tls: TlsMaterial | undefined;
  /** Who connected to a Unix socket, by its descriptor. */
  readonly peer: (descriptor: number) => Peer;
  /** The connection is the callee's. */
  readonly onConnection: (socket: Socket, requester: Requester) => void;
  /** A connection that was not let in. */
  readonly onRefused: (reason: Reason, about: object) => void;
}

export class Listener {
  /** With the port that was chosen, if 0 was asked for. */
  readonly address: Address;
  readonly #server: Server;
  readonly #sockets: ReadonlySet<Socket>;

  private constructor(address: Address, server: Server, sockets: ReadonlySet<Socket>) {
    this.address = address;
    this.#server = server;
    this.#sockets = sockets;
  }

  /** Rejects as `listen` of bind.ts does. */
  static async open(options: ListenerOptions): Promise<Listener> {
    const { address, tls } = options;
    const server =
      "path" in address ? unixServer(options) : tls === undefined ? plainServer(options) : tlsServer(options, tls);
    server.maxConnections = MAX_CONNECTIONS;
    server.on("drop", (dropped) => options.onRefused("too_many", { peer: dropped?.remoteAddress ?? "unix" }));
    const sockets = new Set<Socket>();
    // Of a TLS server, too: as they come, before the handshake.
    server.on("connection", (socket: Socket) => {
      sockets.add(socket);
      // Resets are no news; each closes.
      socket.on("error", () => undefined);
      socket.once("close", () => sockets.delete(socket));
    });
    return new Listener(await listen(server, address, "--listen", options.locks), server, sockets);
  }

  /** For TLS connections from now on; those that are there stay. */
  setTls(material: TlsMaterial): void {
    if (this.#server instanceof TlsServer) this.#server.setSecureContext({ ...material });
  }

  /** No new connections. Resolves when those that are there have ended. */
  stop(): Promise<void> {
    return new Promise((resolve) => this.#server.close(() => resolve()));
  }

  /** Ends all connections. */
  end(): void {
    for (const socket of this.#sockets) socket.destroy();
  }
}

function unixServer({ peer, onConnection }: ListenerOptions): Server {
  return createServer((socket) => {
    // Only said: who may connect is the file's mode.
    const descriptor = descriptorOf(socket);
    onConnection(socket, { peer: "unix", ...(descriptor === undefined ? {} : peer(descriptor)) });
  });
}

function plainServer({ onConnection }: ListenerOptions): Server {
  return createServer((socket) => onConnection(socket, { peer: peerOf(socket) }));
}

function tlsServer({ onConnection, onRefused }: ListenerOptions, material: TlsMaterial): Server {
  const server = createTlsServer({
    ...material,
    requestCert: true,
    ALPNProtocols: ["h2"],
    handshakeTimeout: HANDSHAKE_MS,
  });
  server.on("secureConnection", (socket) => {
    socket.on("error", () => undefined);
    const requester = { peer: peerOf(socket), names: namesOf(socket) };
    if (socket.alpnProtocol === "h2") {
      onConnection(socket, requester);
    } else {
      socket.destroy();
      onRefused("protocol", { ...requester, error: "no HTTP/2 (ALPN h2)" });
    }
  });
  // A connection that is gone by then has no address: it is taken down while it has.
  const peers = new WeakMap<object, string>();
  server.on("connection", (socket: Socket) => peers.set(socket, peerOf(socket)));
  server.on("tlsClientError", (error, socket) => {
    const raw: unknown = Reflect.get(socket, "_parent");
    const known = typeof raw === "object" && raw !== null ? peers.get(raw) : undefined;
    onRefused(refusalOf(error, socket), {
      peer: known ?? peerOf(socket),
      error: verificationErrorOf(socket) ?? ("code" in error ? error.code : error.message),
    });
  });
  return server;
}

/** OpenSSL's word on the client's certificate. Its own type says that there always is one. */
function verificationErrorOf({ authorizationError }: TLSSocket): string | undefined {
  const code: unknown = authorizationError;
  return typeof code === "string" ? code : undefined;
}

function refusalOf(error: Error, socket: TLSSocket): Reason {
  const verification = verificationErrorOf(socket);
  if (verification !== undefined) {
    if (verification === "CERT_HAS_EXPIRED") return "certificate_expired";
    return /^(UNABLE_TO_|SELF_SIGNED_|DEPTH_ZERO_)/.test(verification) ? "unknown_ca" : "certificate_invalid";
  }
  const code = "code" in error ? String(error.code) : "";
  if (code === "ERR_SSL_PEER_DID_NOT_RETURN_A_CERTIFICATE") return "no_certificate";
  if (code === "ERR_SSL_WRONG_VERSION_NUMBER" || code === "ERR_SSL_HTTP_REQUEST") return "plaintext";
  if (code === "ERR_TLS_HANDSHAKE_TIMEOUT") return "timeout";
  if (/^ERR_SSL_.*ALERT.*(UNKNOWN_CA|CERTIFICATE)/.test(code)) return "distrusts_us";
  return code.startsWith("ERR_SSL_") ? "protocol" : "hung_up";
}

function peerOf({ remoteAddress = "", remotePort = 0 }: Socket): string {
  return remoteAddress.includes(":") ? `[${remoteAddress}]:${remotePort}` : `${remoteAddress}:${remotePort}`;
}

/** Common names, and alternative names of DNS, URI and mail, of the certificate that the client was verified by. */
function namesOf(socket: TLSSocket): string[] {
  const { subject, subjectaltname = "" } = socket.getPeerCertificate();
  return [...new Set([subject?.CN ?? [], alternativeNames(subjectaltname)].flat())];
}

/** Of `DNS:a, URI:"quoted where it could be taken for more than one", IP Address:10.0.0.1`, as Node writes it. */
function alternativeNames(text: string): string[] {
  const entries = text.matchAll(/(?:^|, )([A-Za-z ]+):("(?:[^"\\]|\\.)*"|[^,]*)/gy);
  return [...entries].flatMap(([, type = "", name = ""]) => {
    if (type !== "DNS" && type !== "URI" && type !== "email") return [];
    return [name.startsWith('"') ? String(JSON.parse(name)) : name];
  });
}
