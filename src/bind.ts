/**
 * Has servers listen where they were told to, or says why not, with the flag that said so. All of it can be tried
 * before the daemon enforces anything.
 */
import { closeSync, constants, fstatSync, lstatSync, mkdirSync, openSync, readFileSync, unlinkSync } from "node:fs";
import { connect, createServer, type ListenOptions, type Server, type Socket } from "node:net";
import { dirname } from "node:path";
import { type Address, formatAddress, type TcpAddress } from "./address.js";
import { ConfigError } from "./config.js";
import type { Addon } from "./native.js";

/** The address cannot be had on this machine, now. One line, with the flag. */
export class ListenError extends Error {
  override readonly name = "ListenError";
}

/** Only the daemon's user reaches a socket of its: whoever does commands the daemon. */
const DIRECTORY_MODE = 0o700;
const SOCKET_UMASK = 0o177;

/**
 * Sockets of the file system that this process may bind. Whoever replaces one that a dead process left holds a lock
 * meanwhile and from then on (flock(2) of a file beside it, which the kernel lets go of when the process ends): of many
 * that start at once, one has the socket, and none takes it from that one.
 */
export class SocketLocks {
  readonly #native: Pick<Addon, "tryLock" | "peer">;
  /** The lock's descriptor, by the socket's path. */
  readonly #held = new Map<string, number>();

  constructor(native: Pick<Addon, "tryLock" | "peer">) {
    this.#native = native;
  }

  /** Undefined: it is ours, until `close`. Else what has it; 0 = not known. */
  take(path: string): { readonly pid: number } | undefined {
    while (!this.#held.has(path)) {
      const lock = openSync(lockOf(path), constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600);
      try {
        if (!this.#native.tryLock(lock)) return { pid: holderOf(lock) };
        // Whoever had it may have removed the file.
        if (fstatSync(lock).ino === lstatSync(lockOf(path), { throwIfNoEntry: false })?.ino) this.#held.set(path, lock);
      } finally {
        if (this.#held.get(path) !== lock) closeSync(lock);
      }
    }
    return undefined;
  }

  /** Who listens where the socket is connected to. 0 = not known. */
  listenerOf(socket: Socket): number {
    const descriptor = descriptorOf(socket);
    return descriptor === undefined ? 0 : this.#native.peer(descriptor).pid;
  }

  close(): void {
    for (const [path, lock] of this.#held) {
      unlinkSync(lockOf(path));
      closeSync(lock);
    }
    this.#held.clear();
  }
}

function lockOf(path: string): string {
  return `${path}.lock`;
}

/** The process that has the flock(2), by proc_locks(5). */
function holderOf(lock: number): number {
  const { ino } = fstatSync(lock);
  const [, pid] =
    new RegExp(`FLOCK +\\S+ +WRITE +(\\d+) +\\w+:\\w+:${ino} `).exec(readFileSync("/proc/locks", "utf8")) ?? [];
  return Number(pid ?? 0);
}

/** Node keeps it to itself. Undefined if that changes. */
export function descriptorOf(socket: Socket): number | undefined {
  const handle: unknown = Reflect.get(socket, "_handle");
  const descriptor: unknown = typeof handle === "object" && handle !== null ? Reflect.get(handle, "fd") : undefined;
  return typeof descriptor === "number" && descriptor >= 0 ? descriptor : undefined;
}

/** All of these at once. Rejects with the ListenError or ConfigError of the first that cannot be had; binds none. */
export async function tryAddresses(
  wanted: readonly (readonly [flag: string, address: Address])[],
  locks: SocketLocks,
): Promise<void> {
  const servers: Server[] = [];
  try {
    for (const [flag, address] of wanted) {
      const server = createServer((socket) => socket.destroy());
      await listen(server, address, flag, locks);
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
export async function listen(server: Server, address: Address, flag: string, locks: SocketLocks): Promise<Address> {
  if ("path" in address) {
    const named = nameOf(flag, address);
    await makeRoom(address.path, named, locks);
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
async function makeRoom(path: string, named: string, locks: SocketLocks): Promise<void> {
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
  isFree(path, named); // or it is no socket, and gets no lock beside it
  try {
    // From here on nobody else takes away what we bind.
    refuseIfUsed(named, locks.take(path));
    if (isFree(path, named)) return;
    // Of another program, or of a daemon that knew no locks.
    refuseIfUsed(named, await listenerOn(path, locks));
    unlinkSync(path);
  } catch (cause) {
    if (cause instanceof ListenError || cause instanceof ConfigError) throw cause;
    fail(named, cause);
  }
}

function refuseIfUsed(named: string, by: { readonly pid: number } | undefined): void {
  if (by === undefined) return;
  const who = by.pid === 0 ? "another process" : `process ${by.pid}`;
  throw new ListenError(`${named}: in use: ${who} listens there`);
}

/** False: there is a socket. */
function isFree(path: string, named: string): boolean {
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (found !== undefined && !found.isSocket()) throw new ConfigError(`${named}: is there, and is no socket`);
  return found === undefined;
}

/** Who listens on a socket of the file system. Rejects with what connect(2) says, unless that means nobody. */
function listenerOn(path: string, locks: SocketLocks): Promise<{ readonly pid: number } | undefined> {
  return new Promise((resolve, reject) => {
    const socket = connect({ path });
    socket.once("connect", () => {
      resolve({ pid: locks.listenerOf(socket) });
      socket.destroy();
    });
    socket.once("error", (error) => {
      const code = codeOf(error);
      if (code === "ECONNREFUSED" || code === "ENOENT") resolve(undefined);
      // Its queue is full.
      else if (code === "EAGAIN") resolve({ pid: 0 });
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
