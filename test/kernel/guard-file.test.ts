/** `--guards FILE`: guards without a controller. */
import { randomBytes } from "node:crypto";
import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import { workspaceDirectory } from "../support/cleanup.js";
import { startContainer } from "../support/container.js";
import { eventually, rpcError, startDaemon } from "../support/daemon.js";
import { EPERM } from "../support/guard.js";

const guardFile = (ids: readonly string[]): string => {
  const file = join(mkdtempSync(join(workspaceDirectory(), "guards-")), "guards.yaml");
  const documents = ids.map(
    (id, index) => `apiVersion: januscontroller.clustergarage.io/v1alpha1
kind: JanusGuard
metadata: { name: secrets-${index} }
spec:
  containers: [${id}]
  logFormat: "{name} {response} {path} {tags}"
  subjects:
    - deny: [/etc/secret]
      events: [open]
      tags: { from: file }
`,
  );
  writeFileSync(file, documents.join("---\n"));
  return file;
};

t.test("held from the start, and not put into the state file", async (t) => {
  const container = await startContainer({ files: { "/etc/secret": "" } }, t);
  const actor = await container.actor();
  const daemon = await startDaemon({ flags: ["--guards", guardFile([`docker://${container.id}`])] }, t);
  t.equal(await actor.open("/etc/secret"), EPERM, "when /readyz says so, it is enforced");
  await daemon.waitForLine((line) => line === "secrets-0 DENY /etc/secret from=file");
  t.match(await daemon.getGuardState(), [{ name: "secrets-0", cid: [container.id] }]);
  await daemon.createGuard({
    name: "other",
    cid: [container.id],
    subject: [{ deny: ["/etc/other"], event: ["open"] }],
  });
  await daemon.stop();
  t.same(
    JSON.parse(readFileSync(daemon.stateFile, "utf8")).guards.map((guard: { config: object }) => guard.config),
    [{ name: "other", cid: [container.id], subject: [{ deny: ["/etc/other"], event: ["open"] }] }],
  );
});

t.test("a container that appears later, and one that comes back", async (t) => {
  // Known beforehand, and not to anybody else who tests on this machine.
  const id = randomBytes(32).toString("hex");
  const daemon = await startDaemon({ flags: ["--guards", guardFile([id])] }, t);
  t.same(await daemon.getGuardState(), []);
  for (let round = 0; round < 2; round++) {
    const container = await startContainer({ id, files: { "/etc/secret": "" } });
    await eventually("it is guarded", async () => (await daemon.getGuardState()).length === 1);
    const actor = await container.actor();
    t.equal(await actor.open("/etc/secret"), EPERM);
    await container.stop();
    await eventually("it is gone", async () => (await daemon.getGuardState()).length === 0);
  }
  t.match(daemon.stderr, /cannot be held yet/);
  await daemon.stop();
});

t.test("one container that is absent unguards no other, and clients cannot take what is the file's", async (t) => {
  const container = await startContainer({ files: { "/etc/secret": "" } }, t);
  const actor = await container.actor();
  const absent = randomBytes(32).toString("hex");
  const daemon = await startDaemon({ flags: ["--guards", guardFile([`${container.id}, ${absent}`])] }, t);
  t.equal(await actor.open("/etc/secret"), EPERM);
  const refused = async (call: Promise<unknown>) => {
    const error = await rpcError(call);
    t.equal(error.code, "FAILED_PRECONDITION");
    t.match(error.message, "guard file");
  };
  await refused(daemon.destroyGuard({ name: "secrets-0" }));
  const subject = [{ deny: ["/etc/passwd"], event: ["open"] }];
  await refused(daemon.createGuard({ name: "secrets-0", cid: [container.id], subject }));
  t.match(await actor.repeat("/etc/secret", 1e9, 2500), { opened: 0 }, "denied all the time");
  await daemon.stop();
});
