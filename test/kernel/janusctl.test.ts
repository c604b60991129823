import t from "tap";
import { parseGuardFile } from "../../src/guard/file.js";
import { startContainer } from "../support/container.js";
import { eventually, startDaemon } from "../support/daemon.js";
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
  t.match(JSON.parse(listed.out), [
    {
      ...{ metadata: { name: "shadow" }, spec: { podName: "web-1" } },
      status: { state: "active", complete: true, nodeName: "testnode", decisions: { open: { allowed: 0, denied: 1 } } },
    },
  ]);
  const table = await janusctl(["list"]);
  t.match(
    table.out,
    new RegExp(`^NAMESPACE .*\\n- +shadow +web-1 +${container.id.slice(0, 12)} .* deny /etc/shadow +1 denied,`),
  );

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

/** Subjects of all kinds, as the daemon takes them. */
const SUBJECTS = [
  "{ deny: [/etc/shadow], events: [open] }",
  '{ deny: ["/data//a/./b/", "/with space ", "/\\nline"], allow: [/data], events: [open, access, exec], recursive: true }',
  "{ deny: [/etc], events: [all], recursive: true, maxDepth: 2, exclude: ['*.pub'], scope: container, tags: { a: '1' } }",
  "{ watch: [/etc], events: [modify, closewrite], recursive: true, exact: true }",
  "{ deny: [/var], events: [open], onlyDir: true, autoAllowOwner: true, scope: everyone }",
];

t.test("what get prints is what was applied", async (t) => {
  const files = { "/etc/shadow": "", "/data/a/b": "", "/with space ": "", "/\nline": "" };
  const container = await startContainer({ files }, t);
  const file = SUBJECTS.map((subject, index) =>
    guardFile(container.id)
      .replace("name: shadow", `name: "guard ${index}", namespace: ns`)
      .replace(/- .*/, `- ${subject}`),
  ).join("---");
  const names = SUBJECTS.map((_, index) => `guard ${index}`);
  const said = (outcome: string) => names.map((name) => `ns/${name} ${outcome}\n`).join("");
  t.match(await janusctl(["diff", "-f", "-"], file), { status: 1, err: "" });
  t.match(await janusctl(["apply", "-f", "-", "--dry-run", "--events=0"], file), {
    status: 0,
    out: said("created (dry run)"),
  });
  t.equal((await janusctl(["list", "-o", "json"])).out, "[]\n");
  t.same(await janusctl(["apply", "-f", "-"], file), { status: 0, err: "", out: said("created") });
  for (const name of names) {
    const { out } = await janusctl(["get", name, "-n", "ns", "--pod", "web-1"]);
    t.same(await janusctl(["diff", "-f", "-"], out), { status: 0, out: "", err: "" }, name);
    t.same(await janusctl(["apply", "-f", "-"], out), { status: 0, err: "", out: `ns/${name} unchanged\n` });
  }
  t.same(await janusctl(["diff", "-f", "-"], file), { status: 0, out: "", err: "" });
  const all = (await janusctl(["list", "-o", "yaml"])).out;
  t.same(parseGuardFile(all), parseGuardFile(file));
  t.same(await janusctl(["apply", "-f", "-"], all), { status: 0, err: "", out: said("unchanged") });
  t.same(await janusctl(["delete", "-f", "-"], file), { status: 0, err: "", out: said("deleted") });
  t.equal((await janusctl(["list", "-o", "json"])).out, "[]\n");
});

t.test("a container that does not run is one readable line, and nothing is created", async (t) => {
  const { status, out, err } = await janusctl(["create", "-f", "-"], guardFile("f".repeat(64)));
  t.equal(status, 1);
  t.equal(out, "");
  t.match(err, /^janusctl: stdin:7: guard shadow: spec\.containers\[0\]: NOT_FOUND: .*f{64}.*\n$/);
  const dryRun = await janusctl(["apply", "--dry-run", "-f", "-"], guardFile("f".repeat(64)));
  t.match(dryRun, { status: 1, out: "", err: /^janusctl: stdin:7: guard shadow: spec\.containers\[0\]: NOT_FOUND: / });
  t.equal((await janusctl(["list", "-o", "json"])).out, "[]\n");
});

t.test("what a guard may not mean: apply and list say it, the daemon logs it once", async (t) => {
  const files = { "/etc/shadow": "", "/etc/a*": "", "/data/link": "" };
  const container = await startContainer({ files, programs: { "/bin/one": "/bin/busybox" } }, t);
  const actor = await container.actor();
  t.equal(await actor.link("/bin/one", "/bin/two"), 0);
  t.equal(await actor.unlink("/data/link"), 0);
  // The node has it, and the container has not.
  t.equal(await actor.symlink("/etc/debian_version", "/data/link"), 0);
  const file = guardFile(container.id).replace(
    /- \{.*/,
    "- { deny: [/etc/shadow, /etc/typo, /etc/app/*, '/etc/a*', '/etc/shadow ', /bin/wget, /bin/two, /data/link], events: [open, exec], scope: container }",
  );
  const expected = [
    [1, "no such path yet: "],
    [2, "no such path yet: "],
    [2, "\\* is part of the name here"],
    [4, "no such path yet: "],
    [4, "ends with white space"],
    [5, "is a link to /bin/busybox: that is denied, by all of its names"],
    [6, "is one of 2 names of one program"],
    [7, "no such path yet: "],
  ] as const;
  const said = (prefix: string) =>
    new RegExp(
      `^${expected.map(([at, text]) => `${prefix}spec\\.subjects\\[0\\]\\.deny\\[${at}\\]: warning: ${text}.*\n`).join("")}$`,
    );
  const applied = await janusctl(["apply", "-f", "-"], file);
  t.match(applied, { status: 0, out: "shadow created\n", err: said("janusctl: stdin:9: guard shadow: ") });
  t.match(await janusctl(["list"]), { status: 0, err: said("janusctl: guard shadow: ") });
  t.match(await janusctl(["apply", "-f", "-"], file), { status: 0, out: "shadow unchanged\n" });
  t.equal(daemon.stderr.split("may not mean what it says").length - 1, 1);

  t.equal(await actor.write("/etc/typo", "x"), EPERM, "which makes the file all the same");
  await eventually("it is no typo any more", async () => !(await janusctl(["list"])).err.includes("deny[1]"));
  t.equal(await actor.open("/etc/typo"), EPERM);
  t.match(await janusctl(["delete", "shadow"]), { status: 0 });
});
