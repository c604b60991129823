/** File systems whose server never answers, is dead, or opens what is denied while we open its file: they cost only themselves. */
import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import t, { type Test } from "tap";
import { Scope } from "../../src/gen/janus_pb.js";
import { killAtExit, workspaceDirectory } from "../support/cleanup.js";
import { type Container, startContainer, staticProgram } from "../support/container.js";
import { type Daemon, eventually, rpcError, startDaemon } from "../support/daemon.js";
import { standStill } from "../support/freeze.js";
import { EPERM, guardOn } from "../support/guard.js";

const server = staticProgram("fuse-server.c");
const admin = { capabilities: "sys_admin" } as const;

/** One that may mount FUSE, with a secret that is guarded, in a directory in which it may mount. */
async function hostile(t: Test): Promise<Container> {
  const files = { "/app/secret": "s3cret", "/app/m/under": "" };
  return startContainer({ fuse: true, files, programs: { "/bin/fuse-server": server } }, t);
}

function mounted(container: Container, type: string): boolean {
  return readFileSync(`/proc/${container.initPid}/mountinfo`, "utf8").includes(` - ${type} `);
}

/** Starts a server in the container, as a process of it. Ends with the container. Its output is there once it ended. */
async function serve(container: Container, ...args: readonly string[]) {
  const ended = container.exec(["fuse-server", ...args], admin);
  await eventually("it is mounted", () => mounted(container, "fuse"));
  return ended;
}

/** Starts a server on the node. */
async function serveOnNode(t: Test, mode: string): Promise<{ point: string; pid: number }> {
  const point = mkdtempSync(join(workspaceDirectory(), "fuse-"));
  const child = spawn(server, [point, mode], { stdio: ["ignore", "pipe", "inherit"] });
  const pid = child.pid ?? 0;
  const forget = killAtExit(pid);
  await new Promise((resolve) => child.stdout.once("data", resolve));
  t.teardown(async () => {
    child.kill("SIGKILL"); // its mount answers ENOTCONN then, and nobody waits
    forget();
  });
  return { point, pid };
}

function denied(container: Container, name: string, deny: readonly string[]) {
  const subject = { deny: [...deny], recursive: true, scope: Scope.CONTAINER };
  return { ...guardOn(container, subject), name, podName: name };
}

/** That the daemon does everything for everybody else. */
async function othersAreServed(t: Test, daemon: Daemon, neighbour: Container): Promise<void> {
  const actor = await neighbour.actor();
  const { denied: refused, opened, max } = await actor.repeat("/etc/secret", 200);
  t.same({ refused, opened }, { refused: 200, opened: 0 }, "a neighbour's opens are denied");
  t.ok(max < 1e9, `and answered before any deadline: ${max} ns`);
  t.equal((await actor.repeat("/etc/passwd", 200)).opened, 200, "and its others allowed");
  await actor.stop();
  const third = await startContainer({ files: { "/etc/secret": "" } }, t);
  await daemon.createGuard(denied(third, "third", ["/etc/secret"]));
  t.equal(await (await third.actor()).open("/etc/secret"), EPERM, "CreateGuard is answered");
  t.equal((await daemon.http("/livez")).status, 200);
  t.equal((await daemon.http("/readyz")).status, 200);
  t.equal(await daemon.metric("janusd_exposure_total", { cause: "deadline" }), 0);
}

for (const mode of ["hang", "silent"] as const) {
  for (const where of ["/app/m", "/app/secret"]) {
    t.test(`a container mounts a server that is to ${mode} at ${where}, and opens it`, async (t) => {
      const daemon = await startDaemon({}, t);
      const [bad, neighbour] = await Promise.all([hostile(t), startContainer({ files: { "/etc/secret": "" } }, t)]);
      await daemon.createGuard(denied(bad, "bad", ["/app"]));
      await daemon.createGuard(denied(neighbour, "neighbour", ["/etc/secret"]));
      void serve(bad, where, mode);
      await eventually("it is mounted", () => mounted(bad, "fuse"));
      for (let i = 0; i < 4; ++i) void bad.exec(["cat", where === "/app/m" ? `${where}/f${i}` : where]);
      await eventually(
        "it is counted",
        async () => (await daemon.metric("janusd_exposure_total", { cause: "served_elsewhere" })) > 0,
      );
      await othersAreServed(t, daemon, neighbour);
      await daemon.stop();
      const next = await startDaemon({ stateFile: daemon.stateFile }, t);
      t.equal((await next.getGuardState()).length, 3, "all guards are restored");
      await othersAreServed(t, next, neighbour);
      if (where === "/app/m") t.equal(await (await bad.actor()).open("/app/secret"), EPERM);
      await next.stop();
    });
  }
}

t.test("a server that opens the denied file before it answers doesn't get it", async (t) => {
  const daemon = await startDaemon({}, t);
  const bad = await hostile(t);
  await daemon.createGuard(denied(bad, "bad", ["/app"]));
  const ended = serve(bad, "/app/m", "opens", "/app/secret");
  await eventually("it is mounted", () => mounted(bad, "fuse"));
  for (let i = 0; i < 4; ++i) t.equal((await bad.exec(["cat", `/app/m/f${i}`])).stdout, "fuse\n");
  t.equal((await bad.exec(["umount", "/app/m"], admin)).status, 0);
  const lines = (await ended).stdout.split("\n").filter((line) => line !== "");
  t.same(lines, ["mounted", ...Array.from({ length: 4 }, () => "Operation not permitted")]);
  t.equal(await daemon.metric("janusd_exposure_total", { cause: "deadline" }), 0);
  await daemon.stop();
});

for (const stopped of [false, true]) {
  t.test(`a guard on a volume that is FUSE is refused${stopped ? ", though its server hangs" : ""}`, async (t) => {
    const daemon = await startDaemon({}, t);
    const { point, pid } = await serveOnNode(t, "ok");
    const container = await startContainer(
      { files: { "/etc/secret": "", "/etc/link": "" }, volumes: [{ source: point, target: "/data" }] },
      t,
    );
    const neighbour = await startContainer({ files: { "/etc/secret": "" } }, t);
    await daemon.createGuard(denied(neighbour, "neighbour", ["/etc/secret"]));
    t.equal((await container.exec(["ln", "-sf", "/data/secrets/key", "/etc/link"])).status, 0);
    if (stopped) await standStill(pid);
    for (const path of ["/data", "/data/secrets/key", "/etc/link"]) {
      const error = await rpcError(daemon.createGuard(denied(container, "a", ["/etc/secret", path])));
      t.equal(error.code, "FAILED_PRECONDITION", path);
      t.match(error.message, /subject\[0\]\.deny\[1\]: .*server may never answer \(fuse\)/);
    }
    await daemon.createGuard(denied(container, "a", ["/etc/secret"]));
    t.equal(await (await container.actor()).open("/etc/secret"), EPERM, "what isn't on it is guarded");
    await othersAreServed(t, daemon, neighbour);
    await daemon.stop();
    process.kill(pid, "SIGCONT");
  });
}

t.test("an overlay whose layer is FUSE is no better: as a root it is refused, as a mount passed by", async (t) => {
  const daemon = await startDaemon({}, t);
  const { point } = await serveOnNode(t, "ok");
  const lazy = await startContainer({ layers: [point], files: { "/etc/secret": "" } }, t);
  const error = await rpcError(daemon.createGuard(denied(lazy, "lazy", ["/etc/secret"])));
  t.equal(error.code, "FAILED_PRECONDITION");
  t.match(error.message, /overlay of fuse/);

  const bad = await hostile(t);
  await daemon.createGuard(denied(bad, "bad", ["/app"]));
  void serve(bad, "/mnt", "ok");
  await eventually("it is mounted", () => mounted(bad, "fuse"));
  const overlay = ["mount", "-t", "overlay", "x", "-o", "lowerdir=/mnt:/etc", "/app/m"];
  t.equal((await bad.exec(overlay, admin)).status, 0);
  await eventually(
    "it is counted",
    async () => (await daemon.metric("janusd_exposure_total", { cause: "served_elsewhere" })) > 0,
  );
  t.equal((await bad.exec(["cat", "/app/m/f1"])).stdout, "fuse\n", "nobody is asked about it");
  t.equal(await (await bad.actor()).open("/app/secret"), EPERM);
  await daemon.stop();
});

t.test("a dead server below a guarded path costs only itself, also at the next start", async (t) => {
  const source = mkdtempSync(join(workspaceDirectory(), "plain-"));
  mkdirSync(join(source, "remote"));
  writeFileSync(join(source, "key"), "s3cret");
  const { point, pid } = await serveOnNode(t, "ok");
  const volumes = [
    { source, target: "/data" },
    { source: point, target: "/data/remote" },
  ];
  const container = await startContainer({ volumes }, t);
  const first = await startDaemon({}, t);
  await first.createGuard(denied(container, "a", ["/data"]));
  process.kill(pid, "SIGKILL");
  const actor = await container.actor();
  t.equal(await actor.open("/data/key"), EPERM);
  await first.stop();
  const next = await startDaemon({ stateFile: first.stateFile }, t);
  t.equal(await actor.open("/data/key"), EPERM);
  t.equal(await next.metric("janusd_exposure_total", { cause: "served_elsewhere" }), 1);
  await next.createGuard(denied(container, "b", ["/data"]));
  await next.stop();
});
