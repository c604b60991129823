import { spawn } from "node:child_process";
import { once } from "node:events";
import { linkSync, lstatSync, mkdirSync, mkdtempSync, symlinkSync, writeFileSync } from "node:fs";
import { connect, createServer, type Server } from "node:net";
import { join } from "node:path";
import { createInterface } from "node:readline";
import t from "tap";
import { type Address, parseAddress } from "../src/address.js";
import { ListenError, listen, SocketLocks, tryAddresses } from "../src/bind.js";
import { ConfigError } from "../src/config.js";
import { loadAddon } from "../src/native.js";
import { workspaceDirectory } from "./support/cleanup.js";

const directory = mkdtempSync(join(workspaceDirectory(), "bind-"));
const addon = loadAddon();
const locks = new SocketLocks(addon);
t.teardown(() => locks.close());

async function open(t: { teardown(handler: () => unknown): unknown }, address: Address): Promise<Server> {
  const server = createServer((socket) => socket.on("error", () => undefined).end("hello"));
  await listen(server, address, "--listen", locks);
  t.teardown(() => server.close());
  return server;
}

const hello = (path: string): Promise<string> =>
  new Promise((resolve, reject) => {
    connect({ path })
      .on("data", (data) => resolve(data.toString()))
      .on("error", reject);
  });

/** As a daemon leaves it that was killed. */
async function stale(path: string): Promise<void> {
  const server = createServer();
  const elsewhere = `${path}.other`;
  await new Promise<void>((resolve) => server.listen(elsewhere, resolve));

  linkSync(elsewhere, path);
  await new Promise((resolve) => server.close(resolve));
}

t.test("addresses, as people write them", async (t) => {
  t.same(parseAddress("unix:///run/a.sock"), { path: "/run/a.sock" });
  t.same(parseAddress("unix:/run/a.sock"), { path: "/run/a.sock" });
  t.same(parseAddress("[::1]:7"), { host: "::1", port: 7 });
  t.same(parseAddress("node-1", 50051), { host: "node-1", port: 50051 });
  t.same(parseAddress("[fe80::1]", 50051), { host: "fe80::1", port: 50051 });
  for (const text of ["", "node-1", "unix:run/a", "unix:///run/", "/run/a.sock", "a:99999", "::1:7", "http://a:1"]) {
    t.throws(() => parseAddress(text), /must be unix:\/\/\/path/, text);
  }
  t.throws(() => parseAddress(`unix:///${"x".repeat(107)}`), /fewer than 108 bytes/);
  t.same(parseAddress(`unix:///${"x".repeat(106)}`), { path: `/${"x".repeat(106)}` });
});

t.test("a socket: its directory is made for root alone, and nobody else may connect, whatever the umask", async (t) => {
  const path = join(directory, "made", "a.sock");
  const umask = process.umask(0);
  t.teardown(() => process.umask(umask));
  await open(t, { path });
  t.equal(lstatSync(join(directory, "made")).mode & 0o777, 0o700);
  t.equal(lstatSync(path).mode & 0o777, 0o600);
  t.equal(process.umask(), 0, "and the umask is what it was");
  t.equal(await hello(path), "hello");
});

t.test("the socket of a daemon that is gone is replaced; that of one that lives is in use", async (t) => {
  const path = join(directory, "b.sock");
  await stale(path);
  await t.rejects(hello(path), { code: "ECONNREFUSED" });
  const server = await open(t, { path });
  t.equal(await hello(path), "hello");
  await t.rejects(listen(createServer(), { path }, "--listen", locks), {
    name: "ListenError",
    message: `--listen unix://${path}: in use: process ${process.pid} listens there`,
  });
  t.equal(await hello(path), "hello", "which leaves it be");
  await new Promise((resolve) => server.close(resolve));
  t.notOk(lstatSync(path, { throwIfNoEntry: false }), "the end takes it away");
});

t.test("the lock beside a socket: another process that has it is named; it goes with us", async (t) => {
  const path = join(directory, "c.sock");
  const lock = `${path}.lock`;
  const holder = spawn("flock", ["--no-fork", lock, "sh", "-c", "echo; exec sleep 60"]);
  const { pid } = holder;
  const gone = once(holder, "exit");
  t.teardown(() => holder.kill("SIGKILL"));
  await once(holder.stdout, "data");
  const own = new SocketLocks(addon);
  await t.rejects(listen(createServer(), { path }, "--listen", own), {
    name: "ListenError",
    message: `--listen unix://${path}: in use: process ${pid} listens there`,
  });
  holder.kill("SIGKILL");
  await gone;
  const server = createServer();
  await listen(server, { path }, "--listen", own);
  await new Promise((resolve) => server.close(resolve));
  own.close();
  t.notOk(lstatSync(lock, { throwIfNoEntry: false }));
});

t.test("many that replace a stale socket at once: one has it, and is who the others name", async (t) => {
  const all = Array.from({ length: 6 }, () => {
    const child = spawn(process.execPath, [...process.execArgv, join(import.meta.dirname, "support/binder.ts")], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    t.teardown(() => child.kill("SIGKILL"));
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    const { pid } = child;
    const said = async (): Promise<string> => (await lines.next()).value ?? "ended";
    return { pid, say: (line: string) => child.stdin.write(`${line}\n`), said };
  });
  t.same(
    await Promise.all(all.map(({ said }) => said())),
    all.map(() => "there"),
  );
  for (let round = 0; round < 20; round++) {
    const path = join(directory, `many-${round}.sock`);
    await stale(path);
    for (const { say } of all) say(path);
    const said = await Promise.all(all.map(async ({ pid, said }) => ({ pid, said: await said() })));
    const have = said.filter(({ said }) => said === "listening");
    t.equal(have.length, 1, `round ${round}`);
    const refused = `--listen unix://${path}: in use: process ${have[0]?.pid} listens there`;
    t.same(
      said.flatMap(({ said }) => (said === "listening" ? [] : [said])),
      Array.from({ length: all.length - 1 }, () => refused),
    );
    t.equal(await hello(path), String(have[0]?.pid), "and who connects reaches it");
    for (const { say } of all) say("");
    await Promise.all(all.map(({ said }) => said()));
  }
});

t.test("what cannot be a socket is a mistake of the configuration, and stays as it is", async (t) => {
  const file = join(directory, "file");
  writeFileSync(file, "precious");
  symlinkSync("file", join(directory, "link"));
  mkdirSync(join(directory, "directory"));
  for (const name of ["file", "link", "directory"]) {
    const path = join(directory, name);
    await t.rejects(listen(createServer(), { path }, "--listen", locks), {
      name: "ConfigError",
      message: `--listen unix://${path}: is there, and is no socket`,
    });
    t.ok(lstatSync(path));
  }
  for (const path of [join(directory, "no", "such", "a.sock"), join(file, "a", "a.sock"), "/proc/nope/a.sock"]) {
    await t.rejects(listen(createServer(), { path }, "--listen", locks), ConfigError);
  }
  await t.rejects(listen(createServer(), { path: "/proc/1/a.sock" }, "--listen", locks), {
    message: /^--listen unix:\/\/\/proc\/1\/a\.sock: /,
  });
});

t.test("TCP: what is wrong, with the flag", async (t) => {
  const server = await open(t, { host: "127.0.0.1", port: 0 });
  const bound = server.address();
  if (typeof bound !== "object" || bound === null) throw new Error("no address");
  const cases: [address: Address, message: RegExp][] = [
    [{ host: "127.0.0.1", port: bound.port }, /^--http 127\.0\.0\.1:\d+: in use/],
    [{ host: "192.0.2.1", port: 0 }, /^--http 192\.0\.2\.1:0: this machine has no such address$/],
    [{ host: "nowhere.invalid", port: 0 }, /^--http nowhere\.invalid:0: there is no host of that name$/],
  ];
  for (const [address, message] of cases) {
    await t.rejects(listen(createServer(), address, "--http", locks), { name: "ListenError", message });
  }
});

t.test("all addresses can be tried at once: two of a kind are found, and none stays bound", async (t) => {
  const path = join(directory, "tried.sock");
  const free = await open(t, { host: "127.0.0.1", port: 0 });
  const bound = free.address();
  if (typeof bound !== "object" || bound === null) throw new Error("no address");
  await new Promise((resolve) => free.close(resolve));
  const address = { host: "127.0.0.1", port: bound.port };
  await tryAddresses(
    [
      ["--http", address],
      ["--listen", { path }],
    ],
    locks,
  );
  t.notOk(lstatSync(path, { throwIfNoEntry: false }));
  await t.rejects(
    tryAddresses(
      [
        ["--http", address],
        ["--listen", { path }],
        ["--listen", address],
      ],
      locks,
    ),
    ListenError,
  );
  t.notOk(lstatSync(path, { throwIfNoEntry: false }));
  await open(t, address);
});
