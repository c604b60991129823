import t from "tap";
import { startContainer } from "../support/container.js";
import { startDaemon } from "../support/daemon.js";
import { EPERM, guardOn } from "../support/guard.js";

const daemon = await startDaemon({}, t);

t.test("autoAllowOwner: the first process and its direct children, nobody else", async (t) => {
  const container = await startContainer({ init: "actor", files: { "/etc/secret": "" } }, t);
  const { init } = container;
  const visitor = await container.actor();
  const attempts = async () => ({
    first: await init.open("/etc/secret"),
    child: (await init.command("child", "open", "/etc/secret", 0))[0],
    grandchild: (await init.command("child", "child", "open", "/etc/secret", 0))[0],
    visitor: await visitor.open("/etc/secret"),
    "visitor's child": (await visitor.command("child", "open", "/etc/secret", 0))[0],
  });
  await daemon.createGuard(guardOn(container, { deny: ["/etc/secret"] }));
  t.same(await attempts(), { first: EPERM, child: EPERM, grandchild: EPERM, visitor: EPERM, "visitor's child": EPERM });
  await daemon.createGuard(guardOn(container, { deny: ["/etc/secret"], autoAllowOwner: true }));
  const owners = { first: 0, child: 0, grandchild: EPERM, visitor: EPERM, "visitor's child": EPERM };
  t.same(await attempts(), owners);

  // The original split /proc/PID/stat at spaces: field 4, the parent, was then the process's to choose.
  for (const name of [") 1 (x", ") S 1 1", "a b c", "(actor)", `) S ${container.initPid} (`]) {
    t.equal(await visitor.comm(name), 0);
    t.equal(await visitor.open("/etc/secret"), EPERM, `comm ${name}`);
  }
  const late = await container.actor();
  t.equal(await late.open("/etc/secret"), EPERM, "a process that comes later");
  await daemon.destroyGuard({ podName: "pod" });
});

t.test(
  "children that the first process had before the guard are owners; those of `runc exec` before it are not",
  async (t) => {
    // Two shells below the first: one a direct child, one a grandchild, both there before the guard.
    const script =
      "cd /tmp; mkfifo c g; (while :; do read path <c; cat $path >/tmp/c.out 2>&1; done) & exec sleep 1000000";
    const container = await startContainer({ init: ["/bin/sh", "-c", script], files: { "/etc/secret": "s3cret" } }, t);
    const early = await container.actor();
    await daemon.createGuard(guardOn(container, { deny: ["/etc/secret"], autoAllowOwner: true }));
    t.equal(await early.open("/etc/secret"), EPERM);
    // The subshell is a child; the `cat` that it forks is not.
    const denied = await container.exec([
      "sh",
      "-c",
      "echo /etc/secret >/tmp/c; while [ ! -s /tmp/c.out ]; do sleep 0.05; done; cat /tmp/c.out",
    ]);
    t.match(denied.stdout, /not permitted/);
    await daemon.destroyGuard({ podName: "pod" });
  },
);

t.test("an orphan that the first process adopts does not become an owner", async (t) => {
  const container = await startContainer({ files: { "/etc/secret": "s3cret" } }, t);
  await daemon.createGuard(guardOn(container, { deny: ["/etc/secret"], autoAllowOwner: true }));
  const result = await container.exec([
    "sh",
    "-c",
    "(sh -c 'while [ $(cut -d\" \" -f4 /proc/$$/stat) != 1 ]; do sleep 0.01; done; cat /etc/secret >/tmp/out 2>&1; echo done >>/tmp/out' &); while ! grep -q done /tmp/out; do sleep 0.05; done; cat /tmp/out",
  ]);
  t.match(result.stdout, /not permitted\ndone/);
  await daemon.destroyGuard({ podName: "pod" });
});
