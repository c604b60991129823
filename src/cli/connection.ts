/** How janusctl reaches the daemon, and in words what keeps it from it. */
import { X509Certificate } from "node:crypto";
import { connect as connectSocket, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import { type ChannelCredentials, credentials } from "@grpc/grpc-js";
import { type Address, DEFAULT_SOCKET, formatAddress, GRPC_PORT, parseAddress } from "../address.js";
import { readCa, readCertificate, readKey } from "../rpc/tls-files.js";

export const DEFAULT_ADDRESS = formatAddress(DEFAULT_SOCKET);

export interface ConnectionOptions {
  readonly address: string;
  readonly insecure?: true;
  readonly tls?: true;
  readonly tlscafile?: string;
  readonly tlscertfile?: string;
  readonly tlskeyfile?: string;
}

export interface Connection {
  /** As grpc-js takes it. */
  readonly target: string;
  readonly credentials: ChannelCredentials;
  /** After a call that reached nobody: tries again by hand, and says what is wrong; undefined if nothing is. */
  readonly diagnose: () => Promise<string | undefined>;
}

interface Tls {
  /** PEM; undefined: the system's. */
  readonly ca: string | undefined;
  readonly own: { readonly cert: string; readonly key: string } | undefined;
}

/** Throws Error, in one line: what is given does not go together, or ConfigError: a file cannot be used. */
export function connectionOf(options: ConnectionOptions, env: Readonly<NodeJS.ProcessEnv>): Connection {
  const address = addressOf(options.address);
  const target = formatAddress(address);
  const tls = tlsOf(options);
  if ("path" in address) {
    if (tls !== undefined) throw new Error(`--address ${target}: TLS is for TCP, not for a Unix socket`);
    return { target, credentials: credentials.createInsecure(), diagnose: () => diagnoseUnix(address.path) };
  }
  const insecure = options.insecure ?? ["true", "1"].includes(env["JANUSD_INSECURE"] ?? "");
  if (tls === undefined && !insecure) {
    throw new Error(
      `--address ${target}: TCP needs --tlscafile, --tlscertfile and --tlskeyfile, or --insecure for a daemon without TLS`,
    );
  }
  const buffer = (pem: string | undefined) => (pem === undefined ? null : Buffer.from(pem));
  return {
    target,
    credentials:
      tls === undefined
        ? credentials.createInsecure()
        : credentials.createSsl(buffer(tls.ca), buffer(tls.own?.key), buffer(tls.own?.cert)),
    diagnose: () => diagnoseTcp(address, target, tls, options),
  };
}

function addressOf(text: string): Address {
  try {
    // IPv6 without brackets is no address with a port.
    return parseAddress(/^[0-9a-fA-F]*(:[0-9a-fA-F.]*){2,}$/.test(text) ? `[${text}]` : text, GRPC_PORT);
  } catch (error) {
    throw new Error(`--address ${JSON.stringify(text)}: ${error instanceof Error ? error.message : error}`);
  }
}

function tlsOf({ tls, tlscafile, tlscertfile, tlskeyfile }: ConnectionOptions): Tls | undefined {
  if ((tlscertfile === undefined) !== (tlskeyfile === undefined)) {
    throw new Error("--tlscertfile and --tlskeyfile belong together");
  }
  if (tls === undefined && tlscafile === undefined && tlscertfile === undefined) return undefined;
  const ca = tlscafile === undefined ? undefined : readCa("--tlscafile", tlscafile);
  if (tlscertfile === undefined || tlskeyfile === undefined) return { ca, own: undefined };
  const cert = readCertificate("--tlscertfile", tlscertfile);
  return { ca, own: { cert, key: readKey("--tlskeyfile", tlskeyfile, { ca, cert }) } };
}

/** A connection by hand takes so long, at most. Milliseconds. */
const ATTEMPT_MS = 2000;

/** How an attempt ended. */
interface Attempt {
  /** `connected`, or `secure` after a TLS handshake: as far as it came. */
  readonly stage: "none" | "connected" | "secure";
  /** What the other end said first. */
  readonly answered: boolean;
  /** Error code; `END` if the other end closed, `TIMEOUT` if nothing happened any more. */
  readonly code: string;
  readonly message: string;
}

/** Until it is answered, closed or given up. */
function attempt(socket: Socket): Promise<Attempt> {
  return new Promise((resolve) => {
    let stage: Attempt["stage"] = "none";
    const finish = (code: string, message = "", answered = false) => {
      clearTimeout(timer);
      socket.destroy();
      resolve({ stage, answered, code, message });
    };
    const timer = setTimeout(() => finish("TIMEOUT"), ATTEMPT_MS);
    socket.on("connect", () => {
      if (stage === "none") stage = "connected";
    });
    socket.on("secureConnect", () => {
      stage = "secure";
    });
    socket.on("data", () => finish("", "", true));
    socket.on("end", () => finish("END"));
    socket.on("close", () => finish("END"));
    socket.on("error", (error) => finish("code" in error ? String(error.code) : "", error.message));
  });
}

async function diagnoseUnix(path: string): Promise<string | undefined> {
  const { code, stage } = await attempt(connectSocket({ path }));
  switch (code) {
    case "ENOENT":
      return `there is no socket ${path}: janusd does not run here, or listens elsewhere (--address)`;
    case "ECONNREFUSED":
      return `nobody listens at ${path}: janusd has ended`;
    case "EACCES":
      return `not permitted to connect to ${path}: only root commands janusd`;
    default:
      return stage === "none" ? `no connection to ${path}: ${code}` : undefined;
  }
}

const UNKNOWN_CA: ReadonlySet<string> = new Set([
  "DEPTH_ZERO_SELF_SIGNED_CERT",
  "SELF_SIGNED_CERT_IN_CHAIN",
  "UNABLE_TO_GET_ISSUER_CERT",
  "UNABLE_TO_GET_ISSUER_CERT_LOCALLY",
  "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
]);

async function diagnoseTcp(
  { host, port }: { readonly host: string; readonly port: number },
  target: string,
  tls: Tls | undefined,
  { tlscafile, tlscertfile }: ConnectionOptions,
): Promise<string | undefined> {
  const found = await attempt(
    connectTls({
      host,
      port,
      ALPNProtocols: ["h2"],
      // Without TLS of our own: whether the other end has any.
      rejectUnauthorized: tls !== undefined,
      ...(tls?.ca === undefined ? {} : { ca: tls.ca }),
      ...tls?.own,
    }),
  );
  const { stage, answered, code, message } = found;
  if (stage === "none") {
    if (code === "ECONNREFUSED") return `nobody listens at ${target}`;
    if (code === "ENOTFOUND" || code === "EAI_AGAIN") return `there is no host ${host}`;
    return code === "TIMEOUT" ? `no connection to ${target} within ${ATTEMPT_MS / 1000} s` : `${target}: ${message}`;
  }
  if (tls === undefined) {
    return stage === "secure" ? `${target} wants TLS: give --tlscafile, --tlscertfile and --tlskeyfile` : undefined;
  }
  if (stage === "connected") {
    if (UNKNOWN_CA.has(code)) {
      const trusted = tlscafile === undefined ? "a CA of this system: give --tlscafile" : `the CA in ${tlscafile}`;
      return `the certificate of ${target} is not signed by ${trusted}`;
    }
    if (code === "CERT_HAS_EXPIRED") return `the certificate of ${target} has expired`;
    if (code === "ERR_TLS_CERT_ALTNAME_INVALID") return `the certificate of ${target} is for another host: ${message}`;
    if (code === "END" || code === "ECONNRESET" || code === "TIMEOUT" || code.startsWith("ERR_SSL_")) {
      return `${target} does not speak TLS: leave the TLS files out, and give --insecure`;
    }
    return `${target}: ${message}`;
  }
  if (answered) return undefined;
  if (tls.own === undefined) return `${target} wants a client certificate: give --tlscertfile and --tlskeyfile`;
  const { subject, issuer, validToDate } = new X509Certificate(tls.own.cert);
  const ours = `${target} refused the certificate in ${tlscertfile}`;
  if (validToDate < new Date()) return `${ours}: it expired ${validToDate.toISOString()}`;
  const [whose, whom] = [subject, issuer].map((name) => (name ?? "").replaceAll("\n", ", "));
  return `${ours} (${whose}): the daemon's CA has not signed it (${whom} has), or not for a client`;
}
