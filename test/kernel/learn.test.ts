/** `janusctl learn` on a real container: what was opened before is allowed by what it prints, and nothing else. */
import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import t from "tap";
import type { GuardDetails } from "../../src/gen/janus/v1/inspection_pb.js";
import { GuardMode } from "../../src/gen/janus_pb.js";
import { parseGuardFile } from "../../src/guard/file.js";
import { workspaceDirectory } from "../support/cleanup.js";
import { startContainer } from "../support/container.js";
import { type Daemon, eventually, realEnvironment, startDaemon } from "../support/daemon.js";
import { EPERM, guardOn } from "../support/guard.js";
import { janusctl, type Outcome } from "../support/janusctl.js";

const program = new URL("../../bin/janusctl", import.meta.url).pathname;

/** Resolves when it has its guard. */
async function startLearning(
  t: Pick<typeof import("tap").t, "teardown">,
  daemon: Daemon,
  ...args: readonly string[]
): Promise<{ child: ChildProcessWithoutNullStreams; outcome: Promise<Outcome> }> {
  const [command, unset] = realEnvironment;
  const env = [unset, "JANUSD_INSECURE=true"];
  const child = spawn(command, [...env, program, "--address", daemon.grpcAddress, "learn", ...args]);
  t.teardown(() => child.kill("SIGKILL"));
  const status = new Promise<number | null>((resolve) => child.on("close", resolve));
  const outcome = Promise.all([status, text(child.stdout), text(child.stderr)]).then(([status, out, err]) => ({
    ...{ status, out, err },
  }));
  const isOwn = ({ config }: GuardDetails): boolean => config?.name.startsWith("janusctl-learn-") ?? false;
  await eventually("it has its guard", async () => (await daemon.client.listGuards({})).some(isOwn));
  return { child, outcome };
}

t.test("what was opened and executed is allowed, and nothing else", async (t) => {
  const daemon = await startDaemon({}, t);
  const hostile = ["/d/a: #b", "/d/line\nbreak", "/d/*?[x]", "/d/'\"\\", "/d/\u202e", "/d/- x"];
  const many = Array.from({ length: 40 }, (_, index) => `/d/many/${index}`);
  const plain = ["/d/read", "/d/other", "/d/sub/in/read", "/d/sub/in/other", "/d/many/later", "/lone", "/d/sub/x/y"];
  const files = Object.fromEntries([...hostile, ...many, ...plain].map((path) => [path, ""]));
  const programs = { "/d/true": "/bin/busybox", "/d/echo": "/bin/busybox" };
  const container = await startContainer({ files, programs, volumes: [{ target: "/v" }] }, t);
  container.writeVolume(0, "seen", "");
  container.writeVolume(0, "unseen", "");
  const [actor, shell] = [await container.actor(), await container.shell()];
  await shell.run("ln -s /v /link; mkdir /d/bytes; touch /d/bytes/x");
  await shell.run("touch /d/bytes/$(printf 'a\\377b')");

  // What another guard denies is not learnt, what it allows is.
  await daemon.createGuard(guardOn(container, { deny: ["/d/other"], allow: ["/d/read"] }, { name: "another" }));
  const { child, outcome } = await startLearning(t, daemon, container.id, "/d", "/lone", "/link", "/d/sub");
  t.equal(await actor.open("/d/other"), EPERM);
  for (const path of [...hostile, ...many, "/d/read", "/d/read", "/d/sub/in/read", "/lone", "/v/seen", "/d/sub"])
    t.equal(await actor.open(path), 0, path);
  await shell.run("ls /d; cat /d/bytes/a*; ls /d/sub/in; /d/true; cat /d/echo");
  child.kill("SIGINT");
  const { status, out, err } = await outcome;
  t.equal(status, 0, err);
  await daemon.destroyGuard({ name: "another" });
  t.same(await daemon.client.listGuards({}), [], "its own guard is gone");
  t.match(out, /^ {8}- \/d\/read # 2 times by \/bin\/actor$/m);
  t.match(out, /^ {8}- \/d\/many # 40 paths, 40 times by \/bin\/actor$/m);
  t.match(out, /^ {8}- \/d # itself once by \/bin\/busybox$/m);
  t.match(out, /, interrupted: \d+ events\.$/m);
  t.notMatch(out, /Denied, though|lost/);
  t.match(parseGuardFile(out), [
    {
      ...{ cid: [container.id], mode: GuardMode.AUDIT },
      subject: [
        { deny: ["/d", "/lone"], event: ["exec"] },
        { deny: ["/link"], event: ["open", "exec"] },
        { deny: ["/d"], event: ["open"], exclude: ["."] },
      ],
    },
  ]);

  const file = join(workspaceDirectory(), "guard.yaml");
  writeFileSync(file, out.replace("mode: audit", "mode: enforce"));
  const applied = await janusctl(["--address", daemon.grpcAddress, "apply", "-f", file]);
  t.match(applied, { status: 0, err: "" });
  for (const path of [...hostile, ...many, "/d/read", "/d/sub/in/read", "/lone", "/v/seen", "/d/many/later", "/d/sub"])
    t.equal(await actor.open(path), 0, path);
  t.match(await shell.run("ls /d && cat /d/bytes/a* && ls /d/sub/in && /d/true && cat /d/echo >/dev/null"), {
    status: 0,
  });
  t.equal(await actor.open("/v"), EPERM, "a given path that was not opened itself");
  for (const path of ["/d/other", "/d/sub/in/other", "/v/unseen", "/d/sub/x", "/d/sub/x/y"])
    t.equal(await actor.open(path), EPERM, path);
  t.match(await shell.run("/d/echo"), { status: 126 }, "read, but never executed");
  await daemon.stop();
});

t.test("it ends with its time, its container or the daemon; and says what a guard can't", async (t) => {
  const daemon = await startDaemon({}, t);
  const container = await startContainer({ files: { "/d/a": "", "/d/sub/b": "" } }, t);
  const actor = await container.actor();

  const nothing = await janusctl(["--address", daemon.grpcAddress, "learn", container.id, "/d", "--for", "1s"]);
  t.match(nothing, { status: 0, err: /Nothing was opened or executed: this guard allows nothing\.\n$/ });
  t.match(parseGuardFile(nothing.out), [{ subject: [{ deny: ["/d"], allow: [] }] }]);

  const learning = await startLearning(t, daemon, container.id, "/d");
  t.equal(await actor.open("/d"), 0);
  t.equal(await actor.link("/d/sub/b", "/etc/b"), 0);
  t.equal(await actor.open("/etc/b"), 0);
  t.equal(await actor.open("/d/a"), 0);
  await container.kill();
  const ended = await learning.outcome;
  t.match(ended, {
    status: 0,
    err: /^janusctl: Denied, though it happened: open by another name, \/etc\/b, once by \/bin\/actor\.$/m,
  });
  t.match(ended.out, /^# Denied, though it happened: open by another name, \/etc\/b, once by \/bin\/actor\.$/m);
  t.match(ended.out, /, the container ended: 3 events\.$/m);
  t.match(parseGuardFile(ended.out), [
    {
      subject: [
        { deny: ["/d"], event: ["exec"], exclude: [] },
        { deny: ["/d"], event: ["open"], exclude: ["."] },
        { allow: ["/d/a"], event: ["open"] },
      ],
    },
  ]);

  const sent = await daemon.metric("janusd_event_stream_sent_total");
  const other = await startContainer({ files: { "/d/a": "" } }, t);
  const cut = await startLearning(t, daemon, other.id, "/d");
  t.equal(await (await other.actor()).open("/d/a"), 0);
  await eventually("it was told", async () => (await daemon.metric("janusd_event_stream_sent_total")) === sent + 1);
  await daemon.kill();
  const broken = await cut.outcome;
  t.match(broken, { status: 1, err: /the guard (\S+) may still be there, and denies nothing: janusctl delete \1\n$/ });
  t.match(parseGuardFile(broken.out), [{ subject: [{ deny: ["/d"] }, { allow: ["/d/a"] }] }]);
});

t.test("what makes no sense is one line, and makes no guard", async (t) => {
  const daemon = await startDaemon({}, t);
  const container = await startContainer({}, t);
  const refused: readonly (readonly [number, RegExp, ...string[]])[] = [
    [1, /^janusctl: NOT_FOUND: .*\n$/, "f".repeat(64), "/etc"],
    [2, /^janusctl: INVALID_ARGUMENT: container: not a container id: .*\n$/, "a*", "/etc"],
    [2, /^error: .* value 'etc' is invalid for argument 'path'. It is relative; .*\n$/, container.id, "etc"],
    [
      2,
      /^error: .* value '\/etc\/..' is invalid for argument 'path'. It holds a .. component; .*\n$/,
      container.id,
      "/",
      "/etc/..",
    ],
    [2, /^error: .* argument '10' is invalid. give 30s, .*\n$/, container.id, "/etc", "--for", "10"],
    [2, /^error: .* argument '8d' is invalid. give 30s, .*\n$/, container.id, "/etc", "--for", "8d"],
    [2, /^error: .* argument '0' is invalid. give a whole number .*\n$/, container.id, "/etc", "--fold", "0"],
    [2, /^error: missing required argument 'path'\n$/, container.id],
  ];
  for (const [status, err, ...args] of refused)
    t.match(await janusctl(["--address", daemon.grpcAddress, "learn", ...args]), { status, out: "", err });
  t.same(await daemon.client.listGuards({}), []);
  t.equal(await daemon.metric("janusd_guard_changes_total", { change: "created" }), 0);
  await daemon.stop();
});
