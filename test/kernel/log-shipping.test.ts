/** What a real daemon prints is what the published schema says, and goes through the recipes of deploy/logging. */
import { spawn, spawnSync } from "node:child_process";
import { appendFileSync, closeSync, mkdirSync, mkdtempSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { createInterface } from "node:readline";
import t from "tap";
import { GuardMode } from "../../src/gen/janus_pb.js";
import { endWith, workspaceDirectory } from "../support/cleanup.js";
import { type Container, startContainer } from "../support/container.js";
import { type Daemon, eventually, startDaemon } from "../support/daemon.js";
import { guardOn } from "../support/guard.js";
import { schemaFaults } from "../support/log-schema.js";

const recipe = (name: string): string => readFileSync(new URL(`../../deploy/logging/${name}`, import.meta.url), "utf8");

/** A guard, an open that is allowed and one that is denied. */
async function openBoth(daemon: Daemon, container: Container): Promise<void> {
  const actor = await container.actor();
  const subject = { deny: ["/etc/secret"], allow: ["/etc/public"], tags: { team: "demo" } };
  await daemon.createGuard(guardOn(container, subject, { namespace: "shop" }));
  await actor.open("/etc/public");
  await actor.open("/etc/secret");
}

t.test("every line of a real daemon is as the schema says", async (t) => {
  const container = await startContainer(
    { files: { "/etc/secret": "", "/etc/public": "", "/etc/other": "", "/etc/audited": "" } },
    t,
  );
  const guards = join(mkdtempSync(join(workspaceDirectory(), "guards-")), "guards.yaml");
  const guardFile = (name: string) =>
    `apiVersion: januscontroller.clustergarage.io/v1alpha1
kind: JanusGuard
metadata: { name: ${name} }
spec: { containers: ["${container.id}"], subjects: [{ watch: [/etc/other], events: [open] }] }
`;
  writeFileSync(guards, guardFile("first"));
  const daemon = await startDaemon({ flags: ["--log-format=json", `--guards=${guards}`] }, t);
  await openBoth(daemon, container);
  await daemon.createGuard(guardOn(container, { deny: ["/etc/audited"] }, { name: "auditing", mode: GuardMode.AUDIT }));
  const actor = await container.actor();
  for (const path of ["/etc/other", "/etc/audited"]) await actor.open(path);
  for (const event of [
    '"response":"AUDIT"',
    '"response":"ALLOW","event":"OPEN_PERM"',
    '"response":"DENY"',
    '"event":"OPEN"',
  ]) {
    await daemon.waitForLine((line) => line.includes(event));
  }
  writeFileSync(guards, guardFile("second"));
  process.kill(daemon.pid, "SIGHUP");
  await eventually("the file is read again", () => daemon.stderr.includes('"the guard file is in force"'));
  await daemon.destroyGuard({ name: "guard", podName: "pod", namespace: "shop" });
  await daemon.stop();

  const own = daemon.stderr.split("\n").filter((line) => line !== "");
  for (const message of ["enforcing", "serving", "guard created", "guard removed", "stopping", "stopped"]) {
    t.ok(
      own.some((line) => line.includes(`"msg":"${message}"`)),
      message,
    );
  }
  t.ok(
    own.some((line) => line.includes('"source":"rpc","by":{')),
    "who asked",
  );
  t.same([...daemon.lines, ...own].flatMap(schemaFaults), []);

  const created = own.filter((line) => line.includes('"msg":"guard created"'));
  for (const line of [...created, ...daemon.lines]) {
    t.match(schemaFaults(line.replace("{", '{"color":"red",')), [/additional/], "an unknown field");
  }
});

t.test("rsyslog brings a daemon's events to a collector, and denials to a file", async (t) => {
  const directory = mkdtempSync(join(workspaceDirectory(), "rsyslog-"));
  mkdirSync(join(directory, "spool"));
  const received: string[] = [];
  const collector = createServer((socket) =>
    createInterface({ input: socket }).on("line", (line) => received.push(line)),
  );
  await new Promise<void>((resolve) => collector.listen(0, "127.0.0.1", resolve));
  t.teardown(() => new Promise((resolve) => collector.close(resolve)));
  const address = collector.address();
  if (address === null || typeof address === "string") throw new Error("the collector has no port");

  const config = join(directory, "rsyslog.conf");
  const text = recipe("rsyslog.conf")
    .replaceAll("/var/log/janusd", directory)
    .replace('target="logs.example.org" port="10514"', `target="127.0.0.1" port="${address.port}"`);
  writeFileSync(config, `global(workDirectory="${directory}/spool")\n${text}`);
  const events = join(directory, "events.log");
  const log = openSync(events, "a");
  const daemon = await startDaemon({ flags: ["--log-format=json"], stdout: log }, t);
  closeSync(log);
  const container = await startContainer({ files: { "/etc/secret": "", "/etc/public": "" } }, t);

  const check = spawnSync("rsyslogd", ["-N1", "-f", config], { encoding: "utf8" });
  t.equal(check.status, 0, check.stderr);
  t.notMatch(check.stderr, /error|warning/i);
  const rsyslog = spawn("rsyslogd", ["-n", "-f", config, "-i", join(directory, "pid")], { stdio: ["ignore", 2, 2] });
  endWith(t, rsyslog);

  await openBoth(daemon, container);
  const printed = () => readFileSync(events, "utf8").split("\n").slice(0, -1);
  await eventually("both are logged", () => printed().length === 2);
  // In either order: the gate records what it answers, the observer what it sees.
  const one = (response: string) => printed().filter((line) => line.includes(`"response":"${response}"`))[0] ?? "";
  // Far above what rsyslog takes unless it is told.
  appendFileSync(events, `${one("ALLOW").replace("/etc/public", `/${"x".repeat(60_000)}`)}\n`);
  await eventually("all of it is at the collector", () => received.length === 3);
  t.same(received, printed());
  t.same(received.flatMap(schemaFaults), []);
  const denied = (): string => readFileSync(join(directory, "denied.log"), "utf8");
  await eventually("the denial is in its file", () => denied().endsWith("\n")).catch(() => undefined);
  t.equal(denied(), `${one("DENY")}\n`);
});

t.test("systemd has nothing to say about the unit", async (t) => {
  const unit = join(mkdtempSync(join(workspaceDirectory(), "unit-")), "janusd.service");
  const program = new URL("../../bin/janusd", import.meta.url).pathname;
  writeFileSync(unit, recipe("janusd.service").replace("/usr/local/bin/janusd", program));
  const { status, stderr } = spawnSync("systemd-analyze", ["verify", "--man=no", unit], { encoding: "utf8" });
  t.equal(stderr, "");
  t.equal(status, 0);
});
