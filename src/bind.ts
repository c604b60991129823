/**
 * Has servers listen where they were told to, or says why not, with the flag that said so. All of it can be tried
 * before the daemon enforces anything.
 */
import { lstatSync, mkdirSync, unlinkSync } from "node:fs";
import { connect, createServer, type ListenOptions, type Server } from "node:net";
import { dirname } from "node:path";
import { type Address, formatAddress, type TcpAddress } from "./address.js";
import { ConfigError } from "./config.js";

/** The address cannot be had on this machine, now. One line, with the flag. */
export class ListenError extends Error {
  override readonly name = "ListenError";
}

/** Only the daemon's user reaches a socket of its: whoever does commands the daemon. */
const DIRECTORY_MODE = 0o700;
const SOCKET_UMASK = 0o177;

/** All of these at once. Rejects with the ListenError or ConfigError of the first that cannot be had; binds none. */
export async function tryAddresses(wanted: readonly (readonly [flag: string, address: Address])[]): Promise<void> {
  const servers: Server[] = [];
  try {
    for (const [flag, address] of wanted) {
      const server = createServer((socket) => socket.destroy());
      await listen(server, address, flag);
      servers.push(server);
    }
  } finally {
    await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  }
}

/**
 * Resolves to where it listens: with the port that was chosen if 0 was asked for. Rejects with ListenError; ConfigError
 * if the address is one of a file that cannot be a socket.
 */
export async function listen(server: Server, address: Address, flag: string): Promise<Address> {
  if ("path" in address) {
    const named = nameOf(flag, address);
    await makeRoom(address.path, named);
    const umask = process.umask(SOCKET_UMASK);
    // Binds before it returns.
    const bound = bind(server, { path: address.path });
    process.umask(umask);
    await bound.catch((cause: unknown) => fail(named, cause));
    return address;
  }
  await bindTcp(address, flag, (tried) => bind(server, { ...tried }));
  return boundTo(server, address);
}

/**
 * Calls `attempt` with the address, and names what it rejects with. `[::]` is every address of the node, also where
 * there is no IPv6: then once more, with that of IPv4.
 */
export async function bindTcp(
  address: TcpAddress,
  flag: string,
  attempt: (address: TcpAddress) => Promise<unknown>,
): Promise<void> {
  const named = nameOf(flag, address);
  try {
    await attempt(address);
  } catch (cause) {
    if (address.host !== "::" || !NO_IPV6.has(codeOf(cause))) fail(named, cause);
    await attempt({ ...address, host: "0.0.0.0" }).catch((again: unknown) => fail(named, again));
  }
}

/** With the port that was chosen, if it was told to listen at `address` with 0. */
export function boundTo(server: Server, address: TcpAddress): TcpAddress {
  const bound = server.address();
  return typeof bound === "object" && bound !== null ? { host: bound.address, port: bound.port } : address;
}

/** What socket(2) says on a kernel without IPv6, and bind(2) where it is switched off. */
const NO_IPV6: ReadonlySet<string> = new Set(["EAFNOSUPPORT", "EADDRNOTAVAIL"]);

function nameOf(flag: string, address: Address): string {
  return `${flag} ${formatAddress(address)}`;
}

function bind(server: Server, options: ListenOptions): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(options, () => {
      server.off("error", reject);
      resolve();
    });
  });
}

/** Makes the directory, and takes away the socket of a daemon that is gone. */
async function makeRoom(path: string, named: string): Promise<void> {
  const directory = dirname(path);
  try {
    mkdirSync(directory, DIRECTORY_MODE);
  } catch (cause) {
    const code = codeOf(cause);
    if (code === "ENOENT" || code === "ENOTDIR") {
      throw new ConfigError(`${named}: there is no directory ${dirname(directory)}`, { cause });
    }
    if (code !== "EEXIST") fail(named, cause);
  }
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (found === undefined) return;
  if (!found.isSocket()) throw new ConfigError(`${named}: is there, and is no socket`);
  if (await answers(path).catch((cause: unknown) => fail(named, cause))) fail(named, { code: "EADDRINUSE" });
  unlinkSync(path);
}

/** Whether somebody listens on a socket of the file system. Rejects with what connect(2) says otherwise. */
function answers(path: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const socket = connect({ path });
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", (error) => {
      const code = codeOf(error);
      if (code === "ECONNREFUSED" || code === "ENOENT") resolve(false);
      // Its queue is full.
      else if (code === "EAGAIN") resolve(true);
      else reject(error);
    });
  });
}

const REASONS: Readonly<Record<string, string>> = {
  EADDRINUSE: "in use: another process listens there",
  EADDRNOTAVAIL: "this machine has no such address",
  EAFNOSUPPORT: "this machine has no IPv6",
  EACCES: "not permitted",
  ENOTFOUND: "there is no host of that name",
};

function fail(named: string, cause: unknown): never {
  const reason = REASONS[codeOf(cause)] ?? (cause instanceof Error ? cause.message : String(cause));
  throw new ListenError(`${named}: ${reason}`, { cause });
}

function codeOf(thrown: unknown): string {
  return typeof thrown === "object" && thrown !== null && "code" in thrown ? String(thrown.code) : "";
}
