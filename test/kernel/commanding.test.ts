/** Who may command the daemon, with the real one: its Unix socket, and what it logs of who did. */
import { mkdtempSync, statSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import { workspaceDirectory } from "../support/cleanup.js";
import { startContainer } from "../support/container.js";
import { runToEnd, startDaemon } from "../support/daemon.js";
import { EPERM } from "../support/guard.js";
import { janusctl } from "../support/janusctl.js";

/** Has `/run` for itself, as in a container: what listens by default on this machine is left alone. */
const ownRun = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /run && exec "$@"', "sh"];
const nobody = [
  "setpriv",
  "--reuid=65534",
  "--regid=65534",
  "--clear-groups",
  "--inh-caps=-all",
  "--bounding-set=-all",
];

const guardFile = (id: string) => `
apiVersion: januscontroller.clustergarage.io/v1alpha1
kind: JanusGuard
metadata: { name: secret }
spec: { containers: ["${id}"], subjects: [{ deny: [/etc/secret], events: [open] }] }
`;

t.test("by default root commands over a Unix socket, nobody else does, and janusctl needs no flags", async (t) => {
  const container = await startContainer({ files: { "/etc/secret": "" } }, t);
  const actor = await container.actor();
  const daemon = await startDaemon({ enter: ownRun, flags: ["--listen=unix:///run/janusd/janusd.sock"] }, t);
  const there = ["nsenter", `--mount=/proc/${daemon.pid}/ns/mnt`];
  t.equal(statSync(`/proc/${daemon.pid}/root/run/janusd`).mode & 0o777, 0o700);
  t.equal(statSync(`/proc/${daemon.pid}/root/run/janusd/janusd.sock`).mode & 0o777, 0o600);

  const created = await janusctl(["create", "-f", "-"], { stdin: guardFile(container.id), enter: there });
  t.match(created, { status: 0, err: "" });
  t.equal(await actor.open("/etc/secret"), EPERM);

  for (const command of [["list"], ["delete", "secret"]]) {
    const { status, err } = await janusctl(command, { enter: [...there, ...nobody] });
    t.equal(status, 1);
    t.match(err, /^janusctl: UNAVAILABLE: not permitted to connect to \/run\/janusd\/janusd\.sock: only root /);
  }
  t.equal(await actor.open("/etc/secret"), EPERM);

  t.match(await janusctl(["delete", "secret"], { enter: there }), { status: 0 });
  t.equal(await actor.open("/etc/secret"), 0);
  await daemon.stop();
  const changes = daemon.stderr.split("\n").filter((line) => line.includes('"guard":"secret"'));
  t.equal(changes.length, 2);
  for (const line of changes) t.match(JSON.parse(line), { level: "info", by: { peer: "unix", uid: 0, pid: Number } });
});

t.test("a daemon that was killed leaves no obstacle; one that lives keeps its socket", async (t) => {
  const path = join(mkdtempSync(join(workspaceDirectory(), "socket-")), "janusd.sock");
  const flags = [`--listen=unix://${path}`];
  const killed = await startDaemon({ flags }, t);
  await killed.kill();
  const daemon = await startDaemon({ flags }, t);
  const second = runToEnd(flags);
  t.match(second, {
    status: 1,
    lines: [`janusd: --listen unix://${path}: in use: another process listens there`],
    log: [],
  });
  t.match(await janusctl(["--address", `unix://${path}`, "list"]), { status: 0 });
  await daemon.stop();
  t.match(await janusctl(["--address", `unix://${path}`, "list"]), { status: 1, err: /there is no socket / });
});
