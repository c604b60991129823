/** The default addresses, on nodes that have IPv4, IPv6 or both: each is a network namespace of its own. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { text } from "node:stream/consumers";
import t, { type Test } from "tap";
import { certificate } from "../support/certificates.js";
import { killAtExit, workspaceDirectory } from "../support/cleanup.js";
import { staticProgram } from "../support/container.js";
import { realEnvironment, runToEnd } from "../support/daemon.js";
import { janusctl } from "../support/janusctl.js";

const directory = mkdtempSync(join(workspaceDirectory(), "addresses-"));
const file = (name: string) => join(directory, name);
certificate(directory, "ca");
certificate(directory, "node", { issuer: "ca", names: "IP:127.0.0.1,IP:::1" });
const tls = [`--tlscafile=${file("ca.crt")}`, `--tlscertfile=${file("node.crt")}`, `--tlskeyfile=${file("node.key")}`];

const program = new URL("../../bin/janusd", import.meta.url).pathname;
const both = "ip link set lo up";
const switchedOff = `sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1 && ${both}`;
/** As with the boot parameter ipv6.disable=1: socket(2) knows no such family. */
const withoutFamily = [staticProgram("no-ipv6.c")];

/** Has the network that `setUp` makes, and `/run`, for itself. */
function node(setUp: string): string[] {
  return ["unshare", "--net", "--mount", "sh", "-c", `mount -t tmpfs none /run && ${setUp} && exec "$@"`, "sh"];
}

/** Resolves when it says that it serves. */
async function startOn(t: Test, enter: readonly string[], flags: readonly string[]): Promise<ChildProcess> {
  const [command, unset] = realEnvironment;
  const child = spawn(command, [unset, ...enter, program, "--state-file=", ...flags], {
    stdio: ["ignore", "ignore", "pipe"],
  });
  const forget = child.pid === undefined ? () => undefined : killAtExit(child.pid);
  const ended = once(child, "exit").finally(forget);
  t.teardown(() => {
    child.kill();
    return ended;
  });
  const said: string[] = [];
  for await (const line of createInterface({ input: child.stderr })) {
    said.push(line);
    if (line.includes('"serving"')) break;
  }
  child.stderr.resume();
  if (!said.at(-1)?.includes('"serving"')) throw new Error(`it does not serve:\n${said.join("\n")}`);
  return child;
}

/** What answers there, from inside: HTTP with a status, gRPC with a list of guards. */
async function reached(daemon: ChildProcess, host: string): Promise<{ http: string; grpc: boolean }> {
  const enter = ["nsenter", `--net=/proc/${daemon.pid}/ns/net`];
  const ask = `fetch("http://${host}:9464/livez").then(({ status }) => console.log(status), () => console.log("none"))`;
  const [command, unset] = realEnvironment;
  const child = spawn(command, [unset, ...enter, process.execPath, "--eval", ask], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const http = (await text(child.stdout)).trim();
  const { status } = await janusctl(["--address", `${host}:50051`, ...tls, "list"], { enter });
  return { http, grpc: status === 0 };
}

const yes = { http: "200", grpc: true };
const no = { http: "none", grpc: false };
const nodes = {
  both: { enter: node(both), v4: yes, v6: yes },
  "both, and sockets of IPv6 are of that alone unless told": {
    enter: node(`sysctl -qw net.ipv6.bindv6only=1 && ${both}`),
    v4: yes,
    v6: yes,
  },
  "IPv4 only: IPv6 is switched off": { enter: node(switchedOff), v4: yes, v6: no },
  "IPv4 only: the kernel has no IPv6": { enter: [...node(both), ...withoutFamily], v4: yes, v6: no },
  "IPv6 only": { enter: node(`${both} && ip -4 address flush dev lo`), v4: no, v6: yes },
};

for (const [name, { enter, v4, v6 }] of Object.entries(nodes)) {
  t.test(`the defaults: ${name}`, async (t) => {
    const daemon = await startOn(t, enter, tls);
    t.same(await reached(daemon, "127.0.0.1"), v4, "IPv4");
    t.same(await reached(daemon, "[::1]"), v6, "IPv6");
  });
}

t.test("an explicit address is what is listened at", async (t) => {
  const cases: [host: string, v4: typeof yes | typeof no, v6: typeof yes | typeof no][] = [
    ["0.0.0.0", yes, no],
    ["127.0.0.1", yes, no],
    ["[::1]", no, yes],
  ];
  for (const [host, v4, v6] of cases) {
    const daemon = await startOn(t, node(both), [...tls, `--http=${host}:9464`, `--listen=${host}:50051`]);
    t.same([await reached(daemon, "127.0.0.1"), await reached(daemon, "[::1]")], [v4, v6], host);
  }
});

t.test("an explicit address that the node does not have is refused, not replaced", async (t) => {
  const cases: [enter: readonly string[], reason: string][] = [
    [node(switchedOff), "this machine has no such address"],
    [[...node(both), ...withoutFamily], "this machine has no IPv6"],
  ];
  for (const [enter, reason] of cases) {
    for (const flag of ["--http", "--listen"]) {
      const { status, lines, log } = runToEnd([`${flag}=[::1]:9464`], enter);
      t.same({ status, lines, log }, { status: 1, lines: [`janusd: ${flag} [::1]:9464: ${reason}`], log: [] });
    }
  }
});
