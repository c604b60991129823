/** Addresses of listeners, as people write them: `host:port`, `[v6 address]:port`, `unix:///path`. */
import { Buffer } from "node:buffer";

/** `host` without brackets. `::` is every address of the node, of IPv4 too. */
export interface TcpAddress {
  readonly host: string;
  readonly port: number;
}

export interface UnixAddress {
  /** Absolute. */
  readonly path: string;
}

export type Address = TcpAddress | UnixAddress;

export const DEFAULT_SOCKET: UnixAddress = { path: "/run/janusd/janusd.sock" };
export const GRPC_PORT = 50051;

/** `sun_path` of unix(7), with the zero at its end. Bytes. */
const MAX_SOCKET_PATH = 108;

/** Throws Error with what the text must be. Without `defaultPort` the port must be there. */
export function parseTcpAddress(text: string, defaultPort?: number): TcpAddress {
  const [, v6, name, port] = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]\s/]+))(?::(\d{1,5}))?$/.exec(text) ?? [];
  const host = v6 ?? name;
  const number = port === undefined ? defaultPort : Number(port);
  if (host === undefined || number === undefined || number > 0xffff) {
    throw new Error("must be host:port, or [v6 address]:port");
  }
  return { host, port: number };
}

/** Throws Error with what the text must be. Without `defaultPort` a TCP address must have a port. */
export function parseAddress(text: string, defaultPort?: number): Address {
  const [, path] = /^unix:(?:\/\/)?(.*)$/s.exec(text) ?? [];
  if (path === undefined) {
    try {
      return parseTcpAddress(text, defaultPort);
    } catch {
      throw new Error("must be unix:///path, host:port, or [v6 address]:port");
    }
  }
  if (!path.startsWith("/") || path.endsWith("/")) throw new Error("must be unix:///path, with an absolute path");
  if (path.includes("\0") || Buffer.byteLength(path) >= MAX_SOCKET_PATH) {
    throw new Error(`a socket's path has fewer than ${MAX_SOCKET_PATH} bytes, and no zero`);
  }
  return { path };
}

/** What parseAddress takes, and grpc-js as a target. */
export function formatAddress(address: Address): string {
  if ("path" in address) return `unix://${address.path}`;
  const { host, port } = address;
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}
