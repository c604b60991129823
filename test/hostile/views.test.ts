/** What a container mounts, and how many mount namespaces it has, is its own share: a neighbour's guard holds, and is made. */
import t, { type Test } from "tap";
import { type Container, startContainer, staticProgram } from "../support/container.js";
import { type Daemon, eventually, rpcError, startDaemon } from "../support/daemon.js";
import { EPERM, guardOn } from "../support/guard.js";

const programs = { "/bin/storm9": staticProgram(new URL("storm9.c", import.meta.url).pathname) };

const refused = (daemon: Daemon, container: Container, resource: string) =>
  daemon.metric("janusd_share_refused_total", { container: container.id, resource });

/** Few descriptors: one container would soon hold all of them. */
const few = { enter: ["prlimit", "--nofile=1024:1024"] };

async function containers(t: Test, daemon: Daemon): Promise<{ attacker: Container; neighbour: Container }> {
  const attacker = await startContainer({ programs, volumes: [{ target: "/data" }] }, t);
  const neighbour = await startContainer({ volumes: [{ target: "/data" }] }, t);
  const guard = guardOn(attacker, { deny: ["/data/s"], recursive: true });
  attacker.writeVolume(0, "s/file", "");
  await daemon.createGuard({ ...guard, name: "attacker", podName: "attacker" });
  return { attacker, neighbour };
}

/** The attacker is named, and pays; the neighbour gets its guard. */
async function pays(
  t: Test,
  daemon: Daemon,
  attacker: Container,
  neighbour: Container,
  resource: string,
): Promise<void> {
  await eventually("the attacker is named", async () => (await refused(daemon, attacker, resource)) > 0);
  neighbour.writeVolume(0, "s/token", "s3cret");
  const guard = guardOn(neighbour, { deny: ["/data/s"], recursive: true });
  await daemon.createGuard({ ...guard, name: "neighbour", podName: "neighbour" });
  const actor = await neighbour.actor();
  t.equal(await actor.link("/data/s/token", "/data/linked"), 0);
  for (const path of ["/data/s/token", "/data/linked"]) t.equal(await actor.open(path), EPERM, path);
  t.equal(await refused(daemon, neighbour, resource), 0);
  t.equal(await (await attacker.actor()).open("/data/s/file"), EPERM, "what the attacker's guard denied stays denied");
  const said = () => daemon.stderr.split("\n").filter((line) => line.includes("has used up its share"));
  await eventually("its log tells", async () => said().some((line) => line.includes(`"${resource}"`)));
  t.ok(
    said().every((line) => line.includes(attacker.id)),
    "of the attacker alone",
  );
}

/** A new guard of the attacker is refused. */
async function saysSo(t: Test, daemon: Daemon, attacker: Container, message: RegExp): Promise<void> {
  const more = guardOn(attacker, [{ deny: ["/etc"] }]);
  t.match(await rpcError(daemon.createGuard({ ...more, name: "more", podName: "attacker" })), {
    code: "RESOURCE_EXHAUSTED",
    message,
  });
}

t.test("600 mount namespaces, with 1,024 descriptors", async (t) => {
  const daemon = await startDaemon(few, t);
  const { attacker, neighbour } = await containers(t, daemon);
  void attacker.exec(["storm9", "usens", "600"], { uid: 1000 });
  await pays(t, daemon, attacker, neighbour, "namespaces");
  await saysSo(t, daemon, attacker, /^subject\[0\]: .*container .* mount namespaces/);
  await daemon.stop();
});

t.test("1,500 mounts below a guarded path, with 1,024 descriptors", async (t) => {
  const daemon = await startDaemon(few, t);
  const { attacker, neighbour } = await containers(t, daemon);
  const { stdout } = await attacker.exec(["storm9", "spread", "1500", "/data/s"], { capabilities: "sys_admin" });
  t.match(stdout, /^1500 mounts/);
  await pays(t, daemon, attacker, neighbour, "clones");
  const actor = await attacker.actor();
  await eventually("the last is denied, too", async () => (await actor.open("/data/s/1499/file")) === EPERM);
  await daemon.stop();
});

t.test("42,000 mounts in 21 mount namespaces", async (t) => {
  const daemon = await startDaemon({}, t);
  const { attacker, neighbour } = await containers(t, daemon);
  const { stdout } = await attacker.exec(["storm9", "stack", "2000", "/mnt"], { capabilities: "sys_admin" });
  t.match(stdout, /^2000 stacked/);
  void attacker.exec(["storm9", "namespaces", "20"], { capabilities: "sys_admin" });
  await pays(t, daemon, attacker, neighbour, "mounts");
  await saysSo(t, daemon, attacker, /^subject\[0\]: .*container .* mounts/);
  await daemon.stop();
});
