import t from "tap";
import { startContainer } from "../support/container.js";
import { startDaemon } from "../support/daemon.js";
import { EPERM } from "../support/guard.js";
import { janusctl as run } from "../support/janusctl.js";

const daemon = await startDaemon({ flags: ["--container-wait=0"] }, t);
const janusctl = (args: readonly string[], stdin = "") => run(["--address", daemon.grpcAddress, ...args], { stdin });

const guardFile = (containerId: string) => `
apiVersion: januscontroller.clustergarage.io/v1alpha1
kind: JanusGuard
metadata: { name: shadow }
spec:
  podName: web-1
  containers: ["containerd://${containerId}"]
  subjects:
    - { deny: [/etc/shadow], events: [open], tags: { by: janusctl } }
`;

t.test("a guard's life, by command line", async (t) => {
  const container = await startContainer({ files: { "/etc/shadow": "root:*" } }, t);
  const actor = await container.actor();
  t.equal(await actor.open("/etc/shadow"), 0);

  const created = await janusctl(["create", "-f", "-"], guardFile(container.id));
  t.equal(created.err, "");
  t.equal(created.status, 0);
  t.equal(await actor.open("/etc/shadow"), EPERM);
  await daemon.waitForLine((line) => line === "<DENY> OPEN_PERM file '/etc/shadow' (web-1:testnode) by=janusctl");

  const listed = await janusctl(["list", "-o", "json"]);
  t.match(JSON.parse(listed.out), [{ name: "shadow", podName: "web-1", nodeName: "testnode" }]);
  const table = await janusctl(["list"]);
  t.match(table.out, new RegExp(`^NAMESPACE .*\\n- +shadow +web-1 +testnode +${container.id.slice(0, 12)} +\\d`));

  const elsewhere = await janusctl(["delete", "shadow", "--pod", "another"]);
  t.match(elsewhere, { status: 1, out: "", err: "janusctl: guard shadow: not found\n" });
  t.equal(await actor.open("/etc/shadow"), EPERM, "another pod's guard of that name is another guard");
  t.match(await janusctl(["delete", "shadow"]), { status: 0, out: "shadow deleted\n", err: "" });
  t.equal(await actor.open("/etc/shadow"), 0);
  t.equal((await janusctl(["list", "-o", "json"])).out, "[]\n");
  t.match(await janusctl(["delete", "shadwo"]), { status: 1, out: "", err: "janusctl: guard shadwo: not found\n" });

  const second = guardFile(container.id).replace("podName: web-1", "podName: web-2");
  t.match(await janusctl(["create", "-f", "-"], `${guardFile(container.id)}---\n${second}`), { status: 0 });
  const ambiguous = await janusctl(["delete", "shadow"]);
  t.match(ambiguous, { status: 1, out: "", err: /2 guards are named shadow .*--pod, -n or --all/ });
  t.equal(JSON.parse((await janusctl(["list", "-o", "json"])).out).length, 2, "neither was removed");
  t.match(await janusctl(["delete", "shadow", "--all"]), { status: 0, out: "shadow deleted (2 guards)\n" });
  t.equal((await janusctl(["list", "-o", "json"])).out, "[]\n");
});

t.test("a container that does not run is one readable line, and nothing is created", async (t) => {
  const { status, out, err } = await janusctl(["create", "-f", "-"], guardFile("f".repeat(64)));
  t.equal(status, 1);
  t.equal(out, "");
  t.match(err, /^janusctl: guard shadow: NOT_FOUND: .*f{64}.*\n$/);
  t.equal((await janusctl(["list", "-o", "json"])).out, "[]\n");
});
