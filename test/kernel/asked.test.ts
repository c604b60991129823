/** What a process asked for, beside what it is: links, names of one program, the working directory. */
import t, { type Test } from "tap";
import { type Container, startContainer } from "../support/container.js";
import { type Daemon, startDaemon } from "../support/daemon.js";
import { EPERM, guardOn, type SubjectInit } from "../support/guard.js";
import { janusctl } from "../support/janusctl.js";

interface Line {
  readonly response: string;
  readonly event: string;
  readonly path: string;
  readonly asked?: string;
  readonly argv0?: string;
}

async function guarded(
  t: Test,
  subject: SubjectInit | readonly SubjectInit[],
): Promise<{ container: Container; daemon: Daemon }> {
  const daemon = await startDaemon({ flags: ["--log-format=json"] }, t);
  const container = await startContainer({ files: { "/etc/secret": "" } }, t);
  await daemon.createGuard(guardOn(container, subject));
  return { container, daemon };
}

/** The first event that fits, once it is there. */
async function event(daemon: Daemon, fits: (line: Line) => boolean): Promise<Line> {
  const line: Line = JSON.parse(await daemon.waitForLine((line) => fits(JSON.parse(line))));
  return line;
}

// KubeArmor #970: a rule on /bin/wget, and all that the log says is /bin/busybox.
t.test("a denied exec of a link to busybox says which program was asked for", async (t) => {
  const { container, daemon } = await guarded(t, { deny: ["/bin/wget"], event: ["exec"] });
  const actor = await container.actor();
  t.equal(await actor.exec("/bin/wget", "-q", "http://example.org"), EPERM);
  t.match(await event(daemon, ({ event }) => event === "OPEN_EXEC_PERM"), {
    response: "DENY",
    path: "/bin/busybox",
    asked: "/bin/wget",
    argv0: "/bin/actor",
  });
  const wide = await janusctl(["--address", daemon.grpcAddress, "events", "-o", "wide", "--event", "exec"]);
  t.match(wide.out, / DENY exec '\/bin\/busybox' .* argv0='\/bin\/actor' asked='\/bin\/wget' /);
  await daemon.stop();
});

t.test("an allowed exec, and by what name the program then opens files", async (t) => {
  const { container, daemon } = await guarded(t, [
    { allow: ["/bin/busybox"], event: ["exec"], exact: true },
    { deny: ["/etc/secret"] },
  ]);
  const shell = await container.shell();
  await shell.run("cd /etc; /bin/cat ./secret; ln -s secret link; /bin/head link");
  t.match(await event(daemon, ({ asked }) => asked === "/bin/cat"), { response: "ALLOW", path: "/bin/busybox" });
  t.match(await event(daemon, ({ asked }) => asked === "./secret"), { path: "/etc/secret", argv0: "/bin/cat" });
  t.match(await event(daemon, ({ asked }) => asked === "link"), { path: "/etc/secret", argv0: "/bin/head" });

  const asked = async (...filter: string[]): Promise<(string | undefined)[]> => {
    const { out } = await janusctl(["--address", daemon.grpcAddress, "events", "-o", "json", ...filter]);
    return out.split("\n").flatMap((line) => (line === "" ? [] : JSON.parse(line).event.asked));
  };
  t.same(await asked("--asked", "./secret", "--asked", "l*"), ["./secret", "link"]);
  t.same(await asked("--asked", "/etc"), [], "as it was written");
  t.same(await asked("--argv0", "/bin/head"), ["link"]);
  t.same(await asked("--path", "/etc", "--not", "argv0=/bin/head"), ["./secret"]);
  t.same(await asked("--path", "/etc", "--not", "asked=./*"), ["link"]);
  await daemon.stop();
});

t.test(
  "nobody's name where it isn't known: a read is of an open file, and nobody waits at a watched exec",
  async (t) => {
    const watched = { watch: ["/bin/busybox"], event: ["exec"] };
    const { container, daemon } = await guarded(t, [{ deny: ["/etc/secret"], event: ["access"] }, watched]);
    const actor = await container.actor();
    t.equal(await actor.read("/etc/secret"), EPERM);
    t.notOk("asked" in (await event(daemon, ({ event }) => event === "ACCESS_PERM")));
    t.equal(await actor.exec("/bin/true"), 0);
    t.notOk("asked" in (await event(daemon, ({ event }) => event === "OPEN_EXEC")));
    await daemon.stop();
  },
);
